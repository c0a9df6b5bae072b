"""``plan`` at full depth: what would be read, who must be told, and what stands in the way."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

import oracle
from playhead.adapters.local_log import LocalLog
from playhead.core.offsets import OffsetRange
from playhead.core.records import Outgoing
from playhead.ops import survey
from story import Trip, wait_for

MakeTrip = Callable[..., Trip]


@pytest.fixture
def trip(ran: Trip, tmp_path: Path) -> Trip:
    return Trip.copy(ran, tmp_path / "ran")


def kinds(found: dict[str, Any]) -> dict[str, list[str]]:
    """Return the subjects of a plan's findings, by kind."""
    by_kind: dict[str, list[str]] = {}
    for finding in found["findings"]:
        by_kind.setdefault(finding["kind"], []).append(finding["subject"])
    return by_kind


def replay_of(found: dict[str, Any]) -> dict[str, Any]:
    (step,) = [s for s in found["steps"] if s["kind"] == "replay"]
    return dict(step)


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_records_times_and_sizes_of_each_partition(make_trip: MakeTrip, log: str) -> None:
    trip = make_trip(log, 3)
    trip.ingest_again()
    trip.run()
    step = replay_of(trip.json("plan", "distance"))
    read: dict[int, list[dict[str, Any]]] = {}
    for record in trip.records("raw_trackpoints"):
        read.setdefault(record["partition"], []).append(record)
    assert len(step["partitions"]) == 3
    for one in step["partitions"]:
        there = read.get(one["partition"], [])
        assert (one["records"], one["exact"]) == (len(there), True)
        assert one["size_bytes"] == sum(len(r["key"]) + len(r["payload"]) for r in there)
        assert one["offsets"] == len(there) + (2 if log == "kafka" else 0), "markers are no records"
        assert one["from_time"][:19] < one["to_time"][:19]
    assert sum(one["records"] for one in step["partitions"]) == 2 * len(oracle.rows())
    assert 0 < step["duration_s"] < 60, "measured by the run"
    assert step["needed_bytes"] > 10_000
    said = trip.ok("plan", "distance").out
    assert "replay distance@km to where live stands: 1362 records, 134 kB\n" in said
    assert "TOPIC" in said
    assert "next: playhead replay distance@km" in said.splitlines()


def test_a_long_range_is_sampled(tmp_path: Path) -> None:
    with closing(LocalLog(tmp_path / "log.db")) as log:
        log.create_topic("t", 2, {})
        out = Outgoing("t")
        for i in range(40_000):
            at = 1_400_000_000_000 + 1000 * i
            out.add(0, b"%05d" % (i % 7), b"x" * (5 if i < 20_000 else 15), at)
        with closing(log.appender("a")) as appender:
            appender.append(out)
            appender.commit()
        whole = log.retained("t")
        found = survey.sample(log, "t", whole)
        short = survey.sample(log, "t", {0: OffsetRange(39_000, 40_000), 1: OffsetRange(0, 0)})
    assert (found[0].exact, found[0].records) == (False, 40_000)
    assert abs(found[0].size_bytes - 40_000 * 15) < 80_000
    assert found[0].first_ms == 1_400_000_000_000
    assert found[0].last_ms == 1_400_000_000_000 + 1000 * 39_999, "the ends are looked at"
    assert (found[1].records, found[1].exact, found[1].first_ms) == (0, True, None)
    assert (short[0].exact, short[0].records, short[0].size_bytes) == (True, 1000, 20_000)


def test_it_touches_nothing(trip: Trip) -> None:
    trip.ok("query", "SELECT 1")

    def state() -> dict[str, str]:
        files = [*(trip.folder / ".playhead").rglob("*"), *trip.folder.glob("warehouse*")]
        return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}

    before = state()
    trip.ok("plan")
    trip.ok("plan", "distance", "-o", "json")
    assert state() == before


def test_what_live_has_read_and_is_no_longer_there(trip: Trip) -> None:
    assert kinds(trip.json("plan")) == {"time": [f"{trip.topic}[0]"]}
    with closing(LocalLog(trip.folder / ".playhead/log.db")) as log:
        log.delete_records(trip.topic, {0: 300})
    found = trip.json("plan")
    assert kinds(found)["truncated"] == [f"{trip.topic}[0]"]
    assert replay_of(found)["partitions"][0]["records"] == 381
    assert "[0, 300) is no longer retained" in trip.ok("plan").out


def test_who_reads_the_output_and_how_far(trip: Trip) -> None:
    assert trip.json("plan")["readers"] == []
    with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
        log.execute("INSERT INTO grp VALUES ('billing', 1)")
        log.execute("INSERT INTO committed VALUES ('billing', 'distance_calcs.miles', 0, 400, '')")
        log.execute("INSERT INTO committed VALUES ('billing', 'something.else', 0, 5, '')")
        ours = (trip.group, "distance_calcs.miles")  # a pipeline of the app need not be told
        log.execute("INSERT INTO committed VALUES (?, ?, 0, 9, '')", ours)
    assert trip.json("plan")["readers"] == [
        {
            "version": "distance@km", "group": "billing", "topic": "distance_calcs.miles",
            "partition": 0, "current_offset": 400, "log_end_offset": 681, "read": 400,
        }
    ]  # fmt: skip
    assert (
        "group billing has read 400 of 681 offsets of distance_calcs.miles[0], which will be "
        "corrected" in trip.ok("plan").out
    )


def test_groups_that_others_use(trip: Trip) -> None:
    with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
        log.execute("INSERT INTO grp VALUES ('distance.km', 1)")
        log.execute(f"INSERT INTO committed VALUES ('distance.km', '{trip.topic}', 0, 4, '')")
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "100", "--execute")
    found = trip.json("plan")
    assert kinds(found)["group"] == [trip.group, "distance.km"]
    moved, taken = [f["text"] for f in found["findings"] if f["kind"] == "group"]
    assert moved.startswith("something else has committed raw_trackpoints[0]: a reset by hand")
    assert taken.startswith("it has offsets, and nothing of this store ever used it")
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "681", "--execute")
    with trip.running():
        active = [f for f in trip.json("plan")["findings"] if f["subject"] == trip.group]
    assert "it is active: " in active[0]["text"]


def test_a_column_more_is_said(trip: Trip) -> None:
    trip.edit(
        'dist_calc = app.table("dist_calc", key="track_id", columns={"track_id": int, "distance": '
        "float})",
        'dist_calc = app.table("dist_calc", key="track_id")',
    )
    trip.edit(
        'return points.with_columns(distance=pl.col("total") * KM_PER_METRE)',
        'return points.select(ph.origin, "id", "track_id", distance=pl.col("total") / 1000, n=1)',
    )
    trip.edit(
        'return points.with_columns(distance=pl.col("total") * MILES_PER_METRE)',
        'points = points.with_columns(distance=pl.col("total") * MILES_PER_METRE)\n'
        '    return points.select(ph.origin, "id", "track_id", "distance")',
    )
    changed = trip.json("plan", "distance")
    assert [r["reason"] for r in changed["refused"]] == [
        "its code has changed under the live label"
    ]
    schema = [f["text"] for f in changed["findings"] if f["kind"] == "schema"]
    assert schema == [
        "it adds id, n to dist_calc: appended to the public table when it is promoted, and null "
        "after a rollback"
    ]


def alter(trip: Trip, topic: str, **config: str) -> None:
    """Set configuration of a topic, as Kafka's own tool does."""
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in config.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": trip.log.removeprefix("kafka://")})
    admin.incremental_alter_configs([resource])[resource].result(30)


def test_on_kafka_what_differs_from_what_live_has_seen(make_trip: MakeTrip) -> None:
    trip = make_trip("kafka", 1)
    trip.run()
    server = {"bootstrap.servers": trip.log.removeprefix("kafka://")}
    place = f"{trip.topic}[0]"
    quiet = kinds(trip.json("plan"))
    assert quiet == {"time": [place]}, "kept for ever, not compacted, nothing open"

    alter(trip, trip.topic, message_timestamp_type="LogAppendTime", cleanup_policy="compact")
    compacted = kinds(trip.json("plan"))
    assert (compacted["compacted"], compacted["append_time"]) == ([trip.topic], [trip.topic])
    alter(trip, trip.topic, cleanup_policy="compact,delete", retention_ms=str(2**62))
    assert "retention" not in kinds(trip.json("plan"))

    km = f"{trip.prefix}distance.km"
    consumer = Consumer({**server, "group.id": km, "enable.auto.commit": False})
    readers = Consumer({**server, "group.id": f"{trip.prefix}billing"})
    output = f"{trip.prefix}distance_calcs.miles"
    producer = Producer({**server, "transactional.id": f"open.{trip.topic}"})
    try:
        consumer.commit(offsets=[TopicPartition(trip.topic, 0, 4)], asynchronous=False)
        readers.commit(offsets=[TopicPartition(output, 0, 100)], asynchronous=False)
        producer.init_transactions()
        producer.begin_transaction()
        producer.produce(trip.topic, b"{}", key=b"1")
        producer.flush()
        wait_for(lambda: "open_transaction" in kinds(trip.json("plan")), "the open transaction")
        found = trip.json("plan")
        producer.abort_transaction()
    finally:
        consumer.close()
        readers.close()
    assert kinds(found)["open_transaction"] == [place]
    (held,) = [f["text"] for f in found["findings"] if f["kind"] == "open_transaction"]
    assert held.startswith("an open transaction holds back the end: 1 offsets behind it")
    assert kinds(found)["group"] == [km]
    assert [(r["group"], r["read"]) for r in found["readers"]] == [(f"{trip.prefix}billing", 100)]
    assert "open_transaction" not in kinds(trip.json("plan")), "it was aborted"


def test_on_kafka_retention_and_a_duration_that_nobody_knows(make_trip: MakeTrip) -> None:
    trip = make_trip("kafka", 1)
    trip.run()
    oldest_ms = min(r["ts"] for r in trip.records("raw_trackpoints"))
    soon_ms = int(time.time() * 1000) - oldest_ms + 3_600_000  # not yet: the broker would delete
    alter(trip, trip.topic, retention_ms=str(soon_ms))
    assert "retention" not in kinds(trip.json("plan")), "an hour is enough"
    trip.sql("DELETE FROM playhead__run")
    found = trip.json("plan")
    assert replay_of(found)["duration_s"] is None
    (said,) = [f for f in found["findings"] if f["kind"] == "retention"]
    assert said["text"].endswith("how long a replay takes was never measured here")
    assert said["cure"] == f"Raise retention.ms of {trip.topic} for as long as it takes."


def ends_of(step: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a step does; how long it will take is another estimate each time."""
    ends = [(p["partition"], p["end_offset"]) for p in step.get("partitions", ())]
    return step["kind"], step["version"], ends


def test_one_version_alone_is_planned(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    of_pipeline, of_version = trip.json("plan", "distance"), trip.json("plan", "distance@km")
    assert list(map(ends_of, of_version["steps"])) == list(map(ends_of, of_pipeline["steps"]))
    assert trip.ok("plan", "distance@miles").out == (
        "distance@miles is live: there is nothing to replay\n"
    )
    refused = trip.cli("plan", "distance@knots")
    assert (refused.code, "no version 'distance@knots'" in refused.err) == (2, True)
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    assert trip.ok("plan", "distance").out == "nothing to do\n", "a retired one is not asked for"
    said = trip.ok("plan", "distance@miles").out
    assert said.startswith("make distance@miles a shadow again")
