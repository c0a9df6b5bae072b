"""A project in a folder, driven through the installed command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient, NewPartitions

from forked import NOT_FORKED, Command
from playhead.cli.main import cli
from playhead.demo import prepare
from servers import postgres_sql

COMMAND = str(Path(sys.executable).parent / "playhead")
# What tests set that only a process of its own obeys.
OF_A_PROCESS = {"PLAYHEAD_CRASH", "PYTHONHASHSEED", "TZ", "HOME", "PATH"}
LOCAL_STORE = "sqlite:.playhead/store.db"
TIME = ("--timestamp", "time", "--timestamp-format", "%m/%d/%Y %H:%M")


def in_full(values: Sequence[Any], but: Sequence[Any], *, several: bool = False) -> list[Any]:
    """Return parameters: ``make test`` takes those in ``but``, ``make test-long`` the others.

    ``several`` says that each value is for several names.
    """
    long = pytest.mark.long
    return [v if v in but else pytest.param(*(v if several else (v,)), marks=long) for v in values]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """What it answered, as JSON."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass
class Trip:
    """The example project, on a log of the test's choosing.

    Attributes:
        spawn: Whether each command is the installed one, begun from nothing.
        apart: Whether each command is a process of its own, though this one could do it.
    """

    folder: Path
    log: str
    topic: str = "raw_trackpoints"
    env: dict[str, str] = field(default_factory=dict)
    spawn: bool = False
    apart: bool = False
    store: str = LOCAL_STORE

    @classmethod
    def make(cls, folder: Path, log: str | None = None, store: str = LOCAL_STORE) -> Trip:
        """Make a project; on a shared broker its topics and groups get names of their own."""
        shared = log is not None
        topic = prepare(folder, shared_log=shared)
        return cls(folder, log or "local:.playhead/log.db", topic, store=store)

    @classmethod
    def copy(cls, other: Trip, folder: Path) -> Self:
        """Copy a project whose log and store are files."""
        shutil.copytree(other.folder, folder)
        return cls(folder, other.log, other.topic)

    @property
    def prefix(self) -> str:
        """What topics and groups of this project begin with."""
        return self.topic.removesuffix("raw_trackpoints")

    @property
    def group(self) -> str:
        """The group of distance@miles."""
        return f"{self.prefix}distance.miles"

    def cli(self, *args: str, stdin: bytes | None = None, **env: str) -> Done:
        """Run one command to its end, in this process where that makes no difference."""
        if not (self.spawn or self.apart) and OF_A_PROCESS.isdisjoint({**self.env, **env}):
            return self._inside(args, stdin, {**self.env, **env})
        return self._apart(args, stdin, {**self.env, **env})

    def _apart(self, args: tuple[str, ...], stdin: bytes | None, env: dict[str, str]) -> Done:
        where = ("--log", self.log, "--store", self.store)
        with tempfile.TemporaryDirectory() as folder:
            given, *told = (Path(folder) / name for name in ("stdin", "stdout", "stderr"))
            given.write_bytes(stdin or b"")
            if self.spawn or not NOT_FORKED.isdisjoint(env):
                code = self._spawned([COMMAND, *args, *where], env, (given, *told))
            else:
                command = Command([*args, *where], self.folder, env, (given, told[0], told[1]))
                code = command.wait(300)
            out, err = (path.read_text() for path in told)
        assert "Traceback" not in err, err
        return Done(code, out, err)

    def _spawned(self, command: list[str], env: dict[str, str], files: Sequence[Path]) -> int:
        """Run what is installed."""
        with files[0].open("rb") as stdin, files[1].open("wb") as out, files[2].open("wb") as err:
            done = subprocess.run(
                command, cwd=self.folder, env={**os.environ, **env},
                stdin=stdin, stdout=out, stderr=err, check=False, timeout=300,
            )  # fmt: skip
        return done.returncode

    def _inside(self, args: tuple[str, ...], stdin: bytes | None, env: dict[str, str]) -> Done:
        sys.modules.pop("vehicles", None)  # a command of its own would load it anew
        argv = ["-C", str(self.folder), "--log", self.log, "--store", self.store, *args]
        result = CliRunner(env=env).invoke(cli, argv, input=stdin, prog_name="playhead")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def ok(self, *args: str, **env: str) -> Done:
        """Run one command that must succeed."""
        done = self.cli(*args, **env)
        assert done.code == 0, f"{args} ended with {done.code}\n{done.out}\n{done.err}"
        return done

    def json(self, *args: str, **env: str) -> dict[str, Any]:
        """Run one command that must succeed, and return its JSON."""
        return self.ok(*args, "-o", "json", **env).json

    def ingest(self, partitions: int = 1) -> Done:
        """Ingest the trackpoints."""
        count = ("--partitions", str(partitions))
        return self.ok("ingest", "trackpoints.csv", "--topic", self.topic, *TIME, *count)

    def ingest_again(self) -> Done:
        """Ingest the trackpoints once more, into the topic as it is."""
        return self.ok("ingest", "trackpoints.csv", "--topic", self.topic, *TIME)

    def run(self, **env: str) -> dict[str, Any]:
        """Run what is live until it has caught up."""
        return self.json("run", "--until-caught-up", **env)

    def totals(self) -> dict[int, float]:
        """Return what readers of dist_calc see through the mirror."""
        rows = self.json("query", "SELECT track_id, distance FROM dist_calc")["rows"]
        return dict(rows)

    def records(self, topic: str) -> list[dict[str, Any]]:
        """Return every record of a topic of this project, in kcat's envelope."""
        out = self.ok("topics", "tail", self.prefix + topic).out
        return [json.loads(line) for line in out.splitlines()]

    def dump(self, label: str = "miles") -> dict[str, Any]:
        """Return the bits of a version's table, and its topic as a committed reader sees it."""
        table = self.sql(
            f"SELECT track_id, distance, _partition, _offset FROM dist_calc__{label} ORDER BY 1"
        )
        bits = [(track, struct.pack("<d", total), *origin) for track, total, *origin in table]
        by_partition: dict[int, list[Any]] = {}
        for r in self.records(f"distance_calcs.{label}"):
            record = (r["key"], r["payload"], r["ts"], r["headers"])
            by_partition.setdefault(r["partition"], []).append(record)
        return {"table": bits, "topic": by_partition}

    def cursor(self, label: str = "miles") -> int:
        """Return how far a version has come, summed over the partitions; 0 before it began."""
        try:
            rows = self.sql(
                f"SELECT sum(next) FROM playhead__cursor WHERE version = 'distance@{label}'"
            )
        except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            return 0  # the worker is just making the store
        return int(rows[0][0] or 0)

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        """Run SQL in the store, beside the product."""
        if self.store.startswith("postgresql:"):
            return postgres_sql(self.store, text)
        path = self.folder / self.store.removeprefix("sqlite:")
        if not path.exists():
            raise sqlite3.OperationalError("no store yet")
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            return connection.execute(text).fetchall()

    def edit(self, old: str, new: str) -> None:
        """Change the user's module."""
        module = self.folder / "vehicles.py"
        text = module.read_text()
        assert old in text, old
        module.write_text(text.replace(old, new))

    @contextmanager
    def running(self, **env: str) -> Iterator[Command]:
        """Run what is live in the background, until the block ends."""
        process = self.start("run", **env)
        try:
            wait_for(lambda: self._holds_lease(process), "the worker to take its lease")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)

    def _holds_lease(self, process: Command) -> bool:
        assert process.poll() is None, "the worker ended"
        done = self.cli("status", "-o", "json")
        return done.code == 0 and any(
            v["running"] for p in done.json["pipelines"] for v in p["versions"]
        )

    def start(self, *args: str, **env: str) -> Command:
        """Start one command in the background."""
        told = self.folder / "background.log"
        where = ("--log", self.log, "--store", self.store)
        return Command([*args, *where], self.folder, {**self.env, **env}, (None, told, told))


def wait_for(holds: Any, what: str, timeout_s: float = 120.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def headers(record: dict[str, Any]) -> dict[str, str]:
    """Return a record's headers by name."""
    flat = record["headers"]
    return dict(zip(flat[::2], flat[1::2], strict=True))


def words(text: str) -> list[list[str]]:
    """Return a printed table as rows of words, blank lines left out."""
    return [re.split(r"\s+", line.strip()) for line in text.splitlines() if line.strip()]


def delete_topic(trip: Trip, name: str) -> None:
    if trip.log.startswith("kafka://"):
        admin = AdminClient({"bootstrap.servers": trip.log.removeprefix("kafka://")})
        admin.delete_topics([name])[name].result(30)
        deadline = time.monotonic() + 30
        while name in admin.list_topics(timeout=10).topics:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return
    with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
        for table, column in (("topic", "name"), ("partition", "topic"), ("record_batch", "topic")):
            log.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))


def lose_end(trip: Trip, end: int) -> None:
    """Make a local topic of one partition end where it did not: as a backup of the file would."""
    with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
        where = "FROM record_batch WHERE topic = ? AND first"
        first, content = log.execute(
            f"SELECT first, content {where} < ? ORDER BY first DESC", (trip.topic, end)
        ).fetchone()
        kept = [column[: end - first] for column in msgspec.msgpack.decode(content)]
        log.execute(f"DELETE {where} >= ?", (trip.topic, end))
        log.execute(
            "UPDATE record_batch SET next = ?, content = ? WHERE topic = ? AND first = ?",
            (end, msgspec.msgpack.encode(kept), trip.topic, first),
        )
        log.execute("UPDATE partition SET end_offset = ? WHERE topic = ?", (end, trip.topic))


def add_partition(trip: Trip, name: str) -> None:
    if trip.log.startswith("kafka://"):
        admin = AdminClient({"bootstrap.servers": trip.log.removeprefix("kafka://")})
        admin.create_partitions([NewPartitions(name, 2)])[name].result(30)
        return
    with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
        log.execute("INSERT INTO partition VALUES (?, 1, 0, 0)", (name,))
