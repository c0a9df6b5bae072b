"""Words for a place in a log: ``start end live N +N -N @2026-11-01 @-48h``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from playhead.errors import ConfigError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_EPOCH = re.compile(r"\d{9,17}\Z")
_AGO = re.compile(r"-(\d+(?:\.\d+)?)([smhd])\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """A place as the user wrote it; ``kind`` is word, offset, plus, minus or time.

    ``naive`` marks a time without a zone, which was read as UTC.
    """

    kind: str
    number: int = 0
    word: str = ""
    naive: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of history that a replay is asked for, in the user's words.

    Attributes:
        start: Where to begin to write; None: at the start.
        to: Where to end; None: where live stands.
        clamp: Whether a place outside of what is retained becomes the nearest that is.
        state_from_base: Whether state begins with base's, not with what the version's own code
            makes of everything before ``start``.
    """

    start: str | None = None
    to: str | None = None
    clamp: bool = False
    state_from_base: bool = False

    @property
    def words(self) -> dict[str, str]:
        """What was asked for, as the intent of a run keeps it; empty where nothing was."""
        said = {"from": self.start, "to": self.to}
        said |= {"state_from": "base"} if self.state_from_base else {}
        return {name: text for name, text in said.items() if text is not None}


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
        return Place("time", _milliseconds(text[1:], now), naive=_naive(text[1:]))
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


def _naive(text: str) -> bool:
    if _AGO.match(text) or _EPOCH.match(text):
        return False
    return datetime.fromisoformat(text).tzinfo is None


def moment(ms: int | None) -> str | None:
    """Return milliseconds since 1970 as ISO-8601 UTC."""
    return None if ms is None else _utc(datetime.fromtimestamp(ms / 1000, UTC).isoformat())


def written(at: datetime) -> str:
    """Return a time as stores write it: ISO-8601 UTC, in milliseconds; as text, they compare."""
    return _utc(at.isoformat(timespec="milliseconds"))


def _utc(text: str) -> str:
    return text.replace("+00:00", "Z")


def timestamp_ms(text: str) -> int:
    """Return a time as milliseconds since 1970: ISO-8601, or epoch in s, ms or µs by length.

    Raises:
        ConfigError: It is neither.
    """
    if _EPOCH.match(text):
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
