"""The local log's rows of many records: what is read never depends on how it was cut into them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from playhead.adapters.local_log import LocalLog
from playhead.core.records import Outgoing
from playhead.errors import LogFailed, OffsetOutOfRange

TOPIC = "points"


def outgoing(numbers: range, partitions: int, random: Random, width: int = 3) -> Outgoing:
    out = Outgoing(TOPIC)
    for i in numbers:
        key = None if i % 7 == 0 else b"%d" % i
        value = None if i % 5 == 0 else b"x" * random.randrange(width)
        marked = (("n", b"%d" % i),) if i % 3 == 0 and i > 100 else ()
        out.add(random.randrange(partitions), key, value, 1_000 + random.randrange(500), marked)
    return out


@pytest.mark.parametrize("seed", range(6))
def test_what_is_read_is_what_was_appended_however_it_was_cut(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    wanted: dict[int, list[tuple[object, ...]]] = {0: [], 1: []}
    starts = {0: 0, 1: 0}
    with closing(LocalLog(tmp_path / "log.db")) as log:
        log.create_topic(TOPIC, 2, {})
        appender = log.appender("a")
        at = 0
        for count in (3, 5_000, 1, 40, 9_001, 7, 200):
            out = outgoing(range(at, at + count), 2, random, random.choice([3, 5_000]))
            at += count
            appender.append(out)
            appender.commit()
            columns = (out.timestamps_ms, out.keys, out.values, out.headers)
            for partition, *record in zip(out.partitions, *columns, strict=True):
                wanted[partition].append(tuple(record))
            cut = random.randrange(2)
            to = random.randint(starts[cut], len(wanted[cut]))
            if random.random() < 0.5:
                log.delete_records(TOPIC, {cut: to})
                starts[cut] = to
        for partition, records in wanted.items():
            begin = starts[partition]
            assert log.retained(TOPIC)[partition].end == len(records)
            for position in {begin, (begin + len(records)) // 2, max(begin, len(records) - 1)}:
                for most in (1, 3_999, 100_000):
                    got = read(log, partition, position, most)
                    assert got == records[position:][: len(got)]
                    assert most == 1 or len(got) == len(records) - position
            for time in (0, 1_000, 1_250, 1_499, 1_500):
                later = (begin + i for i, r in enumerate(records[begin:]) if r[0] >= time)
                assert log.offset_at(TOPIC, time)[partition] == next(later, None)
            if begin:
                with pytest.raises(OffsetOutOfRange, match="no longer retained"):
                    read(log, partition, begin - 1, 10)


def read(log: LocalLog, partition: int, position: int, most: int) -> list[tuple[object, ...]]:
    """Read to the end, or 20 times; each piece says where it lies."""
    reader = log.reader(TOPIC, {partition: position})
    got: list[tuple[object, ...]] = []
    for _ in range(20):
        for found in reader.read(most, 0):
            at = position + len(got)
            assert list(found.offsets) == list(range(at, at + len(found)))
            assert found.next == at + len(found)
            headers = found.headers or [()] * len(found)
            got += zip(found.timestamps_ms, found.keys, found.values, headers, strict=True)
    return got


def test_a_file_with_a_row_for_each_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE record (topic TEXT)")
    with pytest.raises(LogFailed, match="earlier Playhead"):
        LocalLog(path)
