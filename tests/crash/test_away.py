"""A broker that dies, a connection that breaks inside a commit: exactly once all the same."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from playhead.adapters.kafka import KafkaLog
from playhead.adapters.kafka_session import KafkaMember
from playhead.core.checkpoint import Committed
from playhead.core.records import Outgoing
from playhead.errors import LogFailed, SessionLost
from proxy import Proxy
from servers import KafkaServer, free_ports
from story import Trip, headers, wait_for

SMALL = {"PLAYHEAD_BATCH_RECORDS": "20"}


@dataclass
class Broker:
    """A broker of these tests' own, behind a proxy."""

    server: KafkaServer
    proxy: Proxy

    @property
    def url(self) -> str:
        return f"kafka://{self.server.bootstrap}"

    def kill(self) -> None:
        self.server.kill()
        self.proxy.close()

    def start(self) -> None:
        self.server.start()
        self.proxy.open()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    (port,) = free_ports(1)
    server = KafkaServer(tmp_path_factory.mktemp("own"), advertised=port)
    server.start()
    with closing(Proxy(server.port, port)) as proxy:
        yield Broker(server, proxy)
    server.stop()


@pytest.fixture
def trip(broker: Broker, tmp_path: Path) -> Trip:
    trip = Trip.make(tmp_path / "trip", broker.url)
    trip.ingest()
    return trip


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a run that nothing disturbs gives."""
    untouched = Trip.make(tmp_path_factory.mktemp("untouched"))
    untouched.ingest()
    untouched.run()
    return untouched.dump()


def check(trip: Trip, expected: dict[str, Any]) -> None:
    found = trip.dump()
    assert [row[:3] for row in found["table"]] == [row[:3] for row in expected["table"]]
    assert [r[:3] for r in found["topic"][0]] == [r[:3] for r in expected["topic"][0]]
    told = [headers(r) for r in trip.records("distance_calcs.miles")]
    assert len(told) == len({h["playhead-source"] for h in told}) == 681
    assert {h["playhead-generation"] for h in told} == {"1"}


@pytest.mark.parametrize("how", ["answer lost", "request lost", "request late"])
def test_a_connection_that_breaks_inside_a_commit(
    broker: Broker, trip: Trip, expected: dict[str, Any], how: str
) -> None:
    broker.proxy.arm(how, 3)
    done = trip.ok("run", "--until-caught-up", "-X", "socket.timeout.ms=1500", **SMALL)
    assert broker.proxy.done.is_set()
    if how != "request lost":  # then nothing can come late
        assert "session over, starting again" in done.err  # the producer was thrown away
    check(trip, expected)


def test_a_broker_that_is_killed_is_waited_for(
    broker: Broker, trip: Trip, expected: dict[str, Any], tmp_path: Path
) -> None:
    idle = Trip.make(tmp_path / "idle", broker.url)
    idle.ingest()
    told, told_idle = (t.folder / "background.log" for t in (trip, idle))
    with (
        idle.running() as stopped,
        trip.running(PLAYHEAD_BATCH_RECORDS="5") as worker,
    ):
        wait_for(lambda: trip.cursor() > 30, "a first commit")
        broker.kill()
        assert trip.cursor() < 681
        try:
            for file in (told, told_idle):
                wait_for(lambda file=file: WAITS in file.read_text(), f"{file} to say so", 100)
            stopped.send_signal(signal.SIGTERM)  # a stop reaches a worker that waits
            assert stopped.wait(10) == 130
            away = idle.cli("run", "--until-caught-up")  # a command that only begins does not wait
            assert (away.code, "did not answer" in away.err) == (5, True)
        finally:
            broker.start()
        wait_for(lambda: trip.cursor() >= 681, "it to go on")
        wait_for(lambda: BACK in told.read_text(), "it to say so")
        assert worker.poll() is None
    assert told.read_text().count(WAITS) == told.read_text().count(BACK) == 1
    for one in (trip, idle):
        one.run()
        check(one, expected)


def test_a_member_that_heard_of_the_end_while_idle_asks_before_it_publishes(
    broker: Broker,
) -> None:
    with closing(KafkaLog(broker.server.bootstrap)) as log:
        topic = log.create_topic("idle", 1, {"retention.ms": "-1"}).name

        def publish(member: KafkaMember, at: int) -> None:
            outgoing = Outgoing(topic)
            outgoing.add(0, None, b"%d" % at, 1_400_000_000_000)
            member.publish([outgoing], {0: Committed(at, "")})

        def hear(member: KafkaMember) -> None:
            broker.proxy.close()
            for _ in range(20):
                member.ensure()
                time.sleep(0.1)

        with closing(log.join("idle", topic)) as member:
            member.begin_publishing("idle")
            publish(member, 1)
            hear(member)
            broker.proxy.open()
            publish(member, 2)  # it is back: nothing was lost
            hear(member)
            begun = time.monotonic()
            with pytest.raises(SessionLost):
                publish(member, 3)
            assert time.monotonic() - begun < 25  # and not half a minute, and ten seconds more
            broker.proxy.open()
        found: list[bytes | None] = []
        with closing(log.reader(topic, {0: 0})) as reader:
            while read := reader.read(10, 3):
                found += [value for records in read for value in records.values]
        assert found == [b"1", b"2"]


def test_what_is_asked_while_the_broker_goes_away_is_asked_again(broker: Broker) -> None:
    """Whatever librdkafka says then, one waits for it: "no leaders found" is one of its answers."""
    with closing(KafkaLog(broker.server.bootstrap)) as log:
        topic = log.create_topic("asked", 4, {"retention.ms": "-1"}).name
    failed: list[LogFailed] = []
    for delay in (0.0, 0.001, 0.003, 0.01, 0.05):
        with closing(KafkaLog(broker.server.bootstrap)) as log:
            log.retained(topic)
            cut = threading.Timer(delay, broker.proxy.close)
            cut.start()
            try:
                while True:
                    log.retained(topic)
            except LogFailed as error:
                failed.append(error)
            cut.join()
            broker.proxy.open()
    assert len(failed) == 5
    assert [error.message for error in failed if not error.passing] == []


WAITS = "distance@miles: waiting, and goes on by itself"
BACK = "distance@miles: back after"
