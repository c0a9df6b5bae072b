"""The history cache: what is read through it is what the log has, whatever lies in its files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from playhead.adapters import history_cache
from playhead.adapters.history_cache import HistoryCache
from playhead.adapters.local_log import LocalLog
from playhead.core.codec import Decoder
from playhead.core.declare import App, Topic
from playhead.core.offsets import OffsetRange
from playhead.core.records import Outgoing, Records, joined
from playhead.engine import cached
from playhead.engine.cached import CachedReader
from playhead.errors import BadRecord, LogFailed, OffsetOutOfRange
from playhead.ports import Reader

ROOM = 10_000_000
POINTS = App("a").topic("points", key="n", value={"n": int, "text": str})


def fill(log: LocalLog, count: int, bad: int | None = None) -> None:
    out = Outgoing("points")
    for i in range(count):
        value = b"{" if i == bad else b'{"n": %d, "text": "%d"}' % (i % 7, i)
        out.add(i % 2, b"%d" % (i % 7), value, 1_000 + i)
    with closing(log.appender("a")) as appender:
        appender.append(out)
        appender.commit()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LocalLog]:
    with closing(LocalLog(tmp_path / "log.db")) as log:
        log.create_topic("points", 2, {})
        yield log


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Through:
    """Reads a topic through a cache, and counts how often the log was opened."""

    def __init__(
        self, log: LocalLog, folder: Path, most: int = ROOM, topic: Topic = POINTS
    ) -> None:
        self.log, self.topic, self.opened = log, topic, 0
        self.cache = HistoryCache(folder, most, "local:log.db")

    def open(self, positions: Mapping[int, int]) -> Reader:
        self.opened += 1
        return self.log.reader("points", positions)

    def reader(self, positions: Mapping[int, int]) -> CachedReader:
        decoder = Decoder(self.topic)
        info = self.log.topic("points")
        assert info is not None
        kept = self.cache.topic(info, decoder.content, self.log.retained("points"))
        assert kept is not None
        return CachedReader(kept, decoder, "points", self.open, positions)

    def all(self, positions: Mapping[int, int], most: int = 100_000) -> dict[int, Records]:
        return everything(self.reader(positions), most)


def everything(reader: Any, most: int = 100_000) -> dict[int, Records]:
    """Read to the end; each read hands out no more than it may, in order and without a gap."""
    pieces: dict[int, list[Records]] = {}
    with closing(reader):
        while read := reader.read(most, 0):
            assert 0 < sum(map(len, read)) <= most
            for records in read:
                pieces.setdefault(records.source.partition, []).append(records)
    return {partition: joined(some) for partition, some in sorted(pieces.items())}


def same(found: Mapping[int, Records], wanted: Mapping[int, Records]) -> None:
    assert found.keys() == wanted.keys()
    for partition, records in wanted.items():
        got = found[partition]
        assert list(got.offsets) == list(records.offsets)
        assert list(got.timestamps_ms) == list(records.timestamps_ms)
        assert list(got.keys) == list(records.keys)
        assert list(got.values) == list(records.values)
        assert got.next == records.next
        rows = Decoder(POINTS).frame(got)
        assert rows.equals(Decoder(POINTS).frame(records))
        assert rows.schema == Decoder(POINTS).schema


def test_the_second_time_the_log_is_not_read(log: LocalLog, folder: Path) -> None:
    fill(log, 500)
    wanted = everything(log.reader("points", {0: 0, 1: 0}))
    first = Through(log, folder)
    same(first.all({0: 0, 1: 0}), wanted)
    again = Through(log, folder)
    found = again.all({0: 0, 1: 0})
    assert (first.opened, again.opened) == (1, 1), "at the end, to look for more"
    assert all(records.frame is not None for records in found.values())
    assert found[0].values[3] == wanted[0].values[3]
    assert again.opened == 2, "for a value that was asked for"
    same(found, wanted)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_there_and_wherever_one_begins(
    log: LocalLog, folder: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    monkeypatch.setattr(cached, "SEGMENT", 40)
    fill(log, 1_000)
    for _ in range(8):
        start = {p: random.choice([0, random.randrange(500)]) for p in (0, 1)}
        most = random.choice([2, 7, 90, 100_000])
        same(Through(log, folder).all(start, most), everything(log.reader("points", start)))
        files = sorted(folder.rglob("*.rows"))
        for gone in random.sample(files, len(files) // 3):
            gone.unlink()
        if random.random() < 0.3:
            log.delete_records("points", {0: random.randrange(200)})
        low = log.retained("points")[0].start
        if low:
            with pytest.raises(OffsetOutOfRange):
                Through(log, folder).all({0: low - 1})
            same(
                Through(log, folder).all({0: low, 1: 0}),
                everything(log.reader("points", {0: low, 1: 0})),
            )
            break
        fill(log, random.randrange(100))


def test_nothing_is_found_that_the_log_has_no_more(log: LocalLog, folder: Path) -> None:
    fill(log, 500)
    Through(log, folder).all({0: 0, 1: 0})
    log.delete_records("points", {0: 10})
    with pytest.raises(OffsetOutOfRange):
        Through(log, folder).all({0: 0, 1: 0})
    same(Through(log, folder).all({0: 10}), everything(log.reader("points", {0: 10})))


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def of_another_range(path: Path) -> None:
    other = next(p for p in path.parent.glob("1-*.rows"))
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("damage", [spoil, cut_short, of_another_range])
def test_a_file_that_is_not_what_it_was_is_removed_and_read_from_the_log(
    log: LocalLog, folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    fill(log, 500)
    Through(log, folder).all({0: 0, 1: 0})
    (path,) = folder.rglob("0-*.rows")
    damage(path)
    with caplog.at_level(logging.WARNING):
        again = Through(log, folder)
        found = again.all({0: 0, 1: 0})
        assert again.opened == 1
        same(found, everything(log.reader("points", {0: 0, 1: 0})))
    assert caplog.records or damage is of_another_range
    third = Through(log, folder)
    same(third.all({0: 0, 1: 0}), everything(log.reader("points", {0: 0, 1: 0})))


def test_a_topic_that_was_made_again_finds_nothing(log: LocalLog, folder: Path) -> None:
    fill(log, 100)
    Through(log, folder).all({0: 0, 1: 0})
    log.delete_topic("points")
    log.create_topic("points", 2, {})
    fill(log, 60)
    again = Through(log, folder)
    same(again.all({0: 0, 1: 0}), everything(log.reader("points", {0: 0, 1: 0})))
    assert len(again.cache.held()) == 2


def test_a_declaration_that_changed_finds_nothing(log: LocalLog, folder: Path) -> None:
    fill(log, 100)
    Through(log, folder).all({0: 0, 1: 0})
    other = App("a").topic("points", key="n", value={"n": int})
    found = Through(log, folder, topic=other).all({0: 0, 1: 0})
    assert "text" not in Decoder(other).frame(found[0]).columns


def test_nothing_is_kept_of_what_may_vanish(log: LocalLog, folder: Path) -> None:
    info = log.create_topic("latest", 1, {"cleanup.policy": "compact,delete"})
    assert HistoryCache(folder, ROOM, "x").topic(info, "", log.retained("latest")) is None
    assert HistoryCache(folder, 0, "x").topic(info, "", log.retained("latest")) is None
    plain = log.create_topic("plain", 1, {})
    kafka = HistoryCache(folder, ROOM, "kafka://x:1")
    assert kafka.topic(plain, "", log.retained("plain")) is None, "its settings are not to be seen"
    assert not folder.exists()


def test_it_never_grows_beyond_its_bound_and_keeps_the_beginning(
    log: LocalLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "SEGMENT", 40)
    fill(log, 2_000)
    most = 12_000
    Through(log, folder, most).all({0: 0, 1: 0}, 100)
    (held,) = Through(log, folder).cache.held()
    assert 0 < held.size <= most
    assert all(ranges[0].start == 0 for ranges in held.ranges.values())
    wanted = everything(log.reader("points", {0: 0, 1: 0}))
    same(Through(log, folder, most).all({0: 0, 1: 0}, 100), wanted)
    assert Through(log, folder).cache.held()[0].ranges == held.ranges


def test_room_is_made_by_what_was_used_longest_ago(log: LocalLog, folder: Path) -> None:
    fill(log, 300)
    Through(log, folder).all({0: 0, 1: 0})
    (old,) = Through(log, folder).cache.held()
    other = App("a").topic("points", key="n", value={"n": int})
    Through(log, folder, old.size + 500, other).all({0: 0, 1: 0})
    (left,) = Through(log, folder).cache.held()
    assert left.size != old.size


def test_a_record_that_cannot_be_decoded_is_handed_out_as_it_is(
    log: LocalLog, folder: Path
) -> None:
    fill(log, 200, bad=100)
    for _ in range(2):
        found = Through(log, folder).all({0: 0, 1: 0}, 40)
        with pytest.raises(BadRecord, match="cannot be decoded"):
            Decoder(POINTS).frame(found[0])
        assert found[0].values[50] == b"{"
        same({1: found[1]}, {1: everything(log.reader("points", {1: 0}))[1]})
    held = Through(log, folder).cache.held()[0].ranges[0]
    assert len(held) == 2
    assert held[0].end <= 50 < held[1].start, "what is before it, and what is after it"


def test_values_that_are_others_now_are_an_error(log: LocalLog, folder: Path) -> None:
    fill(log, 100)
    Through(log, folder).all({0: 0})
    found = Through(log, folder).all({0: 0})
    log.delete_topic("points")
    log.create_topic("points", 2, {})
    fill(log, 10)
    with pytest.raises(LogFailed, match="other records than the history cache"):
        list(found[0].values)


def test_a_little_now_and_then_makes_few_files(
    log: LocalLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_cache, "_SMALL", 100)
    at = {0: 0, 1: 0}
    for _ in range(60):
        fill(log, 20)
        found = Through(log, folder).all(at)
        at = {p: records.next for p, records in found.items()}
    assert 2 * 6 <= len(list(folder.rglob("*.rows"))) <= 2 * 7
    (held,) = Through(log, folder).cache.held()
    assert held.ranges == {0: [OffsetRange(0, 600)], 1: [OffsetRange(0, 600)]}
    wanted = everything(log.reader("points", {0: 0, 1: 0}))
    same(Through(log, folder).all({0: 0, 1: 0}), wanted)


def test_what_the_log_has_no_more_is_removed(log: LocalLog, folder: Path) -> None:
    fill(log, 500)
    Through(log, folder).all({0: 0, 1: 0})
    log.delete_records("points", {0: 250})
    Through(log, folder).all({1: 0})
    assert [path.name.partition("-")[0] for path in folder.rglob("*.rows")] == ["1"]


def test_clearing_leaves_nothing(log: LocalLog, folder: Path) -> None:
    fill(log, 100)
    through = Through(log, folder)
    reader = through.reader({0: 0, 1: 0})
    assert reader.read(10, 0)
    reader.close()
    size = sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert through.cache.clear() == size
    assert through.cache.held() == []
    again = Through(log, folder)
    same(again.all({0: 0, 1: 0}), everything(log.reader("points", {0: 0, 1: 0})))
