"""Text cells, as CSV has them, to declared values; and types found in text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Any

import msgspec

from playhead.core.schema import Column, Kind

_INT = re.compile(r"[+-]?\d+\Z")
_BOOLS = {"true": True, "false": False, "1": True, "0": False}


def _int(text: str) -> int:
    if not _INT.match(text):
        raise ValueError("not an int")
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise ValueError("past 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text) if "_" not in text else math.nan
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _bool(text: str) -> bool:
    if text.lower() not in _BOOLS:
        raise ValueError("not true or false")
    return _BOOLS[text.lower()]


_PARSERS: dict[str, Callable[[str], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "str": str,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "list": msgspec.json.decode,
    "dict": msgspec.json.decode,
}


def cell(column: Column, text: str) -> Any:  # noqa: ANN401  any declared type
    """Return the value of a cell; an empty one is null where that is declared.

    Raises:
        ValueError: The text is not of the column's type; the message says so.
    """
    if text == "" and column.nullable:
        return None
    try:
        value = _PARSERS[column.kind.name](text.strip() if column.kind.name != "str" else text)
        if column.kind.name in {"list", "dict"}:
            from playhead.core.codec import converter  # polars is loaded for nested cells alone

            value = converter(column)(value)
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.MsgspecError) as error:
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise ValueError(f"{column.name} is {shown!r}, not {column.typed()}") from error
    return value


def inferred(name: str, values: Iterable[str]) -> Column:
    """Return the narrowest of int, float and str that fits every cell; empty cells are null."""
    kinds = ["int", "float", "str"]
    nullable = False
    for text in values:
        if text == "":
            nullable = True
            continue
        while kinds[0] != "str":
            try:
                _PARSERS[kinds[0]](text.strip())
                break
            except ValueError:
                # A whole number past 64 bits would lose digits as a float.
                kinds = ["str"] if _INT.match(text.strip()) else kinds[1:]
        if kinds[0] == "str":
            return Column(name, Kind("str"))
    return Column(name, Kind(kinds[0]), nullable)
