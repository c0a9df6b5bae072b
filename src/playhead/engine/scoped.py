"""Shadows that make a part of history anew, and have the rest from the version that is live.

A shadow with a `Scope` begins at its start with base's table rows, and with base's state or with
what its own code makes of everything before (*warm*: computed, not written). Where times bound
the scope, both functions run over it, for records are not in the order of their times: base's rows
of those outside stay, wherever they lie. The shadow's slots then carry base's beside its own.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from playhead.core.declare import Table
from playhead.core.past import Counts
from playhead.core.records import Outgoing, Records
from playhead.core.scope import Scope, carried, fitted, of_base, own
from playhead.core.slots import Slots, is_last, merge
from playhead.engine.call import Outcome
from playhead.engine.task import Task
from playhead.ports import DeadLetter

Compute = Callable[[Task, Records, Slots], Outcome]
Rows = dict[str, pl.DataFrame]


def within(task: Task, scope: Scope, records: Records, slots: Slots, compute: Compute) -> Outcome:
    """Return what a shadow makes of records: what its scope leaves out is computed, not written.

    Args:
        task: The shadow.
        scope: Its scope.
        records: Records of one partition.
        slots: State before them, base's beside its own where the scope carries it.
        compute: What a version makes of records, from its own state.
    """
    partition = records.source.partition
    start, end = scope.start.get(partition, 0), scope.end.get(partition)
    state, base_state = own(slots), of_base(slots)
    delta: Slots = {}
    outgoing: list[Outgoing] = []
    gathered: dict[str, list[pl.DataFrame]] = {}
    dead: tuple[DeadLetter, ...] = ()
    counts = Counts()
    for run, mine in scope.parts(records):
        made = compute(task, run, state)
        state, delta = merge(state, made.delta), merge(delta, made.delta)
        dead, counts = dead + made.dead, counts + made.counts
        rows = made.rows if mine else {}
        some = run if end is None else run.before(end)
        if scope.timed and task.base is not None and len(some):
            theirs = compute(task.base, some, base_state)
            base_state = merge(base_state, theirs.delta)
            delta = merge(delta, carried(theirs.delta))
            rows = rows if mine else _since(start, as_heads(task, theirs.rows))
        outgoing += made.outgoing if mine else []
        for table, frame in rows.items():
            gathered.setdefault(table, []).append(frame)
    return Outcome(records.source, outgoing, _folded(task, gathered), delta, counts, dead)


def _since(start: int, rows: Rows) -> Rows:
    return {table: frame.filter(pl.col("_offset") >= start) for table, frame in rows.items()}


def _folded(task: Task, gathered: dict[str, list[pl.DataFrame]]) -> Rows:
    """Return the last row of each key; one that deletes its key is kept as such."""
    keys = {t.physical: t.output.key for t in task.caller.targets if isinstance(t.output, Table)}
    return {
        table: frames[0]
        if len(frames) == 1
        else pl.concat(frames, how="diagonal").filter(is_last(keys[table]))
        for table, frames in gathered.items()
    }


def as_heads(task: Task, rows: Rows) -> Rows:
    """Return base's table rows as rows of the shadow's tables of the same public names."""
    if task.base is None:
        return {}
    names = {t.output.name: t for t in task.caller.targets if isinstance(t.output, Table)}
    found = {}
    for target in task.base.caller.targets:
        head = names.get(target.output.name)
        if isinstance(target.output, Table) and head is not None and target.physical in rows:
            found[head.physical] = fitted(rows[target.physical], head.schema)
    return found


def as_bases(task: Task, rows: Rows) -> Rows:
    """Return the shadow's table rows under the names of base's tables, columns as they are."""
    if task.base is None:
        return {}
    names = {t.output.name: t.physical for t in task.caller.targets}
    return {
        target.physical: rows[names[target.output.name]]
        for target in task.base.caller.targets
        if isinstance(target.output, Table) and names.get(target.output.name) in rows
    }
