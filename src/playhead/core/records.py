"""Records as columns: what a log hands out and what it takes in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from operator import mod
from typing import TypeVar, cast, overload

import polars as pl

from playhead.core.offsets import TopicPartition

T = TypeVar("T")
Headers = tuple[tuple[str, bytes], ...]
PIPELINE, VERSION, GENERATION, SOURCE, EPOCH = (
    "playhead-pipeline",
    "playhead-version",
    "playhead-generation",
    "playhead-source",
    "playhead-epoch",
)
"""Names of the headers that say what made a record; the last one on public topics alone."""


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition, as equally long columns in log order.

    Attributes:
        source: Where they were read.
        offsets: Offset of each record; gaps are normal (transaction markers, compaction).
        timestamps_ms: Event time of each record, milliseconds since 1970 in UTC.
        keys: Key of each record, or None.
        values: Value of each record, or None.
        next: The position after them: the next offset to read, past any gap that was seen.
        headers: Headers of each record, or empty where nobody asked for them.
        frame: Its rows as the declared columns, where somebody has decoded them already.
    """

    source: TopicPartition
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    next: int
    headers: Sequence[Headers] = ()
    frame: pl.DataFrame | None = field(default=None, compare=False)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.offsets)

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return sum(map(len, filter(None, self.values)))

    def before(self, end: int) -> Records:
        """Return the records whose offset is below ``end``; the position stops there too."""
        if self.next <= end:
            return self
        return replace(self.slice(0, bisect_left(self.offsets, end)), next=end)

    def slice(self, start: int, stop: int) -> Records:
        """Return the records from index ``start`` to before ``stop``; the position stays."""
        return Records(
            self.source,
            self.offsets[start:stop],
            self.timestamps_ms[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            self.next,
            self.headers[start:stop],
            None if self.frame is None else self.frame[start:stop],
        )

    def where(self, keep: Sequence[bool]) -> Records:
        """Return the records that are kept; the position stays."""
        kept = [i for i, wanted in enumerate(keep) if wanted]
        return Records(
            self.source,
            [self.offsets[i] for i in kept],
            [self.timestamps_ms[i] for i in kept],
            [self.keys[i] for i in kept],
            [self.values[i] for i in kept],
            self.next,
            [self.headers[i] for i in kept] if self.headers else (),
            None if self.frame is None else self.frame.filter(pl.Series(keep, dtype=pl.Boolean)),
        )

    def followed_by(self, other: Records) -> Records:
        """Return these records and then ``other``, which begins where these end."""
        return joined([self, other])


def joined(pieces: Sequence[Records]) -> Records:
    """Return records of one partition, each beginning where the one before it ends, as one."""
    if len(pieces) == 1:
        return pieces[0]
    headers: list[Headers] = []
    if any(piece.headers for piece in pieces):
        headers = [h for piece in pieces for h in piece.headers or [()] * len(piece)]
    return Records(
        pieces[0].source,
        _chained([piece.offsets for piece in pieces]),
        _chained([piece.timestamps_ms for piece in pieces]),
        _chained([piece.keys for piece in pieces]),
        _chained([piece.values for piece in pieces]),
        pieces[-1].next,
        headers,
        _framed(pieces),
    )


def _chained(columns: Sequence[Sequence[T]]) -> list[T]:
    whole = list(columns[0])
    for column in columns[1:]:
        whole += column
    return whole


def _framed(pieces: Sequence[Records]) -> pl.DataFrame | None:
    frames = [piece.frame for piece in pieces if piece.frame is not None]
    return pl.concat(frames) if len(frames) == len(pieces) else None


class Unread(Sequence[bytes | None]):
    """Values that stay in the log until one of them is asked for: where rows are known, seldom."""

    def __init__(self, fetch: Callable[[], Sequence[bytes | None]], span: range) -> None:
        """Stand for those at the indices ``span`` of what ``fetch`` returns."""
        self._fetch, self._span = fetch, span

    def __len__(self) -> int:
        return len(self._span)

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes | None]: ...

    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes | None] | None:
        if isinstance(at, slice):
            return Unread(self._fetch, self._span[at])
        return self._fetch()[self._span[at]]


class Origins(Sequence[Headers]):
    """Headers that say what made each record, and from which input; written when one is asked for.

    A batch has many, and each is needed once: all at once they would not fit the cache.
    """

    def __init__(self, common: Headers, source: TopicPartition, offsets: Sequence[int]) -> None:
        """Keep what all have in common, and where each record's input lies."""
        self._common = common
        self._begin = f"{source}@".encode()
        self._offsets = offsets

    @property
    def content(self) -> tuple[object, ...]:
        """What they are written from: equal where they are."""
        return self._common, self._begin, self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __iter__(self) -> Iterator[Headers]:
        return map(tuple, self.lists())

    def lists(self, start: int = 0) -> Iterator[list[tuple[str, bytes]]]:
        """Return the headers of each record from index ``start`` on, as a list."""
        sources = map(mod, repeat(self._begin.replace(b"%", b"%%") + b"%d"), self._offsets[start:])
        return map(
            list, zip(*map(repeat, self._common), zip(repeat(SOURCE), sources), strict=False)
        )

    @overload
    def __getitem__(self, at: int) -> Headers: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Headers]: ...

    def __getitem__(self, at: int | slice) -> Headers | Sequence[Headers]:
        if isinstance(at, slice):
            return list(self)[at]
        return (*self._common, (SOURCE, b"%b%d" % (self._begin, self._offsets[at])))


@dataclass(slots=True)
class Outgoing:
    """Records for one topic, as equally long columns in the order they are to be appended."""

    topic: str
    partitions: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    headers: Sequence[Headers] = field(default_factory=list)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.values)

    def add(
        self,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int,
        headers: Headers = (),
    ) -> None:
        """Append one record."""
        self.partitions.append(partition)
        self.keys.append(key)
        self.values.append(value)
        self.timestamps_ms.append(timestamp_ms)
        cast("list[Headers]", self.headers).append(headers)


def murmur2(data: bytes) -> int:
    """Return Kafka's murmur2 hash of ``data``, as a signed 32-bit integer.

    Source: ``org.apache.kafka.common.utils.Utils.murmur2``; both logs place keys with it.
    """
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    tail = data[whole:]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    h ^= h >> 15
    return h - 0x100000000 if h & 0x80000000 else h


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that Kafka's own clients put ``key`` into (murmur2, 0-based)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
