"""One batch: compute, publish, store, advise. Its order is what makes results exactly once.

A crash between 2 and 3 is found by the next session: the witness is one batch ahead of the
cursor, and the batch is computed again with its outputs suppressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from playhead.core import outputs
from playhead.core.checkpoint import Checkpoint, Committed, Cursor
from playhead.core.offsets import TopicPartition
from playhead.core.past import Content, Counts, pack
from playhead.core.records import Outgoing, Records
from playhead.core.slots import Slots, key_columns, merge
from playhead.engine import upstream
from playhead.engine.call import Outcome
from playhead.engine.events import BatchDone, Step, Warned
from playhead.engine.process import process
from playhead.engine.session import Session
from playhead.engine.snapshots import snapshot_if_due
from playhead.engine.task import Seat, Task
from playhead.errors import BadRecord, FunctionFailed, SessionLost
from playhead.ports import Move, Orders


def run_batch(session: Session, batches: Sequence[Records]) -> tuple[Orders, Counts]:
    """Process what was read, one `Records` a partition.

    Returns:
        What the store told with the commit, and how many records were processed and set aside.

    Raises:
        BadRecord: A record cannot be decoded; with ``offset``, all before it was committed.
        FunctionFailed: The function failed; likewise, and where it fails only on the batch as a
            whole, nothing of it was committed.
        SessionLost: Another process took over, or the outcome of the log's transaction is
            unknown: the session is over, and only the start sequence can tell.
    """
    member, ledger = session.member, session.store.ledger
    if member is None:
        raise SessionLost(f"{session.name}: the session has not started")
    # 1. Compute, one partition at a time: outputs, table rows, and the state's delta.
    computed = _compute(session, batches)
    moves, offsets = [c.move for c in computed.parts], computed.offsets
    if computed.failed and not moves:
        raise computed.failed
    session.tell(Step("computed"))
    # 2. One log transaction: output records, witness and group offset, with metadata.
    if session.task.publishes:
        member.publish(_together([c.outcome for c in computed.parts]), offsets)
    # 3. One store transaction: compare-and-set of every cursor, then state, rows, counters.
    session.tell(Step("before store commit"))
    orders = ledger.commit(session.name, moves)
    session.tell(Step("after store commit"))
    # 4. Without topic outputs there is no witness: the group's offset follows, as advice.
    if not session.task.publishes:
        member.commit(offsets)
        session.tell(Step("after advisory commit"))
    for part in computed.parts:
        seat = session.seats[part.move.place.partition]
        seat.cursor = part.move.after
        seat.slots = merge(seat.slots, part.outcome.delta)
        seat.since.add(part.move.counts.records, len(part.move.content))
    _tell_dead(session, moves)
    # 5. Now and then a snapshot, so that what comes later need not begin at the start.
    for move in moves:
        snapshot_if_due(
            session.store, session.task, session.seats[move.place.partition], session.tell
        )
    counts = sum((move.counts for move in moves), Counts())
    times_ms = {b.source.partition: max(b.timestamps_ms) for b in batches if len(b)}
    session.tell(BatchDone(session.name, counts.records, session.positions, times_ms))
    if computed.failed:
        raise computed.failed
    return orders, counts


@dataclass(frozen=True, slots=True)
class _Part:
    """One partition of a batch, computed."""

    move: Move
    outcome: Outcome


@dataclass(slots=True)
class _Computed:
    """A batch, computed: what comes before a bad record that stops it, where there is one."""

    parts: list[_Part] = field(default_factory=list)
    offsets: dict[int, Committed] = field(default_factory=dict)
    failed: BadRecord | FunctionFailed | None = None


def _compute(session: Session, batches: Sequence[Records]) -> _Computed:
    computed = _Computed()
    for read in batches:
        seat = session.seats[read.source.partition]
        records, outcome, failed = _up_to_bad(session.task, seat, read)
        computed.failed = computed.failed or failed
        if outcome is None:
            continue
        before = [part.outcome for part in computed.parts]
        _check_keys(session.seats, before, seat.place, outcome.delta)
        move = _move(seat, records, outcome)
        digest = outputs.digest(outcome.outgoing) if session.task.publishes else "-"
        computed.offsets[seat.place.partition] = _committed(session, move, digest)
        computed.parts.append(_Part(move, outcome))
    return computed


def _up_to_bad(
    task: Task, seat: Seat, records: Records
) -> tuple[Records, Outcome | None, BadRecord | FunctionFailed | None]:
    """Return what comes before a record that stops, what it gives (if any), and why it stops."""
    failed = None
    while True:
        try:
            outcome = process(task, records, seat.slots, seat.generation, seat.aside)
        except (BadRecord, FunctionFailed) as error:
            if error.offset is None:
                raise
            failed, records = error, records.before(error.offset)
            if records.next <= seat.cursor.next:
                return records, None, failed
        else:
            return records, outcome, failed


def _tell_dead(session: Session, moves: Sequence[Move]) -> None:
    dead = [letter for move in moves for letter in move.dead]
    if dead:
        first = dead[0]
        session.tell(
            Warned(
                session.name,
                f"{len(dead)} set aside; {first.place.at(first.offset)}: {first.error}; look: "
                f"playhead dead-letters {session.name}",
            )
        )


def _move(seat: Seat, records: Records, outcome: Outcome) -> Move:
    before = seat.cursor
    after = Cursor(records.next, before.generation, before.batch + 1)
    return Move(
        place=seat.place,
        before=before,
        after=after,
        epoch=seat.epoch,
        content=pack(Content(outcome.delta, outcome.rows)),
        counts=outcome.counts,
        rows=outcome.rows,
        dead=outcome.dead,
    )


def _committed(session: Session, move: Move, digest: str) -> Committed:
    checkpoint = Checkpoint(
        session.store.ledger.id,
        session.name,
        move.after.generation,
        move.after.batch,
        move.before.next,
        digest,
    )
    return Committed(move.after.next, str(checkpoint))


def _together(outcomes: Sequence[Outcome]) -> list[Outgoing]:
    return [out for outcome in outcomes for out in outcome.outgoing if len(out)]


def _check_keys(
    seats: Mapping[int, Seat], outcomes: Sequence[Outcome], place: TopicPartition, delta: Slots
) -> None:
    """Refuse a key whose state lives in another partition: it would be counted twice, apart."""
    elsewhere = [(seat.place, seat.slots) for seat in seats.values() if seat.place != place]
    elsewhere += [(outcome.place, outcome.delta) for outcome in outcomes]
    for name, changed in delta.items():
        if name.rpartition("/")[2] == upstream.SLOT:
            continue
        key = key_columns(changed)
        for other, slots in elsewhere:
            known = slots.get(name)
            both = None if known is None else changed.join(known, on=key, how="semi")
            if both is not None and len(both):
                shown = ", ".join(str(v) for v in both.select(key).row(0))
                raise FunctionFailed(
                    f"key {shown} was seen in {other} before: a key belongs to one "
                    "partition, or its state is split in two",
                    where=str(place),
                    safe="Nothing of this batch was committed.",
                    cure="Produce the topic with its key, or forward it into one that is: "
                    "app.pipeline(topic, to=[keyed], name=…, version=…).",
                )
