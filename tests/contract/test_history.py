"""The contract of the `History` port, and of what `Ledger.commit` leaves in it: every adapter."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from playhead.core.checkpoint import Cursor
from playhead.core.past import Counts
from playhead.errors import CheckpointConflict, StoreFailed
from playhead.ports import DeadLetter, Generation, Move, Snapshot, Store
from stores import (
    World,
    Writer,
    a_version,
    everything,
    lease_name,
    past,
    place,
    rows_of,
    started,
    table,
)

STEPS = ["after compare-and-set", "between delta and rows"]


def letter(partition: int, offset: int, generation: int = 1, **changed: object) -> DeadLetter:
    made = DeadLetter(place(partition), offset, generation, "no number", 1_000, b"k", b"{")
    return replace(made, **changed)


def whole(writer: Writer, partition: int = 0, content: bytes = b"all") -> Snapshot:
    """Return a snapshot of where the writer stands."""
    cursor, epoch = writer.cursors[partition], writer.epochs[partition]
    return Snapshot(place(partition), cursor, epoch, content)


# ------------------------------------------------------------- deltas and snapshots


def test_nothing_is_saved_of_a_version_that_never_ran(store: Store) -> None:
    assert store.history.saved("p@a", 0) == []
    assert store.history.dead_letters("p@a") == []
    assert store.history.skips("p@a") == {}


def test_a_first_start_leaves_a_snapshot_of_its_content(store: Store) -> None:
    started(store, 0)
    ((saved, content),) = past(store, "p@a", 0)
    assert (saved.generation, saved.batch, saved.whole) == (1, 0, True)
    assert (saved.begin, saved.next, saved.counts) == (0, 0, Counts())
    assert (saved.size, content) == (5, b"empty")


def test_a_batch_leaves_its_delta(store: Store) -> None:
    writer = started(store)
    before_s = time.time()
    writer.commit(replace(writer.batch(0, records=10, state=b"d1"), counts=Counts(7, 2)))
    writer.commit(writer.batch(0, records=5, state=b"\0\xff longer"))
    (_, _), (one, first), (two, second) = past(store, "p@a", 0)
    assert (one.generation, one.batch, one.whole, one.begin, one.next) == (1, 1, False, 0, 10)
    assert (one.counts, one.size, first) == (Counts(7, 2), 2, b"d1")
    assert (two.generation, two.batch, two.whole, two.begin, two.next) == (1, 2, False, 10, 15)
    assert (two.counts, two.size, second) == (Counts(5), 9, b"\0\xff longer")
    assert before_s - 60 < one.at_s <= two.at_s < time.time() + 60


def test_a_batch_without_change_leaves_an_empty_delta(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, state=b""))
    saved, content = past(store, "p@a", 0)[-1]
    assert (saved.size, content) == (0, b"")


def test_a_generation_leaves_a_snapshot_and_keeps_what_was_before(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, records=4, state=b"d1"))
    before = past(store, "p@a", 0)
    writer.commit(writer.rewind(0, 2, state=b"as of 2", counts=Counts(1, 1)))
    held = past(store, "p@a", 0)
    assert held[:-1] == before
    saved, content = held[-1]
    assert (saved.generation, saved.batch, saved.whole) == (2, 0, True)
    assert (saved.begin, saved.next, saved.counts, content) == (2, 2, Counts(1, 1), b"as of 2")


def test_saved_comes_in_the_order_of_writing_over_generations(store: Store) -> None:
    writer = started(store)
    for _ in range(11):  # as text, 10 would come before 2
        writer.commit(writer.batch(0))
    store.history.save("p@a", whole(writer))
    writer.commit(writer.rewind(0, 3))
    writer.commit(writer.batch(0))
    found = [(s.generation, s.batch, s.whole) for s in store.history.saved("p@a", 0)]
    batches = [(1, b, False) for b in range(1, 12)]
    assert found == [(1, 0, True), *batches, (1, 11, True), (2, 0, True), (2, 1, False)]


def test_versions_and_partitions_have_a_past_of_their_own(store: Store) -> None:
    a, b = started(store, 0, 1), started(store, version=a_version("b"))
    a.commit(a.batch(1, state=b"of a1"))
    b.commit(b.batch(0, state=b"of b0"))
    assert [c for _, c in past(store, "p@a", 0)] == [b"empty"]
    assert [c for _, c in past(store, "p@a", 1)] == [b"empty", b"of a1"]
    assert [c for _, c in past(store, "p@b", 0)] == [b"empty", b"of b0"]


def test_a_large_content_comes_back_as_it_was(store: Store) -> None:
    writer = started(store)
    blob = bytes(range(256)) * 20_000
    writer.commit(writer.batch(0, state=blob))
    saved, content = past(store, "p@a", 0)[-1]
    assert saved.size == len(blob)
    assert content == blob


def test_a_snapshot_has_the_counters_of_the_cursor_row(store: Store) -> None:
    writer = started(store)
    writer.commit(replace(writer.batch(0, records=4), counts=Counts(3, 1)))
    writer.commit(replace(writer.batch(0, records=2), counts=Counts(2)))
    store.history.save("p@a", whole(writer))
    saved, content = past(store, "p@a", 0)[-1]
    assert (saved.generation, saved.batch, saved.whole) == (1, 2, True)
    assert (saved.begin, saved.next, saved.counts, content) == (6, 6, Counts(5, 1), b"all")
    assert len(past(store, "p@a", 0)) == 4, "the delta of that batch stays beside it"


def test_a_snapshot_that_is_there_is_replaced(store: Store) -> None:
    writer = started(store)
    store.history.save("p@a", whole(writer, content=b"mended"))
    assert [content for _, content in past(store, "p@a", 0)] == [b"mended"]


@pytest.mark.parametrize(
    "stale",
    [
        {"cursor": Cursor(4, 1, 1)},
        {"cursor": Cursor(3, 2, 1)},
        {"cursor": Cursor(3, 1, 0)},
        {"epoch": 1},
        {"epoch": 3},
        {"place": place(5)},
    ],
    ids=["next", "generation", "batch", "old epoch", "other epoch", "no row"],
)
def test_a_snapshot_of_a_cursor_that_moved_is_not_saved(
    store: Store, stale: dict[str, object]
) -> None:
    started(store)
    writer = Writer.start(store, a_version(), 0)  # the second time: epoch 2
    writer.commit(writer.batch(0, records=3))
    before = everything(store)
    with pytest.raises(CheckpointConflict, match="p@a"):
        store.history.save("p@a", replace(whole(writer), **stale))
    assert everything(store) == before
    store.history.save("p@a", whole(writer))


def test_saving_and_forgetting_change_no_result(store: Store) -> None:
    writer = started(store)
    changes = store.catalog.changes()
    store.history.save("p@a", whole(writer))
    store.history.forget("p@a", 0, store.history.saved("p@a", 0))
    assert store.catalog.changes() == changes


def test_forgetting_deletes_what_it_names_and_nothing_else(store: Store) -> None:
    writer = started(store, 0, 1)
    for _ in range(3):
        writer.commit(writer.batch(0), writer.batch(1))
    store.history.save("p@a", whole(writer))
    kept = past(store, "p@a", 1)
    held = store.history.saved("p@a", 0)
    store.history.forget(
        "p@a", 0, [held[1], held[3]]
    )  # two deltas; the snapshot after batch 3 stays
    assert store.history.saved("p@a", 0) == [held[0], held[2], held[4]]
    assert past(store, "p@a", 1) == kept
    store.history.forget("p@a", 0, [held[1]])  # twice is safe
    store.history.forget("p@a", 0, [])
    with pytest.raises(StoreFailed, match="p@a"):
        store.history.content("p@a", 0, held[1])


# ---------------------------------------------------------------------- generations


def test_a_generation_remembers_the_generations_of_its_upstream(store: Store) -> None:
    writer = started(store)
    upstream = {"up@x[0]": ((1, 0), (2, 7)), "up@x[12]": ((1, 3),), "other@y[0]": ()}
    writer.commit(replace(writer.rewind(0, 0), upstream=upstream))
    assert store.ledger.generations("p@a") == {
        0: [Generation(1, 0), Generation(2, 0, None, upstream)]
    }


def test_a_first_start_remembers_them_too(store: Store) -> None:
    writer = started(store, 1)
    name = lease_name(writer.version, 0)
    writer.epochs[0] = store.ledger.take([name], "")[name]
    move = replace(writer.first(0), upstream={"up@x[0]": ((1, 0),)})
    store.ledger.begin("p@a", place(0), "id", move)
    assert store.ledger.generations("p@a")[0][0].upstream == {"up@x[0]": ((1, 0),)}


def test_a_generation_may_begin_on_another_topic_of_the_name(store: Store) -> None:
    writer = started(store, 0, 1)
    writer.commit(replace(writer.rewind(0, 0), topic_id="id-2"))
    writer.commit(writer.batch(0), writer.batch(1))
    ids = {p: s.topic_id for p, s in store.ledger.standings("p@a").items()}
    assert ids == {0: "id-2", 1: "id-1"}


def test_a_generation_on_another_topic_forgets_what_was_skipped_on_the_old_one(
    store: Store,
) -> None:
    writer = started(store, 0, 1)
    for version, partition in (("p@a", 0), ("p@a", 1), ("p@b", 0)):
        store.history.skip(version, place(partition), 5, "broken")
    writer.commit(writer.rewind(1, 0))
    assert store.history.skips("p@a") == {0: {5: "broken"}, 1: {5: "broken"}}
    writer.commit(replace(writer.rewind(0, 0), topic_id="id-2"))
    assert store.history.skips("p@a") == {1: {5: "broken"}}
    assert store.history.skips("p@b") == {0: {5: "broken"}}


# --------------------------------------------------------------------- dead letters


def test_dead_letters_are_stored_with_their_batch(store: Store) -> None:
    writer = started(store, 0, 1)
    odd = letter(0, 2, error="ø 'quoted'\n", key=None, value=None, timestamp_ms=-5)
    raw = letter(1, 0, key=b"", value=bytes(range(256)))
    writer.commit(
        replace(writer.batch(0, records=3), dead=[odd, letter(0, 0)], counts=Counts(1, 2)),
        replace(writer.batch(1), dead=[raw], counts=Counts(0, 1)),
    )
    assert store.history.dead_letters("p@a") == [letter(0, 0), odd, raw]
    assert store.history.dead_letters("p@b") == []
    assert store.ledger.standings("p@a")[0].counts == Counts(1, 2)


def test_a_nul_in_an_error_keeps_no_batch_away(store: Store) -> None:
    writer = started(store)
    writer.commit(replace(writer.batch(), dead=[letter(0, 0, error="bad \0 text")]))
    store.history.skip("p@a", place(0), 1, "bad \0 text")
    assert [d.error for d in store.history.dead_letters("p@a")] == ["bad \\0 text"]
    assert store.history.skips("p@a") == {0: {1: "bad \\0 text"}}


def test_dead_letters_of_a_batch_that_is_refused_are_not_there(store: Store) -> None:
    writer = started(store)
    with pytest.raises(CheckpointConflict):
        writer.commit(replace(writer.batch(), dead=[letter(0, 0)], epoch=9))
    assert store.history.dead_letters("p@a") == []


def test_each_generation_has_its_own_dead_letters(store: Store) -> None:
    writer = started(store)
    writer.commit(replace(writer.batch(0, records=3), dead=[letter(0, 1), letter(0, 2)]))
    writer.commit(writer.rewind(0, 0))
    writer.commit(replace(writer.batch(0, records=3), dead=[letter(0, 1, 2, error="still")]))
    assert store.history.dead_letters("p@a") == [
        letter(0, 1),
        letter(0, 1, 2, error="still"),
        letter(0, 2),
    ]


def test_dead_letters_come_by_number_not_by_text(store: Store) -> None:
    writer = started(store, 2, 10)
    writer.commit(
        replace(writer.batch(10, records=12), dead=[letter(10, 10), letter(10, 9)]),
        replace(writer.batch(2), dead=[letter(2, 0)]),
    )
    found = [(d.place.partition, d.offset) for d in store.history.dead_letters("p@a")]
    assert found == [(2, 0), (10, 9), (10, 10)]


# ---------------------------------------------------------------------------- skips


def test_a_skip_is_written_down_with_an_audit_row(world: World) -> None:
    store = world.open()
    store.history.skip("p@a", place(3), 12, "ticket 7")
    store.history.skip("p@a", place(3), 13, "ø")
    store.history.skip("p@a", place(0), 12, "")
    store.history.skip("p@b", place(3), 12, "another's")
    assert world.open().history.skips("p@a") == {3: {12: "ticket 7", 13: "ø"}, 0: {12: ""}}
    assert world.audit() == [("skipped", "p@a")] * 3 + [("skipped", "p@b")]
    ((detail,),) = world.sql("SELECT detail FROM playhead__audit WHERE seq = 1")
    assert b"src.topic[3]" in bytes(detail)
    assert b"ticket 7" in bytes(detail)


def test_skipping_twice_keeps_the_newer_reason(world: World) -> None:
    store = world.open()
    store.history.skip("p@a", place(0), 1, "first")
    store.history.skip("p@a", place(0), 1, "second")
    assert store.history.skips("p@a") == {0: {1: "second"}}
    assert len(world.audit()) == 2


# ---------------------------------------------------------------- rows of a partition


def test_rows_of_one_partition(store: Store) -> None:
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (1, 1.0), (2, None)), writer.batch(1, (3, 3.0)))
    assert store.catalog.rows(table(), 0).sort("k").rows() == [(1, 1.0, 0, 0), (2, None, 0, 1)]
    assert store.catalog.rows(table(), 1).rows() == [(3, 3.0, 1, 0)]
    nothing = store.catalog.rows(table(), 7)
    assert nothing.rows() == []
    assert nothing.schema == store.catalog.rows(table()).schema


# -------------------------------------------------- the points between two effects


class Killed(Exception):
    """The process ends here."""


def told(store: Store) -> list[str]:
    """Return a list that grows by each point that the store tells."""
    names: list[str] = []
    store.ledger.on_step = names.append
    return names


def test_each_point_of_a_commit_is_told_once_in_order(store: Store) -> None:
    writer = started(store, 0, 1)
    names = told(store)
    writer.commit(writer.batch(0, (1, 1.0)), writer.batch(1))
    assert names == STEPS
    writer.commit(writer.rewind(0, 0))
    assert names == STEPS * 2
    with pytest.raises(CheckpointConflict):
        writer.commit(replace(writer.batch(), epoch=99))
    assert names == STEPS * 2, "nothing was durable, nothing is told"


@pytest.mark.parametrize("point", STEPS)
@pytest.mark.parametrize("fresh", [False, True], ids=["batch", "generation"])
def test_who_dies_at_a_point_leaves_nothing(store: Store, point: str, fresh: bool) -> None:
    writer = started(store, 0, 1)
    writer.commit(writer.batch(0, (1, 1.0), (2, 2.0)), writer.batch(1, (3, 3.0)))
    move = writer.rewind(0, 1, (1, 1.0)) if fresh else writer.batch(0, (1, 9.0), (4, 4.0))
    if not fresh:
        move = replace(move, dead=[letter(0, 3)])
    before = everything(store)

    def die(name: str) -> None:
        if name == point:
            raise Killed

    store.ledger.on_step = die
    with pytest.raises(Killed):
        writer.commit(move, writer.batch(1, (5, 5.0)))
    store.ledger.on_step = None
    assert everything(store) == before
    writer.commit(move)


def test_nobody_sees_what_is_told_of(world: World) -> None:
    """The points lie inside of the transaction: another reader still sees the state before it."""
    store, beside = world.open(), world.open()
    writer = started(store)
    before = everything(beside)
    seen = []
    store.ledger.on_step = lambda name: seen.append((name, everything(beside) == before))
    writer.commit(writer.batch(0, (1, 1.0)))
    assert seen == [(name, True) for name in STEPS]
    assert everything(beside) != before


def test_delta_and_dead_letters_are_written_between_the_points(world: World) -> None:
    store = world.open()
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    seen: list[tuple[int, int, int, list[object]]] = []

    def look(_: str) -> None:
        standing = store.ledger.standings("p@a")[0]
        dead = len(store.history.dead_letters("p@a"))
        seen.append(
            (standing.cursor.next, len(past(store, "p@a", 0)), dead, rows_of(store, table()))
        )

    store.ledger.on_step = look
    move: Move = replace(writer.batch(0, (2, 2.0)), dead=[letter(0, 1)])
    writer.commit(move)
    row = (1, 1.0, 0, 0)
    assert seen == [(2, 2, 0, [row]), (2, 3, 1, [row])]
