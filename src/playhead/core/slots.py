"""Slots: the state of one operator of one version in one partition, and how it travels.

Here is what a slot is, how it is merged and stored, what each operator carries in it, and what
must never enter it. ``state.py`` rolls the operators over a batch.

A slot is a frame with one row per key. Its key columns come first: the key of the source, then
the columns of ``by``; their names never begin with ``_``. What is carried for each key follows;
its names always do (``_total``, ``_value``, …). So the names alone say what the key is, in memory
and stored, and no count has to be kept beside them.

Rows stand in the order in which their keys were last touched, for any cut of the log into batches.

A stored blob::

    8 bytes   magic ``phslots`` and one byte: the format version, 1
    32 bytes  SHA-256 of all that follows
    4 bytes   number of slots, little-endian as all numbers here
    per slot, by name: 4 bytes length, the name in UTF-8; 8 bytes length, an Arrow IPC stream (lz4)
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite
from typing import Any

import msgspec
import polars as pl

from playhead.errors import StoreFailed

Slots = dict[str, pl.DataFrame]

FORMAT = 1
DEPTH_MAX = 64
_MAGIC = b"phslots"
_DIGEST_AT = len(_MAGIC) + 1
_PAYLOAD_AT = _DIGEST_AT + hashlib.sha256().digest_size
_KEY_DTYPES: dict[type, pl.DataType] = {
    int: pl.Int64(),
    bool: pl.Boolean(),
    str: pl.String(),
    date: pl.Date(),
}
_CURE = (
    "Nothing was computed from it. Restore the store from a backup, or rewind the version to the "
    "earliest offset, which builds its state anew."
)


def key_columns(slot: pl.DataFrame) -> list[str]:
    """Return the names of the slot's key columns: those that do not begin with ``_``."""
    return [name for name in slot.columns if not name.startswith("_")]


def key_dtype(value: object) -> pl.DataType | None:
    """Return the dtype of a key's column that begins with ``value``; None if it is no key."""
    if isinstance(value, datetime):
        return pl.Datetime("us", "UTC" if value.tzinfo else None)
    if type(value) is int and not -(2**63) <= value < 2**63:
        return None
    return _KEY_DTYPES.get(type(value))


def merge(base: Slots, delta: Slots) -> Slots:
    """Return ``base`` with the rows of ``delta`` in place of its rows of equal key.

    Neither argument is changed. Slots that only one side has are taken over as they are; the
    touched rows of a slot stand last, in the order of ``delta``.

    Raises:
        StoreFailed: A slot's columns or dtypes differ between the two.
    """
    merged = dict(base)
    for name, touched in delta.items():
        kept = base.get(name)
        merged[name] = touched if kept is None else _replaced(name, kept, touched)
    return merged


def _replaced(name: str, kept: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
    if kept.schema != touched.schema:
        raise StoreFailed(
            f"slot {name} does not fit its delta: it has {_spelled(kept)}, "
            f"the delta has {_spelled(touched)}",
            cure=_CURE,
        )
    untouched = kept.join(touched, on=key_columns(kept), how="anti", maintain_order="left")
    return pl.concat([untouched, touched])


def _spelled(slot: pl.DataFrame) -> str:
    return ", ".join(f"{column} {dtype}" for column, dtype in slot.schema.items()) or "no columns"


def encode(slots: Slots) -> bytes:
    """Return the slots as one blob; equal slots built the same way give equal bytes.

    Slots are written in the order of their names, rows as they stand. Bytes are not a measure of
    equality: frames that are equal may differ in what Arrow keeps under a null.
    """
    parts = [struct.pack("<I", len(slots))]
    for name in sorted(slots):
        encoded, stream = name.encode(), io.BytesIO()
        slots[name].write_ipc_stream(stream, compression="lz4")
        table = stream.getvalue()
        parts += [struct.pack("<I", len(encoded)), encoded, struct.pack("<Q", len(table)), table]
    payload = b"".join(parts)
    return _MAGIC + bytes([FORMAT]) + hashlib.sha256(payload).digest() + payload


def decode(blob: bytes, what: str = "a blob of slots") -> Slots:
    """Return the slots in ``blob``.

    Args:
        blob: What ``encode`` returned.
        what: How an error calls it, for example ``state of distance@km, points[2], at 1200``.

    Raises:
        StoreFailed: It is not one of ours, was cut short or changed, or is of a newer format.
    """
    if len(blob) < _PAYLOAD_AT or not blob.startswith(_MAGIC):
        raise StoreFailed(
            f"{what}: {len(blob)} bytes that are not state of Playhead, or were cut short",
            cure=_CURE,
        )
    if blob[_DIGEST_AT - 1] != FORMAT:
        raise StoreFailed(
            f"{what} is in format {blob[_DIGEST_AT - 1]}; this Playhead reads format {FORMAT}",
            safe="Nothing was changed.",
            cure="If a newer Playhead wrote it, run that one; else the blob is damaged: restore "
            "the store from a backup.",
        )
    payload = memoryview(blob)[_PAYLOAD_AT:]
    if hashlib.sha256(payload).digest() != blob[_DIGEST_AT:_PAYLOAD_AT]:
        raise StoreFailed(
            f"{what} is damaged: its SHA-256 is not the one written with it", cure=_CURE
        )
    try:
        return _slots_in(payload)
    except (struct.error, ValueError, pl.exceptions.PolarsError, OSError) as e:
        raise StoreFailed(
            f"{what} is whole but cannot be read as Arrow ({e})",
            safe="Nothing was changed.",
            cure=f"Was it written with another polars? This is {pl.__version__}.",
        ) from e


def _slots_in(payload: memoryview) -> Slots:
    (count,) = struct.unpack_from("<I", payload)
    slots: Slots = {}
    at = 4
    for _ in range(count):
        (size,) = struct.unpack_from("<I", payload, at)
        at += 4 + size
        name = bytes(payload[at - size : at]).decode()
        (size,) = struct.unpack_from("<Q", payload, at)
        at += 8 + size
        slots[name] = pl.read_ipc_stream(io.BytesIO(payload[at - size : at]))
    return slots


def pack_row(state: dict[str, Any]) -> bytes:
    """Return the state of one key of a ``per="row"`` function as MessagePack.

    Raises:
        ValueError: It holds what would not come back equal; the message says where in it.
    """
    _check_packable(state, "state", 1)
    return msgspec.msgpack.encode(state)


def unpack_row(packed: bytes) -> dict[str, Any]:
    """Return a fresh dict from what ``pack_row`` returned."""
    return msgspec.msgpack.decode(packed, type=dict[str, Any])


def _check_packable(value: object, path: str, depth: int) -> None:
    items: Iterable[tuple[object, object]]
    if type(value) is list:
        items = enumerate(value)
    elif type(value) is dict:
        items = value.items()
        for name in value:
            if not isinstance(name, str) or _fault(name):
                raise ValueError(f"{path} has the key {name!r}: keys are text")
    else:
        fault = _fault(value)
        if fault:
            raise ValueError(f"{path} is {fault}")
        return
    if depth > DEPTH_MAX:
        raise ValueError(f"the state is nested more than {DEPTH_MAX} levels deep")
    for name, item in items:
        _check_packable(item, f"{path}[{name!r}]", depth + 1)


def _fault(value: object) -> str | None:
    """Say what is wrong with a scalar, or None; a subclass would come back as its base."""
    if isinstance(value, int) and type(value) is int:
        return None if -(2**63) <= value < 2**63 else "an int past 64 bits"
    if isinstance(value, float) and type(value) is float:
        return None if isfinite(value) else f"{value}, which is not finite"
    if isinstance(value, str) and type(value) is str:
        return None if _is_utf8(value) else f"{value!r}, which has no UTF-8"
    plain = value is None or type(value) in {bool, bytes}
    return None if plain else f"of type {type(value).__name__}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# What is fed into a carried column: the source column and its dtype → an expression.


def _as_is(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return column


def _widened(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Int64 or Float64, null as 0; an integer that does not fit is null here, and refused."""
    wide = pl.Float64 if dtype.is_float() else pl.Int64
    return column.cast(wide, strict=False).fill_null(0)


def _seen(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    return column.is_not_null().cast(pl.Int64)


def _one_zero(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """−0.0 as 0.0: the two are equal, so which of them is the least would be left to polars."""
    if not dtype.is_float():
        return column
    return pl.when(column == 0).then(pl.lit(0.0, dtype)).otherwise(column)


# Which dtypes an operator takes.


def is_whole(dtype: pl.DataType) -> bool:
    """Say whether values are added as Int64."""
    return dtype.is_integer() or dtype == pl.Boolean


def _any(dtype: pl.DataType) -> bool:
    return not isinstance(dtype, pl.Array | pl.Categorical | pl.Enum | pl.Object)


def _number(dtype: pl.DataType) -> bool:
    return is_whole(dtype) or dtype.is_float()


def _ordered(dtype: pl.DataType) -> bool:
    # Not text: polars below 2 has no cum_min of it.
    return dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean


@dataclass(frozen=True, slots=True)
class Part:
    """One carried column: its name, what is fed into it, and how it rolls over a key."""

    name: str
    feed: Callable[[pl.Expr, pl.DataType], pl.Expr]
    roll: Callable[[pl.Expr], pl.Expr]


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        takes: Which dtypes it takes, and how an error says so.
        parts: What it carries.
        out: The new column, from the rolled parts.
        carries_fed: Carry each key's last fed value; else its last rolled one.
    """

    takes: tuple[Callable[[pl.DataType], bool], str]
    parts: tuple[Part, ...]
    out: pl.Expr
    carries_fed: bool = False


_VALUE, _TOTAL, _COUNT = pl.col("_value"), pl.col("_total"), pl.col("_count")
_ANYTHING = (_any, "any column but Array, Categorical, Enum and Object")
_NUMBERS = (_number, "numbers and bools")
_ORDERED = (_ordered, "numbers, bools, dates and times")
TOTALS = Part("_total", _widened, lambda c: c.cum_sum())
_COUNTS = Part("_count", _seen, lambda c: c.cum_sum())
_MEAN = pl.when(_COUNT > 0).then(_TOTAL.cast(pl.Float64) / _COUNT.cast(pl.Float64))

OPERATORS: Mapping[str, Operator] = {
    "previous": Operator(
        _ANYTHING, (Part("_value", _as_is, lambda c: c.shift(1)),), _VALUE, carries_fed=True
    ),
    "latest": Operator(_ANYTHING, (Part("_value", _as_is, lambda c: c.forward_fill()),), _VALUE),
    "running_sum": Operator(_NUMBERS, (TOTALS,), _TOTAL),
    "running_count": Operator(_ANYTHING, (_COUNTS,), _COUNT),
    "running_mean": Operator(_NUMBERS, (TOTALS, _COUNTS), _MEAN),
    "running_min": Operator(
        _ORDERED, (Part("_value", _one_zero, lambda c: c.cum_min().forward_fill()),), _VALUE
    ),
    "running_max": Operator(
        _ORDERED, (Part("_value", _one_zero, lambda c: c.cum_max().forward_fill()),), _VALUE
    ),
}


# What may be wrong at a row, and its cure.
NAN = (
    "NaN would stay in the key's state for ever",
    'Make it null before the call: pl.col("{source}").fill_nan(None).',
)
NAN_TOTAL = (
    "infinity and minus infinity add up to NaN, which would stay in the key's state for ever",
    'Make infinities null before the call: pl.when(pl.col("{source}").is_finite()).',
)
OVERFLOW = (
    "the total does not fit 64 bits",
    'Add floats: pl.col("{source}").cast(pl.Float64), in a new version.',
)


def unfit(operator: str, source: str, dtype: pl.DataType) -> pl.Expr:
    """Say of each row whether its value must not enter: NaN, or an integer too wide to add."""
    column = pl.col(source)
    if is_whole(dtype) and TOTALS in OPERATORS[operator].parts:
        return column.is_not_null() & column.cast(pl.Int64, strict=False).is_null()
    return _has_nan(column, dtype)


def _has_nan(column: pl.Expr, dtype: Any) -> pl.Expr:  # noqa: ANN401  polars: class or instance
    """Say of each row whether there is a NaN in it, inside lists and structs too; never null."""
    found = pl.lit(value=False)
    if dtype.is_float():
        found = column.is_nan()
    elif isinstance(dtype, pl.List):
        found = column.list.eval(_has_nan(pl.element(), dtype.inner)).list.any()
    elif isinstance(dtype, pl.Struct):
        inner = [_has_nan(column.struct.field(f.name), f.dtype) for f in dtype.fields]
        found = pl.any_horizontal(inner)
    return found.fill_null(value=False)


def lost(fed: pl.Series, totals: pl.Series) -> pl.Series:
    """Say of each row whether adding it gave NaN, or wrapped around (polars does so silently).

    Two summands of one sign whose sum has the other have wrapped; so, too, does ``totals - fed``
    give back the total before, exactly.
    """
    if totals.dtype.is_float():
        return totals.is_nan()
    before = totals - fed
    return ((before >= 0) == (fed >= 0)) & ((totals >= 0) != (fed >= 0))
