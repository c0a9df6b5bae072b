"""Operators that carry one row of each key: what each is fed, carries and gives.

``previous``, ``latest`` and the running ones are one line each in ``OPERATORS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

# What is fed into a carried column: the source column and its dtype → an expression.


def _as_is(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return column


def widened(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return Int64 or Float64; an integer that does not fit is null here, and refused."""
    return column.cast(pl.Float64 if dtype.is_float() else pl.Int64, strict=False)


def _addend(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return widened(one_zero(column, dtype), dtype).fill_null(0)


def _seen(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return column.is_not_null().cast(pl.Int64)


def one_zero(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return −0.0 as 0.0: they are equal, so which is the least would be left to polars.

    A total of −0.0 alone is 0.0, too, where one adds to 0.
    """
    if not dtype.is_float():
        return column
    return pl.when(column == 0).then(pl.lit(0.0, dtype)).otherwise(column)


# What a row gives, from what the row before it gave: null leaves that as it is.


def _newest(before: pl.Expr, now: pl.Expr) -> pl.Expr:
    return pl.when(now.is_null()).then(before).otherwise(now)


def _least(before: pl.Expr, now: pl.Expr) -> pl.Expr:
    return pl.when(now.is_null() | (before <= now)).then(before).otherwise(now)


def _greatest(before: pl.Expr, now: pl.Expr) -> pl.Expr:
    return pl.when(now.is_null() | (before >= now)).then(before).otherwise(now)


# Which dtypes an operator takes.


def is_whole(dtype: pl.DataType) -> bool:
    """Say whether values are added as Int64."""
    return dtype.is_integer() or dtype == pl.Boolean


def _any(dtype: pl.DataType) -> bool:
    return not isinstance(dtype, pl.Array | pl.Categorical | pl.Enum | pl.Object)


def _number(dtype: pl.DataType) -> bool:
    return is_whole(dtype) or dtype.is_float()


def _ordered(dtype: pl.DataType) -> bool:
    # Not text: polars below 2 has no cum_min of it.
    return dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean


@dataclass(frozen=True, slots=True)
class Part:
    """One carried column: its name, what is fed into it, and how it rolls over a key.

    Attributes:
        name: Of the column.
        feed: From the source column and its dtype.
        roll: Over all rows of a key, in log order.
        step: The same for one row, from the rolled row before it; None where ``roll`` takes what
            was fed one row earlier.
    """

    name: str
    feed: Callable[[pl.Expr, pl.DataType], pl.Expr]
    roll: Callable[[pl.Expr], pl.Expr]
    step: Callable[[pl.Expr, pl.Expr], pl.Expr] | None


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        takes: Which dtypes it takes, and how an error says so.
        parts: What it carries.
        out: The new column, from the rolled parts.
        carries_fed: Carry each key's last fed value; else its last rolled one.
    """

    takes: tuple[Callable[[pl.DataType], bool], str]
    parts: tuple[Part, ...]
    out: pl.Expr
    carries_fed: bool = False


_VALUE, _TOTAL, _COUNT = pl.col("_value"), pl.col("_total"), pl.col("_count")
_ANYTHING = (_any, "any column but Array, Categorical, Enum and Object")
NUMBERS = (_number, "numbers and bools")
ORDERED = (_ordered, "numbers, bools, dates and times")
TOTALS = Part("_total", _addend, lambda c: c.cum_sum(), lambda before, now: before + now)
_COUNTS = Part("_count", _seen, lambda c: c.cum_sum(), lambda before, now: before + now)
_MEAN = pl.when(_COUNT > 0).then(_TOTAL.cast(pl.Float64) / _COUNT.cast(pl.Float64))

OPERATORS: Mapping[str, Operator] = {
    "previous": Operator(
        _ANYTHING, (Part("_value", _as_is, lambda c: c.shift(1), None),), _VALUE, carries_fed=True
    ),
    "latest": Operator(
        _ANYTHING, (Part("_value", _as_is, lambda c: c.forward_fill(), _newest),), _VALUE
    ),
    "running_sum": Operator(NUMBERS, (TOTALS,), _TOTAL),
    "running_count": Operator(_ANYTHING, (_COUNTS,), _COUNT),
    "running_mean": Operator(NUMBERS, (TOTALS, _COUNTS), _MEAN),
    "running_min": Operator(
        ORDERED, (Part("_value", one_zero, lambda c: c.cum_min().forward_fill(), _least),), _VALUE
    ),
    "running_max": Operator(
        ORDERED,
        (Part("_value", one_zero, lambda c: c.cum_max().forward_fill(), _greatest),),
        _VALUE,
    ),
}


# Which dtypes each operator takes, those of ``rolling.py`` too, and how an error says so.
TAKES = {
    **{name: operator.takes for name, operator in OPERATORS.items()},
    "rolling_sum": NUMBERS,
    "rolling_mean": NUMBERS,
    "rolling_min": ORDERED,
    "rolling_max": ORDERED,
}

# What may be wrong at a row, and its cure.
NAN = (
    "NaN would stay in the key's state for ever",
    'Make it null before the call: pl.col("{source}").fill_nan(None).',
)
NAN_TOTAL = (
    "infinity and minus infinity add up to NaN, which would stay in the key's state for ever",
    'Make infinities null before the call: pl.when(pl.col("{source}").is_finite()).',
)
OVERFLOW = (
    "the total does not fit 64 bits",
    'Add floats: pl.col("{source}").cast(pl.Float64), in a new version.',
)


def unfit(source: str, dtype: pl.DataType, *, adds: bool) -> pl.Expr:
    """Say of each row whether its value must not enter: NaN, or an integer too wide to add."""
    column = pl.col(source)
    if adds and is_whole(dtype):
        return column.is_not_null() & column.cast(pl.Int64, strict=False).is_null()
    return _has_nan(column, dtype)


def _has_nan(column: pl.Expr, dtype: Any) -> pl.Expr:  # noqa: ANN401  polars: class or instance
    """Say of each row whether there is a NaN in it, inside lists and structs too; never null."""
    found = pl.lit(value=False)
    if dtype.is_float():
        found = column.is_nan()
    elif isinstance(dtype, pl.List):
        found = column.list.eval(_has_nan(pl.element(), dtype.inner)).list.any()
    elif isinstance(dtype, pl.Struct):
        inner = [_has_nan(column.struct.field(f.name), f.dtype) for f in dtype.fields]
        found = pl.any_horizontal(inner)
    return found.fill_null(value=False)


def lost(fed: pl.Series, totals: pl.Series) -> pl.Series:
    """Say of each row whether adding it gave NaN, or wrapped around (polars does so silently).

    Two summands of one sign whose sum has the other have wrapped; so, too, does ``totals - fed``
    give back the total before, exactly.
    """
    if totals.dtype.is_float():
        return totals.is_nan()
    before = totals - fed
    return ((before >= 0) == (fed >= 0)) & ((totals >= 0) != (fed >= 0))
