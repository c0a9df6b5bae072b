"""At the end of a scope: where both states are equal, what base made of all that follows stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from playhead.core.past import Content
from playhead.core.scope import own, same_state
from playhead.core.slots import Slots
from playhead.engine.resolve import Resolver
from playhead.engine.restore import Restorer, no_rows
from playhead.engine.scoped import as_bases, as_heads
from playhead.engine.session import Session
from playhead.engine.task import Seat
from playhead.engine.upstream import SLOT


def take_over(session: Session, to: Mapping[int, int]) -> dict[int, bool]:
    """Take over what base made from the end of the scope on, where the states there are equal.

    The shadow then stands at ``to``, with base's state and base's rows of ``[end, to)`` on top of
    its own. Where they differ nothing is done: the shadow has to go on with its own code.

    Args:
        session: A session of the shadow, which stands at the end of its scope.
        to: Where base stands, by partition.

    Returns:
        Whether the states are equal, by partition: of those that stand at the end of their scope.

    Raises:
        OffsetOutOfRange: What base made cannot be had any more.
    """
    task = session.task
    scope, base = task.scope, task.base
    if scope is None or base is None:
        return {}
    found = {}
    for partition, seat in sorted(session.seats.items()):
        end = scope.end.get(partition)
        if end is None or seat.cursor.next != end:
            continue
        history = session.store.ledger.generations(scope.base)[partition]
        past = Restorer(base, session.log, session.store, seat.place, history, session.tell)
        then = past.as_of(end).slots
        found[partition] = same_state(_compared(seat.slots), _compared(then))
        if found[partition] and to.get(partition, end) > end:
            _take(session, seat, past, (then, to[partition]))
    return found


def _compared(slots: Slots) -> Slots:
    """Return a version's own slots without what it noted of others that write its source."""
    return {name: slot for name, slot in own(slots).items() if name != SLOT}


def _take(session: Session, seat: Seat, past: Restorer, from_base: tuple[Slots, int]) -> None:
    task, member = session.task, session.member
    if member is None:
        return
    slots, to = from_base
    begin = seat.cursor.next
    tables = next(v for v in session.store.catalog.versions() if v.name == session.name).tables
    rows = {t.physical: session.store.catalog.rows(t, seat.place.partition) for t in tables}
    after = past.onto(Content(slots, as_bases(task, rows)), begin, to)
    standing = session.store.ledger.standings(session.name)[seat.place.partition]
    kept = no_rows(task) | rows | as_heads(task, after.rows)
    restored = replace(after, slots=after.slots, rows=kept, counts=standing.counts)
    retained = session.log.retained(task.topic.name)
    resolver = Resolver(task, session.log, session.store, member, session.tell, retained)
    why = f"state at {begin} is {past.task.version.name}'s: what that made up to {to} stands"
    resolver.take_over(seat, to, restored, why=why)
