"""Bytes to typed columns and back. JSON, one message at a time, with one meaning.

The parser is part of the result (docs/DESIGN.md): msgspec decides what a message means: of two
equal names the last counts, NaN and integers past 64 bits are errors, ``1.0`` is not an int,
``bytes`` are base64, times are ISO-8601 and naive ones are UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from functools import lru_cache
from itertools import repeat
from operator import attrgetter, truediv
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from playhead.core.ends import Topic
from playhead.core.keys import in_utc, key_reader, message_key
from playhead.core.records import Records
from playhead.core.schema import Column, Kind, Schema
from playhead.errors import BadRecord, DeclarationError

ORIGIN = ("_partition", "_offset")
_UTC = ZoneInfo("UTC")
_EXACT_MS = 2**32 * 1000
PIECE = 4_000  # records that are decoded at once: their objects fit the cache
TOMBSTONE = "_tombstone"
META: dict[str, pl.DataType] = {
    "_partition": pl.Int32(),
    "_offset": pl.Int64(),
    "_timestamp": pl.Datetime("ms", "UTC"),
    "_key": pl.Binary(),
}
_INT64 = msgspec.Meta(ge=-(2**63), le=2**63 - 1)
_SCALARS: dict[str, tuple[pl.DataType, Any]] = {
    "bool": (pl.Boolean(), bool),
    "int": (pl.Int64(), Annotated[int, _INT64]),
    "float": (pl.Float64(), float),
    "str": (pl.String(), str),
    "bytes": (pl.Binary(), bytes),
    "date": (pl.Date(), date),
    "datetime": (pl.Datetime("us", "UTC"), datetime),
}
_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)


def dtype_of(kind: Kind) -> pl.DataType:
    """Return the polars dtype of a declared type."""
    if kind.name == "list" and kind.item is not None:
        return pl.List(dtype_of(kind.item.kind))
    if kind.name == "dict":
        return pl.Struct({c.name: dtype_of(c.kind) for c in kind.fields})
    return _SCALARS[kind.name][0]


def kind_of(dtype: pl.DataType, where: str) -> Kind:
    """Return the type that a frame's column declares by its dtype.

    Raises:
        DeclarationError: The dtype is not one that outputs can have.
    """
    if isinstance(dtype, pl.List):
        return Kind("list", item=Column("item", kind_of(_inner(dtype), where), nullable=True))
    if isinstance(dtype, pl.Struct):
        fields = tuple(
            Column(f.name, kind_of(instance(f.dtype), where), nullable=True) for f in dtype.fields
        )
        return Kind("dict", fields=fields)
    if dtype in _INTEGERS:
        return Kind("int")
    if dtype == pl.Float32:
        return Kind("float")
    if isinstance(dtype, pl.Datetime):
        return Kind("datetime")
    for name, (candidate, _) in _SCALARS.items():
        if dtype == candidate:
            return Kind(name)
    raise DeclarationError(f"{where}: dtype {dtype} cannot be written; cast it, or declare columns")


def _inner(dtype: pl.List) -> pl.DataType:
    return instance(dtype.inner)


def instance(dtype: Any) -> pl.DataType:  # noqa: ANN401  polars gives a class or an instance
    """Return the dtype as an instance."""
    found: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return found


def columns_schema(schema: Schema) -> dict[str, pl.DataType]:
    """Return declared columns as a polars schema."""
    return {c.name: dtype_of(c.kind) for c in schema}


def _type_of(column: Column) -> Any:  # noqa: ANN401  a type expression for msgspec
    kind = column.kind
    if kind.name == "list" and kind.item is not None:
        found: Any = list[_type_of(kind.item)]  # type: ignore[misc]
    elif kind.name == "dict":
        found = _struct(kind.fields)
    else:
        found = _SCALARS[kind.name][1]
    return found | None if column.nullable else found


def _struct(schema: Schema) -> type[msgspec.Struct]:
    """Return a type for msgspec whose fields f0, f1, … are the columns, by their names in JSON."""
    fields: list[Any] = []
    for i, column in enumerate(schema):
        found = _type_of(column)
        fields.append((f"f{i}", found, None) if column.nullable else (f"f{i}", found))
    names = {f"f{i}": column.name for i, column in enumerate(schema)}
    return msgspec.defstruct("Row", fields, kw_only=True, rename=names, gc=False)


def value_decoder(schema: Schema) -> Callable[[bytes], Any]:
    """Return a function that checks one JSON value against declared columns.

    It raises `msgspec.MsgspecError` where the value is not what is declared.
    """
    return msgspec.json.Decoder(_struct(schema)).decode


DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, TypeError, RecursionError)
CONVERT_ERRORS = (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError)
_NATIVE = (bytes, date, datetime)
_PLAIN = frozenset({type(None), bool, int, float, str})


def converter(column: Column) -> Callable[[Any], Any]:
    """Return a function that checks one Python value against a column's type.

    It returns the value as the column keeps it, and raises one of `CONVERT_ERRORS` where the value
    is of another type.
    """
    wanted = _type_of(column)

    def convert(value: Any) -> Any:  # noqa: ANN401  any declared type
        found = msgspec.convert(_natural(value), wanted, builtin_types=_NATIVE)
        return msgspec.to_builtins(found, builtin_types=_NATIVE)

    return convert


def converted(column: Column, values: list[Any]) -> list[Any]:
    """Return what `converter` gives for each value, all at once.

    It raises one of `CONVERT_ERRORS` where one of them is of another type.
    """
    if not _PLAIN.issuperset(map(type, values)):
        values = list(map(_natural, values))
    found = msgspec.convert(values, list[_type_of(column)], builtin_types=_NATIVE)  # type: ignore[misc]
    return msgspec.to_builtins(found, builtin_types=_NATIVE)  # type: ignore[no-any-return]


def _natural(value: Any) -> Any:  # noqa: ANN401  any returned value
    """Return numpy's scalars as Python's; refuse sets, whose order differs between processes."""
    if isinstance(value, (set, frozenset)):
        raise TypeError("a set has no order")
    if isinstance(value, list):
        return [_natural(v) for v in value]
    if isinstance(value, dict):
        return {k: _natural(v) for k, v in value.items()}
    if type(value).__module__ == "numpy" and hasattr(value, "item"):
        return value.item()
    return value


def json_reader(column: Column) -> Callable[[str], Any]:
    """Return a function that reads back a nested value that a store keeps as JSON."""
    decode = msgspec.json.Decoder(_type_of(column)).decode
    return lambda text: msgspec.to_builtins(decode(text), builtin_types=_NATIVE)


def series(column: Column, values: list[Any]) -> pl.Series:
    """Return checked values as a column of its dtype; naive times are UTC."""
    return _series(column.kind, values)


class Decoder:
    """Decodes the records of one declared topic into frames."""

    def __init__(self, topic: Topic) -> None:
        """Prepare the decoder of a topic; without declared columns values stay bytes."""
        self._topic = topic
        self._columns = topic.schema
        values = columns_schema(topic.schema) if topic.schema else {"_value": pl.Binary()}
        self.schema: dict[str, pl.DataType] = {**values, **META}
        if topic.tombstones:
            self.schema[TOMBSTONE] = pl.Boolean()
        if topic.schema is not None:
            self._row = _struct(topic.schema)
            self._decode = msgspec.json.Decoder(self._row).decode
            at = {c.name: f"f{i}" for i, c in enumerate(topic.schema)}
            self._key_fields = [at[k] for k in topic.key]
            kinds = {c.name: c for c in topic.schema}
            self._key_of = key_reader([kinds[k] for k in topic.key]) if topic.key else None

    @property
    def content(self) -> str:
        """What the rows depend on beside the records: the declaration, and who decodes."""
        topic = self._topic
        versions = f"msgspec {msgspec.__version__}, polars {pl.__version__}"
        return repr((topic.schema, topic.key, topic.tombstones, versions))

    def empty(self) -> pl.DataFrame:
        """Return a zero-row frame with every column and its dtype."""
        return pl.DataFrame(schema=self.schema)

    def frame(self, records: Records) -> pl.DataFrame:
        """Return one row a record, in log order; records that are decoded already as they are.

        Raises:
            BadRecord: A record cannot be decoded; it names topic[partition]@offset.
        """
        if records.frame is not None:
            return records.frame
        columns = self._values(records)
        columns["_partition"] = pl.repeat(
            records.source.partition, len(records), dtype=pl.Int32, eager=True
        )
        columns["_offset"] = pl.Series(records.offsets, dtype=pl.Int64)
        columns["_timestamp"] = pl.Series(records.timestamps_ms, dtype=pl.Int64).cast(
            META["_timestamp"]
        )
        columns["_key"] = pl.Series(records.keys, dtype=pl.Binary)
        if self._topic.tombstones:
            gone = [value is None for value in records.values]
            columns[TOMBSTONE] = pl.Series(gone, dtype=pl.Boolean)
        if self._topic.key and None in records.keys:
            at = list(records.keys).index(None)
            raise self._bad(
                records,
                at,
                f"the record has no key, but the topic declares key={', '.join(self._topic.key)}: "
                "records without one lie in any partition",
            )
        return pl.DataFrame(columns)

    def _values(self, records: Records) -> dict[str, pl.Series]:
        if self._columns is None:
            if None in records.values and not self._topic.tombstones:
                at = list(records.values).index(None)
                raise self._bad(records, at, "the value is null")
            return {"_value": pl.Series(records.values, dtype=pl.Binary)}
        if len(records) <= PIECE:
            return self._piece(self._columns, records)
        begins = range(0, len(records), PIECE)
        pieces = [self._piece(self._columns, records.slice(at, at + PIECE)) for at in begins]
        return {
            name: pl.concat([piece[name] for piece in pieces], rechunk=True) for name in pieces[0]
        }

    def _piece(self, schema: Schema, records: Records) -> dict[str, pl.Series]:
        try:
            rows = list(map(self._decode, cast("Sequence[bytes]", records.values)))
        except DECODE_ERRORS:
            rows = self._one_by_one(records)
        try:
            return _columns(schema, rows)
        except (OverflowError, ValueError, pl.exceptions.PolarsError):
            for at, row in enumerate(rows):
                try:
                    _columns(schema, [row])
                except (OverflowError, ValueError, pl.exceptions.PolarsError) as error:
                    raise self._bad(records, at, self._why(records, at, error)) from error
            raise

    def _one_by_one(self, records: Records) -> list[Any]:
        """Return a row a value; a bad one is named."""
        rows: list[Any] = []
        decode: Callable[[Any], Any] = self._decode
        if self._topic.tombstones and None in records.values:
            keys = iter(records.keys)
            decode = lambda value: self._one(value, next(keys))  # noqa: E731  else as fast as it is
        try:
            for value in records.values:
                rows.append(decode(value))  # noqa: PERF401  len(rows) names the bad one
        except DECODE_ERRORS as error:
            raise self._bad(records, len(rows), self._why(records, len(rows), error)) from error
        return rows

    def _one(self, value: bytes | None, key: bytes | None) -> Any:  # noqa: ANN401  a struct
        """Return a row, or for a null value one of which only the key is known."""
        if value is not None:
            return self._decode(value)
        row = dict.fromkeys(self._row.__struct_fields__)
        if self._key_of is not None and key is not None:
            row.update(zip(self._key_fields, self._key_of(key), strict=True))
        return self._row(**row)

    def _why(self, records: Records, at: int, error: Exception) -> str:
        value = records.values[at]
        if value is None and self._topic.tombstones:
            return f"the value is null, and the key {records.keys[at]!r} cannot be read: {error}"
        if value is None:
            return "the value is null, and the topic does not say tombstones=True"
        shown = value[:80].decode("utf-8", "replace") + ("…" if len(value) > 80 else "")
        return f"cannot be decoded as JSON: {error}; the value is {shown!r}"

    def _bad(self, records: Records, at: int, why: str) -> BadRecord:
        return BadRecord(
            why,
            where=records.source.at(records.offsets[at]),
            safe="Nothing at or after it was committed.",
            cure="Correct the declaration, or start the pipeline's group after this offset.",
        )


def _columns(schema: Schema, rows: Sequence[Any]) -> dict[str, pl.Series]:
    return {
        column.name: _series(column.kind, list(map(attrgetter(f"f{i}"), rows)))
        for i, column in enumerate(schema)
    }


def _series(kind: Kind, values: list[Any]) -> pl.Series:
    if kind.name == "datetime":
        values = [None if v is None else in_utc(v) for v in values]
    elif kind.name in {"list", "dict"}:
        values = [_plain(msgspec.to_builtins(v, builtin_types=_NATIVE)) for v in values]
    return pl.Series(values, dtype=dtype_of(kind))


def named_rows(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Return each row of a decoded frame as a dict of its own.

    ``_timestamp`` is what takes polars the longest, so it is made here: exact, as long as half of
    what a float of its seconds can be wrong is below half a microsecond.
    """
    columns = {column.name: column for column in frame}
    values = {name: column.to_list() for name, column in columns.items() if name != "_timestamp"}
    milliseconds = columns["_timestamp"].to_physical()
    if len(frame) and milliseconds.is_between(0, _EXACT_MS).all():
        seconds = map(truediv, milliseconds.to_list(), repeat(1000))
        times = list(map(datetime.fromtimestamp, seconds, repeat(_UTC)))
    else:
        times = columns["_timestamp"].to_list()
    ordered = [values.get(name, times) for name in columns]
    return map(dict, map(zip, repeat(list(columns)), zip(*ordered, strict=True)))


def _plain(value: Any) -> Any:  # noqa: ANN401  nested values
    if isinstance(value, datetime):
        return in_utc(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def encode_rows(frame: pl.DataFrame, columns: Sequence[str]) -> list[bytes]:
    """Return each row of ``columns`` as one JSON object, columns in the given order."""
    if frame.is_empty():
        return []
    rows = map(_row_of(tuple(columns)), *(frame[name].to_list() for name in columns))
    return msgspec.json.Encoder().encode_lines(list(rows)).split(b"\n")[:-1]  # text has no newline


@lru_cache(maxsize=100)
def _row_of(names: tuple[str, ...]) -> Callable[..., Any]:
    """Return what makes of a row's values an object that is encoded with these names."""
    fields = [(f"f{i}", Any) for i in range(len(names))]
    renamed = {f"f{i}": name for i, name in enumerate(names)}
    try:
        return msgspec.defstruct("Row", fields, rename=renamed, gc=False)
    except ValueError:  # a name that msgspec would have to escape
        return lambda *values: dict(zip(names, values, strict=True))


def encode_keys(frame: pl.DataFrame, key: Sequence[str]) -> list[bytes]:
    """Return each row's message key; each distinct one is written once."""
    if len(key) == 1:
        values = frame.get_column(key[0]).to_list()
        texts = {value: message_key((value,)) for value in set(values)}
        return [texts[value] for value in values]
    rows = frame.select(list(key)).rows()
    several = {row: message_key(row) for row in set(rows)}
    return [several[row] for row in rows]
