"""Reading a topic that was read before: its rows from the cache, the rest from the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache, partial

import polars as pl

from playhead.core.codec import Decoder
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Records, Unread
from playhead.engine.task import Task
from playhead.errors import BadRecord, LogFailed
from playhead.ports import Kept, KeptTopic, Log, Reader

SEGMENT = 20_000  # records of a partition from which on they are kept: a file each
_FRAMES = 64
_WAIT_S = 5.0
Open = Callable[[Mapping[int, int]], Reader]


@dataclass(slots=True)
class _Pending:
    """Decoded records of one partition that are not kept yet."""

    start: int
    end: int
    frames: list[pl.DataFrame] = field(default_factory=list)

    def add(self, rows: pl.DataFrame, end: int) -> None:
        """Add what follows, up to a position; many small frames become one."""
        self.frames.append(rows)
        self.end = end
        if len(self.frames) >= _FRAMES:
            self.frames = [pl.concat(self.frames, rechunk=True)]


def through_cache(task: Task, log: Log, open_reader: Open) -> Open:
    """Return what opens a reader for a task: one with the cache where there is one for it.

    A publisher needs the records as they are; where the app itself writes the source, headers
    count, and its records are others after each replay; a base task in a scope decodes by itself.
    """
    if task.cache is None or task.takes is not None or task.writers or task.scope is not None:
        return open_reader
    decoder = Decoder(task.version.source)
    topic = task.topic.name
    kept = task.cache.topic(task.topic, decoder.content, log.retained(topic))
    if kept is None:
        return open_reader
    return partial(CachedReader, kept, decoder, topic, open_reader)


class CachedReader:
    """A `Reader` that hands out decoded records: kept ones, and those of the log, which it keeps.

    Where anything is kept at a position, only that is handed out; else the log is read.
    """

    def __init__(
        self,
        kept: KeptTopic,
        decoder: Decoder,
        topic: str,
        open_reader: Open,
        at: Mapping[int, int],
    ) -> None:
        """Begin at the positions ``at``; the log is not read before it is needed."""
        self._kept, self._decoder, self._topic = kept, decoder, topic
        self._open_reader = open_reader
        self._at = dict(at)
        self._ahead: dict[int, Records] = {}  # of the cache, and not handed out
        self._pending: dict[int, _Pending] = {}  # of the log, and not kept
        self._keeps = True
        self._reader: Reader | None = None

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows the positions, at most one `Records` a partition."""
        found = self._from_cache(max_records)
        if found:
            self._close()
            return found
        if self._reader is None:
            self._reader = self._open_reader(self._at)
        return [self._decoded(records) for records in self._reader.read(max_records, timeout_s)]

    def close(self) -> None:
        """Keep what is decoded, and let go of connections; safe to call twice."""
        for partition in list(self._pending):
            self._keep(partition)
        self._close()

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    # --------------------------------------------------------------------------- from the cache

    def _from_cache(self, most: int) -> list[Records]:
        for partition, at in self._at.items():
            if partition not in self._ahead and (kept := self._kept.find(partition, at)):
                self._keep(partition)  # what was read before it, up to here
                self._ahead[partition] = self._records(partition, kept, at)
        found = []
        share = max(1, most // max(1, len(self._ahead)))
        for partition, records in sorted(self._ahead.items()):
            cut = records if len(records) <= share else records.before(records.offsets[share])
            found.append(cut)
            self._at[partition] = cut.next
            if cut is records:
                del self._ahead[partition]
            else:
                self._ahead[partition] = records.slice(len(cut), len(records))
        return found

    def _records(self, partition: int, kept: Kept, at: int) -> Records:
        """Return kept rows from a position on, as records whose values nobody has read."""
        rows = kept.rows if kept.range.start == at else kept.rows.filter(pl.col("_offset") >= at)
        offsets: Sequence[int] = rows["_offset"].to_list()
        if offsets and offsets[-1] - offsets[0] == len(offsets) - 1:
            offsets = range(offsets[0], offsets[-1] + 1)
        source = TopicPartition(self._topic, partition)
        # Opened by itself: the positions of the reader in use stay as they are.
        fetch = cache(partial(_fetched, self._open_reader, source, offsets))
        return Records(
            source=source,
            offsets=offsets,
            timestamps_ms=rows["_timestamp"].to_physical().to_list(),
            keys=rows["_key"].to_list(),
            values=Unread(fetch, range(len(offsets))),
            next=kept.range.end,
            frame=rows,
        )

    # ------------------------------------------------------------------------------ into the cache

    def _decoded(self, records: Records) -> Records:
        """Return records of the log with their rows, as far as they can be decoded."""
        partition = records.source.partition
        start, self._at[partition] = self._at[partition], records.next
        try:
            rows = self._decoder.frame(records)
        except BadRecord:  # whoever computes it names it, or sets it aside
            self._keep(partition)
            return records
        if self._keeps:
            pending = self._pending.setdefault(partition, _Pending(start, start))
            pending.add(rows, records.next)
            if sum(map(len, pending.frames)) >= SEGMENT:
                self._keep(partition)
        return replace(records, frame=rows)

    def _keep(self, partition: int) -> None:
        pending = self._pending.pop(partition, None)
        if pending is None or not any(map(len, pending.frames)):
            return
        rows = pl.concat(pending.frames, rechunk=True)
        self._keeps = self._kept.keep(
            partition, Kept(OffsetRange(pending.start, pending.end), rows)
        )


def _fetched(
    open_reader: Open, source: TopicPartition, offsets: Sequence[int]
) -> Sequence[bytes | None]:
    """Return the values of records that were read before, as the log has them.

    Raises:
        LogFailed: It has other records there now.
    """
    values: list[bytes | None] = []
    at: list[int] = []
    with closing(open_reader({source.partition: offsets[0]})) as reader:
        while (not at or at[-1] < offsets[-1]) and (read := reader.read(len(offsets), _WAIT_S)):
            for records in read:
                values += records.values
                at += records.offsets
    if at[: len(offsets)] != list(offsets):
        raise LogFailed(
            "the log has other records than the history cache",
            where=source.at(offsets[0]),
            safe="Nothing was written.",
            cure="playhead cache --clear, then again.",
        )
    return values[: len(offsets)]
