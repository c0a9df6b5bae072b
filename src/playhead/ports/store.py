"""The store: the ledger, and the catalog that shares its transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from playhead.core.checkpoint import Cursor
from playhead.core.epochs import Begun
from playhead.core.lineage import Generation, Upstream
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts
from playhead.ports.history import DeadLetter, History
from playhead.ports.journal import Journal
from playhead.ports.moment import NOTHING, Cut, Moment, Stand, TableRow, VersionRow
from playhead.ports.publications import Publications

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one version stands in one partition.

    Attributes:
        cursor: The truth about state and table.
        epoch: Epoch of the partition's lease when the row was last written.
        start: First offset of the version's first generation.
        topic_id: Id of the topic that the offsets belong to.
        counts: Records processed and dead letters before the cursor, by lineage.
    """

    cursor: Cursor
    epoch: int
    start: int
    topic_id: str
    counts: Counts


def positions(standings: Mapping[int, Standing]) -> dict[int, int]:
    """Return the next offset that a version reads, by partition."""
    return {p: s.cursor.next for p, s in standings.items()}


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease in the store: who holds a name, until when."""

    name: str
    epoch: int
    owner: str
    in_force: bool
    note: str


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is told with each commit.

    Attributes:
        stage: Its version's stage; "" where the version is not recorded.
        hold: Epoch of the lease ``hold/<pipeline>`` while that is in force, else None.
    """

    stage: str
    hold: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """What one batch, rewind or gap does to one partition of a version.

    Attributes:
        place: The partition.
        before: The cursor that must be in the store, else the move is refused.
        after: The cursor that takes its place.
        epoch: The lease epoch that must be in the store.
        content: The delta of a batch; all state and rows of the partition where a generation
            begins (`playhead.core.past.pack`).
        counts: Of the batch; where a generation begins, of everything before ``after``.
        rows: Folded rows by physical table; where a generation begins, all of the partition's, in
            place of what is there. A table that is not named is not touched. A Boolean column
            ``_tombstone`` marks keys to be deleted.
        dead: Dead letters of the batch.
        gap_from: For an accepted gap: where the cursor stood.
        upstream: Where a generation begins: the generations of the version that writes the source.
        topic_id: Where a generation begins on another topic of the same name: its id.
        why: For the audit, where a generation begins.
    """

    place: TopicPartition
    before: Cursor
    after: Cursor
    epoch: int
    content: bytes
    counts: Counts = field(default_factory=Counts)
    rows: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    dead: Sequence[DeadLetter] = ()
    gap_from: int | None = None
    upstream: Upstream = field(default_factory=dict)
    topic_id: str = ""
    why: str = ""


class Ledger(Protocol):
    """Cursors, generations, leases: the truth about what was processed.

    ``on_step`` is told the name of each point between two durable effects of `commit`.
    """

    on_step: Callable[[str], None] | None

    @property
    def id(self) -> str:
        """Id of this store, made with it."""

    def standings(self, version: str) -> dict[int, Standing]:
        """Return where the version stands, by partition, all read in one transaction."""

    def generations(self, version: str) -> dict[int, list[Generation]]:
        """Return every generation of every partition, oldest first."""

    def begin(self, version: str, place: TopicPartition, topic_id: str, move: Move) -> None:
        """Insert the cursor row of a first start: ``move.after``, with the content to begin with.

        The move's rows take the place of what the partition has in their tables.

        Raises:
            CheckpointConflict: There is a row already, or the lease is no longer ours.
        """

    def commit(self, version: str, moves: Sequence[Move]) -> Orders:
        """Move the cursors and write content and rows: all of it or nothing; return the orders.

        The compare-and-set of every cursor comes first, in sorted order. Each batch leaves its
        delta. A move that begins a new generation (``after.generation`` is one more) leaves a
        snapshot, and replaces rows and counters of the partition instead of adding to them. The
        orders are read in the same transaction.

        Raises:
            CheckpointConflict: A cursor or an epoch is not what the move says.
            FunctionFailed: A key of a table was written from two partitions.
        """

    def orders(self, version: str) -> Orders:
        """Return what a worker of this version is told now, for one that commits nothing."""

    def take(
        self, names: Sequence[str], note: str, at: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Take leases whether in force or not: epoch + 1; return the epochs.

        With ``at`` only where each lease stands at the epoch that it names: all of them or none.

        Raises:
            CheckpointConflict: One stands at another epoch.
        """

    def take_free(self, name: str, note: str) -> int:
        """Take a lease that is free, expired, or held by a process that is gone.

        Raises:
            Refused: It is in force; the message names its holder.
        """

    def renew(self, epochs: Mapping[str, int]) -> None:
        """Extend leases.

        Raises:
            CheckpointConflict: One is no longer ours.
        """

    def answer(self, name: str, epoch: int, note: str) -> bool:
        """Write a note on a lease that another holds; say whether it still stood at this epoch.

        A lease that was given back, or has expired, takes no answer.
        """

    def release(self, epochs: Mapping[str, int]) -> None:
        """Give leases back, those that are still ours."""

    def lease(self, name: str) -> Lease | None:
        """Return one lease, or None when it was never taken or was given back."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version of a pipeline is live, since which epoch, and which one was before it."""

    label: str
    epoch: int
    previous: str | None


@dataclass(frozen=True, slots=True)
class Swap:
    """A promotion of one pipeline, ready to be done.

    Attributes:
        base: The version that is live.
        head: The version that becomes live.
        epoch: The pointer's epoch that must be in the store.
        leases: Lease epochs that must be in the store.
        cursors: Cursors by version and partition that must be in the store.
        detail: For the audit.
        public: The epochs of public topics that begin with it.
    """

    base: VersionRow
    head: VersionRow
    epoch: int
    leases: Mapping[str, int]
    cursors: Mapping[str, Mapping[int, Cursor]]
    detail: Mapping[str, object]
    public: Sequence[Begun] = ()


class Catalog(Protocol):
    """Versions, pointers and tables."""

    def versions(self) -> list[VersionRow]:
        """Return every recorded version, in the order of recording."""

    def record(self, version: VersionRow) -> None:
        """Record a new version: its row, its physical tables, and, when live, pointer and views.

        Raises:
            Refused: A physical table exists that the catalog does not know.
        """

    def change(self, version: VersionRow) -> None:
        """Change what is recorded of a version; a table whose columns changed is made anew."""

    def forget(self, version: VersionRow, detail: Mapping[str, object]) -> None:
        """Remove a version: its row, its tables, everything that the ledger holds of it.

        Runs and the audit stay, with a line of the audit about this.

        Raises:
            Refused: A pointer names it, as live or as the one before.
        """

    def pointer(self, pipeline: str) -> Pointer | None:
        """Return the pipeline's pointer, or None when nothing is live."""

    def swap(self, *swaps: Swap) -> list[int]:
        """Make each head live, all in one transaction: pointers, stages, views, audit.

        Returns:
            The epoch of each pointer.

        Raises:
            CheckpointConflict: A pointer, a lease or a cursor is not what a swap says.
        """

    def rows(self, table: TableRow, partition: int | None = None) -> pl.DataFrame:
        """Return a physical table, or one partition's rows of it.

        The frame has the declared columns, ``_partition`` and ``_offset``.
        """

    def cut(self, before: Mapping[str, Stand] = NOTHING) -> Cut:
        """Return results of one moment, of every version.

        Args:
            before: Tables that there is a copy of, and how they stood then: of these only what is
                new is returned, where a version did nothing but go on.
        """

    def moment(self) -> AbstractContextManager[Moment]:
        """Open results of one moment, to be read in pieces; writers go on meanwhile."""

    def changes(self) -> int:
        """Return a counter that each change of results or pointers raises."""


class Store(Protocol):
    """A database that offers ledger, history, catalog and journal over the same transactions."""

    @property
    def ledger(self) -> Ledger:
        """The ledger."""

    @property
    def history(self) -> History:
        """The history."""

    @property
    def catalog(self) -> Catalog:
        """The catalog."""

    @property
    def journal(self) -> Journal:
        """The journal."""

    @property
    def publications(self) -> Publications:
        """The epochs of public topics."""

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
