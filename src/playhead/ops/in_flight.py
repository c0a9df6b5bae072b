"""How far two chains have come, in offsets of the topic that both begin with.

A table behind a topic has rows with offsets of that topic, and those of two topics do not compare.
What compares is the offset of the root topic that a row goes back to, through the headers
``playhead-source`` of the topics between.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from playhead.core.diff import LATE
from playhead.engine.reading import whole_topic
from playhead.ops.topic_rows import Writer
from playhead.ports import Log, Moment, Store, VersionRow

Path = Sequence[VersionRow]
"""The version that reads the root topic, then each that reads what the one before it writes."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is asked: the log, the store, and one moment of it."""

    log: Log
    store: Store
    moment: Moment

    def cursors(self, row: VersionRow) -> dict[int, int]:
        """Return where a version stands, by partition."""
        return {p: c.next for p, c in self.moment.cursors.get(row.name, {}).items()}


def root_positions(place: Place, path: Path) -> dict[int, int]:
    """Return up to where the root topic has come out at the end of a path, by partition.

    What a stage wrote, and the next one has not read, is not there yet.
    """
    found = place.cursors(path[-1])
    for writer, reader in zip(path[-2::-1], path[:0:-1], strict=True):
        sources = Writer(place.store, writer)
        lowest = place.cursors(writer)
        unread = {p: found.get(p, 0) for p in place.log.retained(reader.source)}
        for records in whole_topic(place.log, reader.source, unread):
            for headers in records.headers:
                source = sources.source(headers)
                if source is not None and source[0] in lowest:
                    lowest[source[0]] = min(lowest[source[0]], source[1])
        found = lowest
    return found


@dataclass(frozen=True, slots=True)
class Late:
    """Offsets of a topic whose records go back to root offsets at or beyond a bound."""

    offsets: Mapping[int, pl.Series]

    def marked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows with a column that says whether each was made from such a record."""
        late = pl.repeat(value=False, n=len(rows), eager=True)
        for partition, offsets in self.offsets.items():
            if len(offsets):
                at = offsets.search_sorted(rows["_offset"]).clip(0, len(offsets) - 1)
                late |= (offsets.gather(at) == rows["_offset"]) & (rows["_partition"] == partition)
        return rows.with_columns(late.alias(LATE))


def late(place: Place, path: Path, bound: Mapping[int, int]) -> Late:
    """Return what the last stage of a path has read that lies beyond a bound of the root topic.

    Where the path has come no further than the bound, nothing has to be read to say so.
    """
    first = place.cursors(path[0])
    if all(bound.get(p) == at for p, at in first.items()):
        return Late({})
    before: Late | None = None
    for writer, reader in itertools.pairwise(path):
        before = _beyond(place, (writer, reader), bound, before)
    return before or Late({})


def _beyond(
    place: Place,
    stage: tuple[VersionRow, VersionRow],
    bound: Mapping[int, int],
    before: Late | None,
) -> Late:
    """Return the offsets of what a reader reads that lie beyond the bound."""
    writer, reader = stage
    sources = Writer(place.store, writer)
    known = {p: set(o) for p, o in before.offsets.items()} if before is not None else {}
    found: dict[int, list[int]] = {}
    for records in whole_topic(place.log, reader.source):
        for offset, headers in zip(records.offsets, records.headers, strict=True):
            source = sources.source(headers)
            if source is None:
                continue
            partition, at = source
            beyond = (
                at >= bound.get(partition, 0) if before is None else at in known.get(partition, ())
            )
            if beyond:
                found.setdefault(records.source.partition, []).append(offset)
    return Late({p: pl.Series(offsets, dtype=pl.Int64) for p, offsets in found.items()})
