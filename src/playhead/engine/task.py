"""What a session works on: a version, ready to run, and the partitions that it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from playhead.core.checkpoint import Checkpoint, Cursor
from playhead.core.declare import Version
from playhead.core.offsets import TopicPartition
from playhead.core.slots import Slots
from playhead.engine.call import Caller
from playhead.ports import TopicInfo


@dataclass(frozen=True, slots=True)
class Task:
    """A version to run, with everything about it that is known before the session.

    Attributes:
        app: Name of the app; part of transactional ids.
        version: What was declared; its source carries the physical topic's name.
        caller: Its function, ready to be called.
        topic: Its source topic, as the log knows it now.
        partitions: Partition count of the source when the version was recorded.
        batch_records: Most records of one batch.
        accept_gap: Whether the user accepted a skip in so many words.
        anew: Whether to rewind to the version's start: its code has changed.
        outputs: Its physical topics, as they were when the task was made.
    """

    app: str
    version: Version
    caller: Caller
    topic: TopicInfo
    partitions: int
    batch_records: int
    accept_gap: bool = False
    anew: bool = False
    outputs: tuple[TopicInfo, ...] = ()

    @property
    def publishes(self) -> bool:
        """Whether the version has topic outputs, and with them a witness."""
        return bool(self.version.topics)

    @property
    def transactional_id(self) -> str:
        """The stable id that fences older producers of this version."""
        return f"playhead.{self.app}.{self.version.pipeline}.{self.version.label}.0"


@dataclass(slots=True)
class Seat:
    """One assigned partition: its cursor, the epoch that guards it, its state."""

    place: TopicPartition
    cursor: Cursor
    epoch: int
    slots: Slots = field(default_factory=dict)

    def checkpoint(self, ledger: str, version: str) -> Checkpoint:
        """Return the checkpoint that says: the group stands where the cursor stands."""
        c = self.cursor
        return Checkpoint(ledger, version, c.generation, c.batch, c.next)
