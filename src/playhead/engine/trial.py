"""One pass of a version's function over records, cut into batches; nothing is written anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from playhead.core.declare import Table
from playhead.core.outputs import Target
from playhead.core.past import Content, Gathered, pack, unpack
from playhead.core.records import Outgoing, Records
from playhead.core.slots import Slots
from playhead.engine.call import Outcome

Call = Callable[[Records, Slots], Outcome]


@dataclass(slots=True)
class Trial:
    """What one pass gave.

    Attributes:
        outgoing: Records for topics, in the order in which they would be published.
        rows: The last row of each key by physical table, with ``_partition`` and ``_offset``.
        slots: State at the end.
    """

    outgoing: list[Outgoing] = field(default_factory=list)
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)
    slots: Slots = field(default_factory=dict)


def try_out(call: Call, targets: Sequence[Target], records: Records, sizes: Iterable[int]) -> Trial:
    """Call with batches of the given sizes, from empty state, as a worker would.

    State goes from batch to batch through its stored form, so what does not survive that shows.

    Raises:
        BadRecord: A record cannot be decoded.
        FunctionFailed: The function raised, or returned what it must not.
    """
    trial, gathered = Trial(), Gathered(Content())
    for batch in batches(records, sizes):
        outcome = call(batch, gathered.slots)
        delta = unpack(pack(Content(outcome.delta, outcome.rows)), "what a batch changed")
        gathered.add(delta.slots, delta.rows)
        trial.outgoing += outcome.outgoing
    tables = {t.physical: t.output.key for t in targets if isinstance(t.output, Table)}
    trial.rows, trial.slots = gathered.rows(tables), gathered.slots
    return trial


def batches(records: Records, sizes: Iterable[int]) -> Iterator[Records]:
    """Yield consecutive batches of these sizes; what remains after the last size is left out."""
    begin = 0
    for size in sizes:
        part = slice(begin, begin + size)
        begin = min(begin + size, len(records))
        yield replace(
            records,
            offsets=records.offsets[part],
            timestamps_ms=records.timestamps_ms[part],
            keys=records.keys[part],
            values=records.values[part],
            headers=records.headers[part],
            next=records.offsets[begin] if begin < len(records) else records.next,
        )
