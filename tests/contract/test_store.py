"""The contract of the `Store` and `Ledger` ports: every adapter. Each test is a sentence of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from playhead.core.checkpoint import Cursor
from playhead.core.codec import columns_schema
from playhead.core.past import Counts
from playhead.errors import CheckpointConflict, FunctionFailed, PlayheadError, Refused, StoreFailed
from playhead.ports import Generation, Move, Orders, Standing, Store
from stores import (
    BEFORE_ALL,
    ORIGIN,
    SOURCE,
    TOPIC_ID,
    VALUES,
    World,
    Writer,
    a_version,
    another_process,
    everything,
    go,
    lease_name,
    open_store,
    past,
    place,
    promote,
    rows_of,
    started,
    state,
    table,
    wait_for_state,
)

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
        assert state(store, "p@a", partition) == [
            b"empty",
            *(b"%d" % i for i in range(count)),
        ]
        standing = store.ledger.standings("p@a")[partition]
        assert (standing.cursor, standing.counts) == (Cursor(count, 1, count), Counts(count))
    assert store.catalog.changes() == changes + 2 * count
    runs = store.journal.runs()
    assert len({run.id for run in runs}) == 2 * count
    assert all(run.result == run.intent for run in runs)


# -------------------------------------------------------------------- ledger: begin


def test_nothing_is_known_of_a_version_that_never_ran(store: Store) -> None:
    assert store.ledger.standings("p@a") == {}
    assert store.ledger.generations("p@a") == {}
    assert state(store, "p@a", 0) == []


def test_begin_inserts_the_row_with_the_state_to_begin_with(store: Store) -> None:
    writer = started(store, 0)
    name = lease_name(writer.version, 7)
    writer.epochs[7] = store.ledger.take([name], "session")[name]
    writer.begin(7, at=500, state=b"hello")
    standings = store.ledger.standings("p@a")
    assert standings[7] == Standing(Cursor(500, 1, 0), writer.epochs[7], 500, TOPIC_ID, Counts())
    assert sorted(standings) == [0, 7]
    assert store.ledger.generations("p@a")[7] == [Generation(1, 500)]
    assert state(store, "p@a", 7) == [b"hello"]


def test_begin_may_bring_rows_along_and_without_the_cursor_none_of_them(store: Store) -> None:
    """A shadow that makes a part of history anew begins with the rows of the one that is live."""
    writer = started(store, 0)
    (row,) = writer.version.tables
    name = lease_name(writer.version, 7)
    writer.epochs[7] = store.ledger.take([name], "session")[name]
    writer.cursors[7] = BEFORE_ALL
    first = writer.move(7, Cursor(500, 1, 0), [(1, 1.0), (2, None)], [3, 499], content=b"hello")
    store.ledger.begin("p@a", place(7), TOPIC_ID, first)
    assert rows_of(store, row) == [(1, 1.0, 7, 3), (2, None, 7, 499)]
    again = writer.move(7, Cursor(500, 1, 0), [(3, 3.0)], [4], content=b"hello")
    with pytest.raises(CheckpointConflict):
        store.ledger.begin("p@a", place(7), TOPIC_ID, again)
    assert rows_of(store, row) == [(1, 1.0, 7, 3), (2, None, 7, 499)]


def test_begin_may_insert_a_later_generation(store: Store) -> None:
    """The store was lost: rewinding to the earliest begins after what the group remembers."""
    version = a_version()
    store.catalog.record(version)
    epoch = store.ledger.take([lease_name(version, 0)], "")[lease_name(version, 0)]
    move = Move(place(0), BEFORE_ALL, Cursor(3, 8, 0), epoch, b"")
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
    assert standing == Standing(Cursor(15, 1, 2), writer.epochs[0], 0, TOPIC_ID, Counts(15))
    assert state(store, "p@a", 0) == [b"empty", b"d1", b"d2"]
    assert rows_of(store, table()) == [(1, 1.0, 0, 0), (2, None, 0, 1), (3, 3.0, 0, 10)]
    assert store.ledger.generations("p@a") == {0: [Generation(1, 0)]}


def test_many_deltas_come_oldest_first(store: Store) -> None:
    writer = started(store)
    for i in range(12):  # as text, 10 would come before 2
        writer.commit(writer.batch(0, state=b"%d" % i))
    assert state(store, "p@a", 0) == [b"empty", *(b"%d" % i for i in range(12))]


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
    assert state(store, "p@b", 0) == [b"empty"]
    assert rows_of(store, b.version.tables[0]) == []
    b.commit(b.rewind(0, 0))
    assert state(store, "p@a", 0) == [b"empty", b"of a"]
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
    counts = Counts(2, 1)
    writer.commit(writer.rewind(0, 2, (2, 9.0), (3, 3.0), state=b"as of 2", counts=counts))
    assert rows_of(store, table()) == [
        (2, 9.0, 0, 0),
        (3, 3.0, 0, 1),
        (11, 1.0, 1, 0),
        (12, 2.0, 1, 1),
    ]
    assert state(store, "p@a", 0) == [b"as of 2"]
    assert state(store, "p@a", 1) == [b"empty", b"d1"]
    standing = store.ledger.standings("p@a")[0]
    assert standing == Standing(Cursor(2, 2, 0), writer.epochs[0], 0, TOPIC_ID, counts)
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


def test_counters_are_replaced_by_a_generation_and_added_to_by_batches(store: Store) -> None:
    writer = two_full_partitions(store)
    writer.commit(writer.rewind(0, 1, counts=Counts(1)))
    writer.commit(replace(writer.batch(0, records=3), counts=Counts(2, 1)))
    writer.commit(replace(writer.batch(0, records=3), counts=Counts(0, 3)))
    assert store.ledger.standings("p@a")[0].counts == Counts(3, 4)
    assert store.ledger.standings("p@a")[1].counts == Counts(6)
    assert store.ledger.standings("p@a")[0].start == 0


def test_state_is_the_snapshot_and_the_deltas_of_the_current_generation(store: Store) -> None:
    writer = two_full_partitions(store)
    writer.commit(writer.rewind(0, 1, state=b"s2"))
    writer.commit(writer.batch(0, state=b"d2"))
    writer.commit(writer.rewind(0, 2, state=b"s3"))
    assert state(store, "p@a", 0) == [b"s3"]
    writer.commit(writer.batch(0, state=b"d31"))
    writer.commit(writer.batch(0, state=b"d32"))
    assert state(store, "p@a", 0) == [b"s3", b"d31", b"d32"]


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
    assert state(store, "p@a", 0) == [b"kept"]
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
    error = refused_key(writer, writer.move(1, after, rows, [0, 0, 0], content=b""))
    assert "k=7" in error.message
    assert error.where == "src.topic[1]@0"


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_every_type_comes_back_as_it_was(world: World, kind: str) -> None:
    annotation, values = world.values(kind)
    store = world.open()
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
def test_every_key_type_finds_its_row_again(world: World, kind: str) -> None:
    store, keys = world.open(), [v for v in world.values(kind)[1] if v is not None]
    scalar = {"int": int, "str": str, "bool": bool, "date": date, "datetime": datetime}[kind]
    row = table(columns={"k": scalar, "v": float})
    writer = started(store, 0, 1, version=a_version(tables=[row]))
    writer.commit(writer.batch(0, *((k, 1.0) for k in keys)))
    writer.commit(writer.batch(0, *((k, 2.0) for k in keys)))
    assert [r[:2] for r in rows_of(store, row)] == [(k, 2.0) for k in sorted(keys)]
    refused_key(writer, writer.batch(1, (keys[-1], 3.0)))


def test_text_with_nul_is_kept_or_refused_at_its_row(world: World) -> None:
    row = table(columns={"k": int, "v": str | None, "w": list[str]})
    writer = started(world.open(), version=a_version(tables=[row]))
    good = writer.batch(0, (1, "a", ["\0"]), (2, None, []))
    bad = writer.batch(0, (1, "a", []), (2, "x\0", []), (3, "\0", []))
    if world.keeps_nul:
        writer.commit(bad)
        assert [r[1] for r in rows_of(writer.store, row)] == ["a", "x\0", "\0"]
        return
    error = refused_key(writer, bad)
    assert (error.where, error.cure) == (f"{SOURCE}[0]@1", "Take it out in the function.")
    assert "'v' holds a NUL" in error.message
    writer.commit(good)
    assert [r[1:3] for r in rows_of(writer.store, row)] == [("a", ["\0"]), (None, [])]


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


def test_a_worker_is_told_its_stage_and_a_hold_that_is_in_force(world: World) -> None:
    store, other = world.open(), world.open()
    writer = started(store, version=a_version(stage="live"))
    assert store.ledger.orders("p@a") == Orders("live")
    assert store.ledger.orders("p@b") == Orders("")
    other.ledger.take_free("hold/other", "asked")
    assert store.ledger.commit("p@a", [writer.batch(0, (1, 1.0))]) == Orders("live")
    writer.cursors[0] = store.ledger.standings("p@a")[0].cursor
    other.ledger.take_free("hold/p", "asked")
    assert store.ledger.orders("p@a") == Orders("live", 1)
    assert store.ledger.commit("p@a", [writer.batch(0, (1, 1.0))]) == Orders("live", 1)
    world.age("hold/p", 11)
    assert store.ledger.orders("p@a") == Orders("live")
    other.ledger.release({"hold/p": other.ledger.take_free("hold/p", "asked")})
    assert store.ledger.orders("p@a") == Orders("live")
    assert other.ledger.take_free("hold/p", "asked") == 3
    assert store.ledger.orders("p@a") == Orders("live", 3)


def test_a_lease_is_answered_while_it_is_in_force_at_that_epoch(world: World) -> None:
    store, other = world.open(), world.open()
    assert not store.ledger.answer("hold/p", 0, "here")
    epoch = other.ledger.take_free("hold/p", "asked")
    assert not store.ledger.answer("hold/p", epoch + 1, "here")
    assert store.ledger.answer("hold/p", epoch, "here")
    held = other.ledger.lease("hold/p")
    assert held is not None
    assert (held.epoch, held.note, held.in_force) == (epoch, "here", True)
    other.ledger.renew({"hold/p": epoch})
    world.age("hold/p", 11)
    assert not store.ledger.answer("hold/p", epoch, "too late")
    other.ledger.release({"hold/p": epoch})
    assert not store.ledger.answer("hold/p", epoch, "too late")


def test_leases_are_taken_as_they_stood_all_or_none(store: Store) -> None:
    before = store.ledger.take(["x", "y"], "")
    store.ledger.take(["y"], "a newer session")
    with pytest.raises(CheckpointConflict):
        store.ledger.take(list(before), "", at=before)
    with pytest.raises(CheckpointConflict):
        store.ledger.take(["x", "z"], "", at={"x": 1, "z": 1})
    assert [store.ledger.take([name], "")[name] for name in "xyz"] == [2, 3, 1]
    assert store.ledger.take(["x", "y"], "", at={"x": 2, "y": 3}) == {"x": 3, "y": 4}


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


# -------------------------------------------------------------- several at once


def all_at_once(world: World, count: int, act: Callable[[Store, int], object]) -> list[object]:
    """Let several connections do something at the same moment; return what each got."""
    together = threading.Barrier(count)

    def one(number: int) -> object:
        with closing(open_store(world.address)) as store:
            together.wait(30)
            try:
                return act(store, number)
            except PlayheadError as error:
                return type(error)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_several_who_want_a_free_lease_one_gets_it(world: World) -> None:
    """Never taken, given back, expired: each time anew."""
    store = world.open()
    for epoch in range(1, 13):
        got = all_at_once(world, 5, lambda store, _: store.ledger.take_free("x", ""))
        assert sorted(map(str, got)) == sorted([str(epoch), *[str(Refused)] * 4])
        if epoch % 2:
            store.ledger.release({"x": epoch})
        else:
            world.age("x", 60)


def test_of_several_who_commit_the_same_batch_one_does(world: World) -> None:
    writer = started(world.open())
    for i in range(8):
        move = writer.batch(0, (i, float(i)))
        got = all_at_once(world, 4, lambda store, _, m=move: store.ledger.commit("p@a", [m]))
        assert got.count(Orders("shadow")) == 1
        assert got.count(CheckpointConflict) == 3
        writer.cursors[0] = move.after
    assert rows_of(writer.store, table()) == [(i, float(i), 0, i) for i in range(8)]
    assert len(past(writer.store, "p@a", 0)) == 9


def test_of_several_first_starts_one_inserts_the_row(world: World) -> None:
    store, version = world.open(), a_version()
    store.catalog.record(version)
    for partition in range(6):
        name = lease_name(version, partition)
        writer = Writer(store, version, {partition: store.ledger.take([name], "")[name]}, {})
        move = writer.first(partition)
        got = all_at_once(
            world, 4, lambda s, _, m=move: s.ledger.begin("p@a", m.place, TOPIC_ID, m)
        )
        assert got.count(None) == 1
        assert got.count(CheckpointConflict) == 3


def test_taking_over_and_committing_never_wait_for_each_other(world: World) -> None:
    """Both lock rows of several partitions: in the same order, by number."""
    partitions = (2, 10, 11)
    writer = started(world.open(), *partitions)
    names = [lease_name(writer.version, p) for p in partitions]

    def act(store: Store, number: int) -> set[object]:
        seen: set[object] = set()
        for _ in range(30):
            try:
                if number:
                    store.ledger.take(names, "")
                else:
                    stood = store.ledger.standings("p@a")
                    epochs = {p: s.epoch for p, s in stood.items()}
                    cursors = {p: s.cursor for p, s in stood.items()}
                    mine = Writer(store, writer.version, epochs, cursors)
                    mine.commit(*(mine.batch(p) for p in reversed(partitions)))
            except CheckpointConflict:
                seen.add(CheckpointConflict)
        return seen

    got = all_at_once(world, 3, act)
    assert all(seen in (set(), {CheckpointConflict}) for seen in got), got


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
