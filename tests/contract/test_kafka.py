"""What only Kafka has: open transactions, Kafka's own tools, brokers that do not answer."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Producer

import playhead
from playhead.adapters.kafka import KafkaLog
from playhead.core.checkpoint import Committed
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Origins, Outgoing
from playhead.errors import ConfigError, LogFailed, OffsetOutOfRange, Refused, SessionLost
from servers import KafkaServer

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
T0 = 1_400_000_000_000
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")
_numbers = itertools.count(1)


@pytest.fixture
def log(kafka: KafkaServer) -> Iterator[KafkaLog]:
    with closing(KafkaLog(kafka.bootstrap)) as log:
        yield log


@pytest.fixture
def topic(log: KafkaLog) -> str:
    return log.create_topic(f"k.{PROCESS}{next(_numbers)}", 1, {"retention.ms": "-1"}).name


@pytest.fixture
def group() -> str:
    return f"k-group-{PROCESS}{next(_numbers)}"


def records_for(topic: str, *values: bytes) -> Outgoing:
    outgoing = Outgoing(topic)
    for value in values:
        outgoing.add(0, None, value, T0)
    return outgoing


# ------------------------------------------------------------------- transactions and offsets


def test_an_open_transaction_holds_the_end_back_for_records_of_others(
    log: KafkaLog, topic: str
) -> None:
    with closing(log.appender("slow")) as slow, closing(log.appender("quick")) as quick:
        slow.append(records_for(topic, b"slow"))
        while log._offsets(topic, 1, _latest(), _uncommitted())[0] == 0:  # until it is in the log
            time.sleep(0.01)
        quick.append(records_for(topic, b"quick"))
        quick.commit()
        assert log.retained(topic) == {0: OffsetRange(0, 0)}
        with closing(log.reader(topic, {0: 0})) as reader:
            assert reader.read(10, 0.4) == []
            slow.commit()
            (batch,) = reader.read(10, 5)
            assert batch.values == [b"slow", b"quick"]
        assert log.retained(topic) == {0: OffsetRange(0, 4)}  # two records, two markers


def test_the_position_passes_markers_and_aborted_records(log: KafkaLog, topic: str) -> None:
    with closing(log.appender("a")) as appender:
        appender.append(records_for(topic, b"0", b"1"))
        appender.commit()
    appender = log.appender("a")
    appender.append(records_for(topic, b"2", b"3", b"4"))
    while log._offsets(topic, 1, _latest(), _uncommitted())[0] < 6:
        time.sleep(0.01)
    appender.close()
    assert log.retained(topic) == {0: OffsetRange(0, 7)}
    with closing(log.reader(topic, {0: 0})) as reader:
        batches = [batch for _ in range(8) for batch in reader.read(10, 0.2)]
    assert [value for batch in batches for value in batch.values] == [b"0", b"1"]
    assert batches[0].next in {2, 3, 7}
    assert batches[-1].next == 7
    positions = [batch.next for batch in batches]
    assert positions == sorted(set(positions))  # an empty batch comes only when it moved


@pytest.mark.parametrize("made", [True, False], ids=["made", "given"])
def test_a_queue_that_is_full_loses_and_repeats_nothing(
    kafka: KafkaServer, log: KafkaLog, topic: str, *, made: bool
) -> None:
    properties = {"queue.buffering.max.messages": "50", "linger.ms": "1"}
    offsets = list(range(3_000))
    origins = Origins((("n", b"%"),), TopicPartition("a%d", 7), offsets)
    outgoing = records_for(topic, *[b"%d" % i for i in offsets])
    outgoing.headers = origins if made else [() if i % 2 else h for i, h in enumerate(origins)]
    narrow = KafkaLog(kafka.bootstrap, properties)
    with closing(narrow), closing(narrow.appender("a")) as appender:
        appender.append(outgoing)
        appender.commit()
    with closing(log.reader(topic, {0: 0})) as reader:
        read = [batch for _ in range(4) for batch in reader.read(10_000, 0.5)]
    assert [v for batch in read for v in batch.values] == outgoing.values
    assert [h for batch in read for h in batch.headers] == list(outgoing.headers)
    assert origins[2] == (("n", b"%"), ("playhead-source", b"a%d[7]@2"))


def test_what_was_committed_is_retained_at_once(log: KafkaLog, topic: str) -> None:
    # Kafka answers a commit before it has written the markers.
    with closing(log.appender("a")) as appender:
        for i in range(1, 20):
            appender.append(records_for(topic, b"x"))
            appender.commit()
            assert log.retained(topic)[0].end == 2 * i


def test_truncated_records_are_out_of_range(kafka: KafkaServer, log: KafkaLog, topic: str) -> None:
    with closing(log.appender("a")) as appender:
        appender.append(records_for(topic, *[b"x"] * 10))
        appender.commit()
    place = f'{{"partitions":[{{"topic":"{topic}","partition":0,"offset":4}}],"version":1}}'
    request = kafka.folder / "delete.json"
    request.write_text(place)
    kafka.tool("org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", str(request))
    assert log.retained(topic) == {0: OffsetRange(4, 11)}
    early = log.reader(topic, {0: 3})
    with closing(early), pytest.raises(OffsetOutOfRange, match=r"no longer retained.*\[4, 11\)"):
        early.read(10, 10)
    with closing(log.reader(topic, {0: 4})) as reader:
        assert reader.read(10, 10)[0].offsets[0] == 4


def test_a_recreated_topic_has_another_id(kafka: KafkaServer, log: KafkaLog, topic: str) -> None:
    before = log.topic(topic)
    kafka.tool("org.apache.kafka.tools.TopicCommand", "--delete", "--topic", topic)
    while log.topic(topic):
        time.sleep(0.05)
    after = log.create_topic(topic, 1, {})
    assert before
    assert before.id != after.id


def test_a_record_that_the_broker_refuses_fails_by_name(log: KafkaLog, group: str) -> None:
    source = log.create_topic(f"k.{PROCESS}{next(_numbers)}", 1, {}).name
    small = log.create_topic(f"k.{PROCESS}{next(_numbers)}", 1, {"max.message.bytes": "1000"}).name
    assert log.topic(small).config["max.message.bytes"] == "1000"
    with closing(log.join(group, source)) as member:
        member.begin_publishing(f"id-{group}")
        with pytest.raises(LogFailed, match=rf"(?s){small}\[0\].*[Mm]essage"):
            member.publish([records_for(small, os.urandom(5000))], {0: Committed(1)})
        with pytest.raises(SessionLost):
            member.ensure()
    assert log.committed(group) == {}
    assert all(len(batch) == 0 for batch in log.reader(small, {0: 0}).read(10, 0.3))


def test_a_record_without_a_time_is_not_given_the_present_one(log: KafkaLog, topic: str) -> None:
    outgoing = Outgoing(topic)
    outgoing.add(0, None, b"x", 0)
    with closing(log.appender("a")) as appender, pytest.raises(LogFailed, match="time"):
        appender.append(outgoing)


def test_an_older_appender_of_the_same_name_is_fenced(log: KafkaLog, topic: str) -> None:
    old = log.appender("same")
    old.append(records_for(topic, b"old"))
    with closing(log.appender("same")) as new:
        with pytest.raises(LogFailed, match="took over"):
            old.commit()
        old.close()
        new.append(records_for(topic, b"new"))
        new.commit()
    with closing(log.reader(topic, {0: 0})) as reader:
        values = [v for _ in range(4) for batch in reader.read(10, 0.3) for v in batch.values]
    assert values == [b"new"]


# -------------------------------------------------------------------- membership, Kafka's tools


def test_kafkas_own_tool_shows_the_member_with_its_partitions(
    kafka: KafkaServer, log: KafkaLog, topic: str, group: str
) -> None:
    with closing(log.join(group, topic)) as member:
        member.commit({0: Committed(3, "mine")})
        shown = kafka.tool(GROUPS, "--describe", "--group", group).split()
        assert shown[shown.index(topic) : shown.index(topic) + 3] == [topic, "0", "3"]
        assert f"playhead-{socket.gethostname()}-{os.getpid()}" in shown
        (name,) = log.describe_group(group).members
        assert name == f"playhead-{socket.gethostname()}-{os.getpid()} (127.0.0.1)"


def test_a_reset_with_kafkas_own_tool_clears_the_metadata_or_is_refused(
    kafka: KafkaServer, log: KafkaLog, topic: str, group: str
) -> None:
    with closing(log.appender("a")) as appender:
        appender.append(records_for(topic, *[b"x"] * 5))
        appender.commit()
    reset = ("--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "3", "--execute")
    place = TopicPartition(topic, 0)
    with closing(log.join(group, topic)) as member:
        member.commit({0: Committed(3, "mine")})
        assert "inactive" in kafka.tool(GROUPS, *reset)  # refused; the tool exits 0 all the same
        member.ensure()
        assert log.committed(group) == {place: Committed(3, "mine")}
    kafka.tool(GROUPS, *reset)
    assert log.committed(group) == {place: Committed(3, "")}
    with closing(log.join(group, topic)) as member:
        assert member.committed() == {0: (Committed(3, ""), None)}


def test_group_metadata_of_an_ended_assignment_commits_nothing(
    kafka: KafkaServer, log: KafkaLog, group: str
) -> None:
    # A worker that was frozen: it has not heard of the rebalance when it wakes inside publish.
    topic = log.create_topic(f"k.{PROCESS}{next(_numbers)}", 2, {}).name
    first = log.join(group, topic)
    first.begin_publishing(f"id-{group}")
    first.publish([], {0: Committed(1, "first")})
    found = []
    joining = threading.Thread(
        target=lambda: found.append(KafkaLog(kafka.bootstrap).join(group, topic))
    )
    joining.start()
    while not first._over:
        first._serve(0.05)
    first._over = ""
    while joining.is_alive():  # as a client would that takes part in the rebalance
        first._serve(0.05)
        first._over = ""
    with pytest.raises(SessionLost, match="transaction"):
        first.publish([records_for(topic, b"late")], {0: Committed(2, "late")})
    first.close()
    with closing(found[0]) as second:
        assert log.committed(group) == {TopicPartition(topic, 0): Committed(1, "first")}
        second.close()
    assert log.committed(f"{group}.witness") == {TopicPartition(topic, 0): Committed(1, "first")}


def test_reading_the_offsets_waits_for_a_pending_transaction(
    kafka: KafkaServer, log: KafkaLog, topic: str, group: str
) -> None:
    with closing(log.join(group, topic)) as member:
        member.commit({0: Committed(1, "before")})
        pending = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": group})
        pending.init_transactions(10)
        pending.begin_transaction()
        pending.send_offsets_to_transaction(
            [_place(topic, 2)], member._consumer.consumer_group_metadata(), 10
        )
        ending = threading.Timer(3, lambda: pending.commit_transaction(10))
        ending.start()
        begun = time.monotonic()
        assert member.committed() == {0: (Committed(2, ""), None)}
        assert time.monotonic() - begun > 2.5  # longer than one request waits
        ending.join()


def test_joining_says_why_it_waits_for_a_dead_member(
    kafka: KafkaServer, log: KafkaLog, topic: str, group: str, caplog: pytest.LogCaptureFixture
) -> None:
    script = (
        "import os; from playhead.adapters.kafka import KafkaLog; "
        f"log = KafkaLog({kafka.bootstrap!r}, {{'session.timeout.ms': '3000'}}); "
        f"log.join({group!r}, {topic!r}); os.kill(os.getpid(), 9)"
    )
    dead = subprocess.run([sys.executable, "-c", script], check=False)
    assert dead.returncode == -9
    found = log.describe_group(group)
    assert len(found.members) == 1
    assert found.died == found.members
    with pytest.raises(Refused, match=group):
        log.reset(group, {TopicPartition(topic, 0): 0})
    caplog.set_level(logging.INFO, "playhead.kafka")
    begun = time.monotonic()
    with closing(log.join(group, topic)) as member:
        assert 1 < time.monotonic() - begun < 20
        assert member.partitions == (0,)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "playhead.kafka"]
    assert group in line
    assert "playhead-" in line


# ------------------------------------------------------------------- suspicious ends, no answer


def test_a_slow_commit_ends_the_session_after_it(
    kafka: KafkaServer, topic: str, group: str
) -> None:
    with closing(KafkaLog(kafka.bootstrap, {"socket.timeout.ms": "600"})) as log:
        member = log.join(group, topic)
        with closing(member):
            member.begin_publishing(f"id-{group}")
            member.publish([], {0: Committed(1)})
            member.ensure()
            broker = kafka.pid
            assert broker
            waking = threading.Timer(0.45, lambda: os.kill(broker, 18))

            def freeze(step: str) -> None:
                if step == "before log commit":
                    os.kill(broker, 19)
                    waking.start()

            member.on_step = freeze
            member.publish([records_for(topic, b"x")], {0: Committed(2)})  # known to be done
            waking.join()
            with pytest.raises(SessionLost, match="commit took"):
                member.publish([], {0: Committed(3)})
    assert {at.offset for at in KafkaLog(kafka.bootstrap).committed(group).values()} == {2}


def test_a_wrong_port_is_said_soon(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        with closing(KafkaLog(address)) as log, pytest.raises(LogFailed) as raised:
            log.topics()
        assert time.monotonic() - begun < 7
    assert raised.value.exit_code == 5
    assert address in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_misspelt_property_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"(?s)security.protocl.*security\.protocol"):
        KafkaLog("127.0.0.1:1", {"security.protocl": "SSL"})


def test_a_bad_value_is_named_without_showing_it() -> None:
    with pytest.raises(ConfigError, match=r"security\.protocol") as raised:
        KafkaLog("127.0.0.1:1", {"security.protocol": "hunter2"})
    assert "hunter2" not in str(raised.value)


def test_what_exactly_once_rests_on_cannot_be_switched_off(kafka: KafkaServer, topic: str) -> None:
    properties = {"isolation.level": "read_uncommitted", "auto.offset.reset": "earliest"}
    with closing(KafkaLog(kafka.bootstrap, properties)) as log:
        with closing(log.appender("open")) as appender:
            appender.append(records_for(topic, b"open"))
            time.sleep(0.3)
            with closing(log.reader(topic, {0: 0})) as reader:
                assert reader.read(10, 0.5) == []
        with closing(log.reader(topic, {0: 99})) as reader, pytest.raises(OffsetOutOfRange):
            reader.read(10, 10)


def test_only_the_kafka_adapter_imports_confluent_kafka() -> None:
    sources = Path(playhead.__file__).parent
    importing = {
        path.name
        for path in sources.rglob("*.py")
        if "import confluent_kafka" in (text := path.read_text()) or "from confluent_kafka" in text
    }
    assert importing
    assert all(name.startswith("kafka") for name in importing), importing


def _latest() -> object:
    from confluent_kafka.admin import OffsetSpec

    return OffsetSpec.latest()


def _uncommitted() -> object:
    from confluent_kafka import IsolationLevel

    return IsolationLevel.READ_UNCOMMITTED


def _place(topic: str, offset: int) -> object:
    from confluent_kafka import TopicPartition as Place

    return Place(topic, 0, offset)
