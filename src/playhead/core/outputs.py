"""From what a function returned to what is written: origin, order, types, fold, records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TypeVar

import msgspec
import polars as pl

from playhead.core.codec import (
    CONVERT_ERRORS,
    ORIGIN,
    TOMBSTONE,
    columns_schema,
    converter,
    encode_keys,
    encode_rows,
    instance,
    series,
)
from playhead.core.declare import Output, Table, Topic, Version
from playhead.core.offsets import TopicPartition
from playhead.core.records import (
    GENERATION,
    PIPELINE,
    VERSION,
    Origins,
    Outgoing,
    Records,
    partition_of,
)
from playhead.core.schema import Column, Schema
from playhead.core.slots import is_last
from playhead.errors import FunctionFailed

T = TypeVar("T")
_HOW_TO_KEEP = (
    "with_columns, filter, explode and join keep them; in select, put ph.origin in front: "
    "points.select(ph.origin, …)."
)


def in_log_order(result: pl.DataFrame, version: str, records: Records) -> pl.DataFrame:
    """Check that every row says which record it comes from; return the rows in log order.

    Rows are stable-sorted by ``_offset``: the n-th row of one input stays the n-th.

    Raises:
        FunctionFailed: ``_partition`` or ``_offset`` is missing, null, or names no input.
    """
    missing = [c for c in ORIGIN if c not in result.columns]
    if missing:
        raise FunctionFailed(
            f"{version} returned a frame without {' and '.join(missing)}: rows would not say "
            "which record they come from",
            cure=_HOW_TO_KEEP,
        )
    offsets = result.get_column("_offset")
    known = pl.Series(records.offsets, dtype=pl.Int64)
    whole = offsets.dtype == pl.Int64 and not offsets.null_count()
    whole = whole and offsets.is_in(known.implode()).all()
    partitions = result.get_column("_partition")
    if not whole or not (partitions == records.source.partition).fill_null(value=False).all():
        raise FunctionFailed(
            f"{version} returned rows whose _partition and _offset are not those of its input",
            where=str(records.source),
            cure=_HOW_TO_KEEP,
        )
    return result.sort("_offset", maintain_order=True)


@dataclass(frozen=True, slots=True)
class Target:
    """One output of one version, with its columns known.

    Attributes:
        output: What was declared.
        physical: Name of the version's own topic or table.
        schema: Its columns, declared or found by the dry run.
        partitions: Partition count, for a topic.
    """

    output: Output
    physical: str
    schema: Schema
    partitions: int = 0


def take(result: pl.DataFrame, target: Target, place: TopicPartition) -> pl.DataFrame:
    """Return the target's columns and the origin, cast to their declared types and checked.

    ``-0.0`` becomes ``0.0``; stores disagree on it. Where ``_tombstone`` is true in a row, its
    columns other than the key are null, and the column is kept; it is there for such rows alone.

    Raises:
        FunctionFailed: A column is missing or of another type; a value is null where it must
            not be, not finite, past 64 bits, or a table's text with a NUL. It names
            topic[partition]@offset.
    """
    name = target.output.name
    for column in target.schema:
        if column.name not in result.columns:
            raise FunctionFailed(
                f"the function returned no column {column.name!r}, which {name} declares; "
                f"it returned {', '.join(result.columns)}"
            )
        _check_type(result, column.name, columns_schema((column,))[column.name], name)
    gone = _gone(result, name)
    wanted = columns_schema(target.schema)
    if gone is not None:
        others = [c for c in wanted if c not in target.output.key]
        result = result.with_columns(pl.when(~gone).then(pl.col(c)).alias(c) for c in others)
    nested = [c for c in target.schema if wanted[c.name].is_nested() and len(result)]
    result = result.with_columns(_converted(result, c, name, place).alias(c.name) for c in nested)
    cast = result.select(
        *(pl.col(c).cast(t, strict=False) for c, t in wanted.items()), *map(pl.col, ORIGIN)
    )
    for column in target.schema:
        values = cast[column.name]
        if values.null_count() != result[column.name].null_count():
            lost = values.is_null() & result[column.name].is_not_null()
            what = f"{name}.{column.name} does not fit {column.typed()}"
            _refuse_first(cast, lost, place, what, "")
        if not column.nullable and values.null_count():
            null = values.is_null()
            if gone is not None and column.name not in target.output.key:
                null &= ~gone
            _refuse_first(
                cast,
                null,
                place,
                f"{name}.{column.name} is null, and is declared {column.typed()}",
                f"Declare it {column.typed()} | None, or fill it.",
            )
        _refuse_first(
            cast,
            _not_finite(values),
            place,
            f"{name}.{column.name} is NaN or infinite, which is not an output value",
            "Make it null: fill_nan(None).",
        )
        if isinstance(target.output, Table):
            _refuse_first(
                cast,
                _holds_nul(values),
                place,
                f"{name}.{column.name} holds a NUL character, which PostgreSQL has no room for",
                f'Take it out: pl.col("{column.name}").str.replace_all("\\0", "", literal=True).',
            )
    signed = {c: t for c, t in wanted.items() if t.is_float() or t.is_nested()}
    cast = cast.with_columns(_unsigned_zero(pl.col(c), t).alias(c) for c, t in signed.items())
    return cast if gone is None else cast.with_columns(gone)


def _gone(result: pl.DataFrame, output: str) -> pl.Series | None:
    """Return which rows say that their key is gone; None where none does."""
    if TOMBSTONE not in result.columns:
        return None
    gone = result.get_column(TOMBSTONE)
    if gone.dtype not in {pl.Boolean(), pl.Null()}:
        raise FunctionFailed(
            f"column '{TOMBSTONE}' for {output} is {gone.dtype}, and must be Boolean",
            cure=f'Cast it: pl.col("{TOMBSTONE}").cast(pl.Boolean).',
        )
    gone = gone.cast(pl.Boolean).fill_null(value=False)
    return gone if gone.any() else None


def nothing(schema: Schema) -> pl.DataFrame:
    """Return a frame without rows, as an output of these columns takes it."""
    origin = {"_partition": pl.Int32(), "_offset": pl.Int64()}
    return pl.DataFrame(schema={**columns_schema(schema), **origin})


def _check_type(result: pl.DataFrame, column: str, wanted: pl.DataType, output: str) -> None:
    given = result.schema[column]
    alike = _alike(given, wanted)
    if not alike:
        raise FunctionFailed(
            f"column {column!r} of {output} is declared as {wanted}, "
            f"but the function returned {given}",
            cure=f'Cast it, for example pl.col("{column}").cast(pl.{wanted}).',
        )


def _alike(given: pl.DataType, wanted: pl.DataType) -> bool:
    """Say whether values of one dtype are values of the other, without losing what they are."""
    if isinstance(wanted, pl.List) and isinstance(given, pl.List):
        return _alike(instance(given.inner), instance(wanted.inner))
    if isinstance(wanted, pl.Struct) and isinstance(given, pl.Struct):
        there = {f.name: instance(f.dtype) for f in given.fields}
        return all(
            f.name in there and _alike(there[f.name], instance(f.dtype)) for f in wanted.fields
        )
    return (
        given in {wanted, pl.Null()}
        or (wanted.is_float() and given.is_numeric())
        or (wanted.is_integer() and given.is_integer())
        or (isinstance(wanted, pl.Datetime) and isinstance(given, pl.Datetime))
        or (wanted == pl.String and isinstance(given, (pl.Categorical, pl.Enum)))
    )


def _converted(
    result: pl.DataFrame, column: Column, output: str, place: TopicPartition
) -> pl.Series:
    """Return a nested column, value by value: a cast alone would turn what does not fit to null."""
    convert = converter(Column(column.name, column.kind, nullable=True))
    values = []
    for value, offset in zip(result[column.name].to_list(), result["_offset"], strict=True):
        try:
            values.append(convert(value))
        except CONVERT_ERRORS as error:
            raise FunctionFailed(
                f"{output}.{column.name} does not fit {column.typed()}: {error}",
                where=place.at(offset),
                safe="Nothing at or after it was committed.",
                cure="Correct it, or declare | None what may be null.",
            ) from error
    return series(column, values)


def _not_finite(values: pl.Series) -> pl.Series | None:
    """Return which values are not finite, or hold one that is not; None: there can be none."""
    dtype = values.dtype
    if dtype.is_float():
        return ~values.is_finite().fill_null(value=True)
    if isinstance(dtype, pl.List):
        flat = values.list.explode(keep_nulls=False, empty_as_null=False) if len(values) else values
        if len(flat) and flat.dtype != dtype and _any(_not_finite(flat)):
            return pl.Series([v is not None and _any(_not_finite(v)) for v in values])
    if isinstance(dtype, pl.Struct):
        fields = (_not_finite(values.struct.field(field.name)) for field in dtype.fields)
        bad = [one for one in fields if one is not None]
        return reduce(or_, bad) if bad else None
    return None


def _any(bad: pl.Series | None) -> bool:
    return bad is not None and bool(bad.any())


def _holds_nul(values: pl.Series) -> pl.Series | None:
    if values.dtype != pl.String:
        return None
    return values.str.contains("\0", literal=True).fill_null(value=False)


def _unsigned_zero(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if dtype.is_float():
        return pl.when(value == 0.0).then(0.0).otherwise(value)
    if isinstance(dtype, pl.List):
        return value.list.eval(_unsigned_zero(pl.element(), instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        fields = (
            _unsigned_zero(value.struct.field(f.name), instance(f.dtype)).alias(f.name)
            for f in dtype.fields
        )
        return pl.when(value.is_not_null()).then(pl.struct(*fields))
    return value


def _refuse_first(
    frame: pl.DataFrame, bad: pl.Series | None, place: TopicPartition, what: str, cure: str
) -> None:
    if bad is not None and bad.any():
        offset = frame.filter(bad)["_offset"][0]
        raise FunctionFailed(
            what,
            where=place.at(offset),
            safe="Nothing at or after it was committed.",
            cure=cure or None,
        )


def fold(rows: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Return the last row of each key, in the order in which the keys were last written.

    ``_tombstone`` stays where it is true in a row.
    """
    folded = rows.filter(is_last(key))
    if TOMBSTONE in rows.columns and not folded.get_column(TOMBSTONE).any():
        folded = folded.drop(TOMBSTONE)
    return folded


def outgoing_of(
    rows: pl.DataFrame, target: Target, version: Version, records: Records, generation: int
) -> Outgoing:
    """Return the records that a topic output publishes for ``rows``.

    A record has its input's timestamp, the declared key (the input's own, in its own partition,
    where none is declared), and headers that say which version made it from which record. Where
    ``_tombstone`` is true its value is null.
    """
    topic = target.output
    out = Outgoing(target.physical)
    offsets = rows["_offset"].to_list()
    out.values = list(encode_rows(rows, [c.name for c in target.schema]))
    if TOMBSTONE in rows.columns:
        out.values = [None if g else v for g, v in zip(rows[TOMBSTONE], out.values, strict=True)]
    if isinstance(topic, Topic) and topic.key:
        keys = encode_keys(rows, topic.key)
        placed: dict[bytes, int] = {k: partition_of(k, target.partitions) for k in set(keys)}
        out.keys = list(keys)
        out.partitions = [placed[k] for k in keys]
    else:
        out.keys = _of_inputs(records.offsets, records.keys, offsets)
        out.partitions = [records.source.partition % target.partitions] * len(offsets)
    out.timestamps_ms = _of_inputs(records.offsets, records.timestamps_ms, offsets)
    pipeline = (PIPELINE, version.pipeline.encode())
    label = (VERSION, version.label.encode())
    number = (GENERATION, b"%d" % generation)
    out.headers = Origins((pipeline, label, number), records.source, offsets)
    return out


def _of_inputs(inputs: Sequence[int], values: Sequence[T], offsets: list[int]) -> list[T]:
    """Return the value that belongs to the input of each row."""
    if offsets == inputs:
        return list(values)
    by_offset = dict(zip(inputs, values, strict=True))
    return [by_offset[o] for o in offsets]


def digest(outgoing: Sequence[Outgoing]) -> str:
    """Return the first 16 hex digits of SHA-256 over the records in order, lengths first.

    What is hashed is each topic with its columns as MessagePack, which writes every length; of
    headers what they are written from.
    """
    sha = hashlib.sha256()
    for out in filter(len, outgoing):
        headers = out.headers.content if isinstance(out.headers, Origins) else out.headers
        for column in (out.topic, out.keys, out.values, headers, out.timestamps_ms):
            sha.update(msgspec.msgpack.encode(column))
    return sha.hexdigest()[:16]
