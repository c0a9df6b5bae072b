"""Slots: the state of one operator of one version in one partition, and how it travels.

Here is what a slot is, and how it is merged and stored. What each operator carries in it is in
``operators.py`` and ``rolling.py``; ``state.py`` computes them over a batch.

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
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from math import isfinite
from typing import Any

import msgspec
import polars as pl

from playhead.errors import StoreFailed

Slots = dict[str, pl.DataFrame]

FORMAT = 1
DEPTH_MAX = 64
_TEXT = frozenset({str})
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


def is_last(key: Sequence[str]) -> pl.Expr:
    """Say of each row whether it is the last one of its key.

    Filtered by it, rows stand as with ``unique``, in less than half the time for a key of one.
    """
    return (pl.struct(key) if len(key) > 1 else pl.col(*key)).is_last_distinct()


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


def folded(name: str, frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return what merging a slot's frames one after the other gives, in one go.

    Raises:
        StoreFailed: Columns or dtypes differ between two of them.
    """
    for frame in frames[1:]:
        _check_fits(name, frames[0], frame)
    if len(frames) == 1:
        return frames[0]
    whole = pl.concat(frames)
    return whole.filter(is_last(key_columns(whole)))


def _check_fits(name: str, kept: pl.DataFrame, touched: pl.DataFrame) -> None:
    if kept.schema != touched.schema:
        raise StoreFailed(
            f"slot {name} does not fit its delta: it has {_spelled(kept)}, "
            f"the delta has {_spelled(touched)}",
            cure=_CURE,
        )


def _replaced(name: str, kept: pl.DataFrame, touched: pl.DataFrame) -> pl.DataFrame:
    _check_fits(name, kept, touched)
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


def is_flat(state: dict[str, Any]) -> bool:
    """Say whether a state is a dict of scalars that ``pack_row`` takes."""
    named = _TEXT.issuperset(map(type, state)) and not any(map(_fault, state))
    return named and not any(map(_fault, state.values()))


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
    kind = type(value)
    if kind is float:
        return None if isfinite(value) else f"{value}, which is not finite"  # type: ignore[arg-type]
    if kind is int:
        return None if -(2**63) <= value < 2**63 else "an int past 64 bits"  # type: ignore[operator]
    if kind is str:
        return None if _is_utf8(value) else f"{value!r}, which has no UTF-8"  # type: ignore[arg-type]
    plain = value is None or kind is bool or kind is bytes
    return None if plain else f"of type {kind.__name__}"


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
