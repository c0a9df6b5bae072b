"""Places in a log: a partition of a topic, and half-open ranges of offsets."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RECORD = re.compile(r"(.+)\[(\d+)\]@(\d+)\Z")


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition of one topic; prints as ``topic[partition]``."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """Return ``topic[partition]``, as every message of Playhead writes it."""
        return f"{self.topic}[{self.partition}]"

    def at(self, offset: int) -> str:
        """Return ``topic[partition]@offset``."""
        return f"{self}@{offset}"


@dataclass(slots=True)
class Here:
    """A place that goes along a partition, record by record; spelled out only when it is told."""

    source: TopicPartition
    offset: int

    def __str__(self) -> str:
        """Return ``topic[partition]@offset``."""
        return self.source.at(self.offset)


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The offsets ``start <= o < end``. An offset is always the *next* one to read."""

    start: int
    end: int

    def __len__(self) -> int:
        """Return how many offsets lie in the range; not a record count (logs have gaps)."""
        return max(0, self.end - self.start)

    def __bool__(self) -> bool:
        """Refuse the question: an empty range is not an absent one."""
        raise TypeError("ask len(range) or `is None`: an empty range is not an absent one")

    def holds(self, begin: int, end: int) -> bool:
        """Say whether ``[begin, end)`` lies wholly inside."""
        return self.start <= begin and end <= self.end

    def __str__(self) -> str:
        """Return ``[start, end)``."""
        return f"[{self.start}, {self.end})"


def record_place(text: str) -> tuple[TopicPartition, int] | None:
    """Return partition and offset of ``topic[partition]@offset``, or None if it is not one."""
    match = _RECORD.match(text)
    return (TopicPartition(match[1], int(match[2])), int(match[3])) if match else None
