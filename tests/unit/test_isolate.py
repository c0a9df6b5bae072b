"""The one bad record: found by bisection, on a state that no trial changes."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import playhead as ph
from playhead.core.lineage import Generation
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts
from playhead.core.records import Records
from playhead.core.slots import Slots, merge
from playhead.engine.call import Caller
from playhead.engine.isolate import DEAD_MAX, isolate
from playhead.engine.process import process
from playhead.engine.task import Task
from playhead.errors import BadRecord, FunctionFailed
from playhead.ports import TopicInfo

PLACE = TopicPartition("points", 3)
FIRST = Generation(1, 0)


def add_up(points: pl.DataFrame, state: Any) -> pl.DataFrame:
    if (points["x"] == 13).any():
        raise ValueError("thirteen")
    return state.running_sum(points, total="x")


def task(function: Any = add_up, **options: Any) -> Task:
    app = ph.App("vehicles")
    points = app.topic("points", key="car", value={"car": int, "x": float})
    table = app.table("totals", key="car", columns={"car": int, "total": float})
    version = app.pipeline(points, to=[table], version="v1", **options)(function).versions["v1"]
    return Task("vehicles", version, Caller(version, {}), TopicInfo("points", "id", 4), 4, 1000)


def records(*values: Any, begin: int = 100) -> Records:
    """Give each value as x of a car; a bytes value stands as it is."""
    texts = [v if isinstance(v, bytes) else b'{"car": %d, "x": %s}' % (i % 2, str(v).encode())
             for i, v in enumerate(values)]  # fmt: skip
    offsets = list(range(begin, begin + len(texts)))
    keys = [b"%d" % (i % 2) for i in range(len(texts))]
    return Records(PLACE, offsets, [7] * len(texts), keys, texts, begin + len(texts))


def totals(outcome: Any) -> dict[int, float]:
    return dict(outcome.rows["totals__v1"].select("car", "total").rows())


ASIDE = {"on_error": "dead_letter"}


def test_the_rest_of_the_batch_goes_on() -> None:
    found = process(task(**ASIDE), records(1, 2, 13, b"{", 5, 13, 7), {}, FIRST, {})
    assert [d.offset for d in found.dead] == [102, 103, 105]
    assert "ValueError: thirteen" in found.dead[0].error
    assert "cannot be decoded as JSON" in found.dead[1].error
    assert (found.dead[1].value, found.dead[1].key, found.dead[1].timestamp_ms) == (b"{", b"1", 7)
    assert found.counts == Counts(4, 3)
    assert totals(found) == {0: 1.0 + 5 + 7, 1: 2.0}


def test_it_is_what_one_call_with_the_good_records_gives() -> None:
    whole = records(1, 2, 13, 4, 5)
    found = process(task(**ASIDE), whole, {}, FIRST, {})
    good = process(task(), whole.where([True, True, False, True, True]), {}, FIRST, {})
    assert found.rows["totals__v1"].equals(good.rows["totals__v1"])
    assert found.delta["running_sum.total"].equals(good.delta["running_sum.total"])


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_stop_names_the_one_record_and_the_ways_on(at: int) -> None:
    values: list[Any] = [1, 2, 3, 4, 5, 6, 7]
    values[at] = 13
    with pytest.raises(FunctionFailed) as e:
        process(task(), records(*values), {}, FIRST, {})
    assert (e.value.offset, e.value.where) == (100 + at, f"points[3]@{100 + at}")
    assert "thirteen" in str(e.value)
    assert f'--skip "points[3]@{100 + at}"' in str(e.value)


def test_a_record_that_cannot_be_decoded_stops_too() -> None:
    with pytest.raises(BadRecord) as e:
        process(task(), records(1, b"nonsense", 13), {}, FIRST, {})
    assert e.value.offset == 101


def test_an_output_that_cannot_be_is_its_records_fault() -> None:
    def inverse(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        return points.with_columns(total=1.0 / pl.col("x"))

    found = process(task(inverse, **ASIDE), records(1, 0, 4), {}, FIRST, {})
    assert [d.offset for d in found.dead] == [101]
    assert "NaN or infinite" in found.dead[0].error


def test_a_row_that_raises_leaves_its_state_as_it_was() -> None:
    def rows(row: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        state["total"] = state.get("total", 0.0) + row["x"]
        if row["x"] == 13:
            raise ValueError("thirteen")
        return {"car": row["car"], "total": state["total"]}

    found = process(task(rows, per="row", **ASIDE), records(1, 2, 13, 4, 5), {}, FIRST, {})
    assert [d.offset for d in found.dead] == [102]
    assert totals(found) == {0: 6.0, 1: 6.0}


def test_what_was_skipped_on_request_is_not_even_tried() -> None:
    aside = {101: "skipped: by hand", 999: "skipped: elsewhere"}
    found = process(task(), records(1, 13, 3), {}, FIRST, aside)
    assert [(d.offset, d.error) for d in found.dead] == [(101, "skipped: by hand")]
    assert found.dead[0].skipped
    assert found.counts == Counts(2, 1)


@pytest.mark.parametrize("aside", [{}, ASIDE])
def test_what_fails_only_together_stops_and_says_so(aside: dict[str, Any]) -> None:
    def together(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        if len(points) > 2:
            raise ValueError("too many at once")
        return points.with_columns(total=pl.col("x"))

    with pytest.raises(FunctionFailed) as e:
        process(task(together, **aside), records(1, 2, 3, 4), {}, FIRST, {})
    assert e.value.offset is None
    assert "only together" in str(e.value)
    assert "playhead check" in str(e.value)


@pytest.mark.parametrize("aside", [{}, ASIDE])
def test_a_function_that_fails_on_nothing_is_no_record_s_fault(aside: dict[str, Any]) -> None:
    broken = []

    def sometimes(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        if broken:
            raise RuntimeError("the model server is away")
        return points.with_columns(total=pl.col("x"))

    job = task(sometimes, **aside)
    broken.append(1)
    for values in ([1], [1, 2, 3], [1] * (DEAD_MAX + 1)):
        with pytest.raises(FunctionFailed, match="model server") as e:
            process(job, records(*values), {}, FIRST, {})
        assert e.value.offset is None


def test_more_than_twenty_are_not_one_bad_record() -> None:
    values = [1, *[13] * DEAD_MAX, 2]
    assert len(process(task(**ASIDE), records(*values), {}, FIRST, {}).dead) == DEAD_MAX
    with pytest.raises(FunctionFailed, match="more than 20 records of one batch") as e:
        process(task(**ASIDE), records(*values, 13), {}, FIRST, {})
    assert e.value.offset == 101


FAULTS = [MemoryError("full"), ImportError("no geo"), FileNotFoundError("model.json")]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("per", ["frame", "row"])
@pytest.mark.parametrize("aside", [{}, ASIDE])
def test_what_the_function_lacks_is_no_record_s_fault(
    fault: Exception, per: str, aside: dict[str, Any]
) -> None:
    def frame(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        if (points["x"] == 13).any():
            raise fault
        return points.with_columns(total=pl.col("x"))

    def row(point: dict[str, Any], state: Any) -> dict[str, Any]:
        if point["x"] == 13:
            raise fault
        return {"car": point["car"], "total": point["x"]}

    job = task(row if per == "row" else frame, per=per, **aside)
    with pytest.raises(FunctionFailed, match=type(fault).__name__) as e:
        process(job, records(1, 13, 3), {}, FIRST, {})
    assert e.value.offset is None


def test_a_panic_of_polars_is_a_failure_like_any_other() -> None:
    def panics(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        if (points["x"] == 13).any():
            raise pl.exceptions.PanicException("index out of bounds")
        return points.with_columns(total=pl.col("x"))

    found = process(task(panics, **ASIDE), records(1, 13, 3), {}, FIRST, {})
    assert [d.offset for d in found.dead] == [101]


def test_what_was_published_with_it_set_aside_is_redone_so() -> None:
    batch = records(1, 13, 3)
    live = process(task(**ASIDE), batch, {}, FIRST, {})
    again = process(task(on_error="stop"), batch, {}, FIRST, {}, keep_on=True)
    assert [(d.offset, d.error) for d in again.dead] == [(d.offset, d.error) for d in live.dead]
    assert again.rows["totals__v1"].equals(live.rows["totals__v1"])
    with pytest.raises(FunctionFailed):
        process(task(**ASIDE), batch, {}, FIRST, {}, keep_on=False)


def test_an_error_is_one_line_that_can_be_stored_and_shown() -> None:
    def rude(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        if (points["x"] == 13).any():
            raise ValueError("nul \0 escape \x1b[31m half \ud800 " + "x" * 5000)
        return points.with_columns(total=pl.col("x"))

    job = task(rude, **ASIDE)
    (dead,) = process(job, records(1, 13), {}, FIRST, {}).dead
    assert dead.error.isprintable()
    assert r"nul \x00 escape \x1b[31m half \ud800 xxx" in dead.error
    assert len(dead.error) == 1000
    (dead,) = process(job, records(1), {}, FIRST, {100: "skipped: two\nlines"}).dead
    assert dead.error == "skipped: two lines"


@pytest.mark.parametrize("per", ["frame", "row"])
def test_a_record_may_be_bad_only_for_the_state_that_it_meets(per: str) -> None:
    """What was set aside adds nothing: the record after it meets the state before it."""

    def frame(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        points = state.running_sum(points, total="x")
        if (points["total"] > 10).any():
            raise ValueError("too much")
        return points

    def row(point: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        state["total"] = state.get("total", 0.0) + point["x"]
        if state["total"] > 10:
            raise ValueError("too much")
        return {"car": point["car"], "total": state["total"]}

    job = task(row if per == "row" else frame, per=per, **ASIDE)
    before = process(job, records(3, 3, begin=90), {}, FIRST, {})
    found = process(job, records(4, 4, 4, 2, 1, 1, 3, 9), before.delta, FIRST, {})
    assert [d.offset for d in found.dead] == [102, 106, 107]
    assert totals(found) == {0: 3 + 4 + 1, 1: 3 + 4 + 2 + 1}


@pytest.mark.parametrize(("bad", "tries_most"), [(b"{", 65), (13, 300)])
def test_finding_is_cheap(bad: Any, tries_most: int) -> None:
    """A batch of 50,000 must not take longer than a member may be silent."""
    job, handed, tries = task(**ASIDE), 0, 0

    def call(some: Records, slots: Slots) -> Any:
        nonlocal handed, tries
        handed, tries = handed + len(some), tries + 1
        return job.caller.call(some, slots, 1)

    values: list[Any] = [1.0] * 1000
    at = range(7, 1000, 50)
    for i in at:
        values[i] = bad
    _, found = isolate(call, records(*values), {}, keep_on=True)
    assert list(found) == [100 + i for i in at]
    assert len(found) == DEAD_MAX
    assert handed < 14 * len(values)
    assert tries <= tries_most


def test_an_error_that_names_another_record_misleads_for_once() -> None:
    tries = 0

    def call(some: Records, slots: Slots) -> Any:
        nonlocal tries
        tries += 1
        if b"bad" in some.values:
            raise BadRecord("no", where=PLACE.at(some.offsets[0]))
        return process(task(), records(1), {}, FIRST, {})

    values: list[Any] = [b"fine"] * 64
    values[40] = values[63] = b"bad"
    _, bad = isolate(call, records(*values), {}, keep_on=True)
    assert list(bad) == [140, 163]
    assert tries < 40


def test_one_bad_record_hides_no_failure_of_the_whole() -> None:
    def both(points: pl.DataFrame, state: Any) -> pl.DataFrame:
        if (points["x"] == 13).any():
            raise ValueError("thirteen")
        if len(points) > 2:
            raise ValueError("too many at once")
        return points.with_columns(total=pl.col("x"))

    with pytest.raises(FunctionFailed, match=r"too many at once.*only together") as e:
        process(task(both, **ASIDE), records(1, 13, 3, 4), {}, FIRST, {})
    assert e.value.offset is None


@given(
    st.lists(st.sampled_from([1, 2.5, 4, 13, b"{", b"[]"]), max_size=18),
    st.lists(st.integers(1, 7), min_size=1, max_size=18),
)
@settings(deadline=None, max_examples=40)
def test_any_cut_finds_the_same_records_and_the_same_results(
    values: list[Any], sizes: list[int]
) -> None:
    job, batch = task(**ASIDE), records(*values)
    whole = process(job, batch, {}, FIRST, {})
    slots: Slots = {}
    dead, last, done = [], {}, 0
    for size in [*sizes, len(values)]:
        part = batch.where([done <= i < done + size for i in range(len(values))])
        done += size
        found = process(job, part, slots, FIRST, {})
        slots = merge(slots, found.delta)
        dead += [(d.offset, d.error) for d in found.dead]
        last |= totals(found)
    assert dead == [(d.offset, d.error) for d in whole.dead]
    assert last == totals(whole)
    assert whole.counts == Counts(len(values) - len(dead), len(dead))
