"""The contract of the `Publications` port: every store."""

from __future__ import annotations

from dataclasses import replace

import pytest

from playhead.core.epochs import Begun, Epoch
from playhead.errors import CheckpointConflict
from playhead.ports import Store
from stores import World, a_version, promote, started

FIRST = Begun(
    "t", "p", "t.public", 1, 1, "a", "t.a", 2, upstream={"p@a[0]": ((1, 0), (2, 7))},
    begins={0: 3, 11: 4}, held={0: 9},
)  # fmt: skip
NEXT = replace(FIRST, number=2, pointer=2, version="b", source="t.b", policy="changed")
CONTENT = [b"\0one", b"two", b"", b"four"]


def rows_by_label(store: Store) -> dict[str, Epoch]:
    return {row.label: row for row in store.publications.epochs()}


def leased(store: Store, row: Epoch) -> dict[str, int]:
    return store.ledger.take([f"part/{row.name}/t/{p}" for p in (0, 1)], "a test")


def test_epochs_come_back_as_they_began(world: World) -> None:
    store = world.open()
    assert store.publications.epochs() == []
    store.publications.begin([FIRST])
    (row,) = world.open().publications.epochs()
    assert row.of.begins == FIRST.begins
    assert row.of.held == FIRST.held
    starts = {writer: [tuple(s) for s in known] for writer, known in row.of.upstream.items()}
    assert starts == {"p@a[0]": [(1, 0), (2, 7)]}
    store.publications.begin([replace(FIRST, version="other")])
    assert store.publications.epochs() == [row], "one that is known is left alone"
    store.publications.begin([replace(NEXT, closes={0: 12})])
    labels = [(e.label, e.stage, e.ends) for e in store.publications.epochs()]
    assert labels == [("e1", "ending", {0: 12}), ("e2.changed", "live", None), ("e2", "live", None)]
    store.publications.made("t", "an id")
    assert {e.topic_id for e in store.publications.epochs()} == {"an id"}


def test_an_epoch_begins_with_the_swap_or_not_at_all(store: Store) -> None:
    base = started(store, version=a_version(stage="live")).version
    head = started(store, version=a_version("b")).version
    store.publications.begin([FIRST])
    with pytest.raises(CheckpointConflict):
        promote(store, base, head, epoch=7, public=[NEXT])
    assert list(rows_by_label(store)) == ["e1"]
    assert promote(store, base, head, public=[NEXT]) == 2
    assert list(rows_by_label(store)) == ["e1", "e2.changed", "e2"]


def test_a_worker_is_told_the_stage_of_its_epoch(store: Store) -> None:
    assert store.ledger.orders("t.public@e1").stage == ""
    store.publications.begin([FIRST])
    assert store.ledger.orders("t.public@e1").stage == "live"
    store.publications.begin([replace(NEXT, policy="append")])
    assert store.ledger.orders("t.public@e1").stage == "stopping"


def test_only_who_holds_the_leases_ends_an_epoch(store: Store) -> None:
    store.publications.begin([FIRST])
    (row,) = store.publications.epochs()
    frozen = leased(store, row)
    taken = leased(store, row)
    with pytest.raises(CheckpointConflict):
        store.publications.over(row, frozen)
    assert rows_by_label(store)["e1"].stage == "live"
    store.publications.over(row, taken)
    assert rows_by_label(store)["e1"].stage == "over"


def test_a_difference_is_kept_once_and_forgotten_when_it_is_over(store: Store) -> None:
    store.publications.begin([FIRST, NEXT])
    row = rows_by_label(store)["e2.changed"]
    frozen = leased(store, row)
    mine = leased(store, row)
    with pytest.raises(CheckpointConflict):
        store.publications.keep(row, {0: CONTENT, 1: []}, frozen)
    assert rows_by_label(store)["e2.changed"].sizes is None
    kept = store.publications.keep(row, {0: CONTENT, 1: []}, mine)
    assert kept.sizes == {0: 4, 1: 0}
    again = store.publications.keep(row, {0: [b"other"], 1: [b"x"]}, mine)
    assert again == kept == rows_by_label(store)["e2.changed"]
    assert store.publications.kept(row, 0, 0, 2) == CONTENT[:2]
    assert store.publications.kept(row, 0, 1, 100) == CONTENT[1:]
    assert store.publications.kept(row, 0, 4, 100) == []
    assert store.publications.kept(row, 1, 0, 100) == []
    store.publications.over(row, mine)
    assert store.publications.kept(row, 0, 0, 100) == []
