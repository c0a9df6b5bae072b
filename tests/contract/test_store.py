"""The contract of the `Store` ports: one suite, every adapter. Each test is a sentence of it."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from playhead.config import Settings
from playhead.core.checkpoint import Cursor
from playhead.core.codec import columns_schema
from playhead.core.offsets import TopicPartition
from playhead.core.schema import schema_of
from playhead.errors import (
    CheckpointConflict,
    FunctionFailed,
    PlayheadError,
    Refused,
    StoreFailed,
)
from playhead.ports import (
    Generation,
    Move,
    Pointer,
    Standing,
    Store,
    Swap,
    TableRow,
    VersionRow,
)
from playhead.project import Project

SOURCE = "src.topic"
TOPIC_ID = "id-1"
BEFORE_ALL = Cursor(0, 0, 0)
ORIGIN = {"_partition": pl.Int32(), "_offset": pl.Int64()}
PLAIN = {"k": int, "v": float | None}
TESTS = Path(__file__).resolve().parent.parent


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
    opened: list[Store] = field(default_factory=list)

    def open(self) -> Store:
        """Open the store once more; the fixture closes it."""
        self.opened.append(open_store(self.address))
        return self.opened[-1]

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


WORLDS = {"sqlite": sqlite_world}


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = WORLDS[request.param](tmp_path)
    yield made
    for store in made.opened:
        store.close()


@pytest.fixture
def store(world: World) -> Store:
    return world.open()


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
        return Move(place(partition), BEFORE_ALL, after, self.epochs[partition], 0, state)

    def batch(
        self, partition: int = 0, *rows: Sequence[Any], records: int = 0, state: bytes = b"delta"
    ) -> Move:
        """Return the next batch: the i-th row comes from the i-th record."""
        before = self.cursors[partition]
        records = records or max(1, len(rows))
        offsets = range(before.next, before.next + len(rows))
        after = Cursor(before.next + records, before.generation, before.batch + 1)
        return self.move(partition, after, rows, offsets, records=records, state=state)

    def rewind(
        self,
        partition: int,
        to: int,
        *rows: Sequence[Any],
        state: bytes = b"whole",
        gap_from: int | None = None,
    ) -> Move:
        """Return the beginning of a new generation, with the rows as of it."""
        after = Cursor(to, self.cursors[partition].generation + 1, 0)
        move = self.move(partition, after, rows, range(len(rows)), records=0, state=state)
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
        content = {only.physical: frame(only, rows, partition, offsets)}
        epoch = self.epochs[partition]
        return Move(place(partition), self.cursors[partition], after, epoch, rows=content, **fields)

    def commit(self, *moves: Move) -> str:
        stage = self.store.ledger.commit(self.version.name, moves)
        self.cursors |= {move.place.partition: move.after for move in moves}
        return stage


def started(store: Store, *partitions: int, version: VersionRow | None = None) -> Writer:
    version = version or a_version()
    store.catalog.record(version)
    return Writer.start(store, version, *partitions)


def rows_of(store: Store, row: TableRow) -> list[tuple[Any, ...]]:
    return store.catalog.rows(row).sort(row.key).rows()


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
        {(n, p): store.ledger.state(n, p) for n in names for p in store.ledger.standings(n)},
        {v.pipeline: store.catalog.pointer(v.pipeline) for v in cut.versions},
        store.journal.runs(),
    )


# ------------------------------------------------------------------ another process


@contextmanager
def another_process(world: World, what: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a function of this module in a process of its own; wait until it says ``ready``."""
    code = f"import sys; from contract.test_store import {what}; {what}(*sys.argv[1:])"
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


# ------------------------------------------------------------------------ the store


def test_the_id_is_made_with_the_store_and_stays(world: World) -> None:
    one, again = world.open(), world.open()
    assert one.ledger.id
    assert one.ledger.id == again.ledger.id


def test_closing_a_store_twice_is_safe(store: Store) -> None:
    store.close()
    store.close()


def test_what_was_stored_is_there_after_opening_again(world: World) -> None:
    store = world.open()
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (1, 1.0)), writer.batch(1, (2, 2.0)))
    store.journal.begin_run("run", "p@a", {"x": [1]})
    before = everything(store)
    store.close()
    assert everything(world.open()) == before


def test_a_new_store_may_be_opened_by_several_at_once(world: World) -> None:
    """The first commands of a project may start together."""
    for _ in range(40):
        address, together = world.new_address(), threading.Barrier(6)

        def first(address: str = address, together: threading.Barrier = together) -> str:
            together.wait()
            with closing(open_store(address)) as store:
                store.catalog.changes()
                return store.ledger.id

        with ThreadPoolExecutor(6) as pool:
            ids = {future.result() for future in [pool.submit(first) for _ in range(6)]}
        assert len(ids) == 1


def test_two_processes_writing_at_once_lose_nothing(world: World) -> None:
    store, count = world.open(), 40
    store.catalog.record(a_version())
    changes = store.catalog.changes()
    with (
        another_process(world, "write_batches", 0, count) as a,
        another_process(world, "write_batches", 1, count) as b,
    ):
        go(a, b)
    assert rows_of(store, table()) == [
        (p * 1000 + i, float(i), p, i) for p in (0, 1) for i in range(count)
    ]
    for partition in (0, 1):
        assert store.ledger.state("p@a", partition) == [
            b"empty",
            *(b"%d" % i for i in range(count)),
        ]
        standing = store.ledger.standings("p@a")[partition]
        assert (standing.cursor, standing.records) == (Cursor(count, 1, count), count)
    assert store.catalog.changes() == changes + 2 * count
    runs = store.journal.runs()
    assert len({run.id for run in runs}) == 2 * count
    assert all(run.result == run.intent for run in runs)


# -------------------------------------------------------------------- ledger: begin


def test_nothing_is_known_of_a_version_that_never_ran(store: Store) -> None:
    assert store.ledger.standings("p@a") == {}
    assert store.ledger.generations("p@a") == {}
    assert store.ledger.state("p@a", 0) == []


def test_begin_inserts_the_row_with_the_state_to_begin_with(store: Store) -> None:
    writer = started(store, 0)
    name = lease_name(writer.version, 7)
    writer.epochs[7] = store.ledger.take([name], "session")[name]
    writer.begin(7, at=500, state=b"hello")
    standings = store.ledger.standings("p@a")
    assert standings[7] == Standing(Cursor(500, 1, 0), writer.epochs[7], 500, TOPIC_ID, 0)
    assert sorted(standings) == [0, 7]
    assert store.ledger.generations("p@a")[7] == [Generation(1, 500)]
    assert store.ledger.state("p@a", 7) == [b"hello"]


def test_begin_may_insert_a_later_generation(store: Store) -> None:
    """The store was lost: rewinding to the earliest begins after what the group remembers."""
    version = a_version()
    store.catalog.record(version)
    epoch = store.ledger.take([lease_name(version, 0)], "")[lease_name(version, 0)]
    move = Move(place(0), BEFORE_ALL, Cursor(3, 8, 0), epoch, 0, b"")
    store.ledger.begin(version.name, place(0), TOPIC_ID, move)
    assert store.ledger.standings("p@a")[0].cursor == Cursor(3, 8, 0)
    assert store.ledger.generations("p@a") == {0: [Generation(8, 3)]}


def test_begin_where_there_is_a_row_is_a_conflict(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    before = everything(store)
    with pytest.raises(CheckpointConflict, match=r"src\.topic\[0\]"):
        store.ledger.begin("p@a", place(0), TOPIC_ID, writer.first(0, at=9))
    assert everything(store) == before


def test_begin_without_the_lease_is_a_conflict(store: Store) -> None:
    version = a_version()
    store.catalog.record(version)
    before = everything(store)
    writer = Writer(store, version, {0: 1}, {})
    with pytest.raises(CheckpointConflict):  # never taken
        writer.begin(0)
    name = lease_name(version, 0)
    writer.epochs = {0: store.ledger.take([name], "mine")[name]}
    store.ledger.take([name], "another's")
    with pytest.raises(CheckpointConflict):  # taken over
        writer.begin(0)
    assert everything(store) == before


# ------------------------------------------------------------------- ledger: commit


def test_commit_moves_the_cursor_and_adds_state_and_rows(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0), (2, None), records=10, state=b"d1"))
    writer.commit(writer.batch(0, (3, 3.0), records=5, state=b"d2"))
    standing = store.ledger.standings("p@a")[0]
    assert standing == Standing(Cursor(15, 1, 2), writer.epochs[0], 0, TOPIC_ID, 15)
    assert store.ledger.state("p@a", 0) == [b"empty", b"d1", b"d2"]
    assert rows_of(store, table()) == [(1, 1.0, 0, 0), (2, None, 0, 1), (3, 3.0, 0, 10)]
    assert store.ledger.generations("p@a") == {0: [Generation(1, 0)]}


def test_many_deltas_come_oldest_first(store: Store) -> None:
    writer = started(store)
    for i in range(12):  # as text, 10 would come before 2
        writer.commit(writer.batch(0, state=b"%d" % i))
    assert store.ledger.state("p@a", 0) == [b"empty", *(b"%d" % i for i in range(12))]


def test_commit_moves_several_partitions_together(store: Store) -> None:
    writer = started(store, 0, 1, 2)
    writer.commit(writer.batch(2, (5, 5.0), records=3), writer.batch(0, (1, 1.0)))
    cursors = {p: s.cursor for p, s in store.ledger.standings("p@a").items()}
    assert cursors == {0: Cursor(1, 1, 1), 1: Cursor(0, 1, 0), 2: Cursor(3, 1, 1)}
    assert rows_of(store, table()) == [(1, 1.0, 0, 0), (5, 5.0, 2, 0)]


def test_versions_do_not_see_each_other(store: Store) -> None:
    a = started(store)
    b = started(store, version=a_version("b"))
    a.commit(a.batch(0, (1, 1.0), state=b"of a"))
    assert store.ledger.state("p@b", 0) == [b"empty"]
    assert rows_of(store, b.version.tables[0]) == []
    b.commit(b.rewind(0, 0))
    assert store.ledger.state("p@a", 0) == [b"empty", b"of a"]
    assert rows_of(store, a.version.tables[0]) == [(1, 1.0, 0, 0)]


@pytest.mark.parametrize("fresh", [False, True], ids=["batch", "generation"])
@pytest.mark.parametrize(
    "stale",
    [
        {"before": Cursor(4, 1, 1)},
        {"before": Cursor(3, 2, 1)},
        {"before": Cursor(3, 1, 2)},
        {"before": Cursor(3, 1, 0)},
        {"epoch": 1},
        {"epoch": 3},
        {"place": place(5)},
    ],
    ids=["next", "generation", "batch ahead", "batch behind", "old epoch", "other epoch", "no row"],
)
def test_each_part_of_the_compare_and_set_refuses_alone(
    store: Store, stale: dict[str, Any], fresh: bool
) -> None:
    started(store)
    writer = Writer.start(store, a_version(), 0)  # the second time: epoch 2
    writer.commit(writer.batch(0, (1, 1.0), records=3))
    before = everything(store)
    good = writer.rewind(0, 0) if fresh else writer.batch(0, (1, 2.0), (2, 2.0))
    with pytest.raises(CheckpointConflict):
        writer.commit(replace(good, **stale))
    assert everything(store) == before
    writer.commit(good)  # and without the stale part it goes through


def test_a_conflict_says_where_and_that_nothing_was_stored(store: Store) -> None:
    writer = started(store, 3)
    move = writer.batch(3)
    writer.commit(move)
    with pytest.raises(CheckpointConflict) as raised:
        writer.commit(move)
    assert raised.value.where == "src.topic[3]"
    assert "p@a" in raised.value.message
    assert raised.value.safe


@pytest.mark.parametrize("stale", [0, 1, 2])
def test_commit_is_all_or_nothing_over_partitions(store: Store, stale: int) -> None:
    writer = started(store, 0, 1, 2)
    moves = [writer.batch(p, (p, 1.0)) for p in (0, 1, 2)]
    moves[stale] = replace(moves[stale], before=Cursor(0, 1, 1))
    before = everything(store)
    with pytest.raises(CheckpointConflict):
        writer.commit(*moves)
    assert everything(store) == before


def test_the_compare_and_set_goes_in_sorted_order(store: Store) -> None:
    """Whoever takes row locks in another order waits for each other."""
    writer = started(store, 2, 10)
    moves = [replace(writer.batch(p), epoch=99) for p in (10, 2)]
    with pytest.raises(CheckpointConflict) as raised:
        writer.commit(*moves)
    assert raised.value.where == "src.topic[2]"


def test_the_compare_and_set_comes_before_anything_is_written(store: Store) -> None:
    writer = started(store, 0, 1)
    writer.commit(writer.batch(1, (1, 1.0)))
    wrong_key = writer.batch(0, (1, 1.0))
    with pytest.raises(CheckpointConflict):
        writer.commit(wrong_key, replace(writer.batch(1), epoch=99))


def test_commit_returns_the_stage(world: World) -> None:
    store = world.open()
    shadow = started(store)
    live = started(store, version=a_version("b", "live"))
    assert shadow.commit(shadow.batch()) == "shadow"
    assert live.commit(live.batch()) == "live"
    promote(store, live.version, shadow.version)
    assert shadow.commit(shadow.batch()) == "live"
    assert live.commit(live.batch()) == "retired"
    assert live.commit() == "retired"


def test_state_and_rows_are_one_transaction_with_the_cursor(world: World) -> None:
    """A reader beside it never sees one without the others."""
    writer = started(world.open(), 0, 1)
    count, seen, errors = 60, 0, []
    over = threading.Event()

    def watch() -> None:
        nonlocal seen
        beside = open_store(world.address)
        try:
            while not over.is_set():
                cut = beside.catalog.cut()
                cursors, rows = cut.cursors["p@a"], cut.rows["t__a"]
                found = {p: len(rows.filter(pl.col("_partition") == p)) for p in (0, 1)}
                if not (cursors[0].next == cursors[1].next == found[0] == found[1]):
                    errors.append((cursors, found))
                if cut.changes - first != cursors[0].batch:
                    errors.append((cut.changes, cursors))
                seen += 1
        except Exception as error:  # noqa: BLE001  the test fails on it below
            errors.append(error)
        finally:
            beside.close()

    first = writer.store.catalog.changes()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for i in range(count):
            writer.commit(writer.batch(0, (i, 0.0)), writer.batch(1, (1000 + i, 0.0)))
    finally:
        over.set()
        thread.join()
    assert errors == []
    assert seen > 5


# -------------------------------------------------------------- ledger: generations


def two_full_partitions(store: Store) -> Writer:
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (1, 1.0), (2, 2.0), records=4, state=b"d0"))
    writer.commit(writer.batch(1, (11, 1.0), (12, 2.0), records=6, state=b"d1"))
    return writer


def test_a_new_generation_replaces_rows_and_state_of_its_partition_only(store: Store) -> None:
    writer = two_full_partitions(store)
    other = store.ledger.standings("p@a")[1]
    writer.commit(writer.rewind(0, 2, (2, 9.0), (3, 3.0), state=b"as of 2"))
    assert rows_of(store, table()) == [
        (2, 9.0, 0, 0),
        (3, 3.0, 0, 1),
        (11, 1.0, 1, 0),
        (12, 2.0, 1, 1),
    ]
    assert store.ledger.state("p@a", 0) == [b"as of 2"]
    assert store.ledger.state("p@a", 1) == [b"empty", b"d1"]
    standing = store.ledger.standings("p@a")[0]
    assert standing == Standing(Cursor(2, 2, 0), writer.epochs[0], 0, TOPIC_ID, 0)
    assert store.ledger.standings("p@a")[1] == other
    assert store.ledger.generations("p@a") == {
        0: [Generation(1, 0), Generation(2, 2)],
        1: [Generation(1, 0)],
    }


def gone(move: Move, *dead: bool) -> Move:
    """Return a batch whose i-th row says whether its key is gone."""
    ((name, rows),) = move.rows.items()
    return replace(move, rows={name: rows.with_columns(pl.Series("_tombstone", dead))})


def test_a_batch_deletes_the_rows_that_are_gone_and_writes_the_others(store: Store) -> None:
    writer = started(store)
    (row,) = writer.version.tables
    writer.commit(writer.batch(0, (1, 1.0), (2, 2.0), (3, 3.0)))
    writer.commit(gone(writer.batch(0, (1, None), (2, 2.5), (9, None)), True, False, True))
    assert rows_of(store, row) == [(2, 2.5, 0, 4), (3, 3.0, 0, 2)]
    writer.commit(writer.batch(0, (1, 7.0)))
    assert rows_of(store, row)[0] == (1, 7.0, 0, 6)


def test_a_batch_may_only_delete(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    writer.commit(gone(writer.batch(0, (1, None)), True))
    assert rows_of(store, writer.version.tables[0]) == []


def test_deleting_goes_by_the_whole_key(store: Store) -> None:
    columns = {"k": int, "day": date, "at": datetime, "v": float | None}
    row = table(columns=columns, key=("day", "k", "at"))
    writer = started(store, version=a_version(tables=[row]))
    noon, day = datetime(2026, 11, 1, 12, tzinfo=UTC), date(2026, 11, 1)
    rows = [(1, day, noon, 1.0), (2, day, noon, 2.0), (1, day, noon.replace(hour=13), 3.0)]
    writer.commit(writer.batch(0, *rows))
    writer.commit(gone(writer.batch(0, (*rows[0][:3], None)), True))
    assert [r[:4] for r in rows_of(store, row)] == [rows[2], rows[1]]


def test_a_key_of_another_partition_is_not_deleted(store: Store) -> None:
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (1, 1.0)))
    before = everything(store)
    with pytest.raises(FunctionFailed, match="a key belongs to one partition") as e:
        writer.commit(gone(writer.batch(1, (1, None)), True))
    assert e.value.where == f"{SOURCE}[1]@0"
    assert everything(store) == before


def test_records_count_the_generation(store: Store) -> None:
    writer = two_full_partitions(store)
    writer.commit(writer.rewind(0, 1))
    writer.commit(writer.batch(0, records=3))
    assert store.ledger.standings("p@a")[0].records == 3
    assert store.ledger.standings("p@a")[0].start == 0


def test_state_is_the_snapshot_and_the_deltas_of_the_current_generation(store: Store) -> None:
    writer = two_full_partitions(store)
    writer.commit(writer.rewind(0, 1, state=b"s2"))
    writer.commit(writer.batch(0, state=b"d2"))
    writer.commit(writer.rewind(0, 2, state=b"s3"))
    assert store.ledger.state("p@a", 0) == [b"s3"]
    writer.commit(writer.batch(0, state=b"d31"))
    writer.commit(writer.batch(0, state=b"d32"))
    assert store.ledger.state("p@a", 0) == [b"s3", b"d31", b"d32"]


def test_a_rewind_to_the_start_empties_the_partition(store: Store) -> None:
    writer = two_full_partitions(store)
    changes = store.catalog.changes()
    writer.commit(writer.rewind(0, 0))
    assert rows_of(store, table()) == [(11, 1.0, 1, 0), (12, 2.0, 1, 1)]
    assert store.catalog.changes() > changes, "the mirror would show the old rows for ever"


def test_an_accepted_gap_leaves_the_table_alone_and_says_where_it_began(store: Store) -> None:
    writer = two_full_partitions(store)
    before = rows_of(store, table())
    writer.commit(replace(writer.rewind(0, 90, state=b"kept", gap_from=4), rows={}))
    assert rows_of(store, table()) == before
    assert store.ledger.generations("p@a")[0] == [Generation(1, 0), Generation(2, 90, gap_from=4)]
    assert store.ledger.state("p@a", 0) == [b"kept"]
    assert store.ledger.standings("p@a")[0].cursor == Cursor(90, 2, 0)


def test_a_batch_and_a_new_generation_go_together_or_not_at_all(store: Store) -> None:
    writer = two_full_partitions(store)
    before = everything(store)
    with pytest.raises(CheckpointConflict):
        writer.commit(writer.rewind(0, 0), replace(writer.batch(1, (13, 3.0)), epoch=99))
    assert everything(store) == before
    writer.commit(writer.rewind(0, 0), writer.batch(1, (13, 3.0)))
    assert [row[0] for row in rows_of(store, table())] == [11, 12, 13]


def test_a_key_given_up_by_a_rewind_may_come_from_another_partition(store: Store) -> None:
    writer = two_full_partitions(store)
    writer.commit(writer.rewind(0, 0))
    writer.commit(writer.batch(1, (1, 5.0)))
    assert rows_of(store, table())[0] == (1, 5.0, 1, 6)


# --------------------------------------------------------------------- ledger: rows


def test_a_table_keeps_one_row_per_key_the_last(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0), (2, 2.0)))
    writer.commit(writer.batch(0, (2, None), (3, 3.0)))
    writer.commit(writer.batch(0, (3, 4.0)))
    assert rows_of(store, table()) == [(1, 1.0, 0, 0), (2, None, 0, 2), (3, 4.0, 0, 4)]


def test_a_key_of_several_columns(store: Store) -> None:
    row = table(columns={"a": int, "v": float, "b": str, "c": date}, key=("b", "c", "a"))
    writer = started(store, 0, 1, version=a_version(tables=[row]))
    day, other = date(2014, 1, 1), date(2014, 1, 2)
    writer.commit(writer.batch(0, (1, 1.0, "x", day), (1, 2.0, "y", day), (1, 3.0, "x", other)))
    writer.commit(writer.batch(0, (1, 9.0, "y", day)))
    values = {row[:4] for row in store.catalog.rows(row).rows()}
    assert values == {(1, 1.0, "x", day), (1, 9.0, "y", day), (1, 3.0, "x", other)}
    with pytest.raises(FunctionFailed, match="b='y'"):
        writer.commit(writer.batch(1, (1, 9.0, "y", day)))


def test_a_table_of_nothing_but_its_key(store: Store) -> None:
    row = table(columns={"k": str})
    writer = started(store, version=a_version(tables=[row]))
    writer.commit(writer.batch(0, ("a",), ("b",)))
    writer.commit(writer.batch(0, ("a",)))
    assert rows_of(store, row) == [("a", 0, 2), ("b", 0, 1)]


def refused_key(writer: Writer, *moves: Move) -> FunctionFailed:
    """Commit, expecting the error of a key on two partitions and that nothing is stored."""
    before = everything(writer.store)
    with pytest.raises(FunctionFailed) as raised:
        writer.commit(*moves)
    assert everything(writer.store) == before
    return raised.value


def test_a_key_from_two_partitions_is_a_named_error(store: Store) -> None:
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (5, 1.0), (7, 1.0)))
    writer.commit(writer.batch(1, (4, 1.0)))
    error = refused_key(writer, writer.batch(1, (8, 2.0), (7, 2.0)), writer.batch(0, (6, 1.0)))
    assert error.where == "src.topic[1]@2"
    assert "t__a" in error.message
    assert "k=7" in error.message
    assert "src.topic[0]@1" in error.message
    assert error.safe
    assert error.cure


def test_a_key_from_two_partitions_of_one_commit(store: Store) -> None:
    writer = started(store, 0, 1)
    error = refused_key(writer, writer.batch(0, (7, 1.0)), writer.batch(1, (6, 1.0), (7, 2.0)))
    assert "k=7" in error.message


def test_a_key_from_two_partitions_in_a_new_generation(store: Store) -> None:
    writer = two_full_partitions(store)
    error = refused_key(writer, writer.rewind(0, 2, (1, 1.0), (11, 1.0)))
    assert "k=11" in error.message


def test_a_key_from_two_partitions_among_rows_of_one_record(store: Store) -> None:
    """An explode gives several rows one offset."""
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (7, 1.0)))
    after = Cursor(1, 1, 1)
    rows = [(6, 1.0), (7, 1.0), (8, 1.0)]
    error = refused_key(writer, writer.move(1, after, rows, [0, 0, 0], records=1, state=b""))
    assert "k=7" in error.message
    assert error.where == "src.topic[1]@0"


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
        ["", "a\0b", "ø€😀e\u0301", "12", "1.0", "1e5", " x ", "NULL", "'\"", None],
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


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_every_type_comes_back_as_it_was(store: Store, kind: str) -> None:
    annotation, values = VALUES[kind]
    row = table(columns={"k": int, "v": annotation})
    writer = started(store, version=a_version(tables=[row]))
    given = writer.batch(0, *enumerate(values))
    writer.commit(given)
    found = store.catalog.rows(row).sort("k")
    assert found.schema == given.rows[row.physical].schema
    assert found["v"].to_list() == values
    if kind == "float":
        bits = [v and v.hex() for v in found["v"].to_list()]
        assert bits == [v and v.hex() for v in values]


@pytest.mark.parametrize("kind", ["int", "str", "bool", "date", "datetime"])
def test_every_key_type_finds_its_row_again(store: Store, kind: str) -> None:
    keys = [v for v in VALUES[kind][1] if v is not None]
    scalar = {"int": int, "str": str, "bool": bool, "date": date, "datetime": datetime}[kind]
    row = table(columns={"k": scalar, "v": float})
    writer = started(store, 0, 1, version=a_version(tables=[row]))
    writer.commit(writer.batch(0, *((k, 1.0) for k in keys)))
    writer.commit(writer.batch(0, *((k, 2.0) for k in keys)))
    assert [r[:2] for r in rows_of(store, row)] == [(k, 2.0) for k in sorted(keys)]
    refused_key(writer, writer.batch(1, (keys[-1], 3.0)))


def test_rows_of_an_empty_table_have_their_types(store: Store) -> None:
    columns = {f"c{i}": annotation for i, (annotation, _) in enumerate(VALUES.values())}
    row = table(columns={"k": int, **columns})
    store.catalog.record(a_version(tables=[row]))
    found = store.catalog.rows(row)
    assert len(found) == 0
    assert found.schema == {**columns_schema(row.schema), **ORIGIN}


ODD = ["select", "a b", 'say "hi"', "it's", "semi;colon --", "dot.ted", "order", "ünïcode", "%s?:x"]


def test_odd_column_names(world: World) -> None:
    store = world.open()
    row = table(
        columns={"group": int, **dict.fromkeys(ODD, str | None), 'k"': str}, key=('k"', "group")
    )
    writer = started(store, 0, 1, version=a_version(stage="live", tables=[row]))
    writer.commit(writer.batch(0, (1, *ODD, "x"), (2, *ODD, "x")))
    writer.commit(writer.batch(0, (1, *ODD[::-1], "x")))
    assert [r[:-2] for r in rows_of(store, row)] == [(1, *ODD[::-1], "x"), (2, *ODD, "x")]
    assert sorted(world.sql("SELECT * FROM t")) == [(1, *ODD[::-1], "x"), (2, *ODD, "x")]
    error = refused_key(writer, writer.batch(1, (2, *ODD, "x")))
    assert "group=2" in error.message


# ------------------------------------------------------------------- ledger: leases


def test_taking_a_lease_raises_its_epoch_whether_in_force_or_not(store: Store) -> None:
    assert store.ledger.take(["x", "b"], "n") == {"x": 1, "b": 1}
    assert store.ledger.take(["x"], "n") == {"x": 2}
    store.ledger.release({"x": 2})
    assert store.ledger.take(["b", "x"], "n") == {"x": 3, "b": 2}


def test_a_lease_says_who_holds_it(store: Store) -> None:
    store.ledger.take(["worker/p@a/0"], "running live")
    lease = store.ledger.lease("worker/p@a/0")
    assert lease is not None
    assert (lease.name, lease.epoch, lease.note) == ("worker/p@a/0", 1, "running live")
    assert lease.in_force
    assert str(os.getpid()) in lease.owner
    assert os.uname().nodename in lease.owner


def test_a_lease_never_taken_is_none(store: Store) -> None:
    assert store.ledger.lease("x") is None


def test_a_lease_given_back_is_none(store: Store) -> None:
    store.ledger.release({"x": store.ledger.take_free("x", "")})
    assert store.ledger.lease("x") is None


def test_a_lease_in_force_is_refused_naming_its_holder(world: World) -> None:
    store, other = world.open(), world.open()
    store.ledger.take_free("worker/p@a/0", "live since noon")
    with pytest.raises(Refused) as raised:
        other.ledger.take_free("worker/p@a/0", "me")
    for said in ("p@a", str(os.getpid()), "live since noon"):
        assert said in raised.value.message
    lease = store.ledger.lease("worker/p@a/0")
    assert lease is not None
    assert (lease.epoch, lease.note) == (1, "live since noon")


def test_a_lease_expires_after_ten_seconds(world: World) -> None:
    store = world.open()
    store.ledger.take_free("x", "")
    world.age("x", 9)
    with pytest.raises(Refused):
        store.ledger.take_free("x", "")
    world.age("x", 1.1)
    lease = store.ledger.lease("x")
    assert lease is not None
    assert not lease.in_force
    assert store.ledger.take_free("x", "") == 2


def test_renewing_extends_a_lease(world: World) -> None:
    store = world.open()
    epochs = store.ledger.take(["x", "b"], "")
    for name in epochs:
        world.age(name, 9)
    store.ledger.renew(epochs)
    for name in epochs:
        world.age(name, 9)
        with pytest.raises(Refused):
            store.ledger.take_free(name, "")
    store.ledger.renew({})


def test_an_expired_lease_that_nobody_took_can_be_renewed(world: World) -> None:
    """Expiry only decides how long others wait; the epoch is the fence."""
    store = world.open()
    epochs = store.ledger.take(["x"], "")
    world.age("x", 60)
    store.ledger.renew(epochs)
    lease = store.ledger.lease("x")
    assert lease is not None
    assert lease.in_force


def test_renewing_what_is_no_longer_ours_is_a_conflict(store: Store) -> None:
    epochs = store.ledger.take(["b", "x"], "")
    store.ledger.take(["x"], "another's")
    with pytest.raises(CheckpointConflict, match="x"):
        store.ledger.renew(epochs)
    with pytest.raises(CheckpointConflict, match="never"):
        store.ledger.renew({"never": 1})


def test_renewing_what_was_given_back_is_a_conflict(store: Store) -> None:
    epochs = store.ledger.take(["x"], "")
    store.ledger.release(epochs)
    with pytest.raises(CheckpointConflict, match="x"):
        store.ledger.renew(epochs)


def test_releasing_gives_back_those_that_are_still_ours(store: Store) -> None:
    epochs = store.ledger.take(["b", "x"], "mine")
    store.ledger.take(["x"], "another's")
    store.ledger.release({**epochs, "never": 1})
    store.ledger.release(epochs)  # twice is safe
    assert store.ledger.take_free("b", "") == 2
    with pytest.raises(Refused, match="another's"):
        store.ledger.take_free("x", "")


def test_the_lease_of_another_living_process_is_refused_until_it_is_gone(world: World) -> None:
    store = world.open()
    with another_process(world, "hold_lease", "worker/p@a/0") as process:
        with pytest.raises(Refused, match=rf"pid {process.pid}\b.*held by a test"):
            store.ledger.take_free("worker/p@a/0", "")
        process.send_signal(signal.SIGSTOP)  # frozen is not gone
        with pytest.raises(Refused):
            store.ledger.take_free("worker/p@a/0", "")
        process.kill()
        wait_for_state(process, "Z")  # dead, and its parent has not looked yet
        lease = store.ledger.lease("worker/p@a/0")
        assert lease is not None
        assert not lease.in_force
        assert store.ledger.take_free("worker/p@a/0", "mine") == 2
    store.ledger.renew({"worker/p@a/0": 2})


def test_the_epochs_of_a_lease_never_go_back(world: World) -> None:
    store, name, seen = world.open(), "part/p@a/src/0", []
    for _ in range(2):
        seen.append(store.ledger.take([name], "")[name])
        store.ledger.release({name: seen[-1]})
        seen.append(store.ledger.take_free(name, ""))
        world.age(name, 100)
        seen.append(store.ledger.take_free(name, ""))
        store.ledger.renew({name: seen[-1]})
    assert seen == [1, 2, 3, 4, 5, 6]
    assert world.open().ledger.take([name], "")[name] == 7


def test_taking_a_partition_writes_its_epoch_to_the_cursor_row(store: Store) -> None:
    started(store, 0, 1)
    again = Writer.start(store, a_version(), 1)
    standings = store.ledger.standings("p@a")
    assert {p: s.epoch for p, s in standings.items()} == {0: 1, 1: 2}
    again.commit(again.batch(1))


def test_a_frozen_worker_commits_nothing_after_another_took_over(world: World) -> None:
    frozen = started(world.open(), 0, 1)
    move, other = frozen.batch(0, (1, 1.0)), frozen.batch(1, (2, 2.0))
    store = world.open()
    Writer.start(store, frozen.version, 0)  # moved nothing yet: only the epoch differs
    before = everything(store)
    with pytest.raises(CheckpointConflict):
        frozen.commit(move)
    with pytest.raises(CheckpointConflict):
        frozen.commit(other, move)
    with pytest.raises(CheckpointConflict):
        frozen.commit(frozen.rewind(0, 0))
    with pytest.raises(CheckpointConflict):
        frozen.store.ledger.renew({lease_name(frozen.version, 0): frozen.epochs[0]})
    assert everything(store) == before


# ------------------------------------------------------------------------- catalog


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
    return store.catalog.swap(replace(ready, **changed))


def test_versions_come_back_as_recorded_in_order(store: Store) -> None:
    nested = table("z", columns={"k": int, "v": {"a": list[int | None], "b": datetime | None}})
    recorded = [
        a_version("z", "live", [nested, table("z", name="u")]),
        a_version("a"),
        a_version("m", tables=[table("m", name="w")], pipeline="other"),
    ]
    for version in recorded:
        store.catalog.record(version)
    assert store.catalog.versions() == recorded
    assert [v.name for v in recorded] == ["p@z", "p@a", "other@m"]


def test_recording_a_shadow_makes_its_tables_and_shows_nothing(world: World) -> None:
    store = world.open()
    store.catalog.record(a_version())
    assert rows_of(store, table()) == []
    assert store.catalog.pointer("p") is None
    with pytest.raises(sqlite3.Error):
        world.sql("SELECT * FROM t")


def test_recording_a_live_version_makes_pointer_and_views(world: World) -> None:
    store = world.open()
    writer = started(store, version=a_version(stage="live"))
    assert store.catalog.pointer("p") == Pointer("a", 1, None)
    writer.commit(writer.batch(0, (1, 1.5)))
    assert world.sql("SELECT * FROM t") == [(1, 1.5)]  # declared columns, nothing else


def wider(label: str, **more: Any) -> VersionRow:
    """Return a version whose table has the plain columns in another order, and more."""
    return a_version(label, tables=[table(label, columns={**more, "v": float | None, "k": int})])


def test_columns_that_versions_add_are_appended_and_null_where_live_lacks_them(
    world: World,
) -> None:
    store = world.open()
    first = started(store, version=a_version("a", "live"))
    late = started(store, version=wider("late", w=str | None))
    second = started(store, version=wider("b", x=int, z=float | None))
    first.commit(first.batch(0, (1, 1.5)))
    second.commit(second.batch(0, (7, None, 2.5, 1)))
    late.commit(late.batch(0, ("w", 3.5, 1)))
    assert world.sql("SELECT * FROM t") == [(1, 1.5)], "no version shows before it is live"
    promote(store, first.version, second.version)
    assert world.sql("SELECT k, v, x, z FROM t") == [(1, 2.5, 7, None)]
    assert world.sql("SELECT * FROM t") == world.sql("SELECT k, v, x, z FROM t")
    promote(store, second.version, first.version)
    assert world.sql("SELECT * FROM t") == [(1, 1.5, None, None)]
    store.catalog.change(replace(second.version, stage="shadow"))  # replayed anew, say
    promote(store, first.version, late.version)
    assert world.sql("SELECT * FROM t") == [(1, 3.5, None, None, "w")]
    store.catalog.change(replace(late.version, stage="live", fingerprint="new"))
    assert world.sql("SELECT * FROM t") == [(1, 3.5, None, None, "w")]


def test_a_table_that_the_catalog_does_not_know_is_refused(world: World) -> None:
    store = world.open()
    world.sql("CREATE TABLE u__a (mine INTEGER)")
    world.sql("INSERT INTO u__a VALUES (42)")
    before = everything(store)
    with pytest.raises(Refused, match="u__a"):
        store.catalog.record(a_version(stage="live", tables=[table(), table(name="u")]))
    assert everything(store) == before
    assert world.sql("SELECT * FROM u__a") == [(42,)]
    store.catalog.record(a_version())  # t__a was not left behind


@pytest.mark.parametrize("what", ["TABLE t AS SELECT 42", "VIEW t AS SELECT 42"])
def test_a_public_name_that_somebody_else_uses_is_refused(world: World, what: str) -> None:
    store = world.open()
    world.sql(f"CREATE {what}")
    with pytest.raises(Refused, match="t"):
        store.catalog.record(a_version(stage="live"))
    assert store.catalog.versions() == []
    assert world.sql("SELECT * FROM t") == [(42,)]


def test_a_public_name_of_another_pipeline_is_refused(world: World) -> None:
    """One pipeline writes a table; two pointers cannot both say what a view shows."""
    store = world.open()
    writer = started(store, version=a_version(stage="live"))
    writer.commit(writer.batch(0, (1, 1.0)))
    before = everything(store)
    with pytest.raises(Refused, match="t"):
        store.catalog.record(a_version("b", "live", pipeline="other"))
    assert everything(store) == before
    assert world.sql("SELECT * FROM t") == [(1, 1.0)]


def test_recording_a_version_twice_is_an_error_and_changes_nothing(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    before = everything(store)
    with pytest.raises(PlayheadError):
        store.catalog.record(a_version())
    assert everything(store) == before


def test_changing_what_is_recorded_keeps_tables_that_stay(store: Store) -> None:
    writer = started(store)
    store.catalog.record(a_version("b"))
    writer.commit(writer.batch(0, (1, 1.0)))
    changed = replace(writer.version, fingerprint="new", environment={}, stage="retired")
    store.catalog.change(changed)
    assert store.catalog.versions() == [changed, a_version("b")]
    assert rows_of(store, table()) == [(1, 1.0, 0, 0)]


@pytest.mark.parametrize(
    "changed",
    [
        table(columns={"k": int, "v": float | None, "w": str | None}),
        table(columns={"k": int, "v": int}),
        table(columns=PLAIN | {"j": int}, key=("k", "j")),
    ],
    ids=["column added", "type changed", "key changed"],
)
def test_a_table_whose_columns_changed_is_made_anew(store: Store, changed: TableRow) -> None:
    writer = started(store)
    other = started(store, version=a_version("b"))
    writer.commit(writer.batch(0, (1, 1.0)))
    other.commit(other.batch(0, (2, 2.0)))
    changes = store.catalog.changes()
    version = replace(writer.version, tables=(changed,))
    store.catalog.change(version)
    assert store.catalog.versions()[0] == version
    assert store.catalog.rows(changed).rows() == []
    assert store.catalog.rows(changed).columns == [*(c.name for c in changed.schema), *ORIGIN]
    assert rows_of(store, other.version.tables[0]) == [(2, 2.0, 0, 0)]
    assert store.catalog.changes() > changes, "the mirror would show the old rows for ever"


def test_tables_may_be_added_and_dropped_by_a_change(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    added = table(name="u")
    store.catalog.change(replace(writer.version, tables=(*writer.version.tables, added)))
    assert store.catalog.rows(added).rows() == []
    assert rows_of(store, table()) == [(1, 1.0, 0, 0)]
    store.catalog.change(replace(writer.version, tables=(added,)))
    with pytest.raises(StoreFailed):
        store.catalog.rows(table())


def test_a_change_is_refused_where_an_unknown_table_is_in_its_way(world: World) -> None:
    store = world.open()
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    world.sql("CREATE TABLE u__a (mine INTEGER)")
    before = everything(store)
    with pytest.raises(Refused, match="u__a"):
        store.catalog.change(replace(writer.version, tables=(table(name="u"),)))
    assert everything(store) == before


def test_pointers_are_per_pipeline(store: Store) -> None:
    store.catalog.record(a_version(stage="live"))
    assert store.catalog.pointer("other") is None
    store.catalog.record(a_version("x", "live", [table("x", name="u")], pipeline="other"))
    assert store.catalog.pointer("other") == Pointer("x", 1, None)
    assert store.catalog.pointer("p") == Pointer("a", 1, None)


@pytest.fixture
def pair(store: Store) -> tuple[Writer, Writer]:
    """A live version a and a shadow b, on two partitions each, with a row each."""
    base = started(store, 0, 1, version=a_version("a", "live"))
    head = started(store, 0, 1, version=a_version("b"))
    base.commit(base.batch(0, (1, 1.0)))
    head.commit(head.batch(0, (1, 2.0)))
    return base, head


def test_a_swap_makes_head_live(world: World, store: Store, pair: tuple[Writer, Writer]) -> None:
    base, head = pair
    changes = store.catalog.changes()
    assert promote(store, base.version, head.version) == 2
    assert store.catalog.pointer("p") == Pointer("b", 2, "a")
    assert [(v.label, v.stage) for v in store.catalog.versions()] == [
        ("a", "retired"),
        ("b", "live"),
    ]
    assert world.sql("SELECT * FROM t") == [(1, 2.0)]
    assert world.audit() == [("promoted", "p@b")]
    assert store.catalog.changes() > changes
    assert rows_of(store, base.version.tables[0]) == [(1, 1.0, 0, 0)]
    assert promote(store, head.version, base.version) == 3
    assert store.catalog.pointer("p") == Pointer("a", 3, "b")
    assert world.sql("SELECT * FROM t") == [(1, 1.0)]


def test_a_swap_shows_the_columns_of_head(world: World, store: Store) -> None:
    wider = table("b", columns={"k": int, "v": float | None, "w": str | None})
    base = started(store, version=a_version("a", "live"))
    head = started(store, version=a_version("b", tables=[wider, table("b", name="u")]))
    promote(store, base.version, head.version)
    assert world.sql("SELECT k, v, w FROM t") == []
    assert world.sql("SELECT k, v FROM u") == []


ONE, TWO = Cursor(1, 1, 1), Cursor(0, 1, 0)
HELD = {f"part/p@{label}/{SOURCE}/{p}": 1 for label in "ab" for p in (0, 1)}


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 0},
        {"epoch": 2},
        {"base": a_version("c")},
        {"base": a_version("b")},
        {"leases": {**HELD, f"part/p@a/{SOURCE}/1": 2}},
        {"leases": {**HELD, f"part/p@b/{SOURCE}/0": 0}},
        {"leases": {**HELD, "part/never": 1}},
        {"cursors": {"p@a": {0: TWO, 1: TWO}, "p@b": {0: ONE, 1: TWO}}},
        {"cursors": {"p@a": {0: ONE, 1: TWO}, "p@b": {0: Cursor(1, 2, 1), 1: TWO}}},
        {"cursors": {"p@a": {0: ONE, 1: TWO}, "p@b": {0: Cursor(1, 1, 2), 1: TWO}}},
        {"cursors": {"p@a": {0: ONE}, "p@b": {0: ONE, 1: TWO}}},
        {"cursors": {"p@a": {0: ONE, 1: TWO, 2: TWO}, "p@b": {0: ONE, 1: TWO}}},
        {"cursors": {"p@c": {0: ONE}}},
    ],
    ids=[
        "pointer behind", "pointer ahead", "another is live", "head is base", "lease of base",
        "lease of head", "lease never taken", "cursor of base", "generation of head",
        "batch of head", "a partition too few", "a partition too many", "unknown version",
    ],
)  # fmt: skip
def test_a_swap_that_is_out_of_date_changes_nothing(
    world: World, store: Store, pair: tuple[Writer, Writer], changed: dict[str, Any]
) -> None:
    base, head = pair
    before = everything(store), world.audit(), world.sql("SELECT * FROM t")
    with pytest.raises(CheckpointConflict):
        promote(store, base.version, head.version, **changed)
    assert (everything(store), world.audit(), world.sql("SELECT * FROM t")) == before
    assert promote(store, base.version, head.version) == 2


def test_of_two_promotions_one_comes_first(store: Store, pair: tuple[Writer, Writer]) -> None:
    base, head = pair
    store.catalog.record(a_version("c"))
    promote(store, base.version, head.version)
    with pytest.raises(CheckpointConflict):
        promote(store, base.version, a_version("c"), epoch=1)
    assert store.catalog.pointer("p") == Pointer("b", 2, "a")


def test_a_polling_reader_sees_each_swap_whole(
    world: World, store: Store, pair: tuple[Writer, Writer]
) -> None:
    versions = [writer.version for writer in pair]
    for writer, value in zip(pair, (1.0, 2.0), strict=True):
        writer.commit(writer.batch(0, *((k, value) for k in range(20))))
    seen: list[frozenset[float]] = []
    errors: list[Exception] = []
    over = threading.Event()

    def poll() -> None:
        try:
            while not over.is_set():
                rows = world.sql("SELECT v FROM t")
                seen.append(frozenset(v for (v,) in rows))
                assert len(rows) == 20
        except Exception as error:  # noqa: BLE001  the test fails on it below
            errors.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for i in range(100):
            promote(store, versions[i % 2], versions[1 - i % 2])
    finally:
        over.set()
        thread.join()
    assert errors == []
    assert set(seen) == {frozenset({1.0}), frozenset({2.0})}
    pointer = store.catalog.pointer("p")
    assert pointer is not None
    assert pointer.epoch == 101


def test_a_cut_names_versions_cursors_and_rows(store: Store, pair: tuple[Writer, Writer]) -> None:
    cut = store.catalog.cut()
    assert cut.changes == store.catalog.changes()
    assert cut.versions == store.catalog.versions()
    assert cut.cursors == {"p@a": {0: ONE, 1: TWO}, "p@b": {0: ONE, 1: TWO}}
    assert {name: rows.rows() for name, rows in cut.rows.items()} == {
        "t__a": [(1, 1.0, 0, 0)],
        "t__b": [(1, 2.0, 0, 0)],
    }
    assert sorted(store.catalog.cut(["p@b"]).rows) == ["t__b"]
    assert store.catalog.cut([]).rows == {}
    assert store.catalog.cut(["p@b"]).versions == cut.versions


def test_a_cut_of_an_empty_store(store: Store) -> None:
    cut = store.catalog.cut()
    assert (list(cut.versions), dict(cut.cursors), dict(cut.rows)) == ([], {}, {})


def test_each_change_of_results_or_pointers_raises_the_counter(store: Store) -> None:
    seen = [store.catalog.changes()]

    def grown() -> bool:
        seen.append(store.catalog.changes())
        return seen[-1] > seen[-2]

    base = started(store, version=a_version("a", "live"))
    assert grown()
    head = started(store, version=a_version("b"))
    assert grown()
    base.commit(base.batch(0, (1, 1.0)))
    assert grown()
    base.commit(base.batch(0, (1, 1.5)))
    assert grown()
    base.commit(base.rewind(0, 0, (1, 1.0)))
    assert grown()
    promote(store, base.version, head.version)
    assert grown()


def test_reading_does_not_raise_the_counter(store: Store, pair: tuple[Writer, Writer]) -> None:
    assert sum(w.cursors[0].next for w in pair) == 2
    before = store.catalog.changes()
    everything(store)
    store.ledger.take(["mirror"], "")
    assert store.catalog.changes() == before


def test_a_diff_is_kept_under_its_digest(world: World) -> None:
    store = world.open()
    assert store.journal.diff("abc") is None
    store.journal.save_diff("abc", b"\0content")
    store.journal.save_diff("def", b"")
    store.journal.save_diff("abc", b"\0content")  # the same diff, taken again
    assert world.open().journal.diff("abc") == b"\0content"
    assert store.journal.diff("def") == b""


def test_runs_come_oldest_first_with_intent_and_result(store: Store) -> None:
    ids = [
        store.journal.begin_run("replay", f"p@{i}", {"bound": {"0": i}, "t": None})
        for i in range(20)
    ]
    assert len(set(ids)) == 20
    store.journal.finish_run(ids[3], {"records": 7})
    store.journal.finish_run(ids[4], {})
    runs = store.journal.runs()
    assert [run.id for run in runs] == ids
    assert [run.subject for run in runs] == [f"p@{i}" for i in range(20)]
    assert runs[3].intent == {"bound": {"0": 3}, "t": None}
    assert [run.result for run in runs[2:6]] == [None, {"records": 7}, {}, None]
    assert {run.kind for run in runs} == {"replay"}
    times = [datetime.fromisoformat(run.started_at) for run in runs]
    assert times == sorted(times)
    assert all(t.tzinfo is not None for t in times)


def test_a_note_is_one_line_of_the_audit(world: World) -> None:
    store = world.open()
    store.journal.note("restart", "p@a", {"why": "ø", "at": [1]})
    store.journal.note("gap", "p@b", {})
    assert world.audit() == [("restart", "p@a"), ("gap", "p@b")]


# ------------------------------------------------------------------ SQLite's own errors


def test_what_is_no_database_is_a_store_failed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreFailed, match=r"store\.db"):
        open_store(f"sqlite:{path}")
    assert path.read_bytes() == b"this is not a database" * 100


def test_a_closed_store_is_a_store_failed(store: Store) -> None:
    store.close()
    with pytest.raises(StoreFailed):
        store.catalog.changes()
