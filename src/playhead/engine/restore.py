"""State and table rows as of an offset, recomputed from the version's start, nothing published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from playhead.core import outputs
from playhead.core.codec import columns_schema
from playhead.core.declare import Table
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Records
from playhead.core.slots import Slots, merge
from playhead.engine.call import Caller
from playhead.errors import OffsetOutOfRange
from playhead.ports import Generation, Log

READ_TIMEOUT_S = 1.0


@dataclass(slots=True)
class Restored:
    """State and folded table rows of one partition as of an offset."""

    slots: Slots = field(default_factory=dict)
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)


def segments(history: Sequence[Generation], to: int) -> list[OffsetRange]:
    """Return what was processed on the way to ``to``: the start up to it, less accepted gaps.

    The start is the lowest offset that a generation began at. A gap counts as far as no later
    generation began inside or before it.
    """
    found: list[OffsetRange] = []
    position = min(g.start for g in history if g.gap_from is None)
    for i, generation in enumerate(history):
        if generation.gap_from is None:
            continue
        later = min((g.start for g in history[i + 1 :]), default=generation.start)
        gap = OffsetRange(generation.gap_from, min(generation.start, later))
        if len(gap) and gap.start < to:
            found.append(OffsetRange(position, gap.start))
            position = gap.end
    found.append(OffsetRange(position, to))
    return [segment for segment in found if len(segment)]


def check_retained(
    retained: OffsetRange | None, place: TopicPartition, wanted: OffsetRange
) -> None:
    """Refuse a range that the log does not hold.

    Raises:
        OffsetOutOfRange: It is not retained.
    """
    held = OffsetRange(0, 0) if retained is None else retained
    if not held.holds(wanted.start, wanted.end):
        raise OffsetOutOfRange(
            f"{wanted} is needed, and the topic holds {held}",
            where=str(place),
            safe="Nothing was changed.",
            cure="Restore the topic from an archive, or replay under a new label.",
        )


def read_all(
    log: Log, place: TopicPartition, wanted: OffsetRange, max_records: int
) -> Iterator[Records]:
    """Yield the records of a range, in order; ends when the *position* reaches the end.

    Raises:
        OffsetOutOfRange: The range is not retained.
    """
    check_retained(log.retained(place.topic).get(place.partition), place, wanted)
    reader = log.reader(place.topic, {place.partition: wanted.start})
    try:
        position = wanted.start
        while position < wanted.end:
            for records in reader.read(max_records, READ_TIMEOUT_S):
                cut = records.before(wanted.end)
                position = cut.next
                yield cut
    finally:
        reader.close()


def read_one(log: Log, place: TopicPartition, wanted: OffsetRange) -> Records:
    """Return the records of a range as one batch."""
    whole = Records(place, [], [], [], [], wanted.start)
    for records in read_all(log, place, wanted, max(1, len(wanted))):
        whole = whole.followed_by(records)
    return whole


def recompute(
    log: Log,
    caller: Caller,
    place: TopicPartition,
    wanted: Sequence[OffsetRange],
    batch_records: int,
    *,
    keep_alive: Callable[[], None] = lambda: None,
) -> Restored:
    """Run the function over ranges from empty state, with outputs suppressed.

    Raises:
        OffsetOutOfRange: A range is no longer retained.
    """
    restored = Restored()
    parts: dict[str, list[pl.DataFrame]] = {}
    for segment in wanted:
        for records in read_all(log, place, segment, batch_records):
            keep_alive()
            outcome = caller.call(records, restored.slots, 0)
            restored.slots = merge(restored.slots, outcome.delta)
            for table, rows in outcome.rows.items():
                parts.setdefault(table, []).append(rows)
    restored.rows = _folded(caller, parts)
    return restored


def _folded(caller: Caller, parts: Mapping[str, list[pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    found: dict[str, pl.DataFrame] = {}
    for target in caller.targets:
        if isinstance(target.output, Table):
            some = parts.get(target.physical)
            origin = {"_partition": pl.Int32(), "_offset": pl.Int64()}
            empty = pl.DataFrame(schema={**columns_schema(target.schema), **origin})
            found[target.physical] = (
                outputs.fold(pl.concat(some), target.output.key) if some else empty
            )
    return found
