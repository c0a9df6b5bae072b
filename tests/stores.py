"""Stores under test, and a worker in small: what the suites of the store's ports share."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psycopg

from playhead.config import Settings
from playhead.core.checkpoint import Cursor
from playhead.core.codec import TOMBSTONE, columns_schema
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts, Saved
from playhead.core.schema import schema_of
from playhead.ports import (
    Move,
    Store,
    Swap,
    TableRow,
    VersionRow,
)
from playhead.project import Project
from servers import postgres_sql

SOURCE = "src.topic"
TOPIC_ID = "id-1"
BEFORE_ALL = Cursor(0, 0, 0)
ORIGIN = {"_partition": pl.Int32(), "_offset": pl.Int64()}
PLAIN = {"k": int, "v": float | None}
TESTS = Path(__file__).resolve().parent


@dataclass
class World:
    """One store, ways to open it again, and what only somebody outside of the port can do.

    A new adapter says its address, how to run SQL beside it, how to make a lease
    older, and the address of another store that does not exist yet.
    """

    address: str
    sql: Callable[[str], list[tuple[Any, ...]]]
    age: Callable[[str, float], object]
    new_address: Callable[[], str]
    keeps_nul: bool = True
    opened: list[Store] = field(default_factory=list)

    def open(self) -> Store:
        """Open the store once more; the fixture closes it."""
        self.opened.append(open_store(self.address))
        return self.opened[-1]

    def values(self, kind: str) -> tuple[Any, list[Any]]:
        """Return the annotation of a kind and values that the store keeps as they are."""
        annotation, values = VALUES[kind]
        if kind == "str" and not self.keeps_nul:
            values = [v for v in values if v is None or "\0" not in v]
        return annotation, values

    def audit(self) -> list[tuple[Any, ...]]:
        """Return kind and subject of each line of the audit, oldest first."""
        return self.sql("SELECT kind, subject FROM playhead__audit ORDER BY seq")


def open_store(address: str) -> Store:
    return Project(Settings(Path("/"), store=address)).open_store()


def sqlite_world(folder: Path) -> World:
    path = folder / "store.db"

    def sql(text: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            return connection.execute(text).fetchall()

    def age(lease: str, by_s: float) -> None:
        sql(f"UPDATE playhead__lease SET expires_s = expires_s - {by_s} WHERE name = '{lease}'")

    def new_address() -> str:
        return f"sqlite:{folder / str(next(numbers))}/store.db"

    numbers = itertools.count(1)
    return World(f"sqlite:{path}", sql, age, new_address)


def postgres_world(address: str) -> World:
    """Return the world of a fresh database."""

    def sql(text: str) -> list[tuple[Any, ...]]:
        return postgres_sql(address, text)

    def age(lease: str, by_s: float) -> None:
        sql(f"UPDATE playhead__lease SET expires_s = expires_s - {by_s} WHERE name = '{lease}'")

    def new_address() -> str:
        return f"{address}?schema=other%20{next(numbers)}"

    numbers = itertools.count(1)
    return World(address, sql, age, new_address, keeps_nul=False)


NO_SUCH_TABLE = (sqlite3.OperationalError, psycopg.errors.UndefinedTable)


def place(partition: int) -> TopicPartition:
    return TopicPartition(SOURCE, partition)


def lease_name(version: VersionRow, partition: int) -> str:
    return f"part/{version.name}/{SOURCE}/{partition}"


def table(
    label: str = "a", columns: Any = None, key: Sequence[str] = ("k",), name: str = "t"
) -> TableRow:
    return TableRow(name, f"{name}__{label}", tuple(key), schema_of(columns or PLAIN, "test"))


def a_version(
    label: str = "a", stage: str = "shadow", tables: Sequence[TableRow] = (), pipeline: str = "p"
) -> VersionRow:
    return VersionRow(
        pipeline=pipeline,
        label=label,
        stage=stage,
        fingerprint=f"f-{label}",
        app="app",
        source=SOURCE,
        partitions=16,
        group=f"{pipeline}.{label}",
        tables=tuple(tables) or (table(label),),
        topics=(("out", f"out.{label}"),),
        environment={"python": "3.11", "polars": "2"},
    )


def frame(
    row: TableRow, rows: Sequence[Sequence[Any]], partition: int, offsets: Sequence[int]
) -> pl.DataFrame:
    """Return folded rows as the engine hands them over."""
    full = [(*r, partition, o) for r, o in zip(rows, offsets, strict=True)]
    return pl.DataFrame(full, {**columns_schema(row.schema), **ORIGIN}, orient="row")


@dataclass
class Writer:
    """A worker in small: holds the leases of some partitions and moves their cursors."""

    store: Store
    version: VersionRow
    epochs: dict[int, int]
    cursors: dict[int, Cursor]

    @classmethod
    def start(cls, store: Store, version: VersionRow, *partitions: int) -> Writer:
        wanted = partitions or (0,)
        names = {lease_name(version, p): p for p in wanted}
        taken = store.ledger.take(list(names), "session")
        epochs = {names[name]: epoch for name, epoch in taken.items()}
        stood = store.ledger.standings(version.name)
        writer = cls(store, version, epochs, {p: s.cursor for p, s in stood.items()})
        for partition in wanted:
            if partition not in stood:
                writer.begin(partition)
        return writer

    def begin(self, partition: int, at: int = 0, state: bytes = b"empty") -> None:
        move = self.first(partition, at, state)
        self.store.ledger.begin(self.version.name, place(partition), TOPIC_ID, move)
        self.cursors[partition] = move.after

    def first(self, partition: int, at: int = 0, state: bytes = b"empty") -> Move:
        after = Cursor(at, 1, 0)
        return Move(place(partition), BEFORE_ALL, after, self.epochs[partition], state)

    def batch(
        self, partition: int = 0, *rows: Sequence[Any], records: int = 0, state: bytes = b"delta"
    ) -> Move:
        """Return the next batch: the i-th row comes from the i-th record."""
        before = self.cursors[partition]
        records = records or max(1, len(rows))
        offsets = range(before.next, before.next + len(rows))
        after = Cursor(before.next + records, before.generation, before.batch + 1)
        counts = Counts(records)
        return self.move(partition, after, rows, offsets, counts=counts, content=state)

    def deletes(self, key: int, partition: int = 0) -> Move:
        """Return the next batch: the row of a key goes."""
        move = self.batch(partition, (key, 0.0))
        gone = pl.lit(value=True).alias(TOMBSTONE)
        return replace(move, rows={t: rows.with_columns(gone) for t, rows in move.rows.items()})

    def rewind(
        self,
        partition: int,
        to: int,
        *rows: Sequence[Any],
        state: bytes = b"whole",
        gap_from: int | None = None,
        counts: Counts = Counts(),  # noqa: B008  frozen
    ) -> Move:
        """Return the beginning of a new generation, with the rows as of it."""
        after = Cursor(to, self.cursors[partition].generation + 1, 0)
        move = self.move(partition, after, rows, range(len(rows)), counts=counts, content=state)
        return replace(move, gap_from=gap_from, why="test")

    def move(
        self,
        partition: int,
        after: Cursor,
        rows: Sequence[Sequence[Any]],
        offsets: Sequence[int],
        **fields: Any,
    ) -> Move:
        (only,) = self.version.tables
        stored = {only.physical: frame(only, rows, partition, offsets)}
        epoch = self.epochs[partition]
        return Move(place(partition), self.cursors[partition], after, epoch, rows=stored, **fields)

    def commit(self, *moves: Move) -> str:
        orders = self.store.ledger.commit(self.version.name, moves)
        self.cursors |= {move.place.partition: move.after for move in moves}
        return orders.stage


def started(store: Store, *partitions: int, version: VersionRow | None = None) -> Writer:
    version = version or a_version()
    store.catalog.record(version)
    return Writer.start(store, version, *partitions)


def rows_of(store: Store, row: TableRow) -> list[tuple[Any, ...]]:
    return store.catalog.rows(row).sort(row.key).rows()


def past(store: Store, version: str, partition: int) -> list[tuple[Saved, bytes]]:
    """Return what the history holds of a partition, with its content."""
    saved = store.history.saved(version, partition)
    return [(s, store.history.content(version, partition, s)) for s in saved]


def state(store: Store, version: str, partition: int) -> list[bytes]:
    """Return the content of the current generation: its snapshot, then its deltas."""
    held = past(store, version, partition)
    newest = max((s.generation for s, _ in held), default=0)
    return [content for s, content in held if s.generation == newest]


def everything(store: Store) -> Any:
    """Return all that the port can say, to see that nothing has changed."""
    cut = store.catalog.cut()
    names = [v.name for v in cut.versions]
    return (
        cut.changes,
        cut.versions,
        cut.cursors,
        {name: sorted(rows.rows()) for name, rows in cut.rows.items()},
        {n: store.ledger.standings(n) for n in names},
        {n: store.ledger.generations(n) for n in names},
        {(n, p): past(store, n, p) for n in names for p in store.ledger.standings(n)},
        {n: (store.history.dead_letters(n), store.history.skips(n)) for n in names},
        {v.pipeline: store.catalog.pointer(v.pipeline) for v in cut.versions},
        store.journal.runs(),
    )


# ------------------------------------------------------------------ another process


@contextmanager
def another_process(world: World, what: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a function of this module in a process of its own; wait until it says ``ready``."""
    code = f"import sys; from stores import {what}; {what}(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, world.address, *map(str, args)],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def go(*processes: subprocess.Popen[str]) -> None:
    """Let processes go on together, to their end."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        assert process.wait(60) == 0


def wait_for_state(process: subprocess.Popen[str], state: str) -> None:
    """Wait until the system shows the process frozen (``T``) or dead but not waited for (``Z``)."""
    command = ["ps", "-o", "stat=", "-p", str(process.pid)]
    deadline = time.monotonic() + 20
    while True:
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        if shown.startswith(state):
            return
        assert time.monotonic() < deadline, f"it is {shown!r}, never {state}"
        time.sleep(0.01)


def wait_for_go() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def hold_lease(address: str, name: str) -> None:
    with closing(open_store(address)) as store:
        store.ledger.take_free(name, "held by a test")
        wait_for_go()


def write_batches(address: str, partition: str, batches: str) -> None:
    with closing(open_store(address)) as store:
        writer = Writer.start(store, store.catalog.versions()[0], int(partition))
        wait_for_go()
        for i in range(int(batches)):
            key = int(partition) * 1000 + i
            run = store.journal.begin_run("batch", partition, {"i": i})
            writer.commit(writer.batch(int(partition), (key, float(i)), state=b"%d" % i))
            store.journal.finish_run(run, {"i": i})


def promote(store: Store, base: VersionRow, head: VersionRow, /, **changed: Any) -> int:
    """Swap, with what the store holds now unless said otherwise."""
    pointer = store.catalog.pointer(base.pipeline)
    assert pointer is not None
    leases: dict[str, int] = {}
    for version in (base, head):
        for partition in store.ledger.standings(version.name):
            name = lease_name(version, partition)
            lease = store.ledger.lease(name)
            leases[name] = lease.epoch if lease else 0
    cursors = {
        v.name: {p: s.cursor for p, s in store.ledger.standings(v.name).items()}
        for v in (base, head)
    }
    ready = Swap(base, head, pointer.epoch, leases, cursors, {"why": "test"})
    (epoch,) = store.catalog.swap(replace(ready, **changed))
    return epoch


INT_MIN, INT_MAX = -(2**63), 2**63 - 1
T = datetime(2014, 9, 13, 7, 24, 36, 123456, UTC)
VALUES: dict[str, tuple[Any, list[Any]]] = {
    "bool": (bool | None, [True, False, None]),
    "int": (int | None, [0, 1, -1, INT_MIN, INT_MAX, 2**53 + 1, None]),
    "float": (
        float | None,
        [0.0, 0.1, -1 / 3, 1e308, 5e-324, 2.0**53, 3.0, 1e23, -1e-7, float(2**63), None],
    ),
    "str": (
        str | None,
        [
            "",
            "a\0b",
            "\\.",
            "a\n\\.\nb",
            "\\N",
            "\t\r\n",
            "ø€😀e\u0301",
            "12",
            "1.0",
            "1e5",
            " x ",
            "NULL",
            "'\"",
            None,
        ],
    ),
    "bytes": (bytes | None, [b"", b"\0\xff", b"text", bytes(range(256)), None]),
    "date": (date | None, [date.min, date(1969, 12, 31), date(2014, 9, 13), date.max, None]),
    "datetime": (
        datetime | None,
        [
            T,
            T.replace(microsecond=0),
            T.replace(microsecond=1),
            datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
            datetime.min.replace(tzinfo=UTC),
            datetime.max.replace(tzinfo=UTC),
            None,
        ],
    ),
    "list of int": (list[int | None] | None, [[], [INT_MIN, INT_MAX, None], [None], None]),
    "list of float": (list[float | None], [[], [0.1, 1.0, 5e-324, None], [1e308]]),
    "list of str": (list[str], [[], ["", "a\0b", "ø😀", '"']]),
    "list of bool": (list[bool], [[True, False]]),
    "list of list": (list[list[int]], [[], [[]], [[1], [2, 3]]]),
    "list of date": (list[date], [[], [date.min, date.max]]),
    "list of datetime": (list[datetime | None], [[], [T, None], [T.replace(microsecond=0)]]),
    "list of bytes": (list[bytes], [[], [b"", b"\0\xff", b"text"]]),
    "dict": (
        {"a": int, "b": str | None, "c": {"d": float}, "e": list[int]},
        [
            {"a": INT_MAX, "b": None, "c": {"d": 0.1}, "e": [1, 2]},
            {"a": INT_MIN, "b": "ø", "c": {"d": 1.0}, "e": []},
        ],
    ),
    "dict of date": ({"a": date | None}, [{"a": date.min}, {"a": None}]),
    "dict of datetime": ({"a": datetime | None}, [{"a": T}, {"a": None}]),
    "dict of bytes": ({"a": bytes | None}, [{"a": b"\0\xff"}, {"a": b"text"}, {"a": None}]),
    "only nulls": (list[int] | None, [None, None]),
}
