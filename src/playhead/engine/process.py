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
from playhead.engine.isolate import isolate
from playhead.engine.scoped import within
from playhead.engine.task import Task
from playhead.errors import BadRecord, FunctionFailed
from playhead.ports import DeadLetter

ERROR_MAX = 1000


def process(
    task: Task,
    records: Records,
    slots: Slots,
    generation: Generation,
    aside: Mapping[int, str],
    *,
    keep_on: bool | None = None,
) -> Outcome:
    """Return what a version makes of the records, from its state before them.

    A record that is known to be one, and with ``on_error="dead_letter"`` one that cannot be
    processed, becomes a dead letter. Any two calls with equal arguments give equal outcomes: live,
    in a redo and in a restore.

    Args:
        task: The version.
        records: Records of one partition.
        slots: State before them; not changed.
        generation: The generation that they belong to.
        aside: Errors by offset, of records that are dead letters without being tried.
        keep_on: Whether bad records are set aside, where ``on_error`` does not decide it.

    Raises:
        BadRecord: A record cannot be decoded; ``offset`` says which.
        FunctionFailed: The function raised, or returned what it must not; ``offset`` says at
            which record, or is None where they fail only as a whole.
        Refused: A writer of the source was rewound, and this version keeps state.
    """

    def compute(of: Task, some: Records, state: Slots) -> Outcome:
        if of is task:
            return _process(task, some, state, (generation, aside, keep_on))
        return _process(of, some, state, (generation, {}, True))

    if task.scope is None:
        return compute(task, records, slots)
    return within(task, task.scope, records, slots, compute)


def _process(
    task: Task,
    records: Records,
    slots: Slots,
    how: tuple[Generation, Mapping[int, str], bool | None],
) -> Outcome:
    generation, aside, keep_on = how
    if task.writers:
        records = upstream.fresh(records, generation.upstream)
    if task.takes is not None:
        records = task.takes(records)
    errors = {o: _line(aside[o]) for o in records.offsets if o in aside} if aside else {}
    good = records.where([o not in errors for o in records.offsets]) if errors else records

    def call(some: Records, state: Slots) -> Outcome:
        return task.caller.call(some, state, generation.number)

    keep_on = task.version.sets_aside if keep_on is None else keep_on
    try:
        outcome, bad = isolate(call, good, slots, keep_on=keep_on)
    except (BadRecord, FunctionFailed) as error:
        if error.offset is not None:
            error.cure = _ways_on(task, error)
        raise
    if bad:
        good = good.where([o not in bad for o in good.offsets])
        errors |= {offset: _line(error.message) for offset, error in bad.items()}
    delta = outcome.delta
    if task.writers and (delta or slots):
        delta = delta | upstream.noted(task, good, slots)
    dead = tuple(
        _dead(records, i, generation, errors[offset])
        for i, offset in enumerate(records.offsets if errors else ())
        if offset in errors
    )
    return replace(outcome, delta=delta, dead=dead, counts=Counts(len(good), len(dead)))


def _ways_on(task: Task, error: BadRecord | FunctionFailed) -> str:
    return (
        f"{error.cure or 'Correct what wrote it.'}\nOr go on without it: playhead dead-letters "
        f'{task.version.name} --skip "{error.where}" --reason TEXT (on_error="dead_letter" does so '
        "by itself)."
    )


def _line(text: str) -> str:
    """Return an error as one line that every store takes and any terminal shows."""
    line = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return shown if len(shown) <= ERROR_MAX else shown[: ERROR_MAX - 1] + "…"


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
