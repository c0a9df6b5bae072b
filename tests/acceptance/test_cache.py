"""The history cache: the second replay of a history reads it, and gives the same bits."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from story import Trip

MakeTrip = Callable[..., Trip]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "40"}
OFF = {"PLAYHEAD_CACHE_BYTES": "0B"}
AGAIN = """

@distance.version("{0}", group="{1}distance.{0}"{2})
def distance_{0}(points, state):{3}
    points = metres_so_far(points, state)
    return points.with_columns(distance=pl.col("total") * KM_PER_METRE)
"""
FAILS = """
    if (points["id"] == 300).any():
        raise ValueError("no such point")"""


@pytest.fixture(params=["local", pytest.param("kafka")])
def trip(request: pytest.FixtureRequest, make_trip: MakeTrip) -> Trip:
    """Give a trip that is live in miles, with three more versions that are the same in km."""
    trip: Trip = make_trip(request.param, 4)
    trip.run(**OFF)
    for label in ("a", "b", "c"):
        declare(trip, label)
    return trip


def declare(trip: Trip, label: str, options: str = "", fails: str = "") -> None:
    """Add a version to the user's module."""
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(AGAIN.format(label, trip.prefix, options, fails))


def held(trip: Trip) -> dict[int, list[list[int]]]:
    """Return the ranges that the cache holds of the source, by partition."""
    topics: list[dict[str, Any]] = trip.json("cache")["topics"]
    found = [t for t in topics if t["topic"] == trip.topic]
    return {p["partition"]: p["ranges"] for t in found for p in t["partitions"]}


def same(trip: Trip, *labels: str) -> None:
    """Compare the bits of versions: table, and topic but for the headers that name the version."""
    dumps = [trip.dump(label) for label in labels]
    for one in dumps[1:]:
        assert one["table"] == dumps[0]["table"]
        for partition, records in dumps[0]["topic"].items():
            assert [r[:3] for r in one["topic"][partition]] == [r[:3] for r in records]
            sources = [dict(zip(r[3][::2], r[3][1::2], strict=True)) for r in records]
            others = [
                dict(zip(r[3][::2], r[3][1::2], strict=True)) for r in one["topic"][partition]
            ]
            for mine, its in zip(sources, others, strict=True):
                assert mine["playhead-source"] == its["playhead-source"]


def test_the_second_replay_reads_it_and_gives_the_same(trip: Trip) -> None:
    trip.ok("replay", "distance@a", **SMALL, **OFF)
    assert held(trip) == {}
    trip.ok("replay", "distance@b", **SMALL)
    kept = held(trip)
    (topic,) = trip.json("topics", "describe", trip.topic)["topics"]
    assert kept == {p: [[0, end]] for p, end in enumerate(topic["end_offsets"])}
    files = {path: path.stat().st_mtime_ns for path in rows_of(trip)}
    trip.ok("replay", "distance@c", **SMALL)
    assert {path: path.stat().st_mtime_ns for path in rows_of(trip)} == files, "nothing was read"
    same(trip, "a", "b", "c")
    shown = trip.ok("cache")
    assert trip.topic in shown.out
    assert "of 2.1 GB" in shown.err
    cleared = trip.ok("cache", "--clear")
    assert cleared.err.startswith("cleared: ")
    assert held(trip) == {}
    assert "nothing yet" in trip.ok("cache").err


def test_what_live_has_read_is_there_for_the_first_replay(trip: Trip) -> None:
    trip.ingest_again()
    trip.run()  # reads the second half
    (topic,) = trip.json("topics", "describe", trip.topic)["topics"]
    kept = held(trip)
    assert {p: spans[0][1] for p, spans in kept.items()} == dict(enumerate(topic["end_offsets"]))
    assert all(len(spans) == 1 and spans[0][0] > 0 for spans in kept.values())
    trip.ok("replay", "distance@a", **SMALL)
    trip.ok("replay", "distance@b", **SMALL, **OFF)
    same(trip, "a", "b")


def rows_of(trip: Trip) -> list[Path]:
    return sorted((trip.folder / ".playhead" / "cache").rglob("*.rows"))


@pytest.mark.parametrize("point", ["computed:3", "after log commit:4", "after store commit:5"])
def test_a_replay_that_is_killed_while_it_reads_it_resumes_alike(trip: Trip, point: str) -> None:
    trip.ok("replay", "distance@a", **SMALL)
    for _ in range(2):
        done = trip.cli("replay", "distance@b", PLAYHEAD_CRASH=point, **SMALL)
        assert done.code == -signal.SIGKILL
    trip.ok("replay", "distance@b", **SMALL)
    same(trip, "a", "b")


def test_a_record_that_fails_is_set_aside_with_its_bytes(trip: Trip) -> None:
    """What the cache has not, a record's bytes, is read from the log."""
    for label in ("d", "e"):
        declare(trip, label, ', on_error="dead_letter"', FAILS)
    trip.ok("replay", "distance@d", **SMALL, **OFF)
    trip.ok("replay", "distance@a", **SMALL)
    trip.ok("replay", "distance@e", **SMALL)
    letters = [trip.json("dead-letters", f"distance@{v}")["dead_letters"] for v in ("d", "e")]
    assert len(letters[0]) == 1
    for letter in letters[0] + letters[1]:
        letter["error"] = letter["error"].partition("no such")[1]
    assert letters[0] == letters[1]
    assert letters[0][0]["value"].startswith('{"id":300,')
    same(trip, "d", "e")


def test_what_cannot_be_written_is_no_reason_to_stop(
    trip: Trip, caplog: pytest.LogCaptureFixture
) -> None:
    (trip.folder / ".playhead" / "cache").write_text("in the way")
    trip.ok("replay", "distance@a", **SMALL)
    assert "nothing is kept in the history cache" in caplog.text
    trip.ok("replay", "distance@b", **SMALL, **OFF)
    same(trip, "a", "b")


def test_a_size_that_is_none_is_refused(trip: Trip) -> None:
    done = trip.cli("cache", PLAYHEAD_CACHE_BYTES="much")
    assert (done.code, "a number and one of B, KB, MB" in done.err) == (2, True)
