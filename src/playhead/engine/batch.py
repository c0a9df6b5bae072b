"""One batch: compute, publish, store, advise. Its order is what makes results exactly once.

A crash between 2 and 3 is found by the next session: the witness is one batch ahead of the
cursor, and the batch is computed again with its outputs suppressed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from playhead.core import outputs
from playhead.core.checkpoint import Checkpoint, Committed, Cursor
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


@dataclass(frozen=True, slots=True)
class Part:
    """One partition of a batch, computed; ``slots`` is its state afterwards."""

    move: Move
    outcome: Outcome
    slots: Slots


@dataclass(slots=True)
class Batch:
    """A batch, computed: what comes before a bad record that stops it, where there is one.

    Attributes:
        parts: What each partition gave.
        offsets: What is committed for each partition.
        times_ms: Time of the newest record, by partition.
        failed: Why the work ends after it.
    """

    parts: list[Part] = field(default_factory=list)
    offsets: dict[int, Committed] = field(default_factory=dict)
    times_ms: dict[int, int] = field(default_factory=dict)
    failed: BadRecord | FunctionFailed | None = None


def compute(session: Session, read: Sequence[Records]) -> Batch:
    """Return what was read, one `Records` a partition, as a batch: outputs, rows, state's delta.

    The seats' fronts move; what is committed does not.

    Raises:
        BadRecord: A record cannot be decoded, and nothing comes before it.
        FunctionFailed: The function failed; likewise, or it fails only on the batch as a whole.
    """
    batch = Batch()
    for records in read:
        seat = session.seats[records.source.partition]
        _, slots = seat.computed
        good, outcome, failed = _up_to_bad(session.task, seat, records)
        batch.failed = batch.failed or failed
        if outcome is None:
            continue
        after = merge(slots, outcome.delta)
        _check_keys(session.seats, seat, outcome.delta, after)
        move = _move(seat, good, outcome)
        digest = outputs.digest(outcome.outgoing) if session.task.publishes else "-"
        batch.offsets[seat.place.partition] = _committed(session, move, digest)
        part = Part(move, outcome, after)
        seat.front = (move.after, part.slots)
        batch.parts.append(part)
        if len(records):
            batch.times_ms[seat.place.partition] = max(records.timestamps_ms)
    if batch.failed and not batch.parts:
        raise batch.failed
    session.tell(Step("computed"))
    return batch


def publish(session: Session, batch: Batch) -> Callable[[], None]:
    """Begin the log's transaction with a batch's records; return what commits it.

    One transaction: records, witness and group offset. What is returned touches the session's
    member and nothing else, so a thread of its own may wait in it.

    Raises:
        SessionLost: Another process took over, or the outcome of the transaction is unknown: the
            session is over, and only the start sequence can tell.
    """
    member = session.member
    if member is None:
        raise SessionLost(f"{session.name}: the session has not started")
    if not session.task.publishes:
        return lambda: None
    member.append(_together([part.outcome for part in batch.parts]))
    return lambda: member.finish(batch.offsets)


def settle(session: Session, batch: Batch) -> tuple[Orders, Counts]:
    """Store a batch that was published, and advise.

    Returns:
        What the store told with the commit, and how many records were processed and set aside.

    Raises:
        BadRecord, FunctionFailed: A record stops the work; with ``offset``, all before it was
            committed.
        CheckpointConflict: Another process took over.
        SessionLost: The assignment ended.
    """
    member, moves = session.member, [part.move for part in batch.parts]
    if member is None:
        raise SessionLost(f"{session.name}: the session has not started")
    # One store transaction: compare-and-set of every cursor, then state, rows, counters.
    session.tell(Step("before store commit"))
    orders = session.store.ledger.commit(session.name, moves)
    session.tell(Step("after store commit"))
    # Without topic outputs there is no witness: the group's offset follows, as advice.
    if not session.task.publishes:
        member.commit(batch.offsets)
        session.tell(Step("after advisory commit"))
    for part in batch.parts:
        seat = session.seats[part.move.place.partition]
        seat.cursor, seat.slots = part.move.after, part.slots
        seat.since.add(part.move.counts.records, len(part.move.content))
    _tell_dead(session, moves)
    # Now and then a snapshot, so that what comes later need not begin at the start.
    for move in moves:
        snapshot_if_due(
            session.store, session.task, session.seats[move.place.partition], session.tell
        )
    counts = sum((move.counts for move in moves), Counts())
    session.tell(BatchDone(session.name, counts.records, session.positions, batch.times_ms))
    if batch.failed:
        raise batch.failed
    return orders, counts


def _up_to_bad(
    task: Task, seat: Seat, records: Records
) -> tuple[Records, Outcome | None, BadRecord | FunctionFailed | None]:
    """Return what comes before a record that stops, what it gives (if any), and why it stops."""
    failed = None
    cursor, slots = seat.computed
    while True:
        try:
            outcome = process(task, records, slots, seat.generation, seat.aside)
        except (BadRecord, FunctionFailed) as error:
            if error.offset is None:
                raise
            failed, records = error, records.before(error.offset)
            if records.next <= cursor.next:
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
    before, _ = seat.computed
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


def _check_keys(seats: Mapping[int, Seat], own: Seat, delta: Slots, after: Slots) -> None:
    """Refuse a key whose state lives in another partition: it would be counted twice, apart.

    A key that the partition has had was looked for when it came; and so was what another operator
    has, over the same rows.
    """
    _, slots = own.computed
    looked_for: list[list[pl.DataFrame]] = []
    for name, changed in delta.items():
        before = slots.get(name, changed.clear())
        if name.rpartition("/")[2] == upstream.SLOT or len(after[name]) == len(before):
            continue
        key = key_columns(changed)
        others = {s.place: s.computed[1].get(name) for s in seats.values() if s is not own}
        there = {place: slot.select(key) for place, slot in others.items() if slot is not None}
        keys = [changed.select(key), before.select(key), *there.values()]
        if any(len(k) == len(keys) and all(map(pl.DataFrame.equals, k, keys)) for k in looked_for):
            continue
        looked_for.append(keys)
        fresh = keys[0].join(keys[1], on=key, how="anti")
        for place, slot in there.items():
            both = slot.join(fresh, on=key, how="semi")
            if len(both):
                shown = ", ".join(str(v) for v in both.row(0))
                raise FunctionFailed(
                    f"key {shown} was seen in {place} before: a key belongs to one "
                    "partition, or its state is split in two",
                    where=str(own.place),
                    safe="Nothing of this batch was committed.",
                    cure="Produce the topic with its key, or forward it into one that is: "
                    "app.pipeline(topic, to=[keyed], name=…, version=…).",
                )
