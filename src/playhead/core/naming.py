"""Rules for names, keys and options, checked where the user writes them."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from playhead.core.epochs import CHANGED, POLICIES
from playhead.core.schema import KEY_TYPES, RESERVED, Schema
from playhead.errors import DeclarationError

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]+\Z")
NAME_MAX, LABEL_MAX, PHYSICAL_MAX, TOPIC_MAX = 40, 20, 63, 249
WITNESS = ".witness"
_CHOICES = {
    "per": ("frame", "row"),
    "start": ("earliest", "latest"),
    "frame": ("polars", "pandas", "arrow"),
    "on_error": ("stop", "dead_letter"),
}

_HERE = Path(__file__).parent


def checked_topic(name: str, where: str) -> str:
    """Return ``name`` if Kafka allows it for a topic."""
    if not TOPIC_NAME.match(name) or name in {".", ".."} or len(name) > TOPIC_MAX:
        raise DeclarationError(
            f"topic name {name!r} is not one that Kafka allows "
            f"(letters, digits, '.', '_', '-', at most {TOPIC_MAX})",
            where=where,
        )
    return name


def check_distinct(what: str, names: Iterable[tuple[str, str]]) -> None:
    """Refuse two names that Kafka's metrics cannot tell apart."""
    seen: dict[str, tuple[str, str]] = {}
    for name, owner in names:
        folded = name.replace(".", "_")
        other = seen.setdefault(folded, (name, owner))
        if other != (name, owner):
            raise DeclarationError(
                f"{what} {other[0]} ({other[1]}) and {name} ({owner}) are equal to Kafka's "
                "metrics, which read '.' as '_': rename one"
            )


def check_groups(topics: Iterable[str], groups: Iterable[tuple[str, str]]) -> None:
    """Refuse a group that Kafka's metrics cannot tell from one of a public topic's publisher."""
    for topic in topics:
        ours = re.compile(re.escape(topic.replace(".", "_")) + r"_public_(\w+_)?e\d+(_\w+)?\Z")
        for group, owner in groups:
            if ours.match(group.replace(".", "_")):
                raise DeclarationError(
                    f"group {group} ({owner}) looks like one that fills the public topic {topic}: "
                    "rename it"
                )


def witness_of(group: str) -> str:
    """Return the group whose offsets witness what a group's producer has committed."""
    return group + WITNESS


def check_public(on_promote: str, keys: tuple[str, ...], where: str) -> None:
    """Refuse what a public topic cannot do."""
    if on_promote not in POLICIES:
        raise DeclarationError(
            f"on_promote={on_promote!r}: {' or '.join(map(repr, POLICIES))}", where=where
        )
    if on_promote == CHANGED and not keys:
        raise DeclarationError("on_promote='changed' corrects keys: it needs key=", where=where)


def check_key(keys: tuple[str, ...], schema: Schema | None, where: str) -> None:
    """Refuse a key that is not a column, may be null, or is of a type that has no one text."""
    columns = {c.name: c for c in schema or ()}
    for key in keys:
        if key in RESERVED or key.startswith("_"):
            raise DeclarationError(f"key {key!r} is a reserved name", where=where)
        if schema is None:
            continue
        column = columns.get(key)
        if column is None:
            raise DeclarationError(f"key {key!r} is not one of its columns", where=where)
        if column.nullable or column.kind.name not in KEY_TYPES:
            raise DeclarationError(
                f"key {key!r} is {column.typed()}: a key is int, str, bool, date or datetime, "
                "and never null",
                where=where,
            )


def check_options(options: Mapping[str, Any], kind: type[Any], where: str) -> None:
    """Refuse an option that does not exist, naming the closest one that does."""
    known = list(kind.__annotations__)
    for base in kind.__mro__:
        known += getattr(base, "__annotations__", {})
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise DeclarationError(f"unknown option {option!r}{hint}", where=where)
    for option, allowed in _CHOICES.items():
        value = options.get(option, allowed[0])
        if value not in allowed:
            raise DeclarationError(
                f"{option}={value!r}: {' or '.join(map(repr, allowed))}", where=where
            )
    rtol = options.get("rtol", 0.0)
    if not isinstance(rtol, (int, float)) or not 0 <= rtol < 1:
        raise DeclarationError(f"rtol={rtol!r}: a number from 0 to below 1", where=where)
    for option in ("expect", "reads"):
        value = options.get(option, ())
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) for t in texts):
            raise DeclarationError(f"{option}={value!r}: text, or a list of texts", where=where)
    if not isinstance(options.get("group") or "", str):
        raise DeclarationError(f"group={options['group']!r}: text", where=where)


def checked_name(name: str, what: str, where: str, longest: int = NAME_MAX) -> str:
    """Return ``name`` if it follows the rule for names of apps, pipelines, tables, versions."""
    if not isinstance(name, str) or not NAME.match(name) or "__" in name or len(name) > longest:
        raise DeclarationError(
            f"{what} name {name!r}: lower-case letters, digits and single '_', "
            f"beginning with a letter, at most {longest}",
            where=where,
        )
    return name


def function_name(function: Callable[..., Any], where: str) -> str:
    """Return the function's name; refuse what was not written with ``def``."""
    name = getattr(function, "__name__", "")
    if not inspect.isfunction(function) or name == "<lambda>":
        raise DeclarationError("a pipeline needs a function written with def", where=where)
    return name


def caller() -> str:
    """Return ``file:line`` of the user's line that called into this module."""
    frame = inspect.currentframe()
    while frame is not None and Path(frame.f_code.co_filename).parent == _HERE:
        frame = frame.f_back
    if frame is None:
        return "?"
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def quoted(name: str) -> str:
    """Return an identifier, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'
