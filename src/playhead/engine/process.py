"""One step from records to an outcome: what counts goes through the function, the rest aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from playhead.core.lineage import Generation
from playhead.core.past import Counts
from playhead.core.records import Records
from playhead.core.slots import Slots
from playhead.engine import upstream
from playhead.engine.call import Outcome
from playhead.engine.task import Task
from playhead.ports import DeadLetter


def process(
    task: Task,
    records: Records,
    slots: Slots,
    generation: Generation,
    skips: Mapping[int, str],
) -> Outcome:
    """Return what a version makes of the records, from its state before them.

    Any two calls with equal arguments give equal outcomes: live, in a redo and in a restore.

    Args:
        task: The version.
        records: Records of one partition.
        slots: State before them; not changed.
        generation: The generation that they belong to.
        skips: Reasons by offset, for records that are dead letters by somebody's decision.

    Raises:
        BadRecord: A record cannot be decoded.
        FunctionFailed: The function raised, or returned what it must not.
        Refused: A writer of the source was rewound, and this version keeps state.
    """
    if task.writers:
        records = upstream.fresh(records, generation)
    dead = [
        _dead(records, i, generation, skips[offset])
        for i, offset in enumerate(records.offsets)
        if offset in skips
    ]
    if dead:
        records = records.where([offset not in skips for offset in records.offsets])
    outcome = task.caller.call(records, slots, generation.number)
    delta = outcome.delta
    if task.writers and (delta or slots):
        delta = delta | upstream.noted(task, records, slots)
    counts = Counts(len(records), len(dead))
    return replace(outcome, delta=delta, dead=tuple(dead), counts=counts)


def _dead(records: Records, i: int, generation: Generation, error: str) -> DeadLetter:
    return DeadLetter(
        place=records.source,
        offset=records.offsets[i],
        generation=generation.number,
        error=error,
        timestamp_ms=records.timestamps_ms[i],
        key=records.keys[i],
        value=records.values[i],
    )
