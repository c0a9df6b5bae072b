"""One call of a version's function: records of one partition in; outputs and delta out."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from playhead.core import outputs
from playhead.core.codec import CONVERT_ERRORS, Decoder, converter, kind_of, series
from playhead.core.declare import Output, Table, Topic, Version
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.outputs import Target
from playhead.core.past import Counts
from playhead.core.records import Outgoing, Records
from playhead.core.row_state import RowStates
from playhead.core.schema import KEY_TYPES, Column, Schema
from playhead.core.slots import Slots
from playhead.core.state import State
from playhead.errors import DeclarationError, FunctionFailed, PlayheadError
from playhead.ports import DeadLetter

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call gave.

    Attributes:
        place: The partition that the records came from.
        outgoing: Records to publish, one `Outgoing` a topic output.
        rows: Folded rows by physical table, with ``_partition`` and ``_offset``.
        delta: The slots' rows that changed.
        counts: Records processed, and dead letters.
        dead: The dead letters.
    """

    place: TopicPartition
    outgoing: list[Outgoing]
    rows: dict[str, pl.DataFrame]
    delta: Slots
    counts: Counts = field(default_factory=Counts)
    dead: tuple[DeadLetter, ...] = ()


class Caller:
    """A version's function with its decoder and its targets."""

    def __init__(self, version: Version, partitions: Mapping[str, int]) -> None:
        """Find the outputs' columns, by a call with a zero-row frame where none are declared.

        Args:
            version: What to call.
            partitions: Partition count of its physical output topics; 1 where not given.

        Raises:
            DeclarationError: The outputs' columns cannot be known before any data.
            FunctionFailed: The function fails on a zero-row frame.
        """
        source = version.source
        if source.key and source.schema is None:
            raise DeclarationError(
                f"topic {source.name} has key {source.key[0]!r}, but declares no columns to find "
                "it in",
                cure="Give it value={column: type}.",
            )
        self.version = version
        self.decoder = Decoder(version.source)
        self.targets = self._targets(partitions)

    def _targets(self, partitions: Mapping[str, int]) -> tuple[Target, ...]:
        result = None
        if not self.version.per_row:
            place = TopicPartition(self.version.source.name, 0)
            empty = Records(place, (), (), (), (), 0)
            result, _ = self._invoke(self.decoder.empty(), empty, {})
            outputs.in_log_order(result, self.version.name, empty)
        targets = []
        for output in self.version.outputs:
            schema = output.schema or _found(output, result, self.version)
            _check_key(output, schema)
            physical = output.physical(self.version.label)
            target = Target(output, physical, schema, partitions.get(physical, 1))
            if result is not None:
                outputs.take(result, target, TopicPartition(self.version.source.name, 0))
            targets.append(target)
        return tuple(targets)

    def call(self, records: Records, slots: Slots, generation: int) -> Outcome:
        """Call the function with the records of one partition.

        Raises:
            BadRecord: A record cannot be decoded.
            FunctionFailed: The function raised, or returned what it must not.
        """
        result, delta = self._invoke(self.decoder.frame(records), records, slots)
        result = outputs.in_log_order(result, self.version.name, records)
        outgoing, rows = [], {}
        for target in self.targets:
            taken = outputs.take(result, target, records.source)
            if isinstance(target.output, Table):
                rows[target.physical] = outputs.fold(taken, target.output.key)
            else:
                outgoing.append(
                    outputs.outgoing_of(taken, target, self.version, records, generation)
                )
        return Outcome(records.source, outgoing, rows, delta)

    def _invoke(
        self, frame: pl.DataFrame, records: Records, slots: Slots
    ) -> tuple[pl.DataFrame, Slots]:
        function = self.version.function
        if function is None:
            return frame, {}
        if self.version.per_row:
            return self._invoke_rows(frame, records, slots)
        state = State(records.source, self.version.source.key, slots)
        try:
            result = function(frame, state)
        except PlayheadError:
            raise
        except Exception as error:
            raise self._failed(error, records) from error
        if not isinstance(result, pl.DataFrame):
            raise FunctionFailed(
                f"{self.version.name} returned {type(result).__name__}, not a polars DataFrame"
            )
        return result, state.changes()

    def _invoke_rows(
        self, frame: pl.DataFrame, records: Records, slots: Slots
    ) -> tuple[pl.DataFrame, Slots]:
        key = self.version.source.key
        states = RowStates(records.source, key, slots)
        found: list[tuple[int, Mapping[str, Any]]] = []
        for row in frame.iter_rows(named=True):
            offset = row["_offset"]
            where = records.source.at(offset)
            ident = tuple(row[k] for k in key)
            state = states.get(ident, where)
            try:
                returned = self.version.function(row, state)  # type: ignore[misc]
            except PlayheadError:
                raise
            except Exception as error:
                raise self._failed(error, records, where) from error
            states.put(ident, state, where)
            found.extend((offset, r) for r in _dicts(returned, self.version.name, where))
        return _frame_of(found, self.version.outputs, records), states.changes()

    def _failed(self, error: Exception, records: Records, where: str = "") -> FunctionFailed:
        first = records.offsets[0] if len(records) else records.next
        line = next(
            (
                f" ({Path(f.filename).name}:{f.lineno})"
                for f in reversed(traceback.extract_tb(error.__traceback__))
                if not f.filename.startswith(_LIBRARIES)
            ),
            "",
        )
        first_line = str(error).strip().partition("\n")[0]
        return FunctionFailed(
            f"{self.version.name} raised {type(error).__name__}: {first_line}{line}",
            where=where or f"{records.source} {OffsetRange(first, records.next)}",
            safe="Nothing of this batch was committed.",
            cure="Correct the function under a new label, or the record's source, and run again.",
        )


def _dicts(returned: Any, version: str, where: str) -> Sequence[Mapping[str, Any]]:  # noqa: ANN401
    if returned is None:
        return ()
    rows = [returned] if isinstance(returned, Mapping) else returned
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        raise FunctionFailed(
            f"{version} returned {type(returned).__name__}: a dict, a list of dicts, or None",
            where=where,
        )
    return rows


def _frame_of(
    found: Sequence[tuple[int, Mapping[str, Any]]],
    declared: Sequence[Output],
    records: Records,
) -> pl.DataFrame:
    """Return returned dicts as a frame; an absent name is null."""
    columns: dict[str, pl.Series] = {
        "_partition": pl.repeat(records.source.partition, len(found), dtype=pl.Int32, eager=True),
        "_offset": pl.Series([o for o, _ in found], dtype=pl.Int64),
    }
    for column, output in _row_columns(declared):
        columns[column.name] = _checked(column, output, found, records)
    return pl.DataFrame(columns)


def _row_columns(declared: Sequence[Output]) -> list[tuple[Column, Output]]:
    """Return each column once; where outputs differ, int goes before float, which it fits."""
    chosen: dict[str, tuple[Column, Output]] = {}
    for output in declared:
        for column in output.schema or ():
            if column.name not in chosen or column.kind.name == "int":
                chosen[column.name] = (column, output)
    return list(chosen.values())


def _checked(
    column: Column,
    output: Output,
    found: Sequence[tuple[int, Mapping[str, Any]]],
    records: Records,
) -> pl.Series:
    convert = converter(Column(column.name, column.kind, nullable=True))
    values = []
    for offset, row in found:
        try:
            values.append(convert(row.get(column.name)))
        except CONVERT_ERRORS as error:
            shown = repr(row.get(column.name))
            shown = shown if len(shown) <= 60 else shown[:60] + "…"
            raise FunctionFailed(
                f"{output.name}.{column.name} is declared {column.typed()}, "
                f"but the function returned {shown}",
                where=records.source.at(offset),
                safe="Nothing of this batch was committed.",
            ) from error
    return series(column, values)


def _found(output: Output, result: pl.DataFrame | None, version: Version) -> Schema:
    """Return the columns of an output that declares none, from the zero-row result."""
    if result is None:
        raise DeclarationError(
            f'{version.name} has per="row": {output.name} must declare its columns',
            cure="Give the table columns={…}, the topic value={…}.",
        )
    if version.function is None and version.source.schema is not None:
        return version.source.schema
    key = output.key
    found = tuple(
        Column(name, kind_of(dtype, f"{output.name}.{name}"), nullable=name not in key)
        for name, dtype in result.schema.items()
        if not name.startswith("_")
    )
    if not found:
        raise DeclarationError(
            f"{version.name} gives {output.name} no columns: names beginning with '_' are not "
            "written",
            cure="Return named columns, or declare those that it has.",
        )
    return found


def _check_key(output: Output, schema: Schema) -> None:
    columns = {c.name: c for c in schema}
    for name in output.key:
        if name in columns and columns[name].kind.name not in KEY_TYPES:
            raise DeclarationError(
                f"{output.name}: key {name!r} is {columns[name].kind}: a key is int, str, bool, "
                "date or datetime"
            )
    missing = [k for k in output.key if k not in columns]
    if missing:
        what = "topic" if isinstance(output, Topic) else "table"
        raise DeclarationError(
            f"{what} {output.name}: key {missing[0]!r} is not one of its columns"
        )
