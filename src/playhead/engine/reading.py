"""Reading a range of one partition, to its end and no further."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Records
from playhead.errors import OffsetOutOfRange
from playhead.ports import Log

READ_TIMEOUT_S = 1.0
CHUNK_RECORDS = 50_000


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


def whole_topic(
    log: Log, topic: str, positions: Mapping[int, int] | None = None
) -> Iterator[Records]:
    """Yield every record that a topic retains, partition by partition.

    Args:
        log: The log.
        topic: The topic.
        positions: Where to begin in each partition; one that is not named is left out.
    """
    for partition, held in sorted(log.retained(topic).items()):
        if positions is not None and partition not in positions:
            continue
        start = held.start if positions is None else max(held.start, positions[partition])
        if start < held.end:
            wanted = OffsetRange(start, held.end)
            yield from read_all(log, TopicPartition(topic, partition), wanted, CHUNK_RECORDS)


def read_one(log: Log, place: TopicPartition, wanted: OffsetRange) -> Records:
    """Return the records of a range as one batch."""
    whole = Records(place, [], [], [], [], wanted.start)
    for records in read_all(log, place, wanted, max(1, len(wanted))):
        whole = whole.followed_by(records)
    return whole


def next_record(log: Log, place: TopicPartition, position: int, end: int) -> int | None:
    """Return the offset of the first record at or after a position, or None before ``end``."""
    with closing(log.reader(place.topic, {place.partition: position})) as reader:
        while position < end:
            for records in reader.read(1, READ_TIMEOUT_S):
                if len(records):
                    return records.offsets[0] if records.offsets[0] < end else None
                position = records.next
    return None
