"""Which rows are a shadow's own, where it makes a part of history anew."""

from __future__ import annotations

import polars as pl
import pytest

from playhead.core.offsets import TopicPartition
from playhead.core.records import Records
from playhead.core.schema import schema_of
from playhead.core.scope import Scope, carried, fitted, of_base, own, same_state

PLACE = TopicPartition("t", 0)


def records(times, first=10):
    offsets = list(range(first, first + len(times)))
    none = [None] * len(times)
    return Records(PLACE, offsets, times, none, none, first + len(times) + 1)


def parts(scope, some):
    return [(list(run.offsets), run.next, mine) for run, mine in scope.parts(some)]


@pytest.mark.parametrize(
    ("offset", "time_ms", "mine"),
    [(9, 50, False), (10, 50, True), (10, 39, False), (10, 40, True), (10, 60, False),
     (19, 59, True), (20, 59, True), (20, 99, True)],
)  # fmt: skip
def test_rows_are_its_own_within_offsets_and_times_and_always_after_the_end(offset, time_ms, mine):
    scope = Scope("p@a", {0: 10}, {0: 20}, from_ms=40, to_ms=60)
    assert scope.writes(0, offset, time_ms) is mine


def test_a_partition_that_is_not_named_is_its_own():
    assert Scope("p@a", {0: 10}, {0: 20}).writes(1, 0, 0)


def test_records_are_cut_where_it_changes_and_positions_lead_on():
    scope = Scope("p@a", {0: 12}, from_ms=40)
    assert parts(scope, records([50, 50, 50, 30, 50])) == [
        ([10, 11], 12, False), ([12], 13, True), ([13], 14, False), ([14], 16, True),
    ]  # fmt: skip
    assert parts(scope, records([])) == [([], 11, True)]


def test_slots_that_are_carried_come_apart_again():
    one, other = pl.DataFrame({"k": [1]}), pl.DataFrame({"k": [2]})
    slots = {"sum.x": one} | carried({"sum.x": other, "upstream": other})
    assert own(slots) == {"sum.x": one}
    assert of_base(slots) == {"sum.x": other, "upstream": other}


def test_states_are_the_same_whatever_the_order_of_their_keys():
    state = pl.DataFrame({"k": [1, 2], "_total": [0.5, None]})
    assert same_state({"s": state}, {"s": state.reverse(), "empty": state.clear()})
    assert not same_state({"s": state}, {"s": state.with_columns(_total=pl.lit(0.5))})
    assert not same_state({"s": state}, {"s": state.head(1)})
    assert not same_state({"s": state}, {})


def test_rows_of_base_fit_heads_columns():
    schema = schema_of({"k": int, "new": float | None, "v": str}, "here")
    rows = pl.DataFrame(
        {"v": ["a"], "k": [1], "gone": [0], "_partition": [0], "_offset": [7], "_tombstone": [None]}
    )
    found = fitted(rows, schema)
    assert found.columns == ["k", "new", "v", "_partition", "_offset", "_tombstone"]
    assert found.row(0)[:3] == (1, None, "a")
    assert found.schema["new"] == pl.Float64
