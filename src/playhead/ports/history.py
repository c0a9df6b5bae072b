"""The past of a store: deltas, snapshots, dead letters, and what was skipped on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from playhead.core.checkpoint import Cursor
from playhead.core.offsets import TopicPartition
from playhead.core.past import Saved

SKIPPED = "skipped: "
"""What the error of a dead letter begins with that somebody asked for."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that a version could not process, as it was read.

    Attributes:
        place: Its partition.
        offset: Its offset.
        generation: Generation that met it; lineage says whether it still counts.
        error: Why, in one line.
        timestamp_ms: Its event time.
        key: Its key.
        value: Its value.
    """

    place: TopicPartition
    offset: int
    generation: int
    error: str
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def skipped(self) -> bool:
        """Whether it was set aside on request, untried."""
        return self.error.startswith(SKIPPED)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot to be saved.

    Attributes:
        place: The partition.
        cursor: The cursor that must be in the store, else nothing is saved.
        epoch: The lease epoch that must be in the store.
        content: All state and table rows of the partition (`playhead.core.past.pack`).
    """

    place: TopicPartition
    cursor: Cursor
    epoch: int
    content: bytes


class History(Protocol):
    """What the ledger keeps of the past. Deltas are written by `Ledger.commit` alone."""

    def saved(self, version: str, partition: int) -> list[Saved]:
        """Return every delta and snapshot of every generation, in the order of writing."""

    def content(self, version: str, partition: int, saved: Saved) -> bytes:
        """Return the content of one, as it was written; whoever reads it checks it.

        Raises:
            StoreFailed: It is not there any more.
        """

    def save(self, version: str, snapshot: Snapshot) -> None:
        """Save a snapshot, with the counters of the cursor row; one that is there is replaced.

        Raises:
            CheckpointConflict: The cursor or the epoch is not what the snapshot says.
        """

    def forget(self, version: str, partition: int, saved: Sequence[Saved]) -> None:
        """Delete deltas and snapshots."""

    def dead_letters(self, version: str) -> list[DeadLetter]:
        """Return every dead letter of every generation, by place, offset and generation."""

    def skip(self, version: str, place: TopicPartition, offset: int, reason: str) -> None:
        """Write down that this record is to be a dead letter whenever it is read; audit row.

        A generation that begins on another topic of the same name forgets it: there, the offset
        is another record's.
        """

    def skips(self, version: str) -> dict[int, dict[int, str]]:
        """Return the reasons of `skip` by partition and offset."""
