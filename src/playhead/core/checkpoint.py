"""The three positions of a partition: cursor C, witness W, and the group's own offset K.

C, in the store, is the truth about state, table and dead letters. W, the offset of a second
group, is the truth about what was published. K is what people see, and the knob they turn.
W and K carry a Checkpoint as commit metadata. Kafka's own tools clear the metadata of what they
move: that is how somebody else's move is told from ours (docs/DESIGN.md, "Three positions").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PREFIX = "playhead/1"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a version stands in one partition, as the ledger knows it.

    Attributes:
        next: The next offset to read; everything before it is in state and table.
        generation: 1, 2, 3, …: raised by each rewind, reset or accepted gap.
        batch: How many batches this generation has committed.
    """

    next: int
    generation: int
    batch: int

    def __str__(self) -> str:
        """Return the cursor as the error messages show it."""
        return f"{self.next} (generation {self.generation}, batch {self.batch})"


def only_went_on(before: Mapping[int, Cursor], now: Mapping[int, Cursor]) -> bool:
    """Say whether a version has done nothing but go on: then older rows are as they were.

    A row that was written since comes of a record at or after where the version stood. That one is
    gone, no cursor tells: compare how many there are.
    """
    return before.keys() == now.keys() and all(
        at.generation == now[p].generation and at.batch <= now[p].batch and at.next <= now[p].next
        for p, at in before.items()
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a commit says of itself in its metadata.

    Attributes:
        ledger: Id of the store that the cursor lives in.
        version: ``pipeline@label``.
        generation: Generation of the batch.
        batch: Number of the batch; 0 marks the intent of a rewind.
        begin: First offset of the batch.
        digest: First 16 hex digits of SHA-256 over what the batch published, or ``-``.
    """

    ledger: str
    version: str
    generation: int
    batch: int
    begin: int
    digest: str = "-"

    def __str__(self) -> str:
        """Return the commit metadata."""
        return (
            f"{_PREFIX} {self.ledger} {self.version} "
            f"{self.generation} {self.batch} {self.begin} {self.digest}"
        )

    @classmethod
    def parse(cls, metadata: str | None) -> Checkpoint | None:
        """Return the checkpoint that ``metadata`` carries, or None if somebody else wrote it."""
        words = (metadata or "").split(" ")
        if len(words) != 7 or words[0] != _PREFIX:
            return None
        try:
            generation, batch, begin = (int(word) for word in words[3:6])
        except ValueError:
            return None
        return cls(words[1], words[2], generation, batch, begin, words[6])


@dataclass(frozen=True, slots=True)
class Committed:
    """An offset that a group has committed, with the metadata that came with it."""

    offset: int
    metadata: str = ""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint in the metadata; None for what other tools commit."""
        return Checkpoint.parse(self.metadata)
