"""What a shadow with a scope begins with: base's rows, and base's state or none."""

from __future__ import annotations

from playhead.core.offsets import TopicPartition
from playhead.core.scope import carried
from playhead.engine.events import OnEvent
from playhead.engine.restore import Restored, Restorer
from playhead.engine.scoped import as_heads
from playhead.engine.task import Task
from playhead.errors import Refused
from playhead.ports import Log, Store


def seeded(
    task: Task, log: Log, store: Store, first: tuple[TopicPartition, int], tell: OnEvent
) -> tuple[int, Restored]:
    """Return where a version begins in one partition, and with what.

    Args:
        task: The version.
        log: Where base's records are read again, if need be.
        store: Where base's past is.
        first: The partition, and where a version without a scope begins.
        tell: Told what was damaged.

    Raises:
        Refused: Base is not declared any more.
        OffsetOutOfRange: Base's state and rows as of the start cannot be had.
    """
    place, at = first
    scope = task.scope
    start = scope.start.get(place.partition) if scope else None
    if scope is None or start is None:
        return at, Restored()
    if task.base is None:
        raise Refused(
            f"{task.version.name} begins with what {scope.base} made, which is not declared here",
            safe="Nothing was changed.",
            cure=f"Declare {scope.base} again.",
        )
    history = store.ledger.generations(scope.base)[place.partition]
    base = Restorer(task.base, log, store, place, history, tell)
    then = base.as_of(start)
    slots = {} if scope.warm else then.slots
    if scope.timed:
        slots = slots | carried(base.as_of(at).slots if scope.warm else then.slots)
    return at if scope.warm else start, Restored(slots, as_heads(task, then.rows))
