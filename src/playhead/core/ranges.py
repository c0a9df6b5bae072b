"""Words for a place in a log: ``start end live N +N -N @2026-11-01 @-48h``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from playhead.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhd])\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """A place as the user wrote it; ``kind`` is word, offset, plus, minus or time."""

    kind: str
    number: int = 0
    word: str = ""


def parse(text: str, now: datetime) -> Place:
    """Return the place that ``text`` names.

    Args:
        text: As in the module's docstring; times are ISO-8601 or epoch, naive ones are UTC.
        now: What ``@-48h`` counts back from.

    Raises:
        ConfigError: It is none of them.
    """
    if text in {"start", "end", "live"}:
        return Place("word", word=text)
    if text.startswith("@"):
        return Place("time", _milliseconds(text[1:], now))
    if re.fullmatch(r"\d+", text):
        return Place("offset", int(text))
    if re.fullmatch(r"[+-]\d+", text):
        return Place("plus" if text[0] == "+" else "minus", int(text[1:]))
    raise ConfigError(
        f"{text!r} is not a place in a log: start, end, live, N, +N, -N, @2026-11-01 or @-48h"
    )


def _milliseconds(text: str, now: datetime) -> int:
    ago = _AGO.match(text)
    if ago:
        try:
            moment = now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        except OverflowError as error:
            raise ConfigError(f"{text!r} is before all calendars") from error
        return round(moment.timestamp() * 1000)
    return timestamp_ms(text)


def timestamp_ms(text: str) -> int:
    """Return a time as milliseconds since 1970: ISO-8601, or epoch in s, ms or µs by length.

    Raises:
        ConfigError: It is neither.
    """
    if re.fullmatch(r"\d{9,17}", text):
        number = int(text)
        return number * 1000 if len(text) <= 11 else number // (1 if len(text) <= 14 else 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is neither ISO-8601 nor an epoch") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def resolve(place: Place, start: int, end: int, live: int, at: int | None) -> int:
    """Return the offset of a place in one partition.

    Args:
        place: What was named.
        start: Low end of the retained range.
        end: High end.
        live: Where the live version stands; ``end`` where there is none.
        at: First offset at or after the named time; None: there is no such record.
    """
    match place.kind:
        case "word":
            return {"start": start, "end": end, "live": live}[place.word]
        case "offset":
            return place.number
        case "plus":
            return start + place.number
        case "minus":
            return max(start, end - place.number)
        case _:
            return end if at is None else at
