"""When a snapshot is saved, and what of the past is given up for it."""

from __future__ import annotations

import time

from playhead.core.past import Content, due, expired, pack, thinned
from playhead.engine.events import OnEvent, Step
from playhead.engine.task import Seat, Task
from playhead.ports import Snapshot, Store


def whole(store: Store, task: Task, seat: Seat) -> bytes:
    """Return all state and table rows of a partition as they stand, as one blob.

    Only the holder of the partition's lease changes them; whoever stores this compares the cursor.
    """
    recorded = [r for r in store.catalog.versions() if r.name == task.version.name]
    tables = [t for r in recorded for t in r.tables]  # a publisher has none, and is no version
    rows = {t.physical: store.catalog.rows(t, seat.place.partition) for t in tables}
    return pack(Content(seat.slots, rows))


def snapshot_if_due(store: Store, task: Task, seat: Seat, tell: OnEvent) -> bool:
    """Save a snapshot of a partition when enough was written since the last; thin the older ones.

    Raises:
        CheckpointConflict: Another process has taken over.
    """
    since = seat.since
    waited_s = time.monotonic() - since.at_s
    by_time = since.records > 0 and waited_s > task.rules.snapshot_s
    written = (since.deltas, since.records)
    by_size = due(written, since.size, since.last_size, task.rules.snapshot_records)
    if not (by_time or by_size or since.damaged):
        return False
    tell(Step("before snapshot"))
    content = whole(store, task, seat)
    store.history.save(task.version.name, Snapshot(seat.place, seat.cursor, seat.epoch, content))
    tell(Step("after snapshot"))
    since.begin(len(content))
    _give_up(store, task, seat)
    return True


def _give_up(store: Store, task: Task, seat: Seat) -> None:
    name, partition, rules = task.version.name, seat.place.partition, task.rules
    saved = store.history.saved(name, partition)
    gone = {
        *expired(saved, time.time(), rules.history_s, rules.history_bytes),
        *thinned(saved, rules.snapshot_records),
    }
    if gone:
        store.history.forget(name, partition, sorted(gone, key=lambda s: (s.generation, s.batch)))
