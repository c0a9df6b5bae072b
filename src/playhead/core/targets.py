"""Where a group or a version is moved to: the words of kafka-consumer-groups (KIP-122)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from playhead.core.offsets import OffsetRange
from playhead.errors import ConfigError

_DURATION = re.compile(
    r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, in one of Kafka's words.

    Attributes:
        word: ``earliest latest current offset shift time file``.
        number: The offset, the shift, or the time in milliseconds since 1970.
        file: For ``file``: ``topic,partition,offset`` lines.
        clamp: Whether an offset outside of what is retained becomes the nearest that is.
    """

    word: str
    number: int = 0
    file: Path | None = None
    clamp: bool = False


def duration(text: str) -> timedelta:
    """Return an ISO-8601 duration of days to seconds, for example ``PT6H`` or ``P1DT30M``.

    Raises:
        ConfigError: It is none.
    """
    match = _DURATION.match(text)
    if match is None or not any(match.groups()):
        raise ConfigError(f"{text!r} is not a duration such as PT6H, P2D or P1DT30M")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def resolve(target: Target, prior: int | None, held: OffsetRange, at: int | None) -> int:
    """Return the offset that a target means in one partition, retained or not unless clamped.

    Args:
        target: What was named; not a file.
        prior: Where the group or the version stands; None: nowhere yet.
        held: What the log retains.
        at: The first offset at or after the named time; None: there is none.

    Raises:
        ConfigError: The target needs a position, and there is none.
    """
    found = _meant(target, prior, held, at)
    return min(max(found, held.start), held.end) if target.clamp else found


def _meant(target: Target, prior: int | None, held: OffsetRange, at: int | None) -> int:
    match target.word:
        case "earliest":
            return held.start
        case "latest":
            return held.end
        case "offset":
            return target.number
        case "time":
            return held.end if at is None else at
        case _ if prior is None:
            raise ConfigError(f"--{target.word}: nothing was committed yet to count from")
        case "shift":
            return prior + target.number
        case _:
            return prior
