"""A chain is replayed as a whole: each reader of what a shadow writes gets a shadow behind it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

import oracle
from story import Trip, in_full, wait_for

MakeTrip = Callable[..., Trip]
READERS = """

db_writer = app.pipeline(
    distances, to=[dist_calc, kept], name="db_writer", version="v1", group="{prefix}db_writer.v1"
)


@app.pipeline(kept, to=[counted], version="c1", group="{prefix}count.c1")
def count(rows, state):
    return state.running_count(rows, n="distance")
"""


@pytest.fixture(params=in_full(["local", "kafka"], but=["local"]))
def trip(request: pytest.FixtureRequest, make_trip: MakeTrip) -> Trip:
    return chained(make_trip(request.param, 2))


def chained(trip: Trip) -> Trip:
    """Give distance → distance_calcs → db_writer → kept → count, which keeps state; it has run."""
    trip.edit("to=[distances, dist_calc]", "to=[distances]")
    trip.edit(
        "\n\n@app.pipeline(trackpoints",
        f'\nkept = app.topic("{trip.prefix}kept", key="track_id", '
        'value={"track_id": int, "distance": float})\n'
        'counted = app.table("counted", key="track_id", columns={"track_id": int, "n": int})\n'
        "\n\n@app.pipeline(trackpoints",
    )
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(READERS.replace("{prefix}", trip.prefix))
    trip.run()
    return trip


def planned(trip: Trip) -> list[dict[str, Any]]:
    """Return the steps of the plan, whatever is refused of the promotion."""
    steps: list[dict[str, Any]] = trip.cli("plan", "-o", "json").json["steps"]
    return steps


def near(found: dict[int, float], unit: float) -> bool:
    expected = oracle.totals(unit)
    return found.keys() == expected.keys() and all(
        abs(found[track] - expected[track]) < 1e-6 for track in expected
    )


def live_state(trip: Trip) -> list[object]:
    """Return everything that belongs to the live versions."""
    return [
        trip.sql(
            "SELECT version, partition, next, generation, batch FROM playhead__cursor "
            "WHERE version IN ('distance@miles', 'db_writer@v1', 'count@c1') ORDER BY 1, 2"
        ),
        trip.sql("SELECT * FROM dist_calc__v1 ORDER BY 1"),
        trip.sql("SELECT * FROM counted__c1 ORDER BY 1"),
        trip.sql("SELECT * FROM playhead__pointer ORDER BY 1"),
        [
            p["current_offset"]
            for group in ("distance.miles", "db_writer.v1", "count.c1")
            for p in trip.json("groups", "describe", "--group", trip.prefix + group)["groups"][0][
                "partitions"
            ]
        ],
    ]


def test_every_reader_gets_a_shadow_behind_it(trip: Trip) -> None:
    before = live_state(trip)
    steps = planned(trip)
    assert [(s["kind"], s["version"]) for s in steps] == [
        ("record", "distance@km"), ("replay", "distance@km"),
        ("record", "db_writer@v1+km"), ("replay", "db_writer@v1+km"),
        ("record", "count@c1+km"), ("replay", "count@c1+km"),
    ]  # fmt: skip
    recorded = steps[2]
    assert recorded["group"] == f"{trip.prefix}db_writer.v1.km"
    assert recorded["tables"] == ["dist_calc__v1__km"]
    assert recorded["topics"] == [f"{trip.prefix}kept.v1.km"]
    assert (steps[3]["topic"], steps[3]["after"]) == (
        f"{trip.prefix}distance_calcs.km", "distance@km",
    )  # fmt: skip
    done = trip.json("replay", "distance@km")["replays"]
    assert [(r["pipeline"], r["version"], r["records"]) for r in done] == [
        ("distance", "km", 681), ("db_writer", "v1+km", 681), ("count", "c1+km", 681),
    ]  # fmt: skip
    table = dict(trip.sql("SELECT track_id, distance FROM dist_calc__v1__km"))
    assert near(table, oracle.KM)
    counted = "SELECT track_id, n FROM {} ORDER BY 1"
    assert trip.sql(counted.format("counted__c1__km")) == trip.sql(counted.format("counted__c1"))
    assert live_state(trip) == before
    assert planned(trip) == [], "law 3"
    stages = {
        v["version"]: (v["stage"], v["declared"], v["lag"])
        for p in trip.json("status")["pipelines"]
        for v in p["versions"]
    }
    assert stages["v1+km"] == stages["c1+km"] == ("shadow", True, 0)
    found = trip.json("diff", "db_writer")
    assert (found["base"], found["head"]) == ("v1", "v1+km")
    assert list(found["tables"]) == ["dist_calc", "counted"], "and what reads it"
    assert (found["same"], found["changed"], found["unexplained"]) == (1 + 10, 9, 0)
    assert trip.json("diff", "count")["same"] == 10


def test_new_records_go_through_the_shadows_too(trip: Trip) -> None:
    trip.ok("replay", "distance@km")
    trip.ingest_again()
    assert planned(trip) == [], "live has not read them"
    trip.run()
    steps = planned(trip)
    assert [(s["kind"], s["version"]) for s in steps] == [
        ("replay", "distance@km"), ("replay", "db_writer@v1+km"), ("replay", "count@c1+km"),
    ]  # fmt: skip
    done = trip.json("replay", "distance@km")["replays"]
    assert [r["records"] for r in done] == [681, 681, 681]
    assert trip.sql("SELECT sum(n) FROM counted__c1__km") == [(2 * 681,)]


@pytest.mark.parametrize("at", ["after log commit:20", "before store commit:40", "rewind intent"])
def test_killed_anywhere_it_goes_on(make_trip: MakeTrip, at: str) -> None:
    trip = chained(make_trip("local", 2))
    if at == "rewind intent":
        trip.ok("replay", "distance@km")
        trip.edit("* KM_PER_METRE)", "* KM_PER_METRE * 2)")
    small = {"PLAYHEAD_BATCH_RECORDS": "30"}
    killed = trip.cli("replay", "distance@km", PLAYHEAD_CRASH=at, **small)
    assert killed.code == -signal.SIGKILL
    trip.ok("replay", "distance@km")
    assert planned(trip) == []
    factor = 2 if at == "rewind intent" else 1
    table = dict(trip.sql(f"SELECT track_id, distance / {factor} FROM dist_calc__v1__km"))
    assert near(table, oracle.KM)
    assert trip.sql("SELECT sum(n) FROM counted__c1__km") == [(681,)]


def test_a_shadow_that_begins_anew_takes_those_behind_it_along(trip: Trip) -> None:
    trip.ok("replay", "distance@km")
    trip.edit("* KM_PER_METRE)", "* KM_PER_METRE * 2)")
    steps = planned(trip)
    assert [(s["kind"], s.get("why", "")) for s in steps] == [
        ("rewind", "its code has changed"), ("replay", ""),
        ("rewind", "distance@km began anew"), ("replay", ""),
        ("rewind", "db_writer@v1+km began anew"), ("replay", ""),
    ]  # fmt: skip
    trip.ok("replay", "distance@km")
    table = dict(trip.sql("SELECT track_id, distance / 2 FROM dist_calc__v1__km"))
    assert near(table, oracle.KM)
    assert trip.sql("SELECT sum(n) FROM counted__c1__km") == [(681,)], "nothing counts twice"
    assert planned(trip) == []


def test_those_behind_one_follow_too(trip: Trip) -> None:
    process = trip.start("replay", "distance@km", "--follow")
    try:
        wait_for(lambda: trip.cursor("km") == trip.cursor(), "the shadow to catch up")
        trip.ingest_again()
        trip.run()
        behind = "SELECT sum(n) FROM counted__c1__km"
        wait_for(lambda: trip.sql(behind) == [(2 * 681,)], "the last of the chain to follow")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
