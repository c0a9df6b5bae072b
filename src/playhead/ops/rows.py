"""Rows of CSV and JSON-lines files, each with its line number; bad ones are told, not raised."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from playhead.core.cells import cell, inferred
from playhead.core.declare import Topic
from playhead.core.schema import Column, Schema
from playhead.errors import ConfigError

if TYPE_CHECKING:
    from playhead.ops.ingest import Ingested

INFER_ROWS = 10_000
Reject = Callable[[int, str], None]


class Row(NamedTuple):
    """One row of a file.

    Attributes:
        line: The line that it ends on.
        values: What goes into the record, by column.
        raw: Its JSON, where it came as such.
        aside: Cells that are needed for key or time, and do not go into the record.
    """

    line: int
    values: dict[str, Any]
    raw: bytes | None = None
    aside: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Header:
    """What a CSV file's first line is held against.

    Attributes:
        name: Name of the file.
        schema: Declared columns, or None.
        needed: Columns for key and time.
        infer_from: How many rows types are inferred from; a stream gives its first.
    """

    name: str
    schema: Schema | None
    needed: tuple[str, ...] = ()
    infer_from: int = INFER_ROWS


def json_rows(file: Iterable[bytes], declared: Topic | None, reject: Reject) -> Iterator[Row]:
    """Yield JSON objects, one a line, checked against the declared columns."""
    check: Callable[[bytes], Any] = msgspec.json.decode
    if declared is not None and declared.schema is not None:
        from playhead.core.codec import value_decoder

        check = value_decoder(declared.schema)
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text:
            reject(number, "the line is blank")
            continue
        try:
            check(text)
            values = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            reject(number, f"not a record: {error}")
            continue
        if not isinstance(values, dict):
            reject(number, "not a JSON object")
            continue
        yield Row(number, values, text)


def csv_rows(file: Iterable[bytes], wanted: Header, result: Ingested) -> Iterator[Row]:
    """Yield CSV rows with values of their declared types; the first line names the columns.

    Raises:
        ConfigError: The file is empty, or a declared column is missing.
    """
    name, schema = wanted.name, wanted.schema
    reader = csv.reader(_lines(file), strict=True)
    header = _header(reader, name)
    if len(set(header)) < len(header):
        raise ConfigError("names a column twice", where=f"{name}:1")
    for column in wanted.needed:
        if column not in header:
            raise ConfigError(
                f"has no column {column}; it has {', '.join(header)}",
                where=f"{name}:1",
                safe="Nothing was written.",
            )
    rows = _numbered(reader, len(header), result.reject)
    if schema is None:
        first = list(itertools.islice(rows, wanted.infer_from))
        columns: Schema = tuple(
            inferred(column, (cells[i] for _, cells in first)) for i, column in enumerate(header)
        )
        shown = ", ".join(f"{c.name} {c.typed()}" for c in columns)
        result.remarks.append(f"types inferred from the first {len(first)} rows: {shown}")
        rows = itertools.chain(first, rows)
    else:
        columns = _declared_columns(schema, header, name, result)
    at = {column: i for i, column in enumerate(header)}
    typed = {c.name for c in columns}
    aside = {c: at[c] for c in wanted.needed if c not in typed}
    return _typed(rows, columns, (at, aside), result.reject)


def _header(reader: Any, name: str) -> list[str]:  # noqa: ANN401  csv's reader has no public type
    try:
        header: list[str] = next(reader)
    except StopIteration:
        header = []
    except csv.Error as error:
        raise ConfigError(f"the first line is not CSV: {error}", where=f"{name}:1") from error
    if not header:
        raise ConfigError("is empty: the first line names the columns", where=name)
    if any(_surrogate(column) for column in header):
        raise ConfigError("the first line is not UTF-8 text", where=f"{name}:1")
    return [column.strip() for column in header]


def _surrogate(text: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in text)


def _declared_columns(schema: Schema, header: list[str], name: str, result: Ingested) -> Schema:
    missing = [c.name for c in schema if c.name not in header and not c.nullable]
    if missing:
        raise ConfigError(
            f"has no column {', '.join(missing)}; it has {', '.join(header)}",
            where=f"{name}:1",
            safe="Nothing was written.",
            cure="Correct the header, or the topic's declaration.",
        )
    extra = [column for column in header if column not in {c.name for c in schema}]
    if extra:
        result.remarks.append(f"not declared, left out: {', '.join(extra)}")
    return tuple(c for c in schema if c.name in header)


def _lines(file: Iterable[bytes]) -> Iterator[str]:
    """Decode line by line; bytes that are not UTF-8 become surrogates, told apart later."""
    for number, line in enumerate(file):
        text = line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape")
        yield text


def _numbered(reader: Any, width: int, reject: Reject) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401  csv's reader has no public type
    blank: list[int] = []
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return  # blank lines at the very end are not rows
        except csv.Error as error:
            reject(reader.line_num, f"not CSV: {error}")
            continue
        if not cells:
            blank.append(reader.line_num)
            continue
        for line in blank:
            reject(line, "the line is blank")
        blank.clear()
        if any(map(_surrogate, cells)):
            reject(reader.line_num, "not UTF-8 text")
        elif len(cells) != width:
            reject(reader.line_num, f"{len(cells)} columns where the header names {width}")
        else:
            yield reader.line_num, cells


def _typed(
    rows: Iterable[tuple[int, list[str]]],
    columns: Iterable[Column],
    places: tuple[Mapping[str, int], Mapping[str, int]],
    reject: Reject,
) -> Iterator[Row]:
    wanted, (at, aside) = list(columns), places
    for line, cells in rows:
        try:
            values = {c.name: cell(c, cells[at[c.name]]) for c in wanted}
        except ValueError as error:
            reject(line, str(error))
        else:
            yield Row(line, values, aside={c: cells[i] for c, i in aside.items()})
