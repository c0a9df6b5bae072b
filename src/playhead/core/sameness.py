"""Whether two passes of a function gave the same bits, and where they first did not.

What a pass gave is a set of frames by name: ``topic/<name>`` (``_partition`` and ``_offset`` of the
input, ``to``, ``key``, ``value``: the record as published), ``table/<name>``, ``dead/letters``, and
``state/<partition>/<slot>``. Their rows stand in an order that the input and the keys give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

Frames = Mapping[str, pl.DataFrame]
ORIGIN = ("_partition", "_offset")
_ORDER = ("topic", "table", "dead", "state")


@dataclass(frozen=True, slots=True)
class Unlike:
    """The first place at which two passes differ.

    Attributes:
        output: Name of the frame, as above.
        partition: Partition of the input.
        offset: Offset of the input, or None for state.
        key: Key of the row by column; empty for records of a topic.
        column: The column; None where only one of the two has such a row.
        values: The two values; for a row, the whole row and None.
        close: Whether two floats differ in their last digits only.
    """

    output: str
    partition: int | None
    offset: int | None
    key: Mapping[str, Any]
    column: str | None
    values: tuple[Any, Any]
    close: bool = False


def first_unlike(
    one: Frames, two: Frames, keys: Mapping[str, Sequence[str]], rtol: float
) -> Unlike | None:
    """Return the first difference of two passes: topics before tables before state.

    Args:
        one: What one pass gave.
        two: What the other gave.
        keys: Key columns of each table, by frame name.
        rtol: Relative tolerance within which floats count as equal; 0: bit for bit.
    """
    names = sorted({*one, *two}, key=lambda n: (_ORDER.index(n.partition("/")[0]), n))
    for name in names:
        left, right = one.get(name), two.get(name)
        heads = _heads(name, left if left is not None else two[name], keys)
        found = _first_row(name, _rows(left), _rows(right), heads, rtol)
        if found is not None:
            return found
    return None


def _heads(name: str, frame: pl.DataFrame, keys: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if name.startswith("state/"):
        return [c for c in frame.columns if not c.startswith("_")]
    return keys.get(name, ORIGIN)


def _rows(frame: pl.DataFrame | None) -> list[dict[str, Any]]:
    return [] if frame is None else frame.to_dicts()


def _first_row(
    name: str,
    one: Sequence[dict[str, Any]],
    two: Sequence[dict[str, Any]],
    heads: Sequence[str],
    rtol: float,
) -> Unlike | None:
    for i in range(max(len(one), len(two))):
        left = one[i] if i < len(one) else None
        right = two[i] if i < len(two) else None
        if left is not None and right is not None:
            if repr(left) == repr(right):
                continue
            a, b = (tuple(row[h] for h in heads) for row in (left, right))
            if a == b:
                found = _first_column(name, left, right, heads, rtol)
                if found is not None:
                    return found
                continue
            left, right = (left, None) if a < b else (None, right)
        row = left if left is not None else right
        assert row is not None
        shown = tuple(None if side is None else _columns(side) for side in (left, right))
        return _unlike(name, row, heads, None, (shown[0], shown[1]))
    return None


def _first_column(
    name: str, left: dict[str, Any], right: dict[str, Any], heads: Sequence[str], rtol: float
) -> Unlike | None:
    one, two = _columns(left), _columns(right)
    for column in {**one, **two}:
        a, b = one.get(column), two.get(column)
        if not alike(a, b, rtol):
            return _unlike(name, left, heads, column, (a, b))
    return None


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a published value taken apart into its columns."""
    if "value" not in row or "to" not in row:
        return row
    found = {c: row[c] for c in (*ORIGIN, "to", "key")}
    if row["value"] is None:
        return {**found, "_tombstone": True}
    try:
        return {**found, **msgspec.json.decode(row["value"], type=dict[str, Any])}
    except msgspec.MsgspecError:
        return {**found, "_value": row["value"]}


def _unlike(
    name: str,
    row: dict[str, Any],
    heads: Sequence[str],
    column: str | None,
    values: tuple[Any, Any],
) -> Unlike:
    partition, offset = row.get("_partition"), row.get("_offset")
    if name.startswith("state/"):
        partition, offset = int(name.split("/")[1]), None
    key = {h: row[h] for h in heads if h not in ORIGIN}
    close = all(isinstance(v, float) for v in values) and alike(*values, 1e-6)
    return Unlike(name, partition, offset, key, column, values, close)


def alike(a: Any, b: Any, rtol: float) -> bool:  # noqa: ANN401  any value of a column
    """Say whether two values are the same, floats within ``rtol`` of the wider one."""
    if repr(a) == repr(b):
        return True
    if rtol and isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= rtol * max(abs(a), abs(b))
    if rtol and isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b, [rtol] * len(a)))
    if rtol and isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[k], b[k], rtol) for k in a)
    return False
