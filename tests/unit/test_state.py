"""State: each sentence of the design's section on it that is built, errors' texts included."""

import struct
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import polars as pl
import pytest

from playhead.core.offsets import TopicPartition
from playhead.core.row_state import RowStates
from playhead.core.slots import merge
from playhead.core.state import State
from playhead.errors import FunctionFailed

PLACE = TopicPartition("points", 2)
KEY = ("car",)
OPERATORS = [
    "previous",
    "latest",
    "running_sum",
    "running_count",
    "running_min",
    "running_max",
    "running_mean",
]
MAX, MIN = 2**63 - 1, -(2**63)
NAN, INF = float("nan"), float("inf")


def rows(x, car=None, at=100, dtype=None, **more):
    """A frame with the origin: cars (all 1 unless given), x, offsets from ``at`` on."""
    n = len(x)
    columns = {"car": [1] * n if car is None else car, "x": pl.Series(x, dtype=dtype), **more}
    origin = {"_partition": pl.Series([2] * n, dtype=pl.Int32), "_offset": range(at, at + n)}
    return pl.DataFrame({**columns, **origin}, schema_overrides={"_offset": pl.Int64})


def new_state(slots=None, key=KEY):
    return State(PLACE, key, slots or {})


def run(operator, *frames, by=None):
    """The new column over several batches, slots merged between them; and the slots."""
    slots, out = {}, []
    for frame in frames:
        state = new_state(slots)
        out += getattr(state, operator)(frame, by=by, y="x").get_column("y").to_list()
        slots = merge(slots, state.changes())
    return out, slots


def failure(call):
    with pytest.raises(FunctionFailed) as e:
        call()
    return e.value


def bits(values):
    return [None if v is None else struct.pack("<d", v) for v in values]


# --- the operators ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("previous", [None, None, 5, None, 3, None, 9]),
        ("latest", [None, 5, 5, 3, 3, 9, 4]),
        ("running_sum", [0, 5, 5, 8, 8, 17, 21]),
        ("running_count", [0, 1, 1, 2, 2, 3, 4]),
        ("running_min", [None, 5, 5, 3, 3, 3, 3]),
        ("running_max", [None, 5, 5, 5, 5, 9, 9]),
        ("running_mean", [None, 5.0, 5.0, 4.0, 4.0, 17 / 3, 21 / 4]),
    ],
)
@pytest.mark.parametrize("cut", range(8))
def test_what_each_operator_gives_for_any_cut_in_two(operator, expected, cut):
    frame = rows([None, 5, None, 3, None, 9, 4], dtype=pl.Int64)
    assert run(operator, frame[:cut], frame[cut:])[0] == expected


@pytest.mark.parametrize("operator", OPERATORS)
def test_keys_do_not_touch_each_other(operator):
    both = rows([1.5, 10.0, 2.5, 20.0, 3.5], car=[1, 2, 1, 2, 1])
    out, _ = run(operator, both[:2], both[2:])
    assert out[::2] == run(operator, rows([1.5, 2.5, 3.5]))[0]
    assert out[1::2] == run(operator, rows([10.0, 20.0]))[0]


def test_previous_gives_null_for_a_first_row_and_for_a_null_before():
    out, slots = run("previous", rows([1]), rows([None], dtype=pl.Int64), rows([3]), rows([4]))
    assert out == [None, 1, None, 3]
    assert slots["previous.y"].rows() == [(1, 4)]


def test_order_is_log_order_not_time():
    frame = rows([1, 2, 3], time=["c", "a", "b"])
    assert run("previous", frame)[0] == [None, 1, 2]


def test_rows_may_stand_key_by_key():
    frame = rows([1, 10, 2, 20], car=[1, 2, 1, 2])
    out = new_state().running_sum(frame.sort("car", maintain_order=True), y="x")
    assert out.get_column("y").to_list() == [1, 3, 10, 30]


def test_several_rows_of_one_record_are_rows_of_their_own():
    frame = rows([[1, 2], [3]]).explode("x")
    assert frame.get_column("_offset").to_list() == [100, 100, 101]
    assert run("running_sum", frame)[0] == [1, 3, 6]


@pytest.mark.parametrize(
    "dtype",
    [
        *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
        pl.Boolean,
    ],
)
def test_sums_of_all_integers_and_bools_are_int64(dtype):
    x = [True, None, True] if dtype == pl.Boolean else [100, None, 100]
    out = new_state().running_sum(rows(x, dtype=dtype), y="x").get_column("y")
    assert out.dtype == pl.Int64
    assert out.to_list() == ([1, 1, 2] if dtype == pl.Boolean else [100, 100, 200])


def test_float32_is_widened_before_it_is_added():
    x = [0.1] * 9
    out = new_state().running_sum(rows(x, dtype=pl.Float32), y="x").get_column("y")
    assert out.dtype == pl.Float64
    total, expected = 0.0, []
    for _ in x:
        total += struct.unpack("<f", struct.pack("<f", 0.1))[0]
        expected.append(total)
    assert bits(out) == bits(expected)


def test_a_sum_begins_at_plus_zero():
    out, _ = run("running_sum", rows([-0.0]), rows([-0.0]))
    assert bits(out) == bits([0.0, 0.0])


@pytest.mark.parametrize("operator", ["running_min", "running_max"])
@pytest.mark.parametrize("x", [[-0.0, 0.0], [0.0, -0.0], [-0.0, None]])
def test_the_least_and_greatest_zero_is_plus_zero(operator, x):
    frame = rows(x)
    assert bits(run(operator, frame)[0]) == bits([0.0, 0.0])
    assert bits(run(operator, frame[:1], frame[1:])[0]) == bits([0.0, 0.0])


@pytest.mark.parametrize("operator", ["previous", "latest"])
def test_carried_values_keep_the_sign_of_zero(operator):
    out, _ = run(operator, rows([-0.0]), rows([None], dtype=pl.Float64))
    assert bits(out)[1] == bits([-0.0])[0]


def test_the_sum_is_the_one_of_addition_in_order():
    out, _ = run("running_sum", rows([1e16, 1.0, 1.0]), rows([-1e16]))
    assert out == [1e16, 1e16, 1e16, 0.0]


def test_a_mean_is_the_sum_over_the_count_at_height_1_too():
    x = [0.1, 0.7, 1e6, 0.3, 1 / 3, 1e-7, 5.0]
    state_sum, state_mean = run("running_sum", rows(x))[0], run("running_mean", rows(x))[0]
    assert bits(state_mean) == bits(s / n for n, s in enumerate(state_sum, 1))
    ones = [rows([v], at=i) for i, v in enumerate(x)]
    assert bits(run("running_mean", *ones)[0]) == bits(state_mean)


def test_a_mean_of_integers_adds_integers():
    out, slots = run("running_mean", rows([2**53, 1, 1]))
    assert out[2] == (2**53 + 2) / 3
    assert slots["running_mean.y"].rows() == [(1, 2**53 + 2, 3)]


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (date(2014, 9, 13), date(2014, 9, 14)),
        (datetime(2014, 9, 13, tzinfo=UTC), datetime(2014, 9, 14, tzinfo=UTC)),
        (timedelta(1), timedelta(2)),
        (Decimal("1.10"), Decimal("1.20")),
        (False, True),
        (-INF, INF),
    ],
)
def test_least_and_greatest_of_whatever_has_an_order(small, large):
    dtype = rows([small]).schema["x"]
    frames = rows([large]), rows([None], dtype=dtype), rows([small])
    assert run("running_min", *frames)[0] == [large, large, small]
    assert run("running_max", *reversed(frames))[0] == [small, small, large]


@pytest.mark.parametrize("value", [b"\x00", [1.5, None], {"a": [1]}, "é", True, Decimal("1.10")])
def test_previous_and_latest_carry_any_value(value):
    first, null = rows([value]), rows([None], dtype=rows([value]).schema["x"])
    assert run("previous", first, null, null)[0] == [None, value, None]
    assert run("latest", first, null, first)[0] == [value] * 3


def test_by_keeps_state_per_key_and_window():
    hours = [datetime(2014, 9, 13, h, tzinfo=UTC) for h in (7, 7, 8, 7)]
    frame = rows([1, 2, 4, 8], hour=hours)
    out, slots = run("running_sum", frame[:3], frame[3:], by="hour")
    assert out == [1, 3, 4, 11]  # a late row updates its window
    assert slots["running_sum.y"].rows() == [(1, hours[2], 4), (1, hours[0], 11)]


def test_by_takes_a_list_in_any_order_and_may_repeat_the_key():
    frame = rows([1, 2, 4, 8], a=[1, 1, 2, 1], b=["p", "q", "p", "p"])
    slots = {}
    for by in (["a", "b"], ("b", "a"), ["b", "car", "a", "b"]):
        state = new_state(slots)
        state.running_sum(frame, by=by, y="x")
        slots = merge(slots, state.changes())
    assert slots["running_sum.y"].columns == ["car", "a", "b", "_total"]
    assert slots["running_sum.y"].height == 3
    assert slots["running_sum.y"].get_column("_total").sum() == 45


def test_a_composite_key():
    state = new_state(key=("car", "driver"))
    frame = rows([1, 2, 4], car=[1, 1, 1], driver=["a", "b", "a"])
    assert state.running_sum(frame, y="x").get_column("y").to_list() == [1, 2, 5]


@pytest.mark.parametrize(
    "keys",
    [
        [1, 2],
        ["é", ""],
        [True, False],
        [date(2014, 9, 13), date(1969, 1, 1)],
        [datetime(2014, 9, 13, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC)],
    ],
)
def test_what_keys_may_be(keys):
    frame = rows([1, 2, 4, 8], car=keys * 2)
    assert run("running_sum", frame[:2], frame[2:])[0] == [1, 2, 5, 10]


def test_several_new_columns_read_the_frame_as_it_was():
    out = new_state().previous(rows([1, 2], z=[3, 4]), x="z", z="x")
    assert out.select("x", "z").rows() == [(None, None), (3, 1)]
    assert out.columns == ["car", "x", "z", "_partition", "_offset"]


def test_new_columns_are_appended_and_other_columns_stay():
    frame = rows([1, 2])
    out = new_state().running_sum(frame, y="x", frame="x", self="x")
    assert out.columns == [*frame.columns, "y", "frame", "self"]
    assert out.select(frame.columns).equals(frame)


# --- slots -----------------------------------------------------------------------------------


def test_shapes_are_those_of_every_slot_used_for_a_frame_without_rows_too():
    state = new_state()
    frame = rows([1.0], _timestamp=[datetime(2014, 9, 13, tzinfo=UTC)])
    for one in (frame, frame.clear()):
        state = new_state()
        state.previous(one, y="x")
        state.running_mean(one, by=[], y="x")
        state.rolling_sum(one, rows=3, y="x")
        state.rolling_max(one, span="1h", y="x")
        assert state.shapes() == {
            "previous.y": {"car": pl.Int64, "_value": pl.Float64},
            "running_mean.y": {"car": pl.Int64, "_total": pl.Float64, "_count": pl.Int64},
            "rolling_sum.y": {"car": pl.Int64, "_rows_3": pl.List(pl.Float64)},
            "rolling_max.y": {
                "car": pl.Int64,
                "_span_3600000000_us": pl.List(pl.Float64),
                "_times": pl.List(pl.Int64),
            },
        }


def test_operator_and_new_name_name_the_slot():
    state = new_state()
    frame = rows([1.0])
    state.previous(frame, y="x", z="x")
    state.running_mean(frame, y="x")
    shapes = {name: dict(slot.schema) for name, slot in state.changes().items()}
    assert shapes == {
        "previous.y": {"car": pl.Int64, "_value": pl.Float64},
        "previous.z": {"car": pl.Int64, "_value": pl.Float64},
        "running_mean.y": {"car": pl.Int64, "_total": pl.Float64, "_count": pl.Int64},
    }


def test_changes_are_only_the_touched_rows_and_the_slots_stay_as_they_were():
    _, slots = run("running_sum", rows([1, 2, 4], car=[1, 2, 3]))
    state = new_state(slots)
    state.running_sum(rows([8, 16], car=[3, 4], at=200), y="x")
    assert state.changes()["running_sum.y"].rows() == [(3, 12), (4, 16)]
    assert slots["running_sum.y"].rows() == [(1, 1), (2, 2), (3, 4)]
    _, slots = run("running_sum", rows([1, 2], hour=[7, 8]), by="hour")
    state = new_state(slots)
    state.running_sum(rows([4], hour=[8]), by="hour", y="x")
    assert state.changes()["running_sum.y"].rows() == [(1, 8, 6)]


def test_rows_of_a_slot_stand_in_the_order_of_their_last_touch_for_any_cut():
    frame = rows([1, 2, 4, 8, 16], car=[3, 1, 2, 1, 4])
    expected = [(3, 1), (2, 4), (1, 10), (4, 16)]
    for cut in range(6):
        _, slots = run("running_sum", frame[:cut], frame[cut:])
        assert slots["running_sum.y"].rows() == expected


def test_a_slot_is_used_once_in_a_call():
    state = new_state()
    frame = state.running_sum(rows([1]), total="x")
    e = failure(lambda: state.running_sum(frame, total="total"))
    assert str(e) == (
        "slot running_sum.total is used twice in one call of the function\n"
        "Give one of the two new columns named 'total' another name."
    )


def test_a_call_that_fails_leaves_no_trace():
    state = new_state()
    frame = rows([1.0, NAN], z=[1.0, 2.0])
    failure(lambda: state.running_sum(frame, a="z", b="x"))
    assert state.changes() == {}
    state.running_sum(frame.with_columns(pl.col("x").fill_nan(None)), a="z", b="x")
    assert state.changes()["running_sum.b"].rows() == [(1, 1.0)]


@pytest.mark.parametrize(
    ("operator", "dtype", "expected"),
    [
        ("previous", pl.Float32, pl.Float32),
        ("latest", pl.List(pl.Float64), pl.List(pl.Float64)),
        ("running_sum", pl.Int8, pl.Int64),
        ("running_sum", pl.Float32, pl.Float64),
        ("running_count", pl.String, pl.Int64),
        ("running_min", pl.UInt8, pl.UInt8),
        ("running_max", pl.Datetime("ms", "UTC"), pl.Datetime("ms", "UTC")),
        ("running_mean", pl.Int64, pl.Float64),
    ],
)
def test_a_frame_without_rows_gives_the_dtypes_and_changes_nothing(operator, dtype, expected):
    slots = run(operator, rows([None, None], dtype=dtype))[1]
    for state in (new_state(), new_state(slots)):
        out = getattr(state, operator)(rows([], dtype=dtype).cast({"car": pl.Int64}), y="x")
        assert dict(out.schema.items())["y"] == expected
        assert out.height == 0
        assert state.changes() == {}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("height", [0, 1])
def test_a_column_without_a_type_is_refused(operator, height):
    frame = rows([None] * height, dtype=pl.Null).cast({"car": pl.Int64})
    e = failure(lambda: getattr(new_state(), operator)(frame, y="x"))
    assert str(e) == (
        f"{operator}(y=\"x\"): 'x' is all null and has no type, so its state would have none\n"
        'Cast it before the call, for example pl.col("x").cast(pl.Float64).'
    )


def test_the_dtypes_of_a_slot_are_fixed():
    _, slots = run("running_sum", rows([1]))
    assert run("running_sum", rows([1], dtype=pl.Int8), rows([2], dtype=pl.UInt64))[0] == [1, 3]
    e = failure(lambda: new_state(slots).running_sum(rows([1.0]), y="x"))
    assert str(e) == (
        "running_sum(y=\"x\"): slot running_sum.y was begun with 'x' as Int64, "
        "and it is now Float64\n"
        "Cast it to Int64 before the call, or give the code a new version."
    )
    e = failure(lambda: new_state(slots).running_sum(rows([1], car=["1"]), y="x"))
    assert "was begun with 'car' as Int64, and it is now String" in e.message
    e = failure(lambda: new_state(slots).running_sum(rows([1], hour=[7]), by="hour", y="x"))
    assert str(e) == (
        'running_sum(y="x"): slot running_sum.y is kept per (car), '
        "and is now asked for per (car, hour)\n"
        "A slot keeps its shape: name the new column differently, or give the code a new version."
    )


# --- rows that are refused -------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS)
def test_nan_is_refused_at_its_row(operator):
    e = failure(lambda: getattr(new_state(), operator)(rows([1.0, None, NAN, NAN]), y="x"))
    assert e.where == "points[2]@102"
    assert str(e) == (
        f'points[2]@102: {operator}(y="x"): NaN would stay in the key\'s state for ever\n'
        'Make it null before the call: pl.col("x").fill_nan(None).'
    )


@pytest.mark.parametrize(
    "x",
    [
        [[1.0], [2.0, NAN]],
        [[], [NAN]],
        [{"a": 1.0}, {"a": NAN}],
        [{"a": [{"b": 1.0}], "c": 1}, {"a": [{"b": NAN}], "c": 1}],
    ],
)
def test_nan_is_found_inside_lists_and_structs(x):
    assert failure(lambda: new_state().latest(rows(x), y="x")).where == "points[2]@101"
    assert new_state().latest(rows(x[:1]), y="x").height == 1


@pytest.mark.parametrize("operator", ["running_sum", "running_mean"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_nan_that_arises_is_refused_at_its_row(operator, cut):
    frame = rows([INF, 1.0, -INF, 1.0])
    e = failure(lambda: run(operator, frame[:cut], frame[cut:]))
    assert e.where == "points[2]@102"
    assert "infinity and minus infinity add up to NaN" in e.message
    assert e.cure == 'Make infinities null before the call: pl.when(pl.col("x").is_finite()).'


@pytest.mark.parametrize("operator", ["running_sum", "running_mean"])
@pytest.mark.parametrize("x", [[MAX - 1, 1, 1], [MIN + 1, -1, -1], [MAX, 0, MAX], [MIN, 0, MIN]])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_overflow_is_refused_at_its_row(operator, x, cut):
    frame = rows(x)
    assert run("running_sum", frame[:2])[0][1] in {MAX, MIN}
    e = failure(lambda: run(operator, frame[:cut], frame[cut:]))
    assert str(e) == (
        f'points[2]@102: {operator}(y="x"): the total does not fit 64 bits\n'
        'Add floats: pl.col("x").cast(pl.Float64), in a new version.'
    )


def test_totals_may_go_to_the_ends_of_64_bits_and_back():
    x = [MAX, MIN, MIN + 1, MAX, 1, -1]
    assert run("running_sum", rows(x))[0] == [MAX, -1, MIN, -1, 0, -1]


def test_the_first_row_in_the_log_is_blamed_not_the_first_in_the_frame():
    frame = rows([1.0, NAN, 1.0, NAN], car=[1, 2, 2, 1]).sort("car", maintain_order=True)
    assert failure(lambda: new_state().latest(frame, y="x")).where == "points[2]@101"


@pytest.mark.parametrize("operator", ["running_sum", "running_mean"])
def test_an_unsigned_value_past_int64_is_refused_at_its_row(operator):
    frame = rows([1, None, 2**63], dtype=pl.UInt64)
    e = failure(lambda: getattr(new_state(), operator)(frame, y="x"))
    assert e.where == "points[2]@102"
    assert "does not fit 64 bits" in e.message
    assert run("running_max", frame)[0] == [1, 1, 2**63]


def test_a_null_key_is_refused_at_its_row():
    e = failure(lambda: new_state().latest(rows([1, 2], car=[1, None]), y="x"))
    assert str(e) == (
        "points[2]@101: latest: null in 'car'; state is kept per key, and null is none\n"
        'Filter such rows out, or fill them: pl.col("car").fill_null(…).'
    )
    e = failure(lambda: new_state().latest(rows([1, 2], h=[None, 1]), by="h", y="x"))
    assert e.where == "points[2]@100"
    assert e.message == "latest: null in 'h'; state is kept per by, and null is none"


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([1.0]),
        pl.Series([b"a"]),
        pl.Series([[1]]),
        pl.Series([timedelta(1)]),
        pl.Series(["a"], dtype=pl.Categorical),
    ],
)
def test_keys_of_other_types_are_refused(column):
    said = f"is {column.dtype}; state is kept per int, str, bool, date or datetime"
    e = failure(lambda: new_state().latest(rows([1], car=column), y="x"))
    assert e.message == f"latest: 'car' {said}"
    assert e.cure == 'Cast it before the call: pl.col("car").cast(…).'
    e = failure(lambda: new_state().latest(rows([1], h=column), by="h", y="x"))
    assert e.message == f"latest: 'h' {said}"


def test_a_key_without_a_type_is_refused():
    e = failure(lambda: new_state().latest(rows([1], car=[None]), y="x"))
    assert "'car' is all null and has no type" in e.message


def test_rows_out_of_log_order_are_refused():
    frame = rows([1, 2, 3], car=[1, 2, 1])
    e = failure(lambda: new_state().latest(frame.reverse(), y="x"))
    assert str(e) == (
        "points[2]@100: latest: the rows of a key are not in log order (_offset goes back)\n"
        'State follows the log: sort by "_offset" before the call, and by time after.'
    )


def test_a_frame_without_its_origin_is_refused():
    for name in ("_partition", "_offset"):
        e = failure(lambda name=name: new_state().latest(rows([1]).drop(name), y="x"))
        assert str(e) == (
            f"latest: the frame has lost {name}, which says what record a row is\n"
            "In select, put ph.origin in front: points.select(ph.origin, …)."
        )


@pytest.mark.parametrize(
    "wrong",
    [
        pl.lit(1, dtype=pl.Int32).alias("_partition"),
        pl.lit(None, dtype=pl.Int32).alias("_partition"),
        pl.lit(None, dtype=pl.Int64).alias("_offset"),
        pl.lit(1.5).alias("_offset"),
    ],
)
def test_a_frame_with_another_origin_is_refused(wrong):
    e = failure(lambda: new_state().latest(rows([1]).with_columns(wrong), y="x"))
    assert str(e) == (
        "latest: _partition and _offset are not those of records of points[2]\n"
        "Leave both as they came; an outer join gives rows that have none."
    )


# --- calls that are refused ------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_source_without_a_key_has_no_state(operator):
    e = failure(lambda: getattr(new_state(key=()), operator)(rows([1]), y="x"))
    assert str(e) == (
        f"{operator}: state is kept per key, and the source of this pipeline declares none\n"
        'Declare it: app.topic(…, key="track_id").'
    )


@pytest.mark.parametrize("name", ["rows", "span", "max_rows"])
def test_reserved_words_name_no_column(name):
    for value in ("x", 10):
        e = failure(lambda value=value: new_state().latest(rows([1]), **{name: value}))
        assert str(e) == (
            f"latest: the new column cannot be named '{name}', that name is reserved\n"
            "Give it another name."
        )


@pytest.mark.parametrize("name", ["car", "_offset", "_mine", "hour"])
def test_a_new_column_does_not_overwrite_key_origin_or_by(name):
    e = failure(lambda: new_state().latest(rows([1], hour=[7]), by="hour", **{name: "x"}))
    assert e.message == (
        f"latest: the new column cannot be named '{name}', "
        "that name is taken by the origin, the key or by="
    )


def test_a_new_column_may_overwrite_any_other():
    assert new_state().running_sum(rows([1, 2]), x="x").get_column("x").to_list() == [1, 3]


def test_a_missing_column_is_named_with_the_close_one():
    frame = rows([1], metres=[1.0])
    e = failure(lambda: new_state().running_sum(frame, total="meters"))
    assert str(e) == (
        "running_sum(total=\"meters\"): the frame has no column 'meters'; did you mean 'metres'?\n"
        "It has: car, x, metres, _partition, _offset."
    )
    e = failure(lambda: new_state().running_sum(frame, total="q"))
    assert e.message == "running_sum(total=\"q\"): the frame has no column 'q'"
    e = failure(lambda: new_state().running_sum(frame, by="metre", total="x"))
    assert e.message == "running_sum: the frame has no column 'metre'; did you mean 'metres'?"
    e = failure(lambda: new_state().running_sum(frame.drop("car"), total="x"))
    assert e.message.startswith("running_sum: the frame has no column 'car'")


@pytest.mark.parametrize("by", ["_timestamp", [1], [pl.col("x")]])
def test_by_takes_names(by):
    e = failure(lambda: new_state().latest(rows([1]), by=by, y="x"))
    assert "by= takes names of columns, none that begins with '_'" in e.message
    assert e.cure == 'Put it into a column of its own, and name that: by="hour".'


def test_a_source_is_named_not_computed():
    e = failure(lambda: new_state().latest(rows([1]), y=pl.col("x")))
    assert e.message == "latest: y= takes the name of a column, not Expr"


def test_a_call_without_a_new_column_is_refused():
    e = failure(lambda: new_state().latest(rows([1])))
    assert str(e) == (
        "latest was given no new column\nName it and its source: "
        'state.latest(points, new="column").'
    )


def test_only_a_polars_frame_is_taken():
    e = failure(lambda: new_state().latest(rows([1]).lazy(), y="x"))
    assert e.message == "latest takes a polars DataFrame, not LazyFrame"


@pytest.mark.parametrize("x", ["a", date(2014, 9, 13), timedelta(1), [1], Decimal(1), b"a"])
@pytest.mark.parametrize("operator", ["running_sum", "running_mean"])
def test_only_numbers_are_added(operator, x):
    frame = rows([x])
    e = failure(lambda: getattr(new_state(), operator)(frame, y="x"))
    assert str(e) == (
        f"{operator}(y=\"x\"): 'x' is {frame.schema['x']}; {operator} takes numbers and bools\n"
        'Cast it before the call: pl.col("x").cast(…).'
    )


@pytest.mark.parametrize("x", [[1], {"a": 1}, b"a", "a"])
def test_only_what_has_an_order_has_a_least(x):
    e = failure(lambda: new_state().running_min(rows([x]), y="x"))
    assert e.message.endswith("running_min takes numbers, bools, dates and times")


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["a"])])
def test_categories_are_not_carried(dtype):
    e = failure(lambda: new_state().latest(rows(["a"], dtype=dtype), y="x"))
    assert e.message.endswith("takes any column but Array, Categorical, Enum and Object")


# --- per="row" -------------------------------------------------------------------------------


AT = "points[2]@100"


def row_states(slots=None, key=KEY):
    return RowStates(PLACE, key, slots or {})


def test_a_key_without_state_has_an_empty_dict():
    assert row_states().get((1,)) == {}
    assert row_states().changes() == {}


def test_what_was_put_is_got_in_this_batch_and_the_next():
    states = row_states()
    states.put((1,), {"n": 1, "last": [None, 1.5]}, AT)
    assert states.get((1,)) == {"n": 1, "last": [None, 1.5]}
    slot = states.changes()["row"]
    assert dict(slot.schema) == {"car": pl.Int64, "_state": pl.Binary}
    later = row_states(merge({}, states.changes()))
    assert later.get((1,)) == {"n": 1, "last": [None, 1.5]}
    assert later.get((2,)) == {}
    assert later.changes() == {}


def test_a_row_that_raises_leaves_the_state_as_it_was():
    states = row_states()
    states.put((1,), {"n": [1]}, AT)
    mine = states.get((1,))
    mine["n"].append(2)  # and then the user's function raises: nobody calls put
    assert states.get((1,)) == {"n": [1]}
    e = failure(lambda: states.put((1,), {"n": {2}}, AT))
    assert states.get((1,)) == {"n": [1]}
    assert str(e) == (
        "points[2]@100: state['n'] is of type set\n"
        "The key's state is as it was.\n"
        "A state holds None, bool, int (64 bits), finite float, str, bytes, list, and dict with "
        "str keys; write a datetime as text."
    )


def test_a_state_that_was_put_is_a_copy():
    states = row_states()
    mine = {"n": []}
    states.put((1,), mine, AT)
    mine["n"].append(1)
    assert states.get((1,)) == {"n": []}


def test_a_state_is_a_dict():
    e = failure(lambda: row_states().put((1,), [("n", 1)], AT))
    assert e.message == "state is of type list, not dict"
    assert e.where == AT


def test_changes_of_rows_are_only_what_was_put_last_touch_last():
    states = row_states()
    for car in (1, 2, 3, 1):
        states.put((car,), {"n": states.get((car,)).get("n", 0) + 1}, AT)
    slots = merge({}, states.changes())
    assert slots["row"].get_column("car").to_list() == [2, 3, 1]
    later = row_states(slots)
    later.put((2,), {}, AT)
    assert later.changes()["row"].get_column("car").to_list() == [2]
    assert later.get((2,)) == {}
    assert row_states(merge(slots, later.changes())).get((1,)) == {"n": 2}


def test_row_states_take_composite_keys_of_all_kinds():
    key = ("a", "b", "c", "d", "e")
    berlin = timezone(timedelta(hours=2))
    values = (1, "é", True, date(2014, 9, 13), datetime(2014, 9, 13, 9, tzinfo=berlin))
    states = row_states(key=key)
    states.put(values, {"n": 1}, AT)
    later = row_states(states.changes(), key)
    assert later.get((*values[:4], datetime(2014, 9, 13, 7, tzinfo=UTC))) == {"n": 1}
    assert later.get((2, *values[1:])) == {}


@pytest.mark.parametrize("value", [None, 1.0, b"a", 2**63, [1]])
def test_what_no_key_of_a_row_may_be(value):
    for call in (
        lambda: row_states().get((value,), AT),
        lambda: row_states().put((value,), {}, AT),
    ):
        e = failure(call)
        assert e.where == AT
        assert e.message == (
            f"state: key 'car' is {value!r}; "
            "it must be int, str, bool, date or datetime, never null"
        )


def test_the_dtype_of_a_row_key_is_fixed():
    states = row_states()
    states.put((1,), {"n": 1}, AT)
    for begun in (states, row_states(states.changes())):
        for value in (True, "1"):
            e = failure(lambda begun=begun, value=value: begun.get((value,)))
            assert str(e) == (
                f"points[2]: state: key 'car' is {value!r}; it must be Int64\n"
                "A key keeps its type: cast it, or give the code a new version."
            )


def test_without_a_key_rows_have_no_state():
    states = row_states(key=())
    assert states.get(()) == {}
    states.put((), {}, AT)
    assert states.changes() == {}
    assert "declares none" in failure(lambda: states.put((), {"n": 1}, AT)).message
