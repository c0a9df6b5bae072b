"""Real servers for the tests: each is started on free loopback ports, in a folder of its own.

A test never skips because a server is missing: it fails and says what to install.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import psycopg

from playhead.core.addresses import postgres_address

TESTS = Path(__file__).resolve().parent
CACHE = TESTS.parent / ".cache"
KAFKA_VERSION = "4.1.0"

_LIGHT = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # it lives for minutes, beside the tests
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

    def __init__(
        self,
        folder: Path,
        advertised: int | None = None,
        flags: Sequence[str] = ("-Xmx512m", *_LIGHT),
    ) -> None:
        """Format a cluster in ``folder``; `start` starts it.

        ``advertised`` is the port that clients are sent to, if a proxy stands in front; ``flags``
        are for the JVM.
        """
        self._flags = flags
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
                [*self._java(*self._flags), "kafka.Kafka", str(self._properties)],
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
            [*self._java("-Xmx128m", *_LIGHT), main_class, *args],
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


_OUTLIVES_US: list[KafkaServer] = []


class SharedKafka(KafkaServer):
    """One broker for all processes of a test session: whoever needs it first starts it."""

    def __init__(self, folder: Path) -> None:
        """Find the broker that belongs to ``folder``, or start it."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            told = folder / "broker.json"
            if not told.exists():
                first = KafkaServer(folder)
                first.start()
                _OUTLIVES_US.append(first)
                told.write_text(json.dumps({"pid": first.pid, "port": first.port}))
        found = json.loads(told.read_text())
        self.folder, self._jars, self.port = folder, kafka_jars(), found["port"]
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._pid: int = found["pid"]

    @property
    def pid(self) -> int:
        """The broker's process id."""
        return self._pid

    @staticmethod
    def end(folder: Path) -> None:
        """Kill the broker that belongs to ``folder``, if one was needed, and remove its files."""
        told = folder / "broker.json"
        if told.exists():
            os.kill(json.loads(told.read_text())["pid"], signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path:
    """Return the folder of PostgreSQL's server programs."""
    on_path = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_edition)
    if on_path is None and not installed:
        raise ServerMissing(
            "The PostgreSQL tests run a real server: install it (initdb and postgres on the PATH, "
            "or in /usr/lib/postgresql/*/bin; on Debian the package postgresql)."
        )
    return installed[-1].parent if installed else Path(on_path or "").parent


def _edition(program: Path) -> int:
    name = program.parent.parent.name
    return int(name) if name.isdigit() else 0


class PostgresServer:
    """One PostgreSQL server of its own, in a folder of its own, on a free loopback port.

    Role ``postgres`` is let in without a password, role ``locked`` only with the password
    ``s3cret``. PostgreSQL refuses to run as root: root starts it as another user.
    """

    def __init__(self) -> None:
        """Make a cluster; `start` starts it."""
        self._programs = postgres_programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="playhead-pg-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = _unprivileged()
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            self._as.append("--clear-groups")
        (self.port,) = free_ports(1)
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust",
                  "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        access = self.folder / "data/pg_hba.conf"
        rule = "host all locked 127.0.0.1/32 scram-sha-256\n"
        access.write_text(rule + access.read_text())

    @property
    def url(self) -> str:
        """Where the server is; append a database's name."""
        return f"postgresql://postgres@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self._launch()
            while self._process is not None and self._process.poll() is None:
                if self._answers():
                    return
                time.sleep(0.02)
                assert time.monotonic() < deadline
            time.sleep(0.1)  # what is left of a killed one still holds its memory
        tail = (self.folder / "server.log").read_text(errors="replace")[-3000:]
        raise ServerMissing(f"PostgreSQL did not start:\n{tail}")

    def _launch(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as, str(self._programs / "postgres"), "-D", str(self.folder / "data"),
                 *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill the server at once (SIGKILL); `start` starts it again on the same data."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Stop the server for good, and remove its folder."""
        if self._process:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            self._process.wait(30)
            self._process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """Make a fresh database and return its address."""
        name = f"db{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"{self.url}/{name}"

    def sql(self, text: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run SQL as the superuser, each statement on its own."""
        return postgres_sql(f"{self.url}/{database}", text)

    def _answers(self) -> bool:
        try:
            psycopg.connect(f"{self.url}/postgres", connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._programs / program), *args],
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise ServerMissing(f"{program} failed:\n{done.stdout}{done.stderr}")


def _unprivileged() -> pwd.struct_passwd:
    """Return a user that is not root: PostgreSQL's own where there is one."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServerMissing("PostgreSQL refuses to run as root: add a user postgres.")


def postgres_sql(url: str, text: str) -> list[tuple[object, ...]]:
    """Run SQL in a store's schema, beside the product; return the rows, if it has any."""
    address = postgres_address(url)
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute("SELECT set_config('search_path', %s, false)", [f'"{address.schema}"'])
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []
