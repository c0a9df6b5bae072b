"""State: what a version remembers of each key, from one batch to the next.

Every operator works alike: what was carried of each key is put in front of the batch, the column is
computed over the key, and the carried rows are cut off again. So any cut of the log into batches
gives the bits that one pass over all of it gives. What is fed, carried and given out is one line
per operator in ``operators.OPERATORS``; windows are in ``rolling.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import polars as pl

from playhead.core.bykey import rolled_by_key
from playhead.core.kinds import appended, taken
from playhead.core.offsets import TopicPartition
from playhead.core.operators import (
    NAN,
    NAN_TOTAL,
    OPERATORS,
    OVERFLOW,
    TOTALS,
    is_whole,
    lost,
    unfit,
)
from playhead.core.rolling import Span, Window, rolled, window_of
from playhead.core.slots import Slots
from playhead.core.uses import By, Call, Use, groups_of, no_frame, no_key
from playhead.errors import FunctionFailed

MAX_ROWS = 10_000
F = TypeVar("F")  # a frame of the kind that the version asked for


class State:
    """The state of one version in one partition, during one call of its function.

    Each operator takes a polars frame (or the pandas frame or Arrow table that the version asked
    for) and returns one of its kind with new columns appended, named by the keywords:
    ``state.running_sum(points, total="metres")`` appends ``total``. The frame must carry
    ``_partition``, ``_offset`` and the key, in log order per key. Operator and new name together
    name the slot, which is used at most once in a call of the function. ``by`` names further
    columns, so that state is kept per key *and* for example per hour. Keys and ``by`` are int,
    str, bool, date or datetime.

    Every operator raises ``FunctionFailed``: at a row for NaN, an integer overflow, a null key or
    a row out of order; for the call if a column is missing or of a wrong or a changed type.
    """

    def __init__(self, place: TopicPartition, key: tuple[str, ...], slots: Slots) -> None:
        """Begin a call of the function on records of ``place``, with ``slots`` as they were."""
        self._place, self._key, self._slots = place, key, slots
        self._changes: Slots = {}
        self._shapes: dict[str, pl.Schema] = {}

    def previous(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append the value of the key's previous row, null included; null for its first row."""
        return self._apply("previous", frame, by, new)

    def latest(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append the newest value that is not null, up to and including this row."""
        return self._apply("latest", frame, by, new)

    def running_sum(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append the total so far, Int64 or Float64; null adds nothing, and it begins at 0.

        Floats are added one after the other in log order, each sum rounded.
        """
        return self._apply("running_sum", frame, by, new)

    def running_count(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append how many values so far are not null, Int64."""
        return self._apply("running_count", frame, by, new)

    def running_mean(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append ``running_sum`` / ``running_count``, Float64; null before any value."""
        return self._apply("running_mean", frame, by, new)

    def running_min(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append the least value so far, in the column's dtype, −0.0 as 0.0; null before any."""
        return self._apply("running_min", frame, by, new)

    def running_max(self, frame: F, /, *, by: By = None, **new: str) -> F:
        """Append the greatest value so far; otherwise as ``running_min``."""
        return self._apply("running_max", frame, by, new)

    def rolling_sum(
        self,
        frame: F,
        /,
        *,
        rows: int | None = None,
        span: Span = None,
        by: By = None,
        max_rows: int = MAX_ROWS,
        **new: str,
    ) -> F:
        """Append the total of a window, Int64 or Float64; 0 where it has no value.

        The window is the key's last ``rows`` rows, this one and rows with null included; or its
        rows whose ``_timestamp`` is less than ``span`` before the newest that the key has had so
        far (one that is exactly ``span`` older is out). ``span`` is a ``timedelta``, or text:
        ``"90s"``, ``"10m"``, ``"1h"``, ``"2d"``. A late row updates the window that it falls into,
        and none if that has passed. Each window is added up from its newest row to its oldest, in
        log order; more than ``max_rows`` rows in one is an error.
        """
        window = window_of("rolling_sum", rows, span, max_rows)
        return self._apply("rolling_sum", frame, by, new, window)

    def rolling_mean(
        self,
        frame: F,
        /,
        *,
        rows: int | None = None,
        span: Span = None,
        by: By = None,
        max_rows: int = MAX_ROWS,
        **new: str,
    ) -> F:
        """Append ``rolling_sum`` / the number of values, Float64; null where there are none."""
        window = window_of("rolling_mean", rows, span, max_rows)
        return self._apply("rolling_mean", frame, by, new, window)

    def rolling_min(
        self,
        frame: F,
        /,
        *,
        rows: int | None = None,
        span: Span = None,
        by: By = None,
        max_rows: int = MAX_ROWS,
        **new: str,
    ) -> F:
        """Append the least value of a window, −0.0 as 0.0; null where there are none."""
        window = window_of("rolling_min", rows, span, max_rows)
        return self._apply("rolling_min", frame, by, new, window)

    def rolling_max(
        self,
        frame: F,
        /,
        *,
        rows: int | None = None,
        span: Span = None,
        by: By = None,
        max_rows: int = MAX_ROWS,
        **new: str,
    ) -> F:
        """Append the greatest value of a window, −0.0 as 0.0; null where there are none."""
        window = window_of("rolling_max", rows, span, max_rows)
        return self._apply("rolling_max", frame, by, new, window)

    def changes(self) -> Slots:
        """Return the rows that this call touched: what ``merge`` puts into the slots."""
        return dict(self._changes)

    def shapes(self) -> dict[str, pl.Schema]:
        """Return columns and dtypes of every slot that this call used, rows or none."""
        return dict(self._shapes)

    def _apply(
        self,
        operator: str,
        frame: F,
        by: By,
        new: Mapping[str, str],
        window: Window | None = None,
    ) -> F:
        if not self._key:
            raise no_key(operator)
        rows = taken(frame)
        if rows is None:
            raise no_frame(operator, frame)
        uses = [Use(operator, name, source) for name, source in new.items()]
        call = Call(operator, rows, self._place, self._key, groups_of(operator, self._key, by))
        call.check(uses)
        for use in uses:
            if use.slot in self._shapes:
                raise FunctionFailed(
                    f"slot {use.slot} is used twice in one call of the function",
                    cure=f"Give one of the two new columns named {use.new!r} another name.",
                )
        columns, carried = [], {}
        for use in uses:
            slot = self._slots.get(use.slot)
            column, carried[use.slot] = (
                rolled(call, use, slot, window) if window else _run(call, use, slot)
            )
            columns.append(column)
        self._shapes |= {slot: rows.schema for slot, rows in carried.items()}
        if rows.height:
            self._changes |= carried
        result: F = appended(frame, columns)
        return result


def _run(call: Call, use: Use, slot: pl.DataFrame | None) -> tuple[pl.Series, pl.DataFrame]:
    """Return the new column, and the row to carry of each key in the frame."""
    operator, frame, groups = OPERATORS[use.operator], call.frame, call.groups
    dtype, adds = frame.schema[use.source], TOTALS in operator.parts
    entering, arising = (OVERFLOW, OVERFLOW) if is_whole(dtype) else (NAN, NAN_TOTAL)
    wrong = frame.select(unfit(use.source, dtype, adds=adds)).to_series()
    call.refuse(use, wrong, entering)
    fed = frame.select(
        *groups, *(p.feed(pl.col(use.source), dtype).alias(p.name) for p in operator.parts)
    )
    both = fed
    if slot is not None:
        call.check_slot(use, slot, fed.schema)
        both = pl.concat([slot.join(fed, on=groups, how="semi"), fed])
    run, ends = rolled_by_key(both, groups, operator.parts)
    begin = both.height - fed.height
    if adds:
        wrong = lost(fed.get_column("_total"), run.get_column("_total").slice(begin))
        call.refuse(use, wrong, arising)
    column = run.slice(begin).select(operator.out.alias(use.new)).to_series()
    return column, (both if operator.carries_fed else run).filter(ends)
