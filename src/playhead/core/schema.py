"""Declared columns: names, types, and whether they may be null. No third-party import here."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from playhead.errors import DeclarationError

SCALARS: dict[type, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    bytes: "bytes",
    date: "date",
    datetime: "datetime",
}
KEY_TYPES = frozenset({"int", "str", "bool", "date", "datetime"})
RESERVED = frozenset({"by", "rows", "span", "max_rows"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A column's type: a scalar name, ``list`` of an item, or ``dict`` of fields."""

    name: str
    item: Column | None = None
    fields: tuple[Column, ...] = ()

    def __str__(self) -> str:
        """Return the type as it is stored and shown, for example ``list[int]``."""
        if self.name == "list":
            return f"list[{self.item.typed() if self.item else ''}]"
        if self.name == "dict":
            return "{" + ", ".join(f"{c.name}: {c.typed()}" for c in self.fields) + "}"
        return self.name


@dataclass(frozen=True, slots=True)
class Column:
    """One declared column."""

    name: str
    kind: Kind
    nullable: bool = False

    def typed(self) -> str:
        """Return type and nullability, for example ``float | None``."""
        return f"{self.kind} | None" if self.nullable else str(self.kind)


Schema = tuple[Column, ...]


def schema_of(columns: Mapping[str, Any], where: str) -> Schema:
    """Return the schema that a mapping of names to Python types declares.

    Raises:
        DeclarationError: A name begins with ``_``, or a type is not one that Playhead stores.
    """
    if not columns:
        raise DeclarationError("declares no columns", where=where)
    return tuple(_column(name, annotation, where) for name, annotation in columns.items())


def key_of(key: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the key's column names; a single name may be given bare."""
    if key is None:
        return ()
    return (key,) if isinstance(key, str) else tuple(key)


def _column(name: str, annotation: Any, where: str) -> Column:  # noqa: ANN401  any annotation
    if not isinstance(name, str) or not name:
        raise DeclarationError(f"column name {name!r} is not text", where=where)
    if name.startswith("_"):
        raise DeclarationError(
            f"column {name!r} begins with '_': those names belong to Playhead", where=where
        )
    kind, nullable = _kind(annotation, f"{where}, column {name!r}")
    return Column(name, kind, nullable)


def _kind(annotation: Any, where: str) -> tuple[Kind, bool]:  # noqa: ANN401  any annotation
    origin = typing.get_origin(annotation)
    if origin in {types.UnionType, typing.Union}:
        members = [a for a in typing.get_args(annotation) if a is not types.NoneType]
        if len(members) == 1 and len(typing.get_args(annotation)) == 2:
            return _kind(members[0], where)[0], True
    elif isinstance(annotation, Mapping):
        return Kind("dict", fields=schema_of(annotation, where)), False
    elif origin is list:
        item, nullable = _kind(typing.get_args(annotation)[0], where)
        return Kind("list", item=Column("item", item, nullable)), False
    elif isinstance(annotation, type) and annotation in SCALARS:
        return Kind(SCALARS[annotation]), False
    raise DeclarationError(
        f"type {annotation!r} is not one of bool, int, float, str, bytes, date, datetime, "
        "list[T], a dict of them, or T | None",
        where=where,
    )
