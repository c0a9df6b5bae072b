"""Filling public topics: what is forwarded, and the difference that may come before it.

A publisher is run by the same worker, session and restart table as a version; its versions are the
epochs of a pointer (`playhead.core.epochs`). It hands records on as they are: key, value, time, and
the headers, with one more that names the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec
import polars as pl

from playhead.core.ends import Topic
from playhead.core.epochs import Epoch
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.outputs import Target
from playhead.core.records import (
    EPOCH,
    PIPELINE,
    VERSION,
    Headers,
    Outgoing,
    Records,
    partition_of,
)
from playhead.core.slots import Slots
from playhead.engine.call import Outcome
from playhead.engine.reading import CHUNK_RECORDS, read_all, whole_topic
from playhead.engine.upstream import Origin, origin, superseded
from playhead.ports import BATCH_BYTES, Log, Reader, Store


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Hands the records of one epoch on to the public topic.

    Attributes:
        epoch: The epoch.
        topic: The public topic, as it was declared.
        partitions: Its partition count.
    """

    epoch: Epoch
    topic: Topic
    partitions: int
    targets: tuple[Target, ...] = ()
    shapes: Mapping[str, Mapping[str, pl.DataType]] = field(default_factory=dict)

    def takes(self, records: Records) -> Records:
        """Return the records of the epoch's version that the epoch does not begin after."""
        if self.epoch.difference:
            return records
        return records.where([of_epoch(self.epoch, origin(h), late=True) for h in records.headers])

    def call(self, records: Records, slots: Slots, generation: int) -> Outcome:
        """Return the same records for the public topic, in the same order per key."""
        out = Outgoing(self.topic.name)
        mark = (EPOCH, b"%d" % self.epoch.of.number)
        for i in range(len(records)):
            key = records.keys[i]
            partition = records.source.partition % self.partitions
            if self.topic.key and key is not None:
                partition = partition_of(key, self.partitions)
            headers = (*records.headers[i], mark)
            out.add(partition, key, records.values[i], records.timestamps_ms[i], headers)
        return Outcome(records.source, [out], {}, {})


def of_epoch(epoch: Epoch, found: Origin | None, *, late: bool) -> bool:
    """Say whether the epoch's version made a record, of a source before or at its beginning.

    Args:
        epoch: The epoch.
        found: What the record says of itself.
        late: True asks for records that the epoch forwards; False for those before them.
    """
    if found is None:
        return False
    version, _, partition = found.writer.partition("[")
    begins = epoch.of.begins.get(int(partition.rstrip("]")), 0)
    return version == epoch.writer and (found.offset >= begins) == late


@dataclass(frozen=True, slots=True)
class _Last:
    """The last record of a key."""

    value: bytes | None
    timestamp_ms: int
    headers: Headers


def difference(
    log: Log, epoch: Epoch, counts: tuple[int, int], keep_alive: Callable[[], None]
) -> dict[int, list[bytes]]:
    """Return what readers of the public topic have to be told, by partition of it.

    It is taken against what the public topic itself says, so that it is right whatever the epochs
    before it have shown: the last value of each key whose last value is another, and a tombstone
    for each key that the version does not have. Memory: the keys of one partition, or of all
    where the two topics have different partition counts.

    Args:
        log: The log.
        epoch: The difference's row.
        counts: Partition counts of the public topic, and of the version's own.
        keep_alive: Called between batches.
    """
    public, own = counts
    alike = [([p], [p]) for p in range(public)]
    whole = [(list(range(public)), list(range(own)))]
    found: dict[int, list[bytes]] = {p: [] for p in range(public)}
    for shown, written in alike if public == own else whole:
        base = _last(log, epoch, shown, keep_alive)
        head = _last_of_head(log, epoch, written, keep_alive)
        for key in sorted(base.keys() - head.keys()):
            gone = _Last(None, base[key].timestamp_ms, _renamed(base[key].headers, epoch))
            found[partition_of(key, public)].append(_packed(key, gone))
        for key, last in sorted(head.items()):
            if key not in base or base[key].value != last.value:
                found[partition_of(key, public)].append(_packed(key, last))
    return found


def _last(
    log: Log, epoch: Epoch, partitions: Sequence[int], keep_alive: Callable[[], None]
) -> dict[bytes, _Last]:
    """Return what the public topic says of each key that the pipeline has written."""
    topic, found = epoch.of.topic, dict[bytes, _Last]()
    name = epoch.of.pipeline.encode()
    for records in whole_topic(log, topic, dict.fromkeys(partitions, 0)):
        keep_alive()
        _fold(found, records, lambda headers: dict(headers).get(PIPELINE) == name)
    return found


def _last_of_head(
    log: Log, epoch: Epoch, partitions: Sequence[int], keep_alive: Callable[[], None]
) -> dict[bytes, _Last]:
    """Return what the version had said of each key when it became live."""
    topic, found = epoch.of.source or "", dict[bytes, _Last]()

    def counts(headers: Headers) -> bool:
        made = origin(headers)
        return of_epoch(epoch, made, late=False) and not superseded(made, epoch.of.upstream)

    retained = log.retained(topic)
    for partition in partitions:
        held = retained[partition]
        wanted = OffsetRange(held.start, max(held.start, epoch.of.held.get(partition, held.start)))
        for records in read_all(log, TopicPartition(topic, partition), wanted, CHUNK_RECORDS):
            keep_alive()
            _fold(found, records, counts)
    return found


def _fold(found: dict[bytes, _Last], records: Records, counts: Callable[[Headers], bool]) -> None:
    """Take the last record of each key that counts; from the end, for most are not the last."""
    seen = set[bytes]()
    for i in reversed(range(len(records.headers))):
        key, value = records.keys[i], records.values[i]
        if key is None or key in seen or not counts(records.headers[i]):
            continue
        seen.add(key)
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _Last(value, records.timestamps_ms[i], records.headers[i])


def _renamed(headers: Headers, epoch: Epoch) -> Headers:
    """Return the headers of a tombstone: it is this version that has no such key."""
    said = dict(headers) | {VERSION: epoch.of.version.encode()}
    return tuple((name, value) for name, value in said.items() if name != EPOCH)


def _packed(key: bytes, last: _Last) -> bytes:
    return msgspec.msgpack.encode((key, last.value, last.timestamp_ms, last.headers))


_UNPACK = msgspec.msgpack.Decoder(tuple[bytes, bytes | None, int, tuple[tuple[str, bytes], ...]])


class DifferenceLog:
    """A log whose public topic holds a difference that was kept; all else is the log's own.

    So a difference is published as a source is read: positions in it are the offsets that group,
    witness and cursor speak of.
    """

    def __init__(self, log: Log, store: Store, epoch: Epoch) -> None:
        """Show the epoch's difference instead of its topic's records."""
        self._log = log
        self._store = store
        self._epoch = epoch

    def __getattr__(self, name: str) -> object:
        """Hand on what this does not answer."""
        return getattr(self._log, name)

    def retained(self, topic: str) -> dict[int, OffsetRange]:
        """Return how much the difference holds, by partition."""
        sizes = self._epoch.sizes or {}
        return {p: OffsetRange(0, sizes.get(p, 0)) for p in self._log.retained(topic)}

    def reader(
        self, topic: str, positions: Mapping[int, int], max_bytes: int = BATCH_BYTES
    ) -> Reader:
        """Return a reader of the difference."""
        return _DifferenceReader(self._store, self._epoch, topic, dict(positions))

    def close(self) -> None:
        """Close log and store."""
        self._log.close()
        self._store.close()


def difference_log(log: Log, store: Store, epoch: Epoch) -> Log:
    """Return a log that shows a difference; it closes both."""
    return cast("Log", DifferenceLog(log, store, epoch))


@dataclass(slots=True)
class _DifferenceReader:
    """Reads a difference from the store."""

    store: Store
    epoch: Epoch
    topic: str
    positions: dict[int, int]

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows the positions; there is nothing to wait for."""
        return list(self._some(max_records))

    def _some(self, most: int) -> Iterator[Records]:
        for partition, at in sorted(self.positions.items()):
            kept = self.store.publications.kept(self.epoch, partition, at, most) if most else []
            if not kept:
                continue
            keys, values, times, headers = zip(*map(_UNPACK.decode, kept), strict=True)
            self.positions[partition] = end = at + len(kept)
            most -= len(kept)
            place = TopicPartition(self.topic, partition)
            yield Records(place, range(at, end), times, keys, values, end, headers)

    def close(self) -> None:
        """Nothing of its own to let go of."""
