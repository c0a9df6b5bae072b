"""One call of a version's function: records of one partition in; outputs and delta out."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Protocol

import polars as pl

from playhead.core import outputs
from playhead.core.codec import Decoder, kind_of, named_rows
from playhead.core.declare import Output, Table, Topic, Version
from playhead.core.kinds import handed
from playhead.core.offsets import Here, OffsetRange, TopicPartition
from playhead.core.outputs import Target
from playhead.core.past import Counts
from playhead.core.records import Outgoing, Records
from playhead.core.row_state import RowStates
from playhead.core.schema import KEY_TYPES, Column, Schema
from playhead.core.slots import Slots
from playhead.core.state import State
from playhead.engine.returned import Found, frame_of, frames_of, rows_of
from playhead.errors import DeclarationError, FunctionFailed, PlayheadError
from playhead.ports import DeadLetter

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_FAILS = (Exception, pl.exceptions.PanicException)  # a panic of polars is no Exception


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


class Calls(Protocol):
    """What makes an outcome of records: a version's function, or a publisher."""

    @property
    def targets(self) -> tuple[Target, ...]:
        """The outputs, with their columns."""

    @property
    def shapes(self) -> Mapping[str, Mapping[str, pl.DataType]]:
        """Columns of the slots of the last call."""

    def call(self, records: Records, slots: Slots, generation: int) -> Outcome:
        """Return what the records of one partition give, from a state.

        Raises:
            BadRecord: A record cannot be decoded.
            FunctionFailed: The function raised, or returned what it must not.
        """


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
                f"topic {source.name} has key {', '.join(source.key)}, but declares no columns to "
                "find it in",
                cure="Give it value={column: type}.",
            )
        self.shapes: Mapping[str, Mapping[str, pl.DataType]] = {}  # of the slots of the last call
        self.version = version
        self.decoder = Decoder(version.source)
        self.targets = self._targets(partitions)

    def _targets(self, partitions: Mapping[str, int]) -> tuple[Target, ...]:
        place = TopicPartition(self.version.source.name, 0)
        results: dict[Output, pl.DataFrame] = {}
        if not self.version.per_row:
            empty = Records(place, (), (), (), (), 0)
            results, _ = self._invoke(self.decoder.empty(), empty, {})
        targets = []
        for output in self.version.outputs:
            result = results.get(output)
            schema = output.schema or _found(output, result, self.version)
            _check_key(output, schema)
            physical = output.physical(self.version.label)
            target = Target(output, physical, schema, partitions.get(physical, 1))
            if result is not None:
                outputs.take(result, target, place)
            targets.append(target)
        return tuple(targets)

    def call(self, records: Records, slots: Slots, generation: int) -> Outcome:
        """Call the function with the records of one partition.

        Raises:
            BadRecord: A record cannot be decoded.
            FunctionFailed: The function raised, or returned what it must not.
        """
        results, delta = self._invoke(self.decoder.frame(records), records, slots)
        outgoing, rows = [], {}
        for target in self.targets:
            result = results.get(target.output)
            if result is None:
                result = outputs.nothing(target.schema)
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
    ) -> tuple[dict[Output, pl.DataFrame], Slots]:
        """Return the frame of each output, rows in log order, and what changed in the slots."""
        function = self.version.function
        if function is None:
            return frames_of(frame, self.version, records), {}
        if self.version.per_row:
            return self._invoke_rows(frame, records, slots)
        state = State(records.source, self.version.source.key, slots)
        given = handed(frame, self.version.options.get("frame", "polars"))
        try:
            returned = function(given, state)
        except PlayheadError:
            raise
        except _FAILS as error:
            raise self._failed(error, records) from error
        self.shapes = state.shapes()
        return frames_of(returned, self.version, records), state.changes()

    def _invoke_rows(
        self, frame: pl.DataFrame, records: Records, slots: Slots
    ) -> tuple[dict[Output, pl.DataFrame], Slots]:
        version, source, function = self.version, records.source, self.version.function
        states = RowStates(source, version.source.key, slots, frame)
        found: dict[Output, Found] = {output: [] for output in version.outputs}
        keys = [frame[k].to_list() for k in version.source.key]
        idents = zip(*keys, strict=True) if keys else repeat((), len(frame))
        rows = zip(records.offsets, idents, named_rows(frame), strict=True)
        here = Here(source, records.next)
        for here.offset, ident, row in rows:
            state = states.get(ident, here)
            try:
                returned = function(row, state)  # type: ignore[misc]
            except PlayheadError:
                raise
            except _FAILS as error:
                raise self._failed(error, records, str(here)) from error
            states.put(ident, state, here)
            for output, made in rows_of(returned, version, here):
                found[output].append((here.offset, made))
        frames = {output: frame_of(some, output, records) for output, some in found.items()}
        return frames, states.changes()

    def _failed(self, error: BaseException, records: Records, where: str = "") -> FunctionFailed:
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


def _found(output: Output, result: pl.DataFrame | None, version: Version) -> Schema:
    """Return the columns of an output that declares none, from the zero-row result."""
    if result is None:
        why = 'has per="row"' if version.per_row else "returns nothing for it without rows"
        raise DeclarationError(
            f"{version.name} {why}: {output.name} must declare its columns",
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
