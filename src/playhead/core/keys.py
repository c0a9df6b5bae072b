"""Message keys: the one text that stands for the values of a key, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any

import msgspec

from playhead.core.schema import Column

_TYPES: dict[str, Any] = {
    "bool": bool,
    "int": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "str": str,
    "date": date,
    "datetime": datetime,
}
_json = msgspec.json.Encoder().encode


def message_key(values: Sequence[Any]) -> bytes:
    """Return the values of a key as UTF-8 text; several make a JSON array.

    Text is written as it is, numbers and bools as JSON has them, times as ISO-8601 in UTC. Equal
    values have one text, and with it one partition, whoever writes them.
    """
    plain = [in_utc(v) if isinstance(v, datetime) else v for v in values]
    if len(plain) > 1:
        return _json(plain)
    return plain[0].encode() if isinstance(plain[0], str) else _json(plain[0]).strip(b'"')


def key_reader(columns: Sequence[Column]) -> Callable[[bytes], list[Any]]:
    """Return a function that reads back the values of a key of these columns.

    It raises `msgspec.MsgspecError` or `UnicodeDecodeError` where the text is not of their types.
    """
    if len(columns) > 1:
        kinds = tuple(_TYPES[c.kind.name] for c in columns)
        several = msgspec.json.Decoder(tuple[kinds]).decode  # type: ignore[valid-type]
        return lambda key: list(map(_known, several(key)))
    name = columns[0].kind.name
    if name == "str":
        return lambda key: [key.decode()]
    one = msgspec.json.Decoder(_TYPES[name]).decode
    quote = b'"' if name in {"date", "datetime"} else b""
    return lambda key: [_known(one(quote + key + quote))]


def _known(value: Any) -> Any:  # noqa: ANN401  any key
    return in_utc(value) if isinstance(value, datetime) else value


def in_utc(value: datetime) -> datetime:
    """Return a time in UTC; a naive one is UTC already."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
