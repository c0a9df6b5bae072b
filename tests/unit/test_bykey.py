"""Rolling in waves gives what polars gives over each key, to the bit, however keys are spread."""

import random
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from playhead.core.bykey import WAVES, rolled_by_key
from playhead.core.operators import OPERATORS

FLOATS = [0.1, 0.2, 0.7, 1e16, -1e16, -0.0, 0.0, 3.5, float("inf"), None, None]
INTS = [2**62, -(2**62), 7, 0, -1, 3, None]
WHEN = datetime(2024, 1, 1, tzinfo=UTC)
VALUES = {
    "float": (pl.Float64(), FLOATS),
    "narrow": (pl.Float32(), [0.1, 2.5, -0.0, None]),
    "int": (pl.Int64(), INTS),
    "bool": (pl.Boolean(), [True, False, None]),
    "date": (pl.Date(), [date(2024, 1, d) for d in (1, 2, 3)] + [None]),
    "time": (pl.Datetime("us", "UTC"), [WHEN + timedelta(hours=h) for h in range(4)] + [None]),
    "text": (pl.String(), ["a", "b", "", None]),
    "list": (pl.List(pl.Int64), [[1], [], [2, None], None]),
    "struct": (pl.Struct({"a": pl.Int64}), [{"a": 1}, {"a": None}, None]),
}
SPREADS = {
    "one row a key": lambda r, n: list(range(n)),
    "a row or two a key": lambda r, n: [r.randrange(n) for _ in range(n)],
    "three a key": lambda r, n: [r.randrange(n // 3) for _ in range(n)],
    "just as many as there are waves": lambda r, n: (
        [k for k in range(n) for _ in range(WAVES)][:n] + list(range(n, 3 * n))
    ),
    "one more than there are waves": lambda r, n: [0] * (WAVES + 1) + list(range(1, n)),
    "one key has most of them": lambda r, n: [0 if r.random() < 0.3 else k for k in range(n)],
    "few keys": lambda r, n: [r.randrange(4) for _ in range(n)],
    "one row": lambda r, n: [3],
    "no row": lambda r, n: [],
}
KEYS = {
    "int": ["car"],
    "text": ["name"],
    "text and hour": ["name", "hour"],
    "day and flag": ["day", "flag"],
    "moment": ["moment"],
}


def keyed(numbers):
    """Frames of keys: cars may be far apart, and below zero."""
    car = pl.Series("car", numbers, dtype=pl.Int64)
    return pl.DataFrame({"car": 5_000_000_000 * (car - 3)}).with_columns(
        name=pl.format("car {}", car),
        hour=car % 3,
        day=pl.lit(date(2024, 1, 1)) + pl.duration(days=car // 2),
        flag=car % 2 == 0,
        moment=pl.lit(WHEN) + pl.duration(seconds=car),
    )


def takes(name, dtype):
    check, _ = OPERATORS[name].takes
    return check(dtype)


CASES = [(name, kind) for name in OPERATORS for kind, (d, _) in VALUES.items() if takes(name, d)]


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_gives_what_over_gives(name, kind, spread):
    for key in KEYS:
        check(name, kind, key, spread)


def check(name, kind, key, spread):
    chance = random.Random(f"{name} {kind} {key} {spread}")
    dtype, choices = VALUES[kind]
    numbers = SPREADS[spread](chance, 60)
    chance.shuffle(numbers)
    source = pl.Series("x", [chance.choice(choices) for _ in numbers], dtype=dtype)
    groups, parts = KEYS[key], OPERATORS[name].parts
    fed = keyed(numbers).with_columns(source).select(
        *groups, *(p.feed(pl.col("x"), dtype).alias(p.name) for p in parts)
    )  # fmt: skip
    rolled, last = rolled_by_key(fed, groups, parts)
    expected = fed.with_columns(p.roll(pl.col(p.name)).over(groups) for p in parts)
    assert_frame_equal(rolled, expected, check_exact=True)
    for part in parts:  # equal is not the same: −0.0 is 0.0
        if rolled.schema[part.name].is_float():
            a, b = (f.get_column(part.name).fill_null(1).to_list() for f in (rolled, expected))
            assert list(map(str, a)) == list(map(str, b))
    assert fed.filter(last).equals(fed.unique(groups, keep="last", maintain_order=True))
