"""From what a function returned to one frame per output, each row with its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from playhead.core import outputs
from playhead.core.codec import CONVERT_ERRORS, TOMBSTONE, converted, converter, series
from playhead.core.declare import Output, Table, Topic, Version
from playhead.core.kinds import taken
from playhead.core.offsets import Here
from playhead.core.records import Records
from playhead.core.schema import Column
from playhead.errors import FunctionFailed

Found = list[tuple[int, Mapping[str, Any]]]
_OUTPUTS = frozenset({Topic, Table})


def frames_of(returned: Any, version: Version, records: Records) -> dict[Output, pl.DataFrame]:  # noqa: ANN401  any frame
    """Return the frame of each output, rows in log order; an output left out has none.

    Args:
        returned: A frame for every output, or a dict of frames keyed by output.
        version: Whose function returned it.
        records: Its input.

    Raises:
        FunctionFailed: It is neither, or its rows do not say which record they come from.
    """
    if not isinstance(returned, Mapping):
        whole = _frame(returned, version, "")
        whole = outputs.in_log_order(whole, version.name, records)
        return dict.fromkeys(version.outputs, whole)
    return {
        output: outputs.in_log_order(
            _frame(frame, version, f" for {output.name}"), version.name, records
        )
        for output, frame in _by_output(returned, version, str(records.source))
    }


def rows_of(
    returned: Any,  # noqa: ANN401  checks what was returned
    version: Version,
    where: Here,
) -> Iterable[tuple[Output, Any]]:
    """Return output and dict of each row that a function returned for one record.

    Raises:
        FunctionFailed: It is not a dict, a list of dicts, None, or a dict of them by output.
    """
    if type(returned) is dict and _OUTPUTS.isdisjoint(map(type, returned)):  # most often
        return [(output, returned) for output in version.outputs]
    if isinstance(returned, Mapping) and any(isinstance(k, Topic | Table) for k in returned):
        by_output = _by_output(returned, version, str(where))
        return [(output, row) for output, some in by_output for row in _dicts(some, version, where)]
    rows = _dicts(returned, version, where)
    return [(output, row) for row in rows for output in version.outputs]


def frame_of(found: Found, output: Output, records: Records) -> pl.DataFrame:
    """Return an output's dicts, each with its record's offset, as a frame; an absent name is null.

    Raises:
        FunctionFailed: A value is not of its declared type.
    """
    columns: dict[str, pl.Series] = {
        "_partition": pl.repeat(records.source.partition, len(found), dtype=pl.Int32, eager=True),
        "_offset": pl.Series([o for o, _ in found], dtype=pl.Int64),
    }
    for column in output.schema or ():
        columns[column.name] = _checked(column, output, found, records)
    if any(TOMBSTONE in row for _, row in found):
        gone = [row.get(TOMBSTONE) is True for _, row in found]
        columns[TOMBSTONE] = pl.Series(gone, dtype=pl.Boolean)
    return pl.DataFrame(columns)


def _by_output(
    returned: Mapping[Any, Any], version: Version, where: str
) -> list[tuple[Output, Any]]:
    """Return a dict's items, each key one of the version's outputs."""
    for key in returned:
        if not isinstance(key, Topic | Table) or key not in version.outputs:
            shown = key.name if isinstance(key, Topic | Table) else repr(key)
            names = ", ".join(o.name for o in version.outputs)
            raise FunctionFailed(
                f"{version.name} returned a dict with the key {shown}, which is none of its "
                f"outputs ({names})",
                where=where,
                safe="Nothing of this batch was committed.",
                cure="Key it by the objects that to= names: return {table: frame}.",
            )
    return list(returned.items())


def _frame(returned: Any, version: Version, what: str) -> pl.DataFrame:  # noqa: ANN401  any frame
    try:
        frame = taken(returned)
    except (TypeError, ValueError, NotImplementedError, pl.exceptions.PolarsError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise FunctionFailed(
            f"{version.name} returned a {type(returned).__name__}{what} that cannot be read as "
            f"columns: {first_line}",
            cure="Give each column one type.",
        ) from error
    if frame is None:
        raise FunctionFailed(
            f"{version.name} returned {type(returned).__name__}{what}, not a polars DataFrame"
        )
    return frame


def _dicts(returned: Any, version: Version, where: Here) -> Sequence[Mapping[str, Any]]:  # noqa: ANN401
    if returned is None:
        return ()
    rows = [returned] if isinstance(returned, Mapping) else returned
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        raise FunctionFailed(
            f"{version.name} returned {type(returned).__name__}: a dict, a list of dicts, or None",
            where=str(where),
        )
    return rows


def _checked(column: Column, output: Output, found: Found, records: Records) -> pl.Series:
    column = Column(column.name, column.kind, nullable=True)
    values = [row.get(column.name) for _, row in found]
    try:
        return series(column, converted(column, values))
    except CONVERT_ERRORS:
        convert = converter(column)  # one after the other: which one is it?
    checked = []
    for offset, value in zip((o for o, _ in found), values, strict=True):
        try:
            checked.append(convert(value))
        except CONVERT_ERRORS as error:
            shown = repr(value)
            shown = shown if len(shown) <= 60 else shown[:60] + "…"
            raise FunctionFailed(
                f"{output.name}.{column.name} is declared {column.typed()}, "
                f"but the function returned {shown}",
                where=records.source.at(offset),
                safe="Nothing of this batch was committed.",
            ) from error
    return series(column, checked)
