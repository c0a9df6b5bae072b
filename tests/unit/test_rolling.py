"""Windows: each sentence of the design on rolling operators, errors' texts included."""

import struct
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from playhead.core.offsets import TopicPartition
from playhead.core.slots import merge
from playhead.core.state import State
from playhead.errors import FunctionFailed

PLACE = TopicPartition("points", 2)
BEGIN = datetime(2014, 9, 13, tzinfo=UTC)
MAX, MIN = 2**63 - 1, -(2**63)
NAN, INF = float("nan"), float("inf")


def rows(x, seconds=None, car=None, dtype=None):
    """A frame with the origin: cars (all 1 unless given), x, times in seconds, offsets from 100."""
    n = len(x)
    times = [BEGIN + timedelta(seconds=s) for s in (range(n) if seconds is None else seconds)]
    return pl.DataFrame(
        {
            "car": [1] * n if car is None else car,
            "x": pl.Series(x, dtype=dtype),
            "_partition": pl.Series([2] * n, dtype=pl.Int32),
            "_offset": pl.Series(range(100, 100 + n), dtype=pl.Int64),
            "_timestamp": pl.Series(times, dtype=pl.Datetime("ms", "UTC")),
        }
    )


def run(operator, *frames, **window):
    slots, out = {}, []
    for frame in frames:
        state = State(PLACE, ("car",), slots)
        out += getattr(state, operator)(frame, **window, y="x").get_column("y").to_list()
        slots = merge(slots, state.changes())
    return out, slots


def failure(operator, frame, **window):
    with pytest.raises(FunctionFailed) as e:
        run(operator, frame, **window)
    return str(e.value)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("rolling_sum", [0, 5, 5, 3, 3, 0, 4]),
        ("rolling_mean", [None, 5.0, 5.0, 3.0, 3.0, None, 4.0]),
        ("rolling_min", [None, 5, 5, 3, 3, None, 4]),
        ("rolling_max", [None, 5, 5, 3, 3, None, 4]),
    ],
)
@pytest.mark.parametrize("cut", range(8))
def test_rows_counts_rows_and_null_is_a_row_that_adds_nothing(operator, expected, cut):
    frame = rows([None, 5, None, 3, None, None, 4], dtype=pl.Int64)
    assert run(operator, frame[:cut], frame[cut:], rows=2)[0] == expected


@pytest.mark.parametrize("span", [timedelta(seconds=10), "10s", "10000ms", " 10 s "])
def test_a_span_ends_at_the_newest_time_and_a_row_exactly_that_old_is_out(span):
    frame = rows([1, 2, 4, 8], seconds=[0, 9, 10, 19])
    assert run("rolling_sum", frame, span=span)[0] == [1, 3, 6, 12]


@pytest.mark.parametrize("cut", range(6))
def test_a_late_row_updates_its_window_and_none_that_has_passed(cut):
    frame = rows([1, 2, 4, 8, 16], seconds=[0, 20, 15, 10, 26])
    # 15 is late and inside (10, 20]; 10 is out. At 26 15 has left, and 20, older in the log, not.
    expected = [1, 2, 6, 6, 18]
    assert run("rolling_sum", frame[:cut], frame[cut:], span="10s")[0] == expected


def test_a_window_is_of_a_key():
    frame = rows([1, 10, 2, 20], car=[1, 2, 1, 2])
    assert run("rolling_sum", frame, rows=2)[0] == [1, 10, 3, 30]
    assert run("rolling_sum", frame, span="1h")[0] == [1, 10, 3, 30]


def test_a_window_is_of_a_key_and_by():
    frame = rows([1, 2, 4]).with_columns(hour=pl.Series([7, 8, 7]))
    out, slots = run("rolling_sum", frame, rows=2, by="hour")
    assert out == [1, 2, 5]
    assert slots["rolling_sum.y"].rows() == [(1, 8, [2]), (1, 7, [4])]


def test_a_window_adds_from_its_newest_row_to_its_oldest():
    x = [0.1, 0.2, 0.3]
    assert run("rolling_sum", rows(x), rows=3)[0][2] == (0.3 + 0.2) + 0.1
    assert run("rolling_sum", rows(x), rows=3)[0][2] != (0.1 + 0.2) + 0.3


def test_nothing_before_the_window_is_left_in_it():
    assert run("rolling_sum", rows([1e300, 1.0, 2.0]), rows=2)[0] == [1e300, 1e300, 3.0]
    assert run("rolling_sum", rows([INF, 1.0, 2.0]), rows=2)[0] == [INF, INF, 3.0]


def test_what_is_carried_is_the_window():
    _, slots = run("rolling_sum", rows([1, 2, None, 4], dtype=pl.Int64), rows=3)
    assert slots["rolling_sum.y"].rows() == [(1, [None, 4])]
    _, slots = run("rolling_sum", rows([1, 2], seconds=[0, 10]), span="10s")
    at_us = int(BEGIN.timestamp() + 10) * 10**6
    assert slots["rolling_sum.y"].rows() == [(1, [2], [at_us])]


@pytest.mark.parametrize(
    ("operator", "x", "dtype", "expected"),
    [
        ("rolling_sum", [True, None, True], pl.Boolean, pl.Int64),
        ("rolling_sum", [100, 100], pl.Int8, pl.Int64),
        ("rolling_sum", [0.5], pl.Float32, pl.Float64),
        ("rolling_mean", [1, 2], pl.Int32, pl.Float64),
        ("rolling_min", [True, False], pl.Boolean, pl.Boolean),
        ("rolling_max", [date(2014, 9, 13), date(2014, 9, 12)], pl.Date, pl.Date),
        ("rolling_max", [2, 1], pl.UInt64, pl.UInt64),
        ("rolling_min", [0.5], pl.Float32, pl.Float32),
    ],
)
def test_dtypes(operator, x, dtype, expected):
    out = getattr(State(PLACE, ("car",), {}), operator)(rows(x, dtype=dtype), rows=2, y="x")
    assert out.schema["y"] == expected


def test_least_and_greatest_of_bools_and_dates():
    assert run("rolling_min", rows([True, False, True, True]), rows=2)[0] == [
        True,
        False,
        False,
        True,
    ]
    days = [date(2014, 9, d) for d in (13, 12, 11)]
    assert run("rolling_max", rows(days), rows=2)[0] == [days[0], days[0], days[1]]


@pytest.mark.parametrize("operator", ["rolling_min", "rolling_max", "rolling_sum"])
def test_zero_is_plus_zero(operator):
    (out, _) = run(operator, rows([-0.0]), rows=2)
    assert struct.pack("<d", out[0]) == struct.pack("<d", 0.0)


@pytest.mark.parametrize(("x", "y"), [(MAX, 1), (MIN, -1)])
@pytest.mark.parametrize("operator", ["rolling_sum", "rolling_mean"])
def test_a_total_past_64_bits_is_an_error_at_its_row(operator, x, y):
    assert failure(operator, rows([0, x, y]), rows=2).startswith(
        f'points[2]@102: {operator}(y="x"): the total does not fit 64 bits'
    )


def test_a_total_that_fits_is_given_whatever_its_parts_do():
    assert run("rolling_sum", rows([-5, 1, MAX]), rows=3)[0] == [-5, -4, MAX - 4]


def test_an_integer_past_64_bits_does_not_enter():
    frame = rows([2**63], dtype=pl.UInt64)
    assert "points[2]@100" in failure("rolling_sum", frame, rows=2)


def test_nan_is_an_error_at_its_row():
    for operator in ("rolling_sum", "rolling_mean", "rolling_min", "rolling_max"):
        assert failure(operator, rows([1.0, NAN]), rows=2) == (
            f'points[2]@101: {operator}(y="x"): NaN is no value of a window\n'
            'Make it null before the call: pl.col("x").fill_nan(None).'
        )


def test_infinities_of_both_signs_in_one_window_are_an_error_at_the_row():
    assert run("rolling_sum", rows([INF, 1.0, -INF]), rows=2)[0] == [INF, INF, -INF]
    assert "points[2]@101: " in failure("rolling_sum", rows([INF, -INF]), rows=2)


def test_a_window_of_more_rows_than_max_rows_is_an_error_at_the_row():
    frame = rows([1] * 4, seconds=[0, 0, 0, 60])
    assert run("rolling_sum", frame, span="1m", max_rows=3)[0] == [1, 2, 3, 1]
    assert failure("rolling_sum", frame, span="1m", max_rows=2) == (
        'points[2]@102: rolling_sum(y="x"): more than max_rows=2 rows in one window\n'
        "Raise max_rows=, shorten span=, or keep state per more than the key with by=."
    )


def test_by_default_a_window_has_10_000_rows_at_most():
    frame = rows([1] * 10_001, seconds=[0] * 10_001)
    assert run("rolling_max", frame[:10_000], span="1m")[0] == [1] * 10_000
    assert "points[2]@10100: " in failure("rolling_max", frame, span="1m")
    assert "rows=10001 is more than max_rows=10000" in failure("rolling_max", frame, rows=10_001)


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({}, "rolling_sum takes rows= or span=, one of the two"),
        ({"rows": 2, "span": "1s"}, "rolling_sum takes rows= or span=, one of the two"),
        ({"rows": 0}, "rolling_sum: rows=0 is not a number of rows, 1 or more"),
        ({"rows": "x"}, "rolling_sum: rows='x' is not a number of rows, 1 or more"),
        ({"rows": True}, "rolling_sum: rows=True is not a number of rows, 1 or more"),
        ({"rows": 1, "max_rows": 0}, "rolling_sum: max_rows=0 is not a number of rows"),
        ({"span": "10"}, "rolling_sum: span='10' is not a length of time"),
        ({"span": "0s"}, "rolling_sum: span='0s' is not a length of time"),
        ({"span": "-1s"}, "rolling_sum: span='-1s' is not a length of time"),
        ({"span": 10}, "rolling_sum: span=10 is not a length of time"),
        ({"span": timedelta(0)}, "is not a length of time"),
    ],
)
def test_a_window_that_cannot_be_is_a_named_error(window, said):
    assert said in failure("rolling_sum", rows([1]), **window)


def test_a_span_needs_the_timestamp():
    assert "the frame has no _timestamp" in failure(
        "rolling_sum", rows([1]).drop("_timestamp"), span="1s"
    )
    nulls = rows([1, 2]).with_columns(
        pl.when(pl.col("x") == 1).then("_timestamp").alias("_timestamp")
    )
    assert failure("rolling_sum", nulls, span="1s").startswith("points[2]@101: ")
    assert run("rolling_sum", rows([1]).drop("_timestamp"), rows=1)[0] == [1]


def test_a_slot_keeps_its_window():
    _, slots = run("rolling_sum", rows([1]), rows=5)
    for window, now in (({"rows": 6}, "rows_6"), ({"span": "1s"}, "span_1000000_us")):
        with pytest.raises(FunctionFailed) as e:
            State(PLACE, ("car",), slots).rolling_sum(rows([1]), **window, y="x")
        assert e.value.message == (
            'rolling_sum(y="x"): slot rolling_sum.y was begun with rows_5, and is now asked for '
            f"with {now}"
        )


def test_a_slot_keeps_its_dtype():
    _, slots = run("rolling_min", rows([1]), rows=5)
    with pytest.raises(FunctionFailed, match="was begun with 'x' as List\\(Int64\\)"):
        State(PLACE, ("car",), slots).rolling_min(rows([1.5]), rows=5, y="x")


def test_windows_are_kept_per_new_column():
    state = State(PLACE, ("car",), {})
    out = state.rolling_sum(rows([1, 2, 3]), rows=2, y="x", z="x")
    assert out["y"].to_list() == out["z"].to_list() == [1, 3, 5]
    with pytest.raises(FunctionFailed, match=r"slot rolling_sum\.y is used twice"):
        state.rolling_sum(rows([1]), rows=2, y="x")
