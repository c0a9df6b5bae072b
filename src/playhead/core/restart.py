"""The restart table: what a session does with one partition, from cursor, witness and group.

A pure function. Each rule removes a counterexample that a model checker found (docs/DESIGN.md).
`decide` returns one `Decision`. After a `Redo` the caller carries it out and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from playhead.core.checkpoint import Checkpoint, Committed, Cursor
from playhead.core.offsets import OffsetRange, TopicPartition


class Act(Enum):
    """What to do with a partition."""

    FIRST_START = "first start"
    REDO = "redo"
    REWIND = "rewind"
    ACCEPT_GAP = "accept gap"
    GO_ON = "go on"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """The row of the table that holds, and what it asks for.

    Attributes:
        act: What to do.
        to: The offset to start at, redo up to, rewind to or accept; for GO_ON the cursor.
        why: One sentence for people: for the audit, or the refusal itself.
        expected: REDO only: the checkpoint whose digest the redo must reproduce.
        cure: REFUSE only: what to do.
        noteworthy: Whether the audit records it.
    """

    act: Act
    to: int
    why: str
    expected: Checkpoint | None = None
    cure: str | None = None
    noteworthy: bool = False


@dataclass(frozen=True, slots=True)
class Situation:
    """All that the table looks at, for one partition.

    Attributes:
        place: The partition.
        ledger: Id of the store.
        version: ``pipeline@label``.
        cursor: C, or None when the ledger has no row.
        group: K, the group's own offset, or None.
        witness: W, the witness group's offset, or None.
        retained: What the log still holds, up to the last stable offset.
        first: Where a first start begins.
        topic_outputs: Whether the version publishes to topics.
        accept_gap: Whether the user accepted a skip in so many words.
    """

    place: TopicPartition
    ledger: str
    version: str
    cursor: Cursor | None
    group: Committed | None
    witness: Committed | None
    retained: OffsetRange
    first: int
    topic_outputs: bool
    accept_gap: bool = False

    def ours(self, committed: Committed | None) -> Checkpoint | None:
        """Return the checkpoint of a commit made by this version on this ledger, else None."""
        checkpoint = committed.checkpoint if committed else None
        if checkpoint and (checkpoint.ledger, checkpoint.version) == (self.ledger, self.version):
            return checkpoint
        return None

    def anothers(self, committed: Committed | None) -> bool:
        """Say whether another ledger or another version made the commit."""
        checkpoint = committed.checkpoint if committed else None
        return checkpoint is not None and self.ours(committed) is None

    def told(self) -> str:
        """Return all three positions in words."""
        return (
            f"cursor {self.cursor or 'none'}, "
            f"group {_told(self.group)}, witness {_told(self.witness)}"
        )


def decide(s: Situation) -> Decision:
    """Return what to do with this partition, by the first row of the table that matches."""
    if s.cursor is None:
        return _without_cursor(s)
    if s.anothers(s.group) or s.anothers(s.witness):
        return _disagree(s, s.cursor)
    return _by_witness(s, s.cursor) or _by_group(s, s.cursor)


def _without_cursor(s: Situation) -> Decision:
    if s.witness is None and s.group is None:
        return Decision(Act.FIRST_START, s.first, "first start")
    if s.witness is None and s.group is not None and s.group.checkpoint is None:
        return Decision(
            Act.FIRST_START, s.group.offset, "first start where the group was put", noteworthy=True
        )
    return _refuse(
        s,
        s.first,
        f"the store has no cursor for {s.version}, but the log has: {s.told()}. "
        "The store is gone, or this is another one.",
        "Restore the store, or name the right one with --store. If it is gone for good, begin "
        f"anew: playhead rewind {s.version} --to-earliest --execute.",
    )


def _by_witness(s: Situation, cursor: Cursor) -> Decision | None:
    """Rows about an unfinished batch and about a store or a log that lost something."""
    stage = (cursor.generation, cursor.batch)
    following = (cursor.generation, cursor.batch + 1)
    witness = s.ours(s.witness)
    if s.witness is not None and witness is not None:
        seen = (witness.generation, witness.batch)
        if seen == following and s.witness.offset > cursor.next:
            return _redo(s, cursor, s.witness, witness)
        if seen > stage:
            return _refuse(
                s,
                cursor.next,
                f"the log is ahead of the store by more than one batch: {s.told()}. "
                "The store was restored from an older backup.",
                "Restore the store's newest state.",
            )
        if seen == stage and s.witness.offset != cursor.next:
            return _disagree(s, cursor)
        if s.topic_outputs and cursor.batch > 0 and seen < stage:
            return _refuse(
                s,
                cursor.next,
                f"the log has lost a transaction that the ledger holds: {s.told()}.",
                "Check the log's replication and recover it, or replay under a new label.",
            )
        return None
    group = s.ours(s.group)
    if s.group is not None and group is not None:
        seen = (group.generation, group.batch)
        if seen == following and s.group.offset > cursor.next:
            return _redo(s, cursor, s.group, group)
    return None


def _redo(s: Situation, cursor: Cursor, at: Committed, expected: Checkpoint) -> Decision:
    unfinished = OffsetRange(cursor.next, at.offset)
    if not s.retained.holds(unfinished.start, unfinished.end):
        return _refuse(
            s,
            cursor.next,
            f"the unfinished batch {unfinished} is no longer retained "
            f"(the topic holds {s.retained}).",
            "Restore the topic from an archive.",
        )
    why = f"batch {expected.batch} was published but not stored: redo {unfinished}"
    return Decision(Act.REDO, at.offset, why, expected=expected, noteworthy=True)


def _by_group(s: Situation, cursor: Cursor) -> Decision:
    if s.group is None:
        if s.topic_outputs and s.ours(s.witness) is None:
            return Decision(
                Act.REWIND,
                cursor.next,
                "group and witness are gone: a new generation at the cursor",
                noteworthy=True,
            )
        return Decision(Act.GO_ON, cursor.next, "the group had no offset", noteworthy=True)
    checkpoint = s.ours(s.group)
    if checkpoint is not None:
        return _by_own_group(s, cursor, s.group, checkpoint)
    return _by_foreign_group(s, cursor, s.group)


def _by_own_group(
    s: Situation, cursor: Cursor, group: Committed, checkpoint: Checkpoint
) -> Decision:
    stage = (cursor.generation, cursor.batch)
    seen = (checkpoint.generation, checkpoint.batch)
    if group.offset == cursor.next and seen == stage:
        return Decision(Act.GO_ON, cursor.next, "normal")
    if seen == (cursor.generation + 1, 0) and group.offset <= cursor.next:
        return Decision(Act.REWIND, group.offset, "a rewind was begun: finish it", noteworthy=True)
    if seen < stage and (s.ours(s.witness) is not None or not s.topic_outputs):
        return Decision(Act.GO_ON, cursor.next, "an advisory commit lagged")
    return _disagree(s, cursor)


def _by_foreign_group(s: Situation, cursor: Cursor, group: Committed) -> Decision:
    witnessed = s.ours(s.witness) is not None or not s.topic_outputs
    if group.offset == cursor.next:
        if witnessed:
            return Decision(
                Act.GO_ON, cursor.next, "the group was reset to where it was", noteworthy=True
            )
        return Decision(
            Act.REWIND,
            cursor.next,
            "the witness was reset too: a new generation at the cursor",
            noteworthy=True,
        )
    if group.offset < cursor.next:
        return Decision(
            Act.REWIND, group.offset, "somebody moved the playhead back", noteworthy=True
        )
    skipped = OffsetRange(cursor.next, group.offset)
    if not witnessed:
        return _refuse(
            s,
            cursor.next,
            f"the group is ahead of the cursor and the witness is gone: {s.told()}. "
            "Cannot tell a skip from an unfinished batch.",
            f"Reset the group to {cursor.next}.",
        )
    if s.accept_gap:
        return Decision(
            Act.ACCEPT_GAP, group.offset, f"the skip of {skipped} was accepted", noteworthy=True
        )
    return _refuse(
        s,
        cursor.next,
        f"somebody moved the group forward: {skipped} would be skipped.",
        f"Reset the group to {cursor.next}, or accept the loss with --accept-gap.",
    )


def _disagree(s: Situation, cursor: Cursor) -> Decision:
    return _refuse(
        s,
        cursor.next,
        f"log and ledger disagree, or two apps share the group: {s.told()}.",
        "Check --log and --store; give one of two apps its own group=.",
    )


def _refuse(s: Situation, to: int, why: str, cure: str) -> Decision:
    return Decision(Act.REFUSE, to, f"{s.place}: {why}", cure=cure)


def _told(committed: Committed | None) -> str:
    if committed is None:
        return "none"
    checkpoint = committed.checkpoint
    if checkpoint is None:
        return f"{committed.offset} (set by another tool)"
    return (
        f"{committed.offset} ({checkpoint.version}, ledger {checkpoint.ledger[:8]}, "
        f"generation {checkpoint.generation}, batch {checkpoint.batch})"
    )
