"""Real servers for the tests: each is started on free loopback ports, in a folder of its own.

A test never skips because a server is missing: it fails and says what to install.
"""

from __future__ import annotations

import base64
import fcntl
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CACHE = TESTS.parent / ".cache"
KAFKA_VERSION = "4.1.0"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
"""


class ServerMissing(RuntimeError):
    """A server that a test needs cannot be started here; the message says what to install."""


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, fetched once with Maven and kept in ``.cache``."""
    for program, package in (("java", "a Java 17 runtime"), ("mvn", "Apache Maven")):
        if shutil.which(program) is None:
            raise ServerMissing(
                f"The Kafka tests run a real broker: install {package} ({program} on the PATH)."
            )
    folder = CACHE / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    complete = folder / "complete"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once fetch once
        if not complete.exists():
            command = ["mvn", "-q", "-B", "dependency:copy-dependencies"]
            command.append(f"-DoutputDirectory={folder / 'libs'}")
            done = subprocess.run(
                command, cwd=TESTS / "kafka", capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ServerMissing(f"Maven could not fetch Kafka:\n{done.stdout}{done.stderr}")
            complete.touch()
    return folder / "libs"


class KafkaServer:
    """One Kafka broker with its controller, and Kafka's own tools against it."""

    def __init__(self, folder: Path, advertised: int | None = None) -> None:
        """Format a cluster in ``folder``; `start` starts it.

        ``advertised`` is the port that clients are sent to, if a proxy stands in front.
        """
        self.folder = folder
        self._jars = kafka_jars()
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = free_ports(2)
        self.bootstrap = f"127.0.0.1:{advertised or port}"
        self.port = port
        self._properties = folder / "server.properties"
        self._properties.write_text(
            _PROPERTIES.format(
                port=port, advertised=advertised or port, controller=controller, folder=folder
            )
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._run("kafka.tools.StorageTool", "format", f"-t{cluster}", "-c", str(self._properties))

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        with (self.folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("-Xmx512m"), "kafka.Kafka", str(self._properties)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.05)
        tail = (self.folder / "broker.log").read_text(errors="replace")[-3000:]
        self.kill()
        raise ServerMissing(f"The Kafka broker did not start:\n{tail}")

    def kill(self) -> None:
        """Kill the broker at once (SIGKILL); `start` starts it again on the same data."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop the broker for good."""
        self.kill()  # nothing in the folder is needed any more: no reason to wait for a shutdown

    def tool(self, main_class: str, *args: str) -> str:
        """Run one of Kafka's own tools against the broker and return what it printed."""
        return self._run(main_class, "--bootstrap-server", self.bootstrap, *args)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                # ApiVersions v0, correlation id 1, client "t": any answer is an answer.
                connection.sendall(bytes.fromhex("0000000b 0012 0000 00000001 0001 74"))
                return len(connection.recv(8)) == 8
        except OSError:
            return False

    def _java(self, *options: str) -> list[str]:
        return ["java", *options, "-cp", f"{self._jars}/*"]

    def _run(self, main_class: str, *args: str) -> str:
        done = subprocess.run(
            [*self._java("-Xmx128m", "-XX:TieredStopAtLevel=1"), main_class, *args],
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"{main_class} failed:\n{done.stdout}{done.stderr}")
        return done.stdout
