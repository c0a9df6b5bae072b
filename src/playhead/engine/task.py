"""What a session works on: a version, ready to run, and the partitions that it holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from playhead.core.checkpoint import Checkpoint, Cursor
from playhead.core.declare import Version
from playhead.core.lineage import Generation
from playhead.core.offsets import TopicPartition
from playhead.core.past import Rules
from playhead.core.records import Records
from playhead.core.scope import Scope
from playhead.core.slots import Slots
from playhead.engine.call import Calls
from playhead.ports import BATCH_BYTES, Cache, TopicInfo


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
        first: Where a first start begins, by partition; in others, where its records begin.
        rewind: Offsets to rewind to, by partition, once nothing is pending; empty: none.
        why: Why it is rewound, for the audit.
        anew: Whether the source was made again, or the store was lost: the rewind begins from
            nothing.
        outputs: Its physical topics, as they were when the task was made.
        writers: The app's versions that write the source, as ``pipeline@label``.
        rules: When snapshots are saved, and how long deltas are kept.
        takes: Of a publisher: leaves out records that are none of its business.
        stage: The stage that it may run in, and no other; "" is whichever it has when a session
            begins.
        scope: The part of history that it makes anew, where it has the rest from ``base``.
        base: The version that its scope names; None where that is not declared any more.
        batch_bytes: Bytes of values from which on a batch is large enough.
        threads: Whether the next batch is computed while Kafka commits one.
        cache: Where decoded history is kept and found, up to a bound; None: nowhere.
    """

    app: str
    version: Version
    caller: Calls
    topic: TopicInfo
    partitions: int
    batch_records: int
    accept_gap: bool = False
    first: Mapping[int, int] = field(default_factory=dict)
    rewind: Mapping[int, int] = field(default_factory=dict)
    why: str = ""
    anew: bool = False
    outputs: tuple[TopicInfo, ...] = ()
    writers: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)
    takes: Callable[[Records], Records] | None = None
    stage: str = ""
    scope: Scope | None = None
    base: Task | None = None
    batch_bytes: int = BATCH_BYTES
    threads: bool = False
    cache: Cache | None = None

    @property
    def publishes(self) -> bool:
        """Whether the version has topic outputs, and with them a witness."""
        return bool(self.version.topics)

    @property
    def transactional_id(self) -> str:
        """The stable id that fences older producers of this version."""
        return f"playhead.{self.app}.{self.version.pipeline}.{self.version.label}.0"


@dataclass(slots=True)
class Since:
    """What was written since the last snapshot of a partition.

    ``damaged`` asks for a new one soon: something older cannot be read.
    """

    deltas: int = 0
    records: int = 0
    size: int = 0
    last_size: int = 0
    at_s: float = field(default_factory=time.monotonic)
    damaged: bool = False

    def add(self, records: int, size: int) -> None:
        """Count a batch and the bytes of its delta."""
        self.deltas += 1
        self.records += records
        self.size += size

    def begin(self, size: int) -> None:
        """Begin anew after a snapshot of so many bytes."""
        self.deltas, self.records, self.size, self.last_size = 0, 0, 0, size
        self.at_s, self.damaged = time.monotonic(), False


@dataclass(slots=True)
class Seat:
    """One assigned partition.

    Attributes:
        place: The partition.
        cursor: Where it stands.
        epoch: The lease epoch that guards it.
        slots: Its state.
        history: Its generations; the last one is the current one.
        aside: Errors by offset, of records that are dead letters by somebody's decision.
        since: What was written since its last snapshot.
        front: Cursor and state after what was computed and is not committed yet.
    """

    place: TopicPartition
    cursor: Cursor
    epoch: int
    slots: Slots = field(default_factory=dict)
    history: list[Generation] = field(default_factory=list)
    aside: Mapping[int, str] = field(default_factory=dict)
    since: Since = field(default_factory=Since)
    front: tuple[Cursor, Slots] | None = None

    @property
    def computed(self) -> tuple[Cursor, Slots]:
        """Cursor and state that the next batch is computed from."""
        return self.front or (self.cursor, self.slots)

    @property
    def generation(self) -> Generation:
        """The current generation."""
        return self.history[-1]

    def checkpoint(self, ledger: str, version: str) -> Checkpoint:
        """Return the checkpoint that says: the group stands where the cursor stands."""
        c = self.cursor
        return Checkpoint(ledger, version, c.generation, c.batch, c.next)
