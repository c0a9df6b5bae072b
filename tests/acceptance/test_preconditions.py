"""What must not change under a version: each is refused by name, and nothing is written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from playhead.adapters.kafka import KafkaLog
from playhead.adapters.local_log import LocalLog
from playhead.errors import (
    CodeChanged,
    OffsetOutOfRange,
    PartitionsChanged,
    Refused,
    StoreLost,
    TopicGone,
    TopicRecreated,
)
from playhead.ports import Log
from story import Done, Trip, add_partition, delete_topic, headers, in_full, lose_end, wait_for

MakeTrip = Callable[[str, int], Trip]
OUTPUT = "distance_calcs.miles"


@pytest.fixture(params=in_full(["local", "kafka"], but=["local"]))
def trip(request: pytest.FixtureRequest, make_trip: MakeTrip) -> Trip:
    """Give a project whose live version has caught up."""
    trip = make_trip(request.param, 1)
    trip.run()
    return trip


def open_log(trip: Trip) -> Log:
    if trip.log.startswith("kafka://"):
        return KafkaLog(trip.log.removeprefix("kafka://"))
    return LocalLog(trip.folder / trip.log.removeprefix("local:"))


def make_topic(trip: Trip, name: str) -> None:
    with closing(open_log(trip)) as log:
        log.create_topic(name, 1, {"retention.ms": "-1"})


def refused(done: Done, *texts: str) -> None:
    assert done.code == 3, (done.code, done.out, done.err)
    for text in texts:
        assert text in done.err, done.err


def test_each_precondition_has_an_error_of_its_own() -> None:
    kinds = {TopicGone, TopicRecreated, PartitionsChanged, OffsetOutOfRange, CodeChanged, StoreLost}
    assert len(kinds) == 6
    assert {(kind.exit_code, kind.__base__) for kind in kinds} == {(3, Refused)}


def test_an_output_topic_that_was_deleted_is_not_made_again(trip: Trip) -> None:
    before = (trip.totals(), trip.cursor())
    delete_topic(trip, trip.prefix + OUTPUT)
    for _ in range(2):
        done = trip.cli("run", "--until-caught-up")
        refused(done, f"topic {trip.prefix}{OUTPUT}, with what distance@miles has published,")
    with closing(open_log(trip)) as log:
        assert log.topic(trip.prefix + OUTPUT) is None
    make_topic(trip, trip.prefix + OUTPUT)
    done = trip.cli("run", "--until-caught-up")
    refused(done, f"topic {trip.prefix}{OUTPUT} was deleted and created again", "is gone")
    assert trip.records(OUTPUT) == []
    assert (trip.totals(), trip.cursor()) == before


def test_a_version_recorded_before_ids_were_gets_them_with_its_next_run(trip: Trip) -> None:
    path = trip.folder / ".playhead/store.db"
    with closing(sqlite3.connect(path)) as store, store:
        (content,) = store.execute("SELECT content FROM playhead__version").fetchone()
        older = json.loads(content)
        ids = older.pop("topic_ids")
        assert list(ids) == [trip.prefix + OUTPUT]
        store.execute("UPDATE playhead__version SET content = ?", (json.dumps(older).encode(),))
    trip.run()
    with closing(sqlite3.connect(path)) as store:
        (content,) = store.execute("SELECT content FROM playhead__version").fetchone()
    assert json.loads(content)["topic_ids"] == ids


def test_records_deleted_beyond_the_cursor_are_refused_and_may_be_given_up(trip: Trip) -> None:
    before = trip.totals()
    trip.ingest_again()
    with closing(open_log(trip)) as log:
        log.delete_records(trip.topic, {0: 1000})
    done = trip.cli("run", "--until-caught-up")
    refused(done, f"{trip.topic}[0]: distance@miles stands at", "the topic holds [1000,")
    refused(done, "Its results are unchanged", "--to-offset 1000 --execute")
    assert trip.totals() == before
    assert len(trip.records(OUTPUT)) == 681
    place = f"{trip.topic}:0"
    reset = ("--group", trip.group, "--topic", place, "--to-offset", "1000", "--execute")
    trip.ok("groups", "reset", *reset)
    trip.ok("run", "--until-caught-up", "--accept-gap")
    assert trip.cursor() > 1000
    assert {headers(r)["playhead-generation"] for r in trip.records(OUTPUT)} == {"1", "2"}


def test_a_log_that_has_lost_its_end_is_refused(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    before = (trip.totals(), trip.cursor())
    lose_end(trip, 600)
    refused(trip.cli("run", "--until-caught-up"), "stands at 681", "[0, 600)", "lost its end")
    assert (trip.totals(), trip.cursor()) == before


def test_a_lost_store_is_named(trip: Trip) -> None:
    published = len(trip.records(OUTPUT))
    for file in (trip.folder / ".playhead").glob("store.db*"):
        file.unlink()
    for _ in range(2):
        done = trip.cli("run", "--until-caught-up")
        refused(done, f"group {trip.group}", "by another store", "Restore the store")
    assert len(trip.records(OUTPUT)) == published
    assert trip.cli("status").code == 1  # nothing has run here yet: nothing was recorded


@pytest.mark.parametrize("crash", [None, "rewind intent"])
def test_a_lost_store_is_begun_anew(trip: Trip, crash: str | None) -> None:
    """A cursor comes behind every generation that the log has seen, ours or another store's."""
    totals = trip.totals()
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "0", "--execute")
    trip.run()
    for file in (trip.folder / ".playhead").glob("store.db*"):
        file.unlink()
    trip.cli("run", "--until-caught-up")
    done = trip.cli("rewind", "distance", "--to-earliest", "--topic", f"{trip.topic}:0")
    refused(done, "begins anew, in every partition")
    shown = trip.json("rewind", "distance", "--to-earliest")
    assert not shown["executed"]
    assert shown["partitions"][0]["prior_offset"] >= 681
    assert trip.cli("status").code == 1
    if crash:
        assert trip.cli(
            "rewind", "distance", "--to-earliest", "--execute", PLAYHEAD_CRASH=crash
        ).code
        done = trip.cli("run", "--until-caught-up")
        refused(done, "The store is gone", "rewind distance@miles --to-earliest --execute")
    done = trip.json("rewind", "distance", "--to-earliest", "--execute")
    generation = 4 if crash else 3
    assert (done["generation"], done["cursor"][trip.topic]) == (generation, [0])
    trip.run()
    assert trip.totals() == totals
    told = [headers(r)["playhead-generation"] for r in trip.records(OUTPUT)]
    assert told == ["1"] * 681 + ["2"] * 681 + [str(generation)] * 681
    trip.run()
    assert len(trip.records(OUTPUT)) == 3 * 681


@pytest.mark.parametrize("log", in_full(["local", "kafka"], but=["kafka"]))
def test_what_changes_under_a_running_worker_is_refused(make_trip: MakeTrip, log: str) -> None:
    def recreate(trip: Trip) -> None:
        delete_topic(trip, trip.topic)
        make_topic(trip, trip.topic)

    changes: list[tuple[Callable[[Trip], None], str]] = [
        (recreate, "was deleted and created again"),
        (lambda trip: add_partition(trip, trip.topic), "has 2 partitions, and had 1"),
        (lambda trip: delete_topic(trip, trip.prefix + OUTPUT), "was deleted"),
    ]
    trips = [make_trip(log, 1) for _ in changes]
    workers = [trip.start("run") for trip in trips]
    try:
        for trip in trips:
            wait_for(lambda trip=trip: trip.cursor() >= 681, "the worker to catch up")
        for trip, (change, _) in zip(trips, changes, strict=True):
            change(trip)
        for trip, worker, (_, text) in zip(trips, workers, changes, strict=True):
            said = trip.folder / "background.log"
            assert worker.wait(20) == 3, said.read_text()
            assert text in said.read_text()
            assert "Traceback" not in said.read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_records_that_vanish_before_a_running_worker_are_named(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.edit("points = metres_so_far(points, state)", "time.sleep(1)\n    " + METRES)
    trip.edit("import polars as pl", "import time\n\nimport polars as pl")
    worker = trip.start("run", PLAYHEAD_BATCH_RECORDS="50")
    try:
        wait_for(lambda: trip.cursor() > 0, "a first commit")
        with closing(open_log(trip)) as log:
            log.delete_records(trip.topic, {0: 600})
        said = trip.folder / "background.log"
        assert worker.wait(20) == 3, said.read_text()
        assert f"{trip.topic}[0]: distance@miles stands at" in said.read_text()
        assert "the topic holds [600, 681)" in said.read_text()
    finally:
        worker.kill()
        worker.wait()
    assert 0 < trip.cursor() < 600


METRES = "points = metres_so_far(points, state)"
