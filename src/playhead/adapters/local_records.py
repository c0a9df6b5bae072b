"""Records in the local log's file: some consecutive ones of a partition in a row, as columns.

A row for each record would cost more than all else together: SQLite takes 3 µs for one.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import TypeVar

import msgspec

from playhead.adapters.sqlite_file import SqliteFile
from playhead.core.offsets import TopicPartition
from playhead.core.records import Headers, Outgoing, Records, joined
from playhead.errors import LogFailed

SCHEMA = """
CREATE TABLE IF NOT EXISTS record_batch (
  topic TEXT, partition INTEGER, first INTEGER, next INTEGER NOT NULL, newest_ms INTEGER NOT NULL,
  content BLOB NOT NULL, PRIMARY KEY (topic, partition, first)) WITHOUT ROWID;
"""
T = TypeVar("T")
_MOST, _MOST_BYTES = 4_000, 4_000_000  # of one row
_THERE = "topic = ? AND partition = ?"

Bytes = bytes | None
Columns = tuple[Sequence[int], Sequence[Bytes], Sequence[Bytes], Sequence[Headers]]
"""Timestamps in ms, keys, values, and headers, which are left out where no record has any."""
_decode = msgspec.msgpack.Decoder(tuple[list[int], list[Bytes], list[Bytes], list[Headers]]).decode
_encode = msgspec.msgpack.Encoder().encode


def append(db: SqliteFile, outgoing: Outgoing) -> None:
    """Append records inside the caller's transaction.

    Raises:
        LogFailed: The topic or a partition of it does not exist.
    """
    topic = outgoing.topic
    ends: dict[int, int] = dict(
        db.all("SELECT partition, end_offset FROM partition WHERE topic = ?", topic)
    )
    used = sorted(set(outgoing.partitions))
    if wrong := set(used) - set(ends):
        raise LogFailed(f"{TopicPartition(topic, min(wrong))} does not exist")
    headers = list(outgoing.headers) if any(outgoing.headers) else []
    for partition in used:
        at = [i for i, to in enumerate(outgoing.partitions) if to == partition]
        columns = (
            _picked(outgoing.timestamps_ms, at),
            _picked(outgoing.keys, at),
            _picked(outgoing.values, at),
            _picked(headers, at) if headers else [],
        )
        end = _insert(db, TopicPartition(topic, partition), ends[partition], columns)
        db.run(
            "UPDATE partition SET end_offset = ? WHERE topic = ? AND partition = ?",
            end,
            topic,
            partition,
        )


def _picked(column: Sequence[T], at: Sequence[int]) -> list[T]:
    return list(column) if len(at) == len(column) else [column[i] for i in at]


def _insert(db: SqliteFile, place: TopicPartition, first: int, columns: Columns) -> int:
    """Insert records, in rows of a size that is read fast; return the offset after them."""
    times, keys, values, headers = columns
    size = _MOST
    widest = max(map(len, filter(None, values)), default=1)
    while size > 1 and size * widest > _MOST_BYTES:
        size //= 2
    rows = []
    for begin in range(0, len(times), size):
        end = min(begin + size, len(times))
        some = times[begin:end], keys[begin:end], values[begin:end], headers[begin:end]
        rows.append((*_at(place), first + begin, first + end, max(some[0]), _encode(some)))
    db.run_many("INSERT INTO record_batch VALUES (?, ?, ?, ?, ?, ?)", rows)
    return first + len(times)


def read(
    db: SqliteFile, place: TopicPartition, position: int, most: tuple[int, int]
) -> Records | None:
    """Return what lies at and after a position; None where there is nothing.

    At ``most`` so many records, and no further row once they take so many bytes.
    """
    left, room = most
    pieces: list[Records] = []
    with closing(_rows(db, place, position)) as rows:
        for ((first, content),) in rows:
            times, keys, values, headers = _decode(content)
            begin = max(position - first, 0)
            end = min(begin + left, len(times))
            if begin < end:
                offsets = list(range(first + begin, first + end))
                some = times[begin:end], keys[begin:end], values[begin:end]
                pieces.append(Records(place, offsets, *some, first + end, headers[begin:end]))
                left -= end - begin
                room -= len(content)
            if not left or room <= 0:
                break
    return joined(pieces) if pieces else None


def _rows(
    db: SqliteFile, place: TopicPartition, position: int
) -> Generator[list[tuple[int, bytes]]]:
    """Yield the rows from the one that a position may be in, one by one: no more than is read."""
    (start,) = db.one(
        f"SELECT max(first) FROM record_batch WHERE {_THERE} AND first <= ?",
        *_at(place),
        position,
    ) or (None,)
    start = position if start is None else start
    yield from db.some(
        f"SELECT first, content FROM record_batch WHERE {_THERE} AND first >= ? ORDER BY first",
        1,
        *_at(place),
        start,
    )


def first_since(db: SqliteFile, place: TopicPartition, timestamp_ms: int) -> int | None:
    """Return the offset of the first record of this time or a later one."""
    row = db.one(
        f"SELECT first, content FROM record_batch WHERE {_THERE} AND newest_ms >= ? "
        "ORDER BY first LIMIT 1",
        *_at(place),
        timestamp_ms,
    )
    if row is None:
        return None
    first: int = row[0]
    times, *_ = _decode(row[1])
    return next(first + i for i, time in enumerate(times) if time >= timestamp_ms)


def delete_before(db: SqliteFile, place: TopicPartition, offset: int) -> None:
    """Delete a partition's records before an offset, inside the caller's transaction."""
    where = f"FROM record_batch WHERE {_THERE} AND first"
    split = db.one(f"SELECT next {where} < ? AND next > ?", *_at(place), offset, offset)
    kept = read(db, place, offset, (split[0] - offset, 1)) if split else None
    db.run(f"DELETE {where} < ?", *_at(place), offset)
    if kept is not None:
        _insert(db, place, offset, (kept.timestamps_ms, kept.keys, kept.values, kept.headers))


def _at(place: TopicPartition) -> tuple[str, int]:
    return place.topic, place.partition
