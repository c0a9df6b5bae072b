"""The contract of the `Log` port: one suite, every adapter. Each test is a sentence of it."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from playhead.adapters.kafka import KafkaLog
from playhead.core.checkpoint import Checkpoint, Committed
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Outgoing, Records
from playhead.errors import LogFailed, OffsetOutOfRange, Refused, SessionLost
from playhead.ports import Appender, Log, Member, Reader

T0 = 1_400_000_000_000  # 2014: old records have to stay, too
NOBODYS = "nobody-made-this"
FOREVER = {"retention.ms": "-1"}
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")
_numbers = itertools.count(1)


@dataclass
class World:
    """One log, ways to open it again, and names nobody else uses."""

    log: Log
    open: Callable[[], Log]

    def topic(self, partitions: int = 1) -> str:
        name = f"topic.{PROCESS}{next(_numbers)}"
        self.log.create_topic(name, partitions, FOREVER)
        return name

    def name(self, kind: str) -> str:
        return f"{kind}-{PROCESS}{next(_numbers)}"

    def fill(self, topic: str, *values: bytes | None, partition: int = 0, commits: int = 1) -> None:
        with closing(self.log.appender(self.name("filler"))) as appender:
            size = -(-len(values) // commits)
            for begin in range(0, len(values), size):
                appender.append(records_for(topic, *values[begin : begin + size], to=partition))
                appender.commit()


@pytest.fixture(params=["local", "kafka"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "kafka":
        bootstrap = request.getfixturevalue("kafka").bootstrap

        def another() -> Log:
            return KafkaLog(bootstrap)
    else:
        from playhead.adapters.local_log import LocalLog

        def another() -> Log:
            return LocalLog(tmp_path / "log.db")

    opened: list[Log] = []

    def remembered() -> Log:
        opened.append(another())
        return opened[-1]

    yield World(remembered(), remembered)
    for log in opened:
        log.close()


@pytest.fixture
def log(world: World) -> Log:
    return world.log


def records_for(topic: str, *values: bytes | None, to: int = 0) -> Outgoing:
    outgoing = Outgoing(topic)
    for i, value in enumerate(values):
        outgoing.add(to, b"key", value, T0 + i * 1000)
    return outgoing


def read_to(reader: Reader, ends: Mapping[int, int], max_records: int = 1000) -> list[Records]:
    """Read until every position is at its end: what a bounded read does."""
    positions = dict.fromkeys(ends, -1)
    batches: list[Records] = []
    deadline = time.monotonic() + 20
    while any(positions[p] < end for p, end in ends.items()):
        assert time.monotonic() < deadline, f"at {positions}, not at {ends}"
        for batch in reader.read(max_records, 0.5):
            positions[batch.source.partition] = batch.next
            batches.append(batch)
    return batches


def contents(log: Log, topic: str) -> dict[int, list[bytes | None]]:
    """Read everything that is retained, per partition."""
    retained = log.retained(topic)
    found: dict[int, list[bytes | None]] = {p: [] for p in retained}
    todo = {p: held.end for p, held in retained.items() if len(held)}
    if todo:
        with closing(log.reader(topic, {p: retained[p].start for p in todo})) as reader:
            for batch in read_to(reader, todo):
                found[batch.source.partition] += batch.values
    return found


def checkpoint(batch: int, begin: int = 0) -> str:
    return str(Checkpoint("ledger1", "distance@miles", 1, batch, begin, "0123456789abcdef"))


# ------------------------------------------------------------------------------------ topics


def test_a_created_topic_is_described_and_listed(world: World) -> None:
    log, name = world.log, world.topic(3)
    info = log.topic(name)
    assert info is not None
    assert (info.name, info.partitions) == (name, 3)
    assert info.id
    assert info.config["retention.ms"] == "-1"
    assert info in log.topics()


def test_topics_are_sorted_and_without_internal_ones(world: World) -> None:
    world.topic()
    world.topic()
    names = [info.name for info in world.log.topics()]
    assert names == sorted(names)
    assert not [name for name in names if name.startswith("__")]


def test_create_topic_returns_what_topic_returns(world: World) -> None:
    name = world.name("made")
    info = world.log.create_topic(name, 2, FOREVER)
    assert info == world.log.topic(name)


def test_an_unknown_topic_is_none(log: Log) -> None:
    assert log.topic(NOBODYS) is None


def test_creating_an_existing_topic_is_refused(world: World) -> None:
    name = world.topic(2)
    before = world.log.topic(name)
    with pytest.raises(Refused, match=name):
        world.log.create_topic(name, 5, FOREVER)
    assert world.log.topic(name) == before


def test_topics_have_different_ids(world: World) -> None:
    a, b = world.log.topic(world.topic()), world.log.topic(world.topic())
    assert a
    assert b
    assert a.id != b.id


# ------------------------------------------------------------------------------------ reading


def test_a_record_comes_back_as_it_was(world: World) -> None:
    topic = world.topic()
    outgoing = Outgoing(topic)
    outgoing.add(0, b"k", b"v", T0, (("a", b"1"), ("a", b"2"), ("b", b"")))
    outgoing.add(0, None, b"", T0 - 5000)
    outgoing.add(0, b"", None, T0 + 1, (("source", "é[0]@1".encode()),))
    with closing(world.log.appender(world.name("a"))) as appender:
        appender.append(outgoing)
        appender.commit()
    with closing(world.log.reader(topic, {0: 0})) as reader:
        (batch,) = [b for b in read_to(reader, {0: 3}) if len(b)]
    assert batch.source == TopicPartition(topic, 0)
    assert list(batch.offsets) == [0, 1, 2]
    assert list(batch.timestamps_ms) == outgoing.timestamps_ms
    assert list(batch.keys) == [b"k", None, b""]
    assert list(batch.values) == [b"v", b"", None]
    assert list(batch.headers) == outgoing.headers
    assert batch.next >= 3


def test_headers_are_absent_where_no_record_has_any(world: World) -> None:
    topic = world.topic()
    world.fill(topic, b"1", b"2")
    with closing(world.log.reader(topic, {0: 0})) as reader:
        (batch,) = [b for b in read_to(reader, {0: 2}) if len(b)]
    assert len(batch) == 2
    assert not batch.headers


def test_records_stay_in_log_order_and_next_follows_them(world: World) -> None:
    topic = world.topic()
    values = [b"%d" % i for i in range(100)]
    world.fill(topic, *values, commits=4)
    end = world.log.retained(topic)[0].end
    with closing(world.log.reader(topic, {0: 0})) as reader:
        batches = read_to(reader, {0: end})
    offsets = [offset for batch in batches for offset in batch.offsets]
    assert [value for batch in batches for value in batch.values] == values
    assert offsets == sorted(set(offsets))
    for batch in batches:
        assert all(offset < batch.next for offset in batch.offsets)
    assert batches[-1].next == end  # however the log ends: the position reaches it


def test_max_records_bounds_the_sum_over_partitions(world: World) -> None:
    topic = world.topic(2)
    for partition in (0, 1):
        world.fill(topic, *[b"%d" % i for i in range(50)], partition=partition)
    ends = {p: held.end for p, held in world.log.retained(topic).items()}
    with closing(world.log.reader(topic, {0: 0, 1: 0})) as reader:
        first = reader.read(7, 5)
        assert 0 < sum(map(len, first)) <= 7
        rest = read_to(reader, ends, max_records=7)
    for batch in rest:
        assert len(batch) <= 7
    assert sum(map(len, first)) + sum(map(len, rest)) == 100


def test_a_read_ends_early_where_records_are_large(world: World) -> None:
    topic = world.topic(2)
    values = [b"x" * 20_000] * 60 + [b"y" * 400_000] * 4 + [b"z"] * 60
    for partition in (0, 1):
        world.fill(topic, *values, partition=partition)
    ends = {p: held.end for p, held in world.log.retained(topic).items()}
    with closing(world.log.reader(topic, {0: 0, 1: 0}, 100_000)) as reader:
        read = read_to(reader, ends)
    for partition in (0, 1):
        of = [batch for batch in read if batch.source.partition == partition]
        assert [value for batch in of for value in batch.values] == values
    assert max(batch.size for batch in read) <= 2_000_000, "at most what is fetched at once"
    assert len([batch for batch in read if batch.size > 10_000]) >= 5


def test_a_read_fills_up_when_data_is_there(world: World) -> None:
    topic = world.topic()
    world.fill(topic, *[b"x" * 100] * 20_000)
    with closing(world.log.reader(topic, {0: 0})) as reader:
        sizes = [sum(map(len, reader.read(5000, 5))) for _ in range(4)]
    assert sum(sizes[1:]) >= 14_000, sizes  # the first one may come before the queue is full


def test_a_partition_comes_at_most_once_in_a_read(world: World) -> None:
    topic = world.topic(2)
    for partition in (0, 1, 0, 1):
        world.fill(topic, b"a", b"b", partition=partition)
    with closing(world.log.reader(topic, {0: 0, 1: 0})) as reader:
        seen = 0
        while seen < 8:
            batches = reader.read(1000, 5)
            sources = [batch.source for batch in batches]
            assert len(set(sources)) == len(sources)
            seen += sum(map(len, batches))


def test_only_the_asked_partitions_are_read_from_their_positions(world: World) -> None:
    topic = world.topic(3)
    for partition in range(3):
        world.fill(topic, *[b"%d:%d" % (partition, i) for i in range(4)], partition=partition)
    ends = {p: held.end for p, held in world.log.retained(topic).items() if p}
    with closing(world.log.reader(topic, {1: 2, 2: 3})) as reader:
        batches = read_to(reader, ends)
    got = {value for batch in batches for value in batch.values}
    assert got == {b"1:2", b"1:3", b"2:3"}


def test_reading_at_the_end_waits_and_then_gets_the_new_record(world: World) -> None:
    topic = world.topic()
    world.fill(topic, b"old")
    end = world.log.retained(topic)[0].end
    with closing(world.log.reader(topic, {0: end})) as reader:
        begun = time.monotonic()
        assert reader.read(10, 0.3) == []
        assert 0.25 < time.monotonic() - begun < 2
        world.fill(topic, b"new")
        batches: list[Records] = []
        while not batches:
            batches = reader.read(10, 5)
    assert [list(batch.values) for batch in batches] == [[b"new"]]


@pytest.mark.parametrize("offset", [99, -1])
def test_a_position_that_is_not_retained_is_an_error(world: World, offset: int) -> None:
    topic = world.topic(2)
    world.fill(topic, b"0", b"1", partition=1)
    held = world.log.retained(topic)[1]
    with closing(world.log.reader(topic, {1: offset})) as reader:
        for _ in range(2):  # it stays an error
            with pytest.raises(OffsetOutOfRange) as raised:
                read_to(reader, {1: 1000})
            assert f"{topic}[1]" in str(raised.value)
            assert str(offset) in str(raised.value)
            assert str(held) in str(raised.value)


def test_the_end_is_a_valid_position(world: World) -> None:
    topic = world.topic()
    with closing(world.log.reader(topic, {0: 0})) as reader:
        assert reader.read(10, 0.3) == []


def test_closing_a_reader_twice_is_safe(world: World) -> None:
    reader = world.log.reader(world.topic(), {0: 0})
    reader.close()
    reader.close()


# ----------------------------------------------------------------------------------- offsets


def test_retained_of_an_empty_and_of_a_filled_partition(world: World) -> None:
    topic = world.topic(2)
    world.fill(topic, b"a", b"b", b"c", partition=1)
    held = world.log.retained(topic)
    assert held[0] == OffsetRange(0, 0)
    assert held[1].start == 0
    assert held[1].end >= 3
    assert sorted(held) == [0, 1]


def test_nothing_is_held_back_without_an_open_transaction(world: World) -> None:
    topic = world.topic(partitions=2)
    world.fill(topic, b"a", b"b", partition=1)
    assert world.log.held_back(topic) == {}
    with closing(world.log.appender(world.name("aborts"))) as appender:
        appender.append(records_for(topic, b"c", to=1))
    assert world.log.held_back(topic) == {}
    with pytest.raises(LogFailed):
        world.log.held_back(NOBODYS)


def test_retained_of_an_unknown_topic_names_it(log: Log) -> None:
    with pytest.raises(LogFailed, match=NOBODYS):
        log.retained(NOBODYS)


def test_deleted_records_are_no_longer_retained_and_offsets_stay(world: World) -> None:
    topic = world.topic(2)
    for partition in (0, 1):
        world.fill(topic, *[b"%d" % i for i in range(10)], partition=partition)
    before = world.log.retained(topic)
    world.log.delete_records(topic, {1: 4})
    assert world.log.retained(topic) == {0: before[0], 1: OffsetRange(4, before[1].end)}
    assert contents(world.log, topic)[1] == [b"%d" % i for i in range(4, 10)]
    too_early = world.log.reader(topic, {1: 3})
    with closing(too_early), pytest.raises(OffsetOutOfRange, match="no longer") as raised:
        read_to(too_early, {1: before[1].end})
    assert (raised.value.exit_code, raised.value.where) == (3, f"{topic}[1]@3")
    world.log.delete_records(topic, {1: 2})  # before the start: nothing
    assert world.log.retained(topic)[1].start == 4
    world.log.delete_records(topic, {p: held.end for p, held in before.items()})
    world.fill(topic, b"next")
    found = world.log.retained(topic)
    assert found[0].start == before[0].end
    assert len(found[1]) == 0
    assert contents(world.log, topic) == {0: [b"next"], 1: []}


@pytest.mark.parametrize("offset", [99, -1])
def test_records_that_are_not_there_cannot_be_deleted(world: World, offset: int) -> None:
    topic = world.topic(2)
    world.fill(topic, b"0", b"1")
    before = world.log.retained(topic)
    with pytest.raises(OffsetOutOfRange, match=rf"{topic}\[1\].*{offset}"):
        world.log.delete_records(topic, {0: 1, 1: offset})
    assert world.log.retained(topic) == before
    with pytest.raises(LogFailed, match=rf"{topic}\[9\]"):
        world.log.delete_records(topic, {0: 1, 9: 0})
    with pytest.raises(LogFailed, match=NOBODYS):
        world.log.delete_records(NOBODYS, {0: 0})
    assert world.log.retained(topic) == before


def test_offset_at_is_the_first_at_or_after_the_time(world: World) -> None:
    topic = world.topic(2)
    world.fill(topic, b"0", b"1", b"2")  # at T0, T0 + 1 s, T0 + 2 s
    assert world.log.offset_at(topic, T0 - 1) == {0: 0, 1: None}
    assert world.log.offset_at(topic, T0) == {0: 0, 1: None}
    assert world.log.offset_at(topic, T0 + 1) == {0: 1, 1: None}
    assert world.log.offset_at(topic, T0 + 2000) == {0: 2, 1: None}
    assert world.log.offset_at(topic, T0 + 2001) == {0: None, 1: None}


def test_offset_at_looks_past_commits_for_records(world: World) -> None:
    topic = world.topic()
    world.fill(topic, b"0", b"1")  # committed now, in the time of their records long ago
    outgoing = Outgoing(topic)
    outgoing.add(0, None, b"late", T0 + 500)
    outgoing.add(0, None, b"new", T0 + 9000)
    with closing(world.log.appender(world.name("a"))) as appender:
        appender.append(outgoing)
        appender.commit()
    found = world.log.offset_at(topic, T0 + 5000)[0]
    assert found is not None
    with closing(world.log.reader(topic, {0: found})) as reader:
        batches = read_to(reader, {0: found + 1})
    assert [v for b in batches for v in b.values] == [b"new"]
    assert [o for b in batches for o in b.offsets] == [found]


def test_offset_at_of_an_unknown_topic_names_it(log: Log) -> None:
    with pytest.raises(LogFailed, match=NOBODYS):
        log.offset_at(NOBODYS, T0)


# ---------------------------------------------------------------------------------- appender


def test_what_an_appender_has_not_committed_is_not_visible(world: World) -> None:
    topic = world.topic()
    appender = world.log.appender(world.name("a"))
    appender.append(records_for(topic, b"1"))
    appender.append(records_for(topic, b"2"))
    time.sleep(0.1)
    assert len(world.log.retained(topic)[0]) == 0
    appender.commit()
    assert contents(world.log, topic) == {0: [b"1", b"2"]}
    appender.append(records_for(topic, b"3"))
    appender.close()
    appender.close()
    assert contents(world.log, topic) == {0: [b"1", b"2"]}


def test_an_appender_may_commit_nothing(world: World) -> None:
    with closing(world.log.appender(world.name("a"))) as appender:
        appender.commit()


def test_one_commit_covers_several_topics(world: World) -> None:
    a, b = world.topic(), world.topic(2)
    with closing(world.log.appender(world.name("a"))) as appender:
        appender.append(records_for(a, b"1"))
        appender.append(records_for(b, b"2", to=1))
        appender.commit()
    assert contents(world.log, a) == {0: [b"1"]}
    assert contents(world.log, b) == {0: [], 1: [b"2"]}


def test_appenders_with_different_names_do_not_disturb_each_other(world: World) -> None:
    topic = world.topic()
    one: Appender = world.log.appender(world.name("a"))
    two: Appender = world.log.appender(world.name("a"))
    with closing(one), closing(two):
        one.append(records_for(topic, b"1"))
        one.commit()
        two.append(records_for(topic, b"2"))
        two.commit()
        one.append(records_for(topic, b"3"))
        one.commit()
    assert contents(world.log, topic) == {0: [b"1", b"2", b"3"]}


@pytest.mark.parametrize("partition", [0, 7])
def test_appending_to_what_is_not_there_fails_by_name(world: World, partition: int) -> None:
    topic = NOBODYS if partition == 0 else world.topic()
    with closing(world.log.appender(world.name("a"))) as appender:

        def append() -> None:
            appender.append(records_for(topic, b"1", to=partition))
            appender.commit()

        with pytest.raises(LogFailed, match=topic):
            append()
    assert world.log.topic(NOBODYS) is None


# ----------------------------------------------------------------------------------- session


def joined(world: World, partitions: int = 2, group: str = "") -> tuple[str, str, Member]:
    topic, group = world.topic(partitions), group or world.name("group")
    return topic, group, world.log.join(group, topic)


def test_one_member_gets_every_partition(world: World) -> None:
    _, _, member = joined(world, 3)
    with closing(member):
        assert member.partitions == (0, 1, 2)
        member.ensure()
        assert member.committed() == dict.fromkeys(range(3), (None, None))


def test_joining_for_an_unknown_topic_fails_by_name(log: Log) -> None:
    with pytest.raises(LogFailed, match=NOBODYS):
        log.join("g", NOBODYS)


def test_commit_keeps_offset_and_metadata(world: World) -> None:
    topic, group, member = joined(world)
    with closing(member):
        member.commit({0: Committed(5, checkpoint(1)), 1: Committed(0)})
        member.commit({0: Committed(7, checkpoint(2, 5))})
        assert member.committed() == {
            0: (Committed(7, checkpoint(2, 5)), None),
            1: (Committed(0, ""), None),
        }
        member.commit({})
    found = world.log.committed(group)
    assert found == {
        TopicPartition(topic, 0): Committed(7, checkpoint(2, 5)),
        TopicPartition(topic, 1): Committed(0, ""),
    }
    assert found[TopicPartition(topic, 0)].checkpoint is not None
    assert world.log.committed(f"{group}.witness") == {}


def test_publish_appends_records_and_commits_group_and_witness(world: World) -> None:
    topic, group, member = joined(world)
    output = world.topic(2)
    with closing(member):
        member.begin_publishing(world.name("id"))
        at = {0: Committed(3, checkpoint(1)), 1: Committed(4, checkpoint(1))}
        member.publish([records_for(output, b"a"), records_for(output, b"b", to=1)], at)
        assert member.committed() == {0: (at[0], at[0]), 1: (at[1], at[1])}
        second = Committed(9, checkpoint(2, 3))
        member.publish([records_for(output, b"c")], {0: second})
        assert member.committed() == {0: (second, second), 1: (at[1], at[1])}
        member.ensure()
    assert contents(world.log, output) == {0: [b"a", b"c"], 1: [b"b"]}
    expected = {TopicPartition(topic, 0): second, TopicPartition(topic, 1): at[1]}
    assert world.log.committed(group) == expected
    assert world.log.committed(f"{group}.witness") == expected


def test_publish_without_records_commits_the_offsets(world: World) -> None:
    _, _, member = joined(world, 1)
    with closing(member):
        member.begin_publishing(world.name("id"))
        member.publish([], {0: Committed(2, checkpoint(1))})
        assert member.committed() == {0: (Committed(2, checkpoint(1)),) * 2}


def test_publish_needs_begin_publishing(world: World) -> None:
    _, _, member = joined(world, 1)
    with closing(member), pytest.raises((LogFailed, SessionLost)):
        member.publish([], {0: Committed(1)})


def test_publishing_to_what_is_not_there_leaves_nothing(world: World) -> None:
    _, group, member = joined(world, 1)
    output = world.topic()
    with closing(member):
        member.begin_publishing(world.name("id"))
        outgoing = [records_for(output, b"1"), records_for(NOBODYS, b"1")]
        with pytest.raises(LogFailed, match=NOBODYS):
            member.publish(outgoing, {0: Committed(1)})
        with pytest.raises(SessionLost):
            member.ensure()
    assert contents(world.log, output) == {0: []}
    assert world.log.committed(group) == {}
    assert world.log.committed(f"{group}.witness") == {}


class Crash(Exception):
    """Stands for kill −9 inside publish."""


STEPS = ("begin", "produced", "group offsets sent", "witness offsets sent", "before log commit")


@pytest.mark.parametrize("step", [*STEPS, "after log commit"])
def test_a_crash_in_publish_leaves_all_or_nothing(world: World, step: str) -> None:
    topic, group, member = joined(world, 1)
    output, publisher = world.topic(), world.name("id")
    steps: list[str] = []

    def on_step(name: str) -> None:
        steps.append(name)
        if name == step:
            raise Crash(name)

    with closing(member):
        member.begin_publishing(publisher)
        member.on_step = on_step
        with pytest.raises(Crash):
            member.publish([records_for(output, b"1")], {0: Committed(1, checkpoint(1))})
        all_steps = [*STEPS, "after log commit"]
        assert steps == all_steps[: all_steps.index(step) + 1]
    with closing(world.open().join(group, topic)) as after:
        after.begin_publishing(publisher)  # aborts what was open: nobody waits for a time-out
        begun = time.monotonic()
        done = step == "after log commit"
        expected = Committed(1, checkpoint(1)) if done else None
        assert after.committed() == {0: (expected, expected)}
        assert time.monotonic() - begun < 5
    assert contents(world.log, output) == {0: [b"1"] if done else []}


def test_an_older_producer_of_the_same_id_is_fenced(world: World) -> None:
    _, old_group, old = joined(world, 1)
    _, _, new = joined(world, 1)
    output, publisher = world.topic(), world.name("id")
    with closing(old), closing(new):
        old.begin_publishing(publisher)
        old.publish([records_for(output, b"old")], {0: Committed(1)})
        new.begin_publishing(publisher)
        with pytest.raises(SessionLost, match=r"[Aa]nother process"):
            old.publish([records_for(output, b"too late")], {0: Committed(2)})
        with pytest.raises(SessionLost):
            old.commit({0: Committed(2)})
        with pytest.raises(SessionLost):
            old.ensure()
        new.publish([records_for(output, b"new")], {0: Committed(1)})
    assert contents(world.log, output) == {0: [b"old", b"new"]}
    assert {at.offset for at in world.log.committed(old_group).values()} == {1}


def test_a_second_member_takes_over_and_the_first_stays_lost(world: World) -> None:
    topic, group, first = joined(world, 2)
    output = world.topic()
    first.begin_publishing(world.name("id"))
    first.commit({0: Committed(1, checkpoint(1))})
    found: list[Member] = []
    other = world.open()
    joining = threading.Thread(target=lambda: found.append(other.join(group, topic)))
    joining.start()
    deadline = time.monotonic() + 2
    try:
        while time.monotonic() < deadline:  # a log may revoke at once, or wait for the first
            first.ensure()
            time.sleep(0.05)
    except SessionLost:
        pass
    first.close()
    joining.join(30)
    for call in (
        first.ensure,
        first.committed,
        lambda: first.commit({0: Committed(2)}),
        lambda: first.publish([records_for(output, b"x")], {0: Committed(2)}),
        lambda: first.begin_publishing("again"),
    ):
        with pytest.raises(SessionLost):
            call()
    (second,) = found
    with closing(second):
        assert second.partitions == (0, 1)
        assert second.committed()[0] == (Committed(1, checkpoint(1)), None)
        second.commit({0: Committed(3)})
    assert contents(world.log, output) == {0: []}
    assert world.log.committed(group) == {TopicPartition(topic, 0): Committed(3)}


def test_closing_a_member_twice_is_safe_and_the_group_is_empty(world: World) -> None:
    _, group, member = joined(world)
    member.commit({0: Committed(1)})
    member.close()
    member.close()
    assert world.log.describe_group(group).state == "Empty"


# ------------------------------------------------------------------------------------- groups


def test_a_group_is_described_with_its_members(world: World) -> None:
    _, group, member = joined(world)
    with closing(member):
        info = world.log.describe_group(group)
        assert (info.group, info.state) == (group, "Stable")
        assert len(info.members) == 1
        member.commit({0: Committed(1)})
    info = world.log.describe_group(group)
    assert (info.state, info.members) == ("Empty", ())
    assert group in world.log.groups()
    assert world.log.groups() == sorted(world.log.groups())


def test_an_unknown_group_is_dead_and_has_no_offsets(log: Log) -> None:
    info = log.describe_group("nobody-joined-this")
    assert (info.state, info.members) == ("Dead", ())
    assert log.committed("nobody-joined-this") == {}


def test_a_reset_clears_the_metadata(world: World) -> None:
    topic, group, member = joined(world)
    with closing(member):
        member.commit({0: Committed(5, checkpoint(1)), 1: Committed(6, checkpoint(1))})
    world.log.reset(group, {TopicPartition(topic, 0): 5})  # to where it was
    assert world.log.committed(group) == {
        TopicPartition(topic, 0): Committed(5, ""),
        TopicPartition(topic, 1): Committed(6, checkpoint(1)),
    }
    with closing(world.log.join(group, topic)) as again:
        assert again.committed()[0] == (Committed(5, ""), None)


def test_a_reset_makes_a_group_that_did_not_exist(world: World) -> None:
    topic, group = world.topic(), world.name("group")
    world.log.reset(group, {TopicPartition(topic, 0): 2})
    assert world.log.committed(group) == {TopicPartition(topic, 0): Committed(2)}
    assert world.log.describe_group(group).state == "Empty"


def test_a_reset_is_refused_while_the_group_has_members(world: World) -> None:
    topic, group, member = joined(world)
    with closing(member):
        member.commit({0: Committed(5, checkpoint(1))})
        (name,) = world.log.describe_group(group).members
        with pytest.raises(Refused) as raised:
            world.log.reset(group, {TopicPartition(topic, 0): 0})
        assert group in str(raised.value)
        assert name in str(raised.value)
        member.ensure()
        assert member.committed()[0] == (Committed(5, checkpoint(1)), None)


def test_a_reset_of_an_unknown_partition_is_refused_by_name(world: World) -> None:
    topic, group = world.topic(), world.name("group")
    with pytest.raises(Refused, match=rf"{topic}\[9\]"):
        world.log.reset(group, {TopicPartition(topic, 9): 0})
    assert world.log.committed(group) == {}


def test_closing_a_log_twice_is_safe(world: World) -> None:
    log = world.open()
    assert log.topic(NOBODYS) is None
    log.close()
    log.close()


# ------------------------------------------------------------------------- deleting


def test_a_deleted_topic_is_gone_and_one_of_its_name_is_another(world: World) -> None:
    topic, other = world.topic(2), world.topic()
    world.fill(topic, b"a", b"b")
    world.fill(other, b"c")
    before = world.log.topic(topic)
    world.log.delete_topic(topic)
    assert world.log.topic(topic) is None
    with pytest.raises(LogFailed):
        world.log.retained(topic)
    world.log.delete_topic(topic)  # nothing to delete is no error
    again = world.log.create_topic(topic, 1, FOREVER)
    assert before is not None
    assert again.id != before.id
    assert world.log.retained(topic) == {0: OffsetRange(0, 0)}
    assert len(world.log.retained(other)[0]) > 0


def test_a_deleted_group_has_no_offsets(world: World) -> None:
    topic, group, other = world.topic(), world.name("group"), world.name("group")
    world.fill(topic, b"a")
    for one in (group, other):
        world.log.reset(one, {TopicPartition(topic, 0): 1})
    world.log.delete_group(group)
    assert world.log.committed(group) == {}
    assert group not in world.log.groups()
    assert world.log.describe_group(group).state == "Dead"
    world.log.delete_group(group)  # nothing to delete is no error
    assert len(world.log.committed(other)) == 1


def test_a_group_with_a_member_is_not_deleted(world: World) -> None:
    topic, group = world.topic(), world.name("group")
    world.log.reset(group, {TopicPartition(topic, 0): 0})
    with closing(world.log.join(group, topic)), pytest.raises(Refused):
        world.log.delete_group(group)
    assert len(world.log.committed(group)) == 1
