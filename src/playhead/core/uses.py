"""One call of a state operator: what it was asked, and what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from playhead.core.offsets import TopicPartition
from playhead.core.operators import TAKES, is_whole
from playhead.core.schema import RESERVED
from playhead.core.slots import key_columns
from playhead.errors import FunctionFailed

By = str | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Use:
    """One new column of one call: which operator makes it, from what."""

    operator: str
    new: str
    source: str

    @property
    def slot(self) -> str:
        """Name of its slot."""
        return f"{self.operator}.{self.new}"

    def __str__(self) -> str:
        return f'{self.operator}({self.new}="{self.source}")'


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator.

    Attributes:
        operator: Its name.
        frame: The rows that it was given.
        place: The partition that they come from.
        key: The source's key.
        groups: What state is kept per: the key, then ``by``.
    """

    operator: str
    frame: pl.DataFrame
    place: TopicPartition
    key: tuple[str, ...]
    groups: list[str]

    def check(self, uses: list[Use]) -> None:
        """Refuse what is wrong with the call, and rows that have no place in the log's order.

        Raises:
            FunctionFailed: Something is.
        """
        _check_call(self.operator, self.frame, self.groups, uses)
        self._check_rows()

    def check_slot(self, use: Use, slot: pl.DataFrame, wanted: Mapping[str, pl.DataType]) -> None:
        """Refuse a slot that was begun with other columns or dtypes than ``wanted``.

        Raises:
            FunctionFailed: It was.
        """
        if key_columns(slot) != self.groups:
            raise FunctionFailed(
                f"{use}: slot {use.slot} is kept per ({', '.join(key_columns(slot))}), "
                f"and is now asked for per ({', '.join(self.groups)})",
                cure="A slot keeps its shape: name the new column differently, or give the code "
                "a new version.",
            )
        for column, dtype in slot.schema.items():
            if column not in wanted:
                now = next((c for c in wanted if c not in slot.columns), "")
                raise FunctionFailed(
                    f"{use}: slot {use.slot} was begun with {column[1:]}, and is now asked for "
                    f"with {now[1:]}",
                    cure="A window keeps its length: name the new column differently, or give the "
                    "code a new version.",
                )
            if wanted[column] != dtype:
                name = use.source if column.startswith("_") else column
                raise FunctionFailed(
                    f"{use}: slot {use.slot} was begun with {name!r} as {dtype}, "
                    f"and it is now {wanted[column]}",
                    cure=f"Cast it to {dtype} before the call, or give the code a new version.",
                )

    def refuse(self, use: Use, wrong: pl.Series, fault: tuple[str, str]) -> None:
        """Raise at the first row of the log where ``wrong`` is true.

        Raises:
            FunctionFailed: There is one.
        """
        if wrong.any():
            message, cure = fault
            raise FunctionFailed(
                f"{use}: {message}",
                where=self._first(wrong),
                cure=cure.format(source=use.source),
            )

    def _first(self, flagged: pl.Series) -> str:
        return self.place.at(min(self.frame.get_column("_offset").filter(flagged)))

    def _check_rows(self) -> None:
        """Refuse rows without an origin or a key, and rows out of log order."""
        operator, frame, groups = self.operator, self.frame, self.groups
        offsets = frame.get_column("_offset")
        foreign = frame.get_column("_partition").ne_missing(self.place.partition)
        if offsets.null_count() or foreign.any() or not offsets.dtype.is_integer():
            raise FunctionFailed(
                f"{operator}: _partition and _offset are not those of records of {self.place}",
                cure="Leave both as they came; an outer join gives rows that have none.",
            )
        for name in groups:
            nulls = frame.get_column(name).is_null()
            if nulls.any():
                raise FunctionFailed(
                    f"{operator}: null in {name!r}; state is kept per "
                    f"{'key' if name in self.key else 'by'}, and null is none",
                    where=self._first(nulls),
                    cure=f'Filter such rows out, or fill them: pl.col("{name}").fill_null(…).',
                )
        if offsets.is_sorted():
            return
        before = pl.col("_offset").shift(1).over(self.key)
        backward = frame.select(pl.col("_offset") < before).to_series().fill_null(value=False)
        if backward.any():
            raise FunctionFailed(
                f"{operator}: the rows of a key are not in log order (_offset goes back)",
                where=self._first(backward),
                cure='State follows the log: sort by "_offset" before the call, and by time after.',
            )


def groups_of(operator: str, key: tuple[str, ...], by: By) -> list[str]:
    """Return the columns that state is kept per: the key, then ``by`` in alphabetical order."""
    names = [by] if isinstance(by, str) else list(by or ())
    for name in names:
        if not isinstance(name, str) or name.startswith("_"):
            raise FunctionFailed(
                f"{operator}(by={name!r}): by= takes names of columns, none that begins with '_'",
                cure='Put it into a column of its own, and name that: by="hour".',
            )
    return [*key, *sorted(set(names) - set(key))]


def _check_call(operator: str, frame: pl.DataFrame, groups: list[str], uses: list[Use]) -> None:
    """Refuse what is wrong with the call whatever the rows are."""
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


def _check_use(use: Use, frame: pl.DataFrame, groups: list[str]) -> None:
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
    takes, spelled = TAKES[use.operator]
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


def no_key(what: str) -> FunctionFailed:
    """Return the error of state without a key to keep it per."""
    return FunctionFailed(
        f"{what}: state is kept per key, and the source of this pipeline declares none",
        cure='Declare it: app.topic(…, key="track_id").',
    )


def no_frame(operator: str, given: object) -> FunctionFailed:
    """Return the error of a call with what is no frame."""
    return FunctionFailed(
        f"{operator} takes a polars DataFrame, not {type(given).__name__}",
        cure="collect() a LazyFrame first; give State the frame before converting it.",
    )
