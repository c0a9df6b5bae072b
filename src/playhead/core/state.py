"""State: what a version remembers of each key, from one batch to the next.

Every operator works alike: the carried row of each key is put in front of the batch, the column
is computed over the key, and the carried rows are cut off again. So any cut of the log into
batches gives the bits that one pass over all of it gives. What is fed, carried and given out is
one line per operator in ``slots.OPERATORS``.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from playhead.core.offsets import TopicPartition
from playhead.core.schema import RESERVED
from playhead.core.slots import (
    NAN,
    NAN_TOTAL,
    OPERATORS,
    OVERFLOW,
    TOTALS,
    Slots,
    is_whole,
    key_columns,
    key_dtype,
    lost,
    pack_row,
    unfit,
    unpack_row,
)
from playhead.errors import FunctionFailed

By = str | Sequence[str] | None
ROW = "row"


@dataclass(frozen=True, slots=True)
class _Use:
    """One new column of one call: which operator makes it, from what."""

    operator: str
    new: str
    source: str

    @property
    def slot(self) -> str:
        return f"{self.operator}.{self.new}"

    def __str__(self) -> str:
        return f'{self.operator}({self.new}="{self.source}")'


class State:
    """The state of one version in one partition, during one call of its function.

    Each operator takes a polars frame and returns it with new columns appended, named by the
    keywords: ``state.running_sum(points, total="metres")`` appends ``total``. The frame must carry
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
        self._used: set[str] = set()

    def previous(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append the value of the key's previous row, null included; null for its first row."""
        return self._apply("previous", frame, by, new)

    def latest(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append the newest value that is not null, up to and including this row."""
        return self._apply("latest", frame, by, new)

    def running_sum(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append the total so far, Int64 or Float64; null adds nothing, and it begins at 0.

        Floats are added one after the other in log order, each sum rounded.
        """
        return self._apply("running_sum", frame, by, new)

    def running_count(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append how many values so far are not null, Int64."""
        return self._apply("running_count", frame, by, new)

    def running_mean(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append ``running_sum`` / ``running_count``, Float64; null before any value."""
        return self._apply("running_mean", frame, by, new)

    def running_min(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append the least value so far, in the column's dtype, −0.0 as 0.0; null before any."""
        return self._apply("running_min", frame, by, new)

    def running_max(self, frame: pl.DataFrame, /, *, by: By = None, **new: str) -> pl.DataFrame:
        """Append the greatest value so far; otherwise as ``running_min``."""
        return self._apply("running_max", frame, by, new)

    def changes(self) -> Slots:
        """Return the rows that this call touched: what ``merge`` puts into the slots."""
        return dict(self._changes)

    def _apply(
        self, operator: str, frame: pl.DataFrame, by: By, new: Mapping[str, str]
    ) -> pl.DataFrame:
        if not self._key:
            raise _no_key(operator)
        uses = [_Use(operator, name, source) for name, source in new.items()]
        groups = _groups(operator, self._key, by)
        _check_call(operator, frame, groups, uses)
        self._check_rows(operator, frame, groups)
        for use in uses:
            if use.slot in self._used:
                raise FunctionFailed(
                    f"slot {use.slot} is used twice in one call of the function",
                    cure=f"Give one of the two new columns named {use.new!r} another name.",
                )
        rolled = {use.slot: self._rolled(use, frame, groups) for use in uses}
        self._used |= rolled.keys()
        if frame.height:
            self._changes |= {slot: carried for slot, (_, carried) in rolled.items()}
        return frame.with_columns(column for column, _ in rolled.values())

    def _rolled(
        self, use: _Use, frame: pl.DataFrame, groups: list[str]
    ) -> tuple[pl.Series, pl.DataFrame]:
        """Return the new column, and the row to carry of each key in the frame."""
        operator = OPERATORS[use.operator]
        dtype = frame.schema[use.source]
        entering, arising = (OVERFLOW, OVERFLOW) if is_whole(dtype) else (NAN, NAN_TOTAL)
        wrong = frame.select(unfit(use.operator, use.source, dtype)).to_series()
        self._refuse(use, frame, wrong, entering)
        fed = frame.select(
            *groups, *(p.feed(pl.col(use.source), dtype).alias(p.name) for p in operator.parts)
        )
        both = self._carried_in_front(use, fed, groups)
        rolled = both.with_columns(p.roll(pl.col(p.name)).over(groups) for p in operator.parts)
        begin = both.height - fed.height
        if TOTALS in operator.parts:
            wrong = lost(fed.get_column("_total"), rolled.get_column("_total").slice(begin))
            self._refuse(use, frame, wrong, arising)
        column = rolled.slice(begin).select(operator.out.alias(use.new)).to_series()
        last = both if operator.carries_fed else rolled
        return column, last.unique(groups, keep="last", maintain_order=True)

    def _carried_in_front(self, use: _Use, fed: pl.DataFrame, groups: list[str]) -> pl.DataFrame:
        """Return the carried rows of the frame's keys, then the frame's own."""
        slot = self._slots.get(use.slot)
        if slot is None:
            return fed
        if key_columns(slot) != groups:
            raise FunctionFailed(
                f"{use}: slot {use.slot} is kept per ({', '.join(key_columns(slot))}), "
                f"and is now asked for per ({', '.join(groups)})",
                cure="A slot keeps its shape: name the new column differently, or give the code "
                "a new version.",
            )
        for column, dtype in slot.schema.items():
            if fed.schema[column] != dtype:
                name = use.source if column.startswith("_") else column
                raise FunctionFailed(
                    f"{use}: slot {use.slot} was begun with {name!r} as {dtype}, "
                    f"and it is now {fed.schema[column]}",
                    cure=f"Cast it to {dtype} before the call, or give the code a new version.",
                )
        return pl.concat([slot.join(fed, on=groups, how="semi"), fed])

    def _check_rows(self, operator: str, frame: pl.DataFrame, groups: list[str]) -> None:
        """Refuse rows without an origin or a key, and rows out of log order."""
        offsets = frame.get_column("_offset")
        foreign = frame.get_column("_partition").ne_missing(self._place.partition)
        if offsets.null_count() or foreign.any() or not offsets.dtype.is_integer():
            raise FunctionFailed(
                f"{operator}: _partition and _offset are not those of records of {self._place}",
                cure="Leave both as they came; an outer join gives rows that have none.",
            )
        for name in groups:
            nulls = frame.get_column(name).is_null()
            if nulls.any():
                raise FunctionFailed(
                    f"{operator}: null in {name!r}; state is kept per "
                    f"{'key' if name in self._key else 'by'}, and null is none",
                    where=self._first(frame, nulls),
                    cure=f'Filter such rows out, or fill them: pl.col("{name}").fill_null(…).',
                )
        if offsets.is_sorted():
            return
        before = pl.col("_offset").shift(1).over(self._key)
        backward = frame.select(pl.col("_offset") < before).to_series().fill_null(value=False)
        if backward.any():
            raise FunctionFailed(
                f"{operator}: the rows of a key are not in log order (_offset goes back)",
                where=self._first(frame, backward),
                cure='State follows the log: sort by "_offset" before the call, and by time after.',
            )

    def _refuse(
        self, use: _Use, frame: pl.DataFrame, wrong: pl.Series, fault: tuple[str, str]
    ) -> None:
        """Raise at the first row of the log where ``wrong`` is true."""
        if wrong.any():
            message, cure = fault
            raise FunctionFailed(
                f"{use}: {message}",
                where=self._first(frame, wrong),
                cure=cure.format(source=use.source),
            )

    def _first(self, frame: pl.DataFrame, flagged: pl.Series) -> str:
        return self._place.at(min(frame.get_column("_offset").filter(flagged)))


def _groups(operator: str, key: tuple[str, ...], by: By) -> list[str]:
    """Return the columns that state is kept per: the key, then ``by`` in alphabetical order."""
    names = [by] if isinstance(by, str) else list(by or ())
    for name in names:
        if not isinstance(name, str) or name.startswith("_"):
            raise FunctionFailed(
                f"{operator}(by={name!r}): by= takes names of columns, none that begins with '_'",
                cure='Put it into a column of its own, and name that: by="hour".',
            )
    return [*key, *sorted(set(names) - set(key))]


def _check_call(operator: str, frame: pl.DataFrame, groups: list[str], uses: list[_Use]) -> None:
    """Refuse what is wrong with the call whatever the rows are."""
    if not isinstance(frame, pl.DataFrame):
        raise FunctionFailed(
            f"{operator} takes a polars DataFrame, not {type(frame).__name__}",
            cure="collect() a LazyFrame first; give State the frame before converting it.",
        )
    if not uses:
        raise FunctionFailed(
            f"{operator} was given no new column",
            cure=f'Name it and its source: state.{operator}(points, new="column").',
        )
    for name in ("_partition", "_offset"):
        if name not in frame.columns:
            raise FunctionFailed(
                f"{operator}: the frame has lost {name}, which says what record a row is",
                cure="In select, put ph.origin in front: points.select(ph.origin, …).",
            )
    for name in groups:
        dtype = _dtype(operator, frame, name)
        if not (is_whole(dtype) or isinstance(dtype, pl.String | pl.Date | pl.Datetime)):
            raise FunctionFailed(
                f"{operator}: {name!r} is {dtype}; state is kept per int, str, bool, date or "
                "datetime",
                cure=f'Cast it before the call: pl.col("{name}").cast(…).',
            )
    for use in uses:
        _check_use(use, frame, groups)


def _check_use(use: _Use, frame: pl.DataFrame, groups: list[str]) -> None:
    """Refuse a new column by its name, and a source column by its name or dtype."""
    if use.new in RESERVED or use.new.startswith("_") or use.new in groups:
        why = "reserved" if use.new in RESERVED else "taken by the origin, the key or by="
        raise FunctionFailed(
            f"{use.operator}: the new column cannot be named {use.new!r}, that name is {why}",
            cure="Give it another name.",
        )
    if not isinstance(use.source, str):
        raise FunctionFailed(
            f"{use.operator}: {use.new}= takes the name of a column, "
            f"not {type(use.source).__name__}",
            cure="Compute it with with_columns first, and name that column.",
        )
    takes, spelled = OPERATORS[use.operator].takes
    dtype = _dtype(str(use), frame, use.source)
    if not takes(dtype):
        raise FunctionFailed(
            f"{use}: {use.source!r} is {dtype}; {use.operator} takes {spelled}",
            cure=f'Cast it before the call: pl.col("{use.source}").cast(…).',
        )


def _dtype(what: str, frame: pl.DataFrame, name: str) -> pl.DataType:
    """Return the dtype of a column that must be there and be of a type."""
    if name not in frame.columns:
        close = difflib.get_close_matches(name, frame.columns, 1)
        raise FunctionFailed(
            f"{what}: the frame has no column {name!r}"
            + (f"; did you mean {close[0]!r}?" if close else ""),
            cure=f"It has: {', '.join(frame.columns)}.",
        )
    dtype = frame.schema[name]
    if dtype == pl.Null:
        raise FunctionFailed(
            f"{what}: {name!r} is all null and has no type, so its state would have none",
            cure=f'Cast it before the call, for example pl.col("{name}").cast(pl.Float64).',
        )
    return dtype


def _no_key(what: str) -> FunctionFailed:
    return FunctionFailed(
        f"{what}: state is kept per key, and the source of this pipeline declares none",
        cure='Declare it: app.topic(…, key="track_id").',
    )


class RowStates:
    """The state of each key of a ``per="row"`` function, in one partition, during one batch.

    Slot ``row``: the key's columns, and ``_state``, Binary, MessagePack. What ``get`` gives is a
    copy: a call that raises changes nothing as long as nobody calls ``put``. Without a declared
    key every state is empty, and ``put`` refuses any other.
    """

    def __init__(self, place: TopicPartition, key: tuple[str, ...], slots: Slots) -> None:
        """Begin a batch of records of ``place``, with ``slots`` as they were."""
        self._place, self._key = place, key
        self._dtypes: dict[str, pl.DataType] = {}
        self._states: dict[tuple[Any, ...], bytes] = {}
        self._put: dict[tuple[Any, ...], bytes] = {}
        slot = slots.get(ROW)
        if slot is not None:
            self._dtypes = dict(slot.drop("_state").schema)
            self._states = {row[:-1]: row[-1] for row in slot.iter_rows()}

    def get(self, key_values: tuple[Any, ...], where: str | None = None) -> dict[str, Any]:
        """Return the state of a key as a fresh dict, empty if there is none.

        Raises:
            FunctionFailed: A value of the key is not int, str, bool, date or datetime, or is of
                another type than this state began with.
        """
        self._check_key(key_values, where)
        packed = self._put.get(key_values) or self._states.get(key_values)
        return unpack_row(packed) if packed else {}

    def put(self, key_values: tuple[Any, ...], state: dict[str, Any], where: str) -> None:
        """Keep ``state`` for a key; on an error the state is as it was.

        Raises:
            FunctionFailed: As ``get``; or the state holds anything but None, bool, int of 64
                bits, finite float, str, bytes, list, and dict with str keys, or is too deep.
        """
        if not self._key:
            if state:
                raise _no_key("state")
            return
        dtypes = self._check_key(key_values, where)
        if type(state) is not dict:
            raise _unpackable(f"state is of type {type(state).__name__}, not dict", where)
        try:
            packed = pack_row(state)
        except ValueError as e:
            raise _unpackable(str(e), where) from e
        self._dtypes = dtypes
        self._put.pop(key_values, None)  # put again, a key moves to the end
        self._put[key_values] = packed

    def changes(self) -> Slots:
        """Return the rows that were put: what ``merge`` puts into the slots."""
        if not self._put:
            return {}
        columns = zip(self._dtypes.items(), zip(*self._put, strict=True), strict=True)
        keys = {name: pl.Series(values, dtype=dtype) for (name, dtype), values in columns}
        states = pl.Series(list(self._put.values()), dtype=pl.Binary)
        return {ROW: pl.DataFrame({**keys, "_state": states})}

    def _check_key(self, key_values: tuple[Any, ...], where: str | None) -> dict[str, pl.DataType]:
        """Return the dtypes of the key's columns, the slot's or begun by these values."""
        found: dict[str, pl.DataType] = {}
        for name, value in zip(self._key, key_values, strict=True):
            dtype = key_dtype(value)
            if dtype is None or dtype != self._dtypes.get(name, dtype):
                was = self._dtypes.get(name, "int, str, bool, date or datetime, never null")
                raise FunctionFailed(
                    f"state: key {name!r} is {value!r}; it must be {was}",
                    where=where or str(self._place),
                    cure="A key keeps its type: cast it, or give the code a new version.",
                )
            found[name] = dtype
        return found


def _unpackable(what: str, where: str) -> FunctionFailed:
    return FunctionFailed(
        what,
        where=where,
        safe="The key's state is as it was.",
        cure="A state holds None, bool, int (64 bits), finite float, str, bytes, list, and dict "
        "with str keys; write a datetime as text.",
    )
