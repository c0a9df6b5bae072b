"""Law 2 for windows: any cut of the log into batches gives the same bits.

The oracle keeps every row of a key in a list and looks back over all of it, in plain Python; it
shares no code with the product. Between batches the slots are merged, encoded and decoded.
"""

import random
import struct
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.core.offsets import TopicPartition
from playhead.core.slots import decode, encode, merge
from playhead.core.state import State

PLACE = TopicPartition("points", 0)
BEGIN = datetime(2014, 9, 13, tzinfo=UTC)
SPECIAL = [-0.0, 0.0, 0.1, -0.1, 1 / 3, 5e-324, -2.2e-308, 1e16, -1e16, 1e-6, 1e290, -1e290]
OPERATORS = ["rolling_sum", "rolling_mean", "rolling_min", "rolling_max"]
WINDOWS = [{"rows": 1}, {"rows": 3}, {"rows": 10_000}, {"span": "1s"}, {"span": "5s"}]
SECONDS = {"1s": 1, "5s": 5}

floats = st.sampled_from(SPECIAL) | st.floats(-1e290, 1e290)
ints = st.sampled_from([0, 1, -1, 2**53 + 1, -(2**53) - 1]) | st.integers(-(2**56), 2**56)
FED = {"float": (pl.Float64, floats), "int": (pl.Int64, ints)}


def value_of(operator, window):
    """What the operator gives for the values of a window, oldest first."""
    total, count, least, greatest = 0, 0, None, None
    for x in reversed(window):
        if x is not None:
            total = total + x
            count += 1
            positive = 0.0 if x == 0 and isinstance(x, float) else x
            least = positive if least is None or positive < least else least
            greatest = positive if greatest is None or positive > greatest else greatest
    return {
        "rolling_sum": total,
        "rolling_mean": float(total) / float(count) if count else None,
        "rolling_min": least,
        "rolling_max": greatest,
    }[operator]


def oracle(rows, operator, window, by):
    kept = {}
    for car, hour, second, x in rows:
        mine = kept.setdefault((car, hour if by else None), [])
        mine.append((second, x))
        if "rows" in window:
            yield value_of(operator, [v for _, v in mine[-window["rows"] :]])
        else:
            newest = max(at for at, _ in mine)
            inside = [v for at, v in mine if at > newest - SECONDS[window["span"]]]
            yield value_of(operator, inside)


def sliced(rows, dtype, call, sizes):
    """The new column over batches of these sizes; the last slot too."""
    operator, window, by = call
    schema = {"car": pl.Int64, "hour": pl.String, "s": pl.Int64, "x": dtype}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    times = [BEGIN + timedelta(seconds=s) for s in frame["s"]]
    frame = frame.with_columns(
        pl.lit(0, dtype=pl.Int32).alias("_partition"),
        pl.Series("_timestamp", times, dtype=pl.Datetime("ms", "UTC")),
    )
    frame = frame.with_row_index("_offset").cast({"_offset": pl.Int64})
    slots, out, at = {}, [], 0
    for size in sizes:
        state = State(PLACE, ("car",), slots)
        batch = frame.slice(at, size)
        out.append(getattr(state, operator)(batch, by=by, **window, y="x").get_column("y"))
        slots = decode(encode(merge(slots, state.changes())))
        at += size
    assert at == len(rows)
    return pl.concat(out), slots.get(f"{operator}.y")


def bits(values, dtype):
    """64-bit patterns of floats; None and ints as they are."""
    if dtype == pl.Float64:
        return [None if v is None else struct.pack("<d", v) for v in values]
    return list(values)


def cuts(n, draw):
    """Batch sizes, zero among them, that add up to n."""
    ends = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    return [b - a for a, b in zip([0, *ends], [*ends, n], strict=True)]


@pytest.mark.parametrize("kind", FED)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
@settings(derandomize=True, database=None, deadline=None, max_examples=5)
@given(data=st.data())
def test_any_cut_gives_the_bits_of_one_row_after_the_other(operator, window, kind, data):
    dtype, values = FED[kind]
    by = data.draw(st.sampled_from([None, "hour"]))
    row = st.tuples(
        st.integers(1, 2), st.sampled_from("ab"), st.integers(0, 12), st.none() | values
    )
    rows = data.draw(st.lists(row, min_size=1, max_size=14))
    n, expected = len(rows), list(oracle(rows, operator, window, by))
    slots = []
    for sizes in ([n], [1] * n, cuts(n, data.draw)):
        out, slot = sliced(rows, dtype, (operator, window, by), sizes)
        assert bits(out, out.dtype) == bits(expected, out.dtype), sizes
        slots.append(slot.rows())
    assert repr(slots[0]) == repr(slots[1]) == repr(slots[2])


def many(n, kind):
    rng = random.Random(2014)
    for i in range(n):
        size = 10.0 ** rng.uniform(-6, 6)
        x = rng.uniform(-size, size) if kind == "float" else rng.randint(-(2**40), 2**40)
        late = rng.choice([0, 0, 0, 3, 9])
        yield rng.randrange(50), rng.choice("ab"), i // 50 - late, None if late == 9 else x


@pytest.mark.parametrize("kind", FED)
@pytest.mark.parametrize("window", [{"rows": 7}, {"span": "5s"}], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_so_it_is_for_batches_large_enough_to_be_computed_in_parallel(operator, window, kind):
    n = 6_000
    rows = list(many(n, kind))
    expected = list(oracle(rows, operator, window, None))
    for size in (n, 777):
        sizes = [min(size, n - at) for at in range(0, n, size)]
        out, _ = sliced(rows, FED[kind][0], (operator, window, None), sizes)
        assert bits(out, out.dtype) == bits(expected, out.dtype), size
