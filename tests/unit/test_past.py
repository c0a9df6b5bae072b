"""What is kept of the past, and what may go."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.core.lineage import Generation
from playhead.core.past import (
    Content,
    Counts,
    Gathered,
    Saved,
    bases,
    due,
    expired,
    pack,
    thinned,
    unpack,
)
from playhead.core.slots import merge
from playhead.errors import StoreFailed


def snapshot(at, generation=1, batch=None, at_s=0.0, size=10):
    return Saved(generation, at if batch is None else batch, True, at, at, Counts(), size, at_s)


def delta(begin, end, generation=1, at_s=0.0, size=10):
    return Saved(generation, end, False, begin, end, Counts(), size, at_s)


def frame(**columns):
    return pl.DataFrame(columns)


def test_content_comes_back_with_its_kinds_apart():
    slots = {"running_sum.table/x": frame(k=[1], _total=[2.5])}
    rows = {"t__v1": frame(k=[1], v=[2.5], _partition=[0], _offset=[7])}
    found = unpack(pack(Content(slots, rows)), "it")
    assert found.slots["running_sum.table/x"].equals(slots["running_sum.table/x"])
    assert found.rows["t__v1"].equals(rows["t__v1"])
    assert (list(found.slots), list(found.rows)) == (["running_sum.table/x"], ["t__v1"])


@pytest.mark.parametrize("at", [0, 7, 20, 60, -1])
def test_a_changed_byte_is_noticed(at):
    blob = bytearray(pack(Content({"row": frame(k=[1], _state=[b"x"])})))
    blob[at] ^= 1
    with pytest.raises(StoreFailed, match="the delta of a@b"):
        unpack(bytes(blob), "the delta of a@b")


@pytest.mark.parametrize("length", [0, 10, 43, 60])
def test_a_blob_that_was_cut_is_noticed(length):
    with pytest.raises(StoreFailed):
        unpack(pack(Content({"row": frame(k=[1], _state=[b"x"])}))[:length], "it")


def test_state_is_what_merging_delta_by_delta_gives():
    deltas = [frame(k=[i % 7, 10 + i % 3], _total=[float(i), -1.0]) for i in range(40)]
    base = {"s": frame(k=[3, 99], _total=[0.5, 9.9])}
    expected, gathered, often = base, Gathered(Content(base)), Gathered(Content(base))
    for one in deltas:
        expected = merge(expected, {"s": one, "t": one})
        gathered.add({"s": one, "t": one}, {})
        often.add({"s": one, "t": one}, {})
        assert often.slots["s"].equals(expected["s"])
    assert all(gathered.slots[name].equals(expected[name]) for name in ("s", "t"))
    gathered.add({"s": frame(k=[1], _sum=[1.0])}, {})
    with pytest.raises(StoreFailed, match="does not fit its delta"):
        _ = gathered.slots


def test_the_last_row_of_a_key_counts_and_deleted_keys_are_gone():
    gathered = Gathered(Content({}, {"t": frame(k=[1, 2, 3], v=["a", "b", "c"])}))
    gathered.add({}, {"t": frame(k=[2, 3], v=["B", None], _tombstone=[False, True])})
    gathered.add({}, {"t": frame(k=[4, 3], v=["d", "C"])})
    gathered.add({}, {"t": frame(k=[4], v=[None], _tombstone=[True]), "other": frame(k=[1])})
    rows = gathered.rows({"t": ("k",)})
    assert list(rows) == ["t"]
    assert sorted(rows["t"].rows()) == [(1, "a"), (2, "B"), (3, "C")]


def test_a_restore_begins_at_the_nearest_snapshot_of_the_lineage():
    history = [Generation(1, 0), Generation(2, 50)]
    saved = [snapshot(0), snapshot(40), snapshot(60), snapshot(50, 2, 0), snapshot(70, 2)]
    assert [s.next for s in bases(saved, history, 100)] == [70, 50, 40, 0]
    assert [(s.next, s.generation) for s in bases(saved, history, 65)] == [(50, 2), (40, 1), (0, 1)]
    assert [s.next for s in bases(saved, history, 49)] == [40, 0]


def test_a_snapshot_is_due_by_records_and_large_ones_wait_for_their_worth():
    assert due((1, 100), 0, 0, 100)
    assert not due((1, 99), 10**9, 0, 100)
    assert not due((1, 100), 5_000_000, 6_000_000, 100)
    assert due((1, 100), 6_000_000, 6_000_000, 100)
    assert due((250, 1), 0, 0, 100)
    assert not due((249, 1), 0, 0, 100)
    assert not due((250, 1), 5_000_000, 6_000_000, 100)


def test_nothing_goes_without_a_snapshot_in_its_place():
    saved = [delta(0, 10), delta(10, 20), delta(20, 30)]
    assert expired(saved, 1e9, 60.0, 1) == []


def test_what_was_written_before_the_snapshot_at_the_horizon_goes():
    old = [snapshot(0, batch=0), delta(0, 10), delta(10, 20), snapshot(20), delta(20, 30)]
    new = [delta(30, 40, at_s=900.0), snapshot(40, at_s=900.0)]
    gone = expired([*old, *new], 1000.0, 500.0, 10**9)
    assert gone == [old[0], old[1], old[2]]


def test_bytes_bring_the_horizon_nearer_but_the_newest_snapshot_stays():
    saved = [snapshot(0, batch=0), delta(0, 10), snapshot(10), delta(10, 20), snapshot(20)]
    assert expired(saved, 0.0, 1e9, 30) == saved[:2]
    assert expired(saved, 0.0, 1e9, 1) == saved[:4]
    assert expired(saved, 0.0, 1e9, 10**9) == []


def test_superseded_generations_go_with_the_horizon():
    old = [delta(0, 100, 1), snapshot(50, 2, 0, at_s=1.0), delta(50, 60, 2, at_s=900.0)]
    assert expired(old, 1000.0, 500.0, 10**9) == [old[0]]


@given(st.integers(1, 400), st.integers(1, 50))
def test_snapshots_thin_out_with_their_distance(count, every):
    kept = [snapshot(0, batch=0)]
    for i in range(1, count + 1):
        kept.append(snapshot(i * every, batch=i))
        gone = thinned(kept, every)
        assert kept[-1] not in gone
        kept = [s for s in kept if s not in gone]
    assert kept[0].batch == 0, "a generation keeps the snapshot that it began with"
    assert len(kept) <= 4 + 2 * count.bit_length()
    newest = count * every
    assert any(newest - s.next <= 2 * every for s in kept[:-1])


def test_counts_add_up():
    assert Counts(1, 2) + Counts(10, 20) == Counts(11, 22)
