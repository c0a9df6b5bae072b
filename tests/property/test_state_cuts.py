"""Law 2 for the operators of State: any cut of the log into batches gives the same bits.

The oracle walks the rows one by one in plain Python and shares no code with the product. Between
batches the slots are merged, encoded and decoded, as the ledger does.
"""

import random
import struct

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.core.offsets import TopicPartition
from playhead.core.slots import decode, encode, merge
from playhead.core.state import State

PLACE = TopicPartition("points", 0)
SPECIAL = [-0.0, 0.0, 0.1, -0.1, 1 / 3, 5e-324, -2.2e-308, 1e16, -1e16, 1e-6, 1e290, -1e290]

floats = st.sampled_from(SPECIAL) | st.floats(-1e290, 1e290)
ints = st.sampled_from([0, 1, -1, 2**53 + 1, -(2**53) - 1]) | st.integers(-(2**56), 2**56)
FED = {"float": (pl.Float64, floats), "int": (pl.Int64, ints)}


class Oracle:
    """What one (key, by) remembers, row after row."""

    def __init__(self):
        self.before = self.newest = self.least = self.greatest = None
        self.total, self.count = 0, 0

    def step(self, x):
        row = {"previous": self.before}
        self.before = x
        if x is not None:
            self.newest = x
            self.total = self.total + x
            self.count += 1
            positive = 0.0 if x == 0 and isinstance(x, float) else x
            if self.least is None or positive < self.least:
                self.least = positive
            if self.greatest is None or positive > self.greatest:
                self.greatest = positive
        row["latest"] = self.newest
        row["running_sum"] = self.total
        row["running_count"] = self.count
        row["running_mean"] = float(self.total) / float(self.count) if self.count else None
        row["running_min"] = self.least
        row["running_max"] = self.greatest
        return row


OPERATORS = list(Oracle().step(None))


def oracle(rows, operator, by):
    groups = {}
    for car, hour, x in rows:
        yield groups.setdefault((car, hour if by else None), Oracle()).step(x)[operator]


def sliced(rows, dtype, by, operator, sizes):
    """The new column over batches of these sizes; the last slot too."""
    frame = pl.DataFrame(
        rows, schema={"car": pl.Int64, "hour": pl.String, "x": dtype}, orient="row"
    )
    origin = pl.lit(0, dtype=pl.Int32).alias("_partition")
    frame = frame.with_columns(origin).with_row_index("_offset").cast({"_offset": pl.Int64})
    slots, out, at = {}, [], 0
    for size in sizes:
        state = State(PLACE, ("car",), slots)
        batch = frame.slice(at, size)
        out.append(getattr(state, operator)(batch, by=by, y="x").get_column("y"))
        slots = decode(encode(merge(slots, state.changes())))
        at += size
    assert at == len(rows)
    return pl.concat(out), slots.get(f"{operator}.y")


def bits(values, dtype):
    """64-bit patterns; None stays None."""
    if dtype == pl.Float64:
        return [None if v is None else struct.unpack("<q", struct.pack("<d", v))[0] for v in values]
    return list(values)


def cuts(n, draw):
    """Batch sizes, zero among them, that add up to n."""
    ends = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    return [b - a for a, b in zip([0, *ends], [*ends, n], strict=True)]


@pytest.mark.parametrize("by", [None, "hour"])
@pytest.mark.parametrize("kind", FED)
@pytest.mark.parametrize("operator", OPERATORS)
@settings(derandomize=True, database=None, deadline=None, max_examples=9)
@given(data=st.data())
def test_any_cut_gives_the_bits_of_one_row_after_the_other(operator, kind, by, data):
    dtype, values = FED[kind]
    row = st.tuples(st.integers(1, 3), st.sampled_from("ab"), st.none() | values)
    rows = data.draw(st.lists(row, min_size=1, max_size=14))
    n, expected = len(rows), list(oracle(rows, operator, by))
    states = []
    for sizes in ([n], [1] * n, cuts(n, data.draw)):
        out, slot = sliced(rows, dtype, by, operator, sizes)
        assert bits(out, out.dtype) == bits(expected, out.dtype), sizes
        states.append([bits(column, column.dtype) for column in slot])
    assert states[0] == states[1] == states[2]


def many(n, kind):
    rng = random.Random(2014)
    for _ in range(n):
        size = 10.0 ** rng.uniform(-6, 6)
        x = rng.uniform(-size, size) if kind == "float" else rng.randint(-(2**40), 2**40)
        x = None if rng.random() < 0.1 else x
        yield rng.randrange(300), rng.choice("ab"), x


@pytest.mark.parametrize("by", [None, "hour"])
@pytest.mark.parametrize("kind", FED)
@pytest.mark.parametrize("operator", OPERATORS)
def test_so_it_is_for_batches_large_enough_to_be_computed_in_parallel(operator, kind, by):
    n = 10_000
    rows = list(many(n, kind))
    expected = list(oracle(rows, operator, by))
    for size in (n, 777):
        sizes = [min(size, n - at) for at in range(0, n, size)]
        out, _ = sliced(rows, FED[kind][0], by, operator, sizes)
        assert bits(out, out.dtype) == bits(expected, out.dtype), size
