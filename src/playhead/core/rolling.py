"""Operators over the last rows of a key: ``rolling_sum``, ``mean``, ``min`` and ``max``.

A window depends on the rows in it and on nothing before: each is added up anew, from its newest row
to its oldest in log order, so that any cut of the log into batches gives the same bits. (Polars'
rolling kernels, and differences of running sums, depend on where a batch begins.)

What is carried of a key is its window: a slot has one row per key, with lists, oldest row first.
The column of the values is named by the window (``_rows_5``, ``_span_600000000_us``), so that a
slot says which window it was kept for; ``_times`` are microseconds since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from heapq import heappop, heappush

import polars as pl

from playhead.core.operators import OVERFLOW, is_whole, one_zero, unfit, widened
from playhead.core.slots import is_last
from playhead.core.uses import Call, Use
from playhead.errors import FunctionFailed

Span = timedelta | str | None
_Step = Callable[[pl.Series, pl.Series], pl.Series]

_SPAN = re.compile(r"(\d+)\s*(us|ms|s|m|h|d|w)\Z")
_UNITS_US = {"us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
_UNITS_US |= {"d": 24 * _UNITS_US["h"], "w": 7 * 24 * _UNITS_US["h"]}
_NAN = (
    "NaN is no value of a window",
    'Make it null before the call: pl.col("{source}").fill_nan(None).',
)
_NAN_TOTAL = (
    "infinity and minus infinity in one window add up to NaN",
    'Make infinities null before the call: pl.when(pl.col("{source}").is_finite()).',
)
_NO_TIME = (
    "_timestamp is null, and span= is counted in it",
    'Filter such rows out: pl.col("_timestamp").is_not_null().',
)


@dataclass(frozen=True, slots=True)
class Window:
    """How far back a rolling operator looks: so many rows, or so many microseconds."""

    rows: int | None
    span_us: int | None
    max_rows: int

    @property
    def column(self) -> str:
        """Name of the slot's column of values."""
        return f"_rows_{self.rows}" if self.rows else f"_span_{self.span_us}_us"


def window_of(operator: str, rows: int | None, span: Span, max_rows: int) -> Window:
    """Return the window that a call asks for.

    Raises:
        FunctionFailed: Not exactly one of ``rows`` and ``span`` is given, or it is no length.
    """
    if (rows is None) == (span is None):
        raise FunctionFailed(
            f"{operator} takes rows= or span=, one of the two",
            cure=f'For example state.{operator}(points, rows=5, new="column").',
        )
    if not _counts(max_rows):
        raise FunctionFailed(f"{operator}: max_rows={max_rows!r} is not a number of rows")
    if rows is not None:
        if not _counts(rows):
            raise FunctionFailed(f"{operator}: rows={rows!r} is not a number of rows, 1 or more")
        if rows > max_rows:
            raise FunctionFailed(
                f"{operator}: rows={rows} is more than max_rows={max_rows}",
                cure="Raise max_rows=; each row then costs up to that many additions.",
            )
        return Window(rows, None, max_rows)
    return Window(None, _span_us(operator, span), max_rows)


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _span_us(operator: str, span: object) -> int:
    found = 0
    if isinstance(span, timedelta):
        found = span // timedelta(microseconds=1)
    elif isinstance(span, str) and (match := _SPAN.match(span.strip())):
        found = int(match[1]) * _UNITS_US[match[2]]
    if not 0 < found < 2**62:
        raise FunctionFailed(
            f"{operator}: span={span!r} is not a length of time",
            cure='A timedelta, or a number and a unit (us ms s m h d w), as in "90s" and "10m".',
        )
    return found


def rolled(
    call: Call, use: Use, slot: pl.DataFrame | None, window: Window
) -> tuple[pl.Series, pl.DataFrame]:
    """Return the new column, and the window to carry of each key in the frame.

    Raises:
        FunctionFailed: A value must not enter, a total does not fit, or a window has too many rows.
    """
    fed = _fed(call, use, window)
    both = _carried_in_front(call, use, (slot, fed), window)
    looks = _looks(both, call.groups, window)
    own = looks.filter(pl.col("_row") >= both.height - fed.height).sort("_row")
    call.refuse(use, own.get_column("_count") > window.max_rows, _too_many(window))
    own = own.with_row_index("_nth").sort("_depth", descending=True)
    given, step = both.get_column("_value"), _STEPS[use.operator]
    # Only where a late row lies between others is each row's own time asked.
    late = both.get_column("_time") if (own["_depth"] != own["_count"]).any() else None
    if not _adds(use):
        found = _folded(_Passes(own, late), given, step, None)
        column = found.gather(own.get_column("_nth").arg_sort())
    else:
        column = _total(call, use, _Passes(own, late), given)
    return column.alias(use.new), _to_carry(call, both, fed, window)


def _fed(call: Call, use: Use, window: Window) -> pl.DataFrame:
    """Return the frame's rows with what enters: groups, ``_value``, and for a span ``_time``."""
    frame, dtype = call.frame, call.frame.schema[use.source]
    feed = widened if _adds(use) else one_zero
    wrong = frame.select(unfit(use.source, dtype, adds=_adds(use))).to_series()
    call.refuse(use, wrong, OVERFLOW if is_whole(dtype) else _NAN)
    columns = [feed(pl.col(use.source), dtype).alias("_value")]
    if window.span_us is not None:
        if not isinstance(frame.schema.get("_timestamp"), pl.Datetime):
            raise FunctionFailed(
                f"{use}: the frame has no _timestamp, and span= is counted in it",
                cure="Keep it: in select, name it after ph.origin.",
            )
        call.refuse(use, frame.get_column("_timestamp").is_null(), _NO_TIME)
        columns.append(pl.col("_timestamp").dt.epoch("us").alias("_time"))
    return frame.select(*call.groups, *columns)


def _adds(use: Use) -> bool:
    return use.operator in {"rolling_sum", "rolling_mean"}


def _lists(window: Window) -> dict[str, str]:
    """Return the slot's columns by the columns of rows that they keep."""
    spanned = window.span_us is not None
    return {"_value": window.column, **({"_time": "_times"} if spanned else {})}


def _carried_in_front(
    call: Call, use: Use, rows: tuple[pl.DataFrame | None, pl.DataFrame], window: Window
) -> pl.DataFrame:
    """Return the carried rows and then the frame's own, key by key, each in log order.

    ``_row`` counts them as they came: first what was carried.
    """
    lists = _lists(window)
    slot, fed = rows
    both = fed
    if slot is not None:
        kept = {new: pl.List(fed.schema[old]) for old, new in lists.items()}
        call.check_slot(use, slot, {**{g: fed.schema[g] for g in call.groups}, **kept})
        known = slot.filter(pl.col(window.column).list.len() > 0)
        known = known.join(fed, on=call.groups, how="semi").explode(list(lists.values()))
        both = pl.concat([known.rename({new: old for old, new in lists.items()}), fed])
    return both.with_row_index("_row").sort(call.groups, maintain_order=True)


def _to_carry(call: Call, both: pl.DataFrame, fed: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return one row per key of the frame, in the order in which they were last touched."""
    touched = fed.select(call.groups).filter(is_last(call.groups))
    lists = _lists(window)
    if window.span_us is not None:
        newest = pl.col("_time").max().over(call.groups)
        both = both.filter(pl.col("_time") > newest - window.span_us)
        kept = [pl.col(old).alias(new) for old, new in lists.items()]
    else:
        kept = [pl.col("_value").tail((window.rows or 1) - 1).alias(window.column)]
    windows = both.group_by(call.groups, maintain_order=True).agg(kept)
    return touched.join(windows, on=call.groups, how="left", maintain_order="left")


def _looks(both: pl.DataFrame, groups: list[str], window: Window) -> pl.DataFrame:
    """Return of each row how far its window goes back, how many rows are in it, and its limit.

    ``_depth`` counts the rows from this one back to the window's oldest, ``_count`` those of them
    that are in it (a late row may leave before one that came earlier), ``_limit`` is the time at
    and before which a row is out. ``_at`` is where the row stands in ``both``.
    """
    positions = both.select(pl.int_range(pl.len()).over(groups)).to_series()
    looks = both.select("_row").with_row_index("_at")
    if window.rows is not None:
        depth = (positions + 1).clip(upper_bound=window.rows).alias("_depth")
        return looks.with_columns(depth, depth.alias("_count"), _limit=pl.lit(0))
    times, span_us = both.get_column("_time").to_list(), window.span_us or 0
    found: list[tuple[int, int, int]] = []
    first = newest = 0
    inside: list[int] = []
    for at, (position, time) in enumerate(zip(positions, times, strict=True)):
        if position == 0:
            first, newest, inside = at, time, []
        newest = max(newest, time)
        limit = newest - span_us
        heappush(inside, time)
        while inside[0] <= limit:
            heappop(inside)
        while times[first] <= limit:
            first += 1
        found.append((at - first + 1, len(inside), limit))
    names = dict.fromkeys(("_depth", "_count", "_limit"), pl.Int64)
    return looks.hstack(pl.DataFrame(found, schema=names, orient="row"))


@dataclass(frozen=True, slots=True)
class _Passes:
    """Rows by depth, the deepest first; and the times of all rows, if a late one may be out."""

    own: pl.DataFrame
    times: pl.Series | None


def _folded(passes: _Passes, given: pl.Series, step: _Step, nothing: int | None) -> pl.Series:
    """Fold each window from its newest row to its oldest: one pass per row of the longest one.

    Windows that have ended leave at the end of the columns, so that a pass costs what is left.
    """
    at, limits = passes.own.get_column("_at"), passes.own.get_column("_limit")
    depths = passes.own.get_column("_depth").to_list()
    out = pl.Series([nothing], dtype=given.dtype)
    so_far, n = out.new_from_index(0, len(at)), len(at)
    ended: list[pl.Series] = []
    for back in range(depths[0] if depths else 0):
        while depths[n - 1] <= back:
            n -= 1
        ended.append(so_far.slice(n))
        at, limits, so_far = at.head(n), limits.head(n), so_far.head(n)
        value = given.gather(at - back)
        if passes.times is not None:
            value = value.zip_with(passes.times.gather(at - back) > limits, out)
        so_far = step(so_far, value)
    return pl.concat([so_far, *reversed(ended)])


def _total(call: Call, use: Use, passes: _Passes, given: pl.Series) -> pl.Series:
    """Return sums or means in the frame's order; null adds nothing."""
    order = passes.own.get_column("_nth").arg_sort()
    addends, whole = given.fill_null(0), given.dtype == pl.Int64
    if whole and _may_wrap(addends, passes.own.get_column("_depth")):
        addends = addends.cast(pl.Int128)
    totals = _folded(passes, addends, _STEPS[use.operator], 0).gather(order)
    wrong = totals.cast(pl.Int64, strict=False).is_null() if whole else totals.is_nan()
    call.refuse(use, wrong, OVERFLOW if whole else _NAN_TOTAL)
    if use.operator == "rolling_sum":
        return totals.cast(given.dtype)
    seen = given.is_not_null().cast(pl.Int64)
    counts = _folded(passes, seen, _added, 0).gather(order)
    frame = pl.DataFrame({"total": totals.cast(pl.Float64), "count": counts.cast(pl.Float64)})
    mean = pl.when(pl.col("count") > 0).then(pl.col("total") / pl.col("count"))
    return frame.select(mean).to_series()


def _may_wrap(addends: pl.Series, depths: pl.Series) -> bool:
    greatest = max(
        (abs(v) for v in (addends.min(), addends.max()) if isinstance(v, int)), default=0
    )
    deepest = depths.max()
    return isinstance(deepest, int) and greatest * deepest >= 2**63


def _too_many(window: Window) -> tuple[str, str]:
    return (
        f"more than max_rows={window.max_rows} rows in one window",
        "Raise max_rows=, shorten span=, or keep state per more than the key with by=.",
    )


def _added(so_far: pl.Series, value: pl.Series) -> pl.Series:
    return so_far + value


def _least(so_far: pl.Series, value: pl.Series) -> pl.Series:
    better = so_far.is_null() | (value < so_far)
    return value.zip_with(better.fill_null(value=False), so_far)


def _greatest(so_far: pl.Series, value: pl.Series) -> pl.Series:
    better = so_far.is_null() | (value > so_far)
    return value.zip_with(better.fill_null(value=False), so_far)


_STEPS: dict[str, _Step] = {
    "rolling_sum": _added,
    "rolling_mean": _added,
    "rolling_min": _least,
    "rolling_max": _greatest,
}
