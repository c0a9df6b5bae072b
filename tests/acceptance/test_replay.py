"""Replays beside a running live version: bounds, following, pace, progress, several at once."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import pytest

from playhead.config import load
from playhead.project import Project
from story import Trip, wait_for

MakeTrip = Callable[..., Trip]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "20"}
LINES = 681


@pytest.fixture
def trip(make_trip: MakeTrip) -> Trip:
    return make_trip("local", 4)


def standing(trip: Trip, label: str) -> list[tuple[int, int]]:
    """Return where a version stands, by partition."""
    return trip.sql(
        f"SELECT partition, next FROM playhead__cursor WHERE version = 'distance@{label}' "
        "ORDER BY partition"
    )


def live_state(trip: Trip) -> object:
    """Return all that a replay must not touch: cursor, leases' epochs, table, topic, group."""
    described = trip.json("groups", "describe", "--group", trip.group)["groups"][0]
    group = [p["current_offset"] for p in described["partitions"]]
    cursors = trip.sql(
        "SELECT partition, next, generation, batch, records, dead FROM playhead__cursor "
        "WHERE version = 'distance@miles' ORDER BY 1"
    )
    return cursors, group, trip.dump(), trip.sql("SELECT * FROM playhead__pointer")


@contextmanager
def following(trip: Trip, *names: str) -> Iterator[None]:
    """Follow live in the background; Ctrl-C ends it after the batch, with 130."""
    process = trip.start("replay", *names, "--follow", "-o", "json")
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def more(trip: Trip, *, first: int, count: int) -> None:
    """Ingest some of the points again."""
    lines = (trip.folder / "trackpoints.csv").read_text().splitlines()
    (trip.folder / "more.csv").write_text("\n".join([lines[0], *lines[first : first + count]]))
    trip.ok("ingest", "more.csv", "--topic", trip.topic, "--timestamp", "time",
            "--timestamp-format", "%m/%d/%Y %H:%M")  # fmt: skip


def test_it_ends_at_a_place_and_a_later_one_goes_on_from_there(trip: Trip) -> None:
    trip.run()
    before = live_state(trip)
    part = trip.ok("replay", "distance@km", "--to", "+10", "-o", "json")
    assert standing(trip, "km") == [(p, 10) for p in range(4)]
    assert part.json["replays"][0]["records"] == 40
    for p in range(4):  # which offsets and record times it reads
        assert f"{trip.topic}[{p}] [0, 10): records of 2014-" in part.err
    rest = trip.json("replay", "distance@km")["replays"][0]
    assert (rest["records"], rest["resumed"]) == (LINES - 40, False)
    assert standing(trip, "km") == standing(trip, "miles")
    assert live_state(trip) == before


def test_times_are_read_as_said(trip: Trip) -> None:
    trip.run()
    ends = dict(standing(trip, "miles"))
    records = trip.records("raw_trackpoints")
    noon = datetime(2014, 9, 13, 12, tzinfo=UTC).timestamp() * 1000
    done = trip.ok("replay", "distance@km", "--to", "@2014-09-13T12:00:00")
    assert "2014-09-13T12:00:00 has no zone: it was read as UTC" in done.err
    for p, at in standing(trip, "km"):
        later = [r["offset"] for r in records if r["partition"] == p and r["ts"] >= noon]
        assert at == min(later, default=ends[p])
        none = f"no record at or after 2014-09-13T12:00:00 in {trip.topic}[{p}]" in done.err
        assert none is not bool(later) or not none


def test_a_place_before_what_is_retained_is_an_error_unless_it_is_clamped(trip: Trip) -> None:
    trip.run()
    with closing(Project(load(trip.folder, {})).open_log()) as log:
        log.delete_records(trip.topic, dict.fromkeys(range(4), 10))
    refused = trip.cli("replay", "distance@km", "--to", "4")
    assert refused.code == 3
    assert f"{trip.topic}[0]" in refused.err
    assert "--to 4 is not retained (the topic holds [10, " in refused.err
    assert "--clamp" in refused.err
    assert standing(trip, "km") == []
    trip.ok("replay", "distance@km", "--to", "4", "--clamp")
    assert standing(trip, "km") == [(p, 10) for p in range(4)]


def test_a_place_beyond_live_is_cut_to_it_and_said(trip: Trip) -> None:
    trip.run()
    done = trip.ok("replay", "distance@km", "--to", "99999")
    assert "cut to where live stands" in done.err
    assert standing(trip, "km") == standing(trip, "miles")


def test_killed_it_goes_on_to_the_place_that_it_was_told(trip: Trip) -> None:
    trip.run()
    before = live_state(trip)
    killed = trip.cli(
        "replay", "distance@km", "--to", "+15", **SMALL, PLAYHEAD_CRASH="after store commit:2"
    )
    assert killed.code == -signal.SIGKILL
    assert 0 < sum(at for _, at in standing(trip, "km")) < 60
    more(trip, first=1, count=5)  # the world goes on meanwhile
    done = trip.json("replay", "distance@km", "--to", "+15")["replays"][0]
    assert done["resumed"] is True
    assert standing(trip, "km") == [(p, 15) for p in range(4)]
    assert trip.json("replay", "distance@km")["replays"][0]["resumed"] is False
    assert live_state(trip) == before
    found = trip.json("diff", "distance")
    assert (found["unexplained"], found["in_flight"], found["changed"]) == (0, 0, 9)


def test_what_was_interrupted_long_ago_does_not_come_back(trip: Trip) -> None:
    trip.run()
    trip.cli("replay", "distance@km", **SMALL, PLAYHEAD_CRASH="after store commit:2")
    trip.ok("replay", "distance@km", "--to", "+15")
    more(trip, first=1, count=20)
    trip.run()
    done = trip.json("replay", "distance@km")["replays"][0]
    assert done["resumed"] is False
    assert standing(trip, "km") == standing(trip, "miles")


def test_it_follows_live_and_never_passes_it(trip: Trip) -> None:
    trip.run()
    with following(trip, "distance@km"):
        wait_for(lambda: trip.cursor("km") == trip.cursor(), "the shadow to catch up")
        more(trip, first=1, count=100)  # live does not run: the shadow may not read on
        assert trip.cursor("km") == trip.cursor() == LINES
        trip.run()
        wait_for(lambda: trip.cursor("km") == trip.cursor(), "the shadow to follow")
    assert trip.cursor() == LINES + 100
    found = trip.json("diff", "distance")
    assert (found["unexplained"], found["in_flight"], found["same"]) == (0, 0, 1)


def test_a_pace_is_kept_and_progress_told_line_by_line(trip: Trip) -> None:
    trip.run()
    trip.spawn = True
    done = trip.ok("replay", "distance@km", "--max-rate", "200", "-o", "json")
    took = done.json["replays"][0]
    assert took["elapsed_s"] > 2.0
    assert took["records_per_s"] < 310
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    assert lines
    for line in lines:
        assert (line["event"], line["version"]) == ("progress", "distance@km")
        assert 0 < line["records"] <= LINES
        assert line["offsets_total"] == LINES
        assert line["offsets_done"] == sum(p["offsets_done"] for p in line["partitions"])
        assert [p["partition"] for p in line["partitions"]] == [0, 1, 2, 3]
        assert line["event_time"].startswith("2014-")
        assert 100 < line["records_per_s"] < 310
        slowest = [p["eta_s"] for p in line["partitions"]]
        assert line["eta_s"] == (None if None in slowest else max(slowest))
    assert trip.ok("replay", "distance@km", "-q").err.count("progress") == 0


def test_two_models_on_one_stream_are_compared(trip: Trip) -> None:
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(
            '\n\n@distance.version("yards")\ndef distance_yards(points, state):\n'
            "    return distance_km(points, state).with_columns(pl.col('distance') * 1093.6133)\n"
        )
    trip.edit("def distance_km(", "def kilometres(")
    trip.edit("distance_km(points, state).with", "kilometres.function(points, state).with")
    trip.run()
    before = live_state(trip)
    done = trip.json("replay", "distance@km", "distance@yards")
    assert [(r["version"], r["records"]) for r in done["replays"]] == [
        ("km", LINES), ("yards", LINES),
    ]  # fmt: skip
    (pair,) = done["diffs"]
    assert (pair["base"], pair["head"]) == ("km", "yards")
    assert (pair["same"], pair["changed"], pair["unexplained"]) == (1, 9, 9)
    assert live_state(trip) == before
    shown = trip.ok("replay", "distance@km", "distance@yards")
    assert "distance@yards against distance@km:" in shown.out
    with following(trip, "distance@km", "distance@yards"):
        more(trip, first=1, count=100)
        trip.run()
        for label in ("km", "yards"):
            wait_for(lambda n=label: trip.cursor(n) == trip.cursor(), f"{label} to follow")


def test_words_that_contradict_each_other_are_refused(trip: Trip) -> None:
    trip.run()
    assert trip.cli("replay", "distance@km", "--follow", "--to", "5").code == 2
    assert trip.cli("replay", "distance@km", "--to", "noon").code == 2
    assert standing(trip, "km") == []


def test_it_follows_a_live_worker_under_load_on_kafka(make_trip: MakeTrip) -> None:
    trip = make_trip("kafka", 4)
    trip.run()
    with trip.running(), following(trip, "distance@km"):
        for first in range(1, 300, 100):
            more(trip, first=first, count=100)
        begun = time.monotonic()
        wait_for(lambda: trip.json("status")["pipelines"][0]["versions"][0]["lag"] == 0, "live")
        wait_for(lambda: standing(trip, "km") == standing(trip, "miles"), "the shadow")
        assert time.monotonic() - begun < 20
    found = trip.json("diff", "distance")
    assert (found["unexplained"], found["in_flight"], found["same"]) == (0, 0, 1)
