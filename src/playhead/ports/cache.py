"""The history cache: records of a topic that were read and decoded before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from playhead.core.offsets import OffsetRange
from playhead.ports.log import TopicInfo


@dataclass(frozen=True, slots=True)
class Kept:
    """Decoded records of one partition: all that the log had in a range of offsets.

    Attributes:
        range: First offset, and the position after the last record and any gap behind it.
        rows: One row a record, as the declared columns.
    """

    range: OffsetRange
    rows: pl.DataFrame


class KeptTopic(Protocol):
    """What is kept of one topic, decoded in one way. For one thread."""

    def find(self, partition: int, at: int) -> Kept | None:
        """Return what is kept at a position; its range may begin before it.

        What does not hold what it should is removed, and not returned.
        """

    def keep(self, partition: int, kept: Kept) -> bool:
        """Keep it; say whether more of the kind can be kept."""


class Cache(Protocol):
    """Keeps decoded history, bounded in size; whatever is in it can be had from the log again."""

    def topic(
        self, topic: TopicInfo, decoded: str, retained: Mapping[int, OffsetRange]
    ) -> KeptTopic | None:
        """Return what is kept of a topic, or None where it cannot be.

        Args:
            topic: As the log knows it now: another one of the same name has another id.
            decoded: How its rows are decoded; rows of another way are others.
            retained: What the log still has: nothing else is found.
        """
