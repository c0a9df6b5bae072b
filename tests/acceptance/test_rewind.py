"""`rewind` and `adopt` through the installed command: a version's own playhead, and its code."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

import oracle
from story import Trip, headers, in_full, lose_end

MakeTrip = Callable[[str, int], Trip]
PLACES = [("local", 1), ("local", 4), ("kafka", 1), ("kafka", 4)]
QUICK = [("local", 4), ("kafka", 1)]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "50", "PLAYHEAD_SNAPSHOT_RECORDS": "120"}


@pytest.fixture(params=in_full(PLACES, but=QUICK), ids=[f"{log}-{n}" for log, n in PLACES])
def trip(request: pytest.FixtureRequest, make_trip: MakeTrip) -> Trip:
    return make_trip(*request.param)


def test_state_and_table_go_back_with_the_playhead(trip: Trip) -> None:
    trip.run(**SMALL)
    before = trip.dump()
    ends = trip.json("status")["pipelines"][0]["versions"][0]["cursor"][trip.topic]
    shown = trip.json("rewind", "distance", "--shift-by", "-10")
    assert not shown["executed"]
    assert shown["cursor"] == {trip.topic: ends}
    assert trip.dump() == before, "a dry run changes nothing"
    busy = [p for p, end in enumerate(ends) if end >= 10]
    places = ",".join(map(str, busy))
    done = trip.json(
        "rewind", "distance", "--shift-by", "-10", "--topic", f"{trip.topic}:{places}", "--execute",
        "--reason", "a test",
    )  # fmt: skip
    assert (done["executed"], done["generation"], done["version"]) == (True, 2, "miles")
    assert done["cursor"][trip.topic] == [e - 10 if p in busy else e for p, e in enumerate(ends)]
    assert [(p["prior_offset"], p["new_offset"]) for p in done["partitions"]] == [
        (ends[p], ends[p] - 10) for p in busy
    ]
    cut = {(p, offset) for *_, p, offset in trip.dump()["table"]}
    assert all(offset < ends[p] - 10 for p, offset in cut if p in busy)
    ran = trip.run()["pipelines"][0]
    assert ran["records"] <= 10 * len(busy)
    assert trip.dump()["table"] == before["table"]
    told = [headers(r) for r in trip.records("distance_calcs.miles")]
    assert [h["playhead-generation"] for h in told].count("2") == ran["records"]
    assert trip.run()["pipelines"][0]["records"] == 0


def test_what_cannot_be_is_refused_in_words(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    assert trip.cli("rewind", "distance", "--to-offset", "0").code == 1  # nothing has run here
    trip.run()
    before = trip.dump()
    for args, code, said in [
        (("--to-offset", "999"), 3, "[0, 681)"),
        (("--to-offset", "5", "--to-earliest"), 2, "say one of"),
        ((), 2, "say one of"),
        (("--by-duration", "6 hours"), 2, "PT6H"),
        (("--to-datetime", "yesterday"), 2, "ISO-8601"),
        (("--to-offset", "5", "--topic", "elsewhere"), 2, "reads raw_trackpoints"),
        (("--to-offset", "5", "--topic", "raw_trackpoints:7"), 2, "raw_trackpoints[7]"),
        (("--to-offset", "5", "--topic", "raw_trackpoints:x"), 2, "TOPIC:0,1"),
    ]:
        done = trip.cli("rewind", "distance", *args, "--execute")
        assert (done.code, said in done.err) == (code, True), (args, done)
    assert trip.cli("rewind", "distance@nope", "--to-earliest").code == 2
    assert trip.cli("rewind", "distance@km", "--to-earliest").code == 2  # declared, never run
    with trip.running() as worker:
        done = trip.cli("rewind", "distance", "--to-earliest", "--execute")
        assert done.code == 3
        assert str(worker.pid) in done.err
    assert trip.dump() == before


def test_what_lies_ahead_is_no_rewind(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    trip.ok("rewind", "distance", "--to-offset", "100", "--execute")
    done = trip.cli("rewind", "distance", "--to-offset", "300", "--execute")
    assert done.code == 3
    assert "stands at 100" in done.err


def test_by_time_and_to_the_current_offset(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    totals = trip.totals()
    shown = trip.json("rewind", "distance", "--to-datetime", "2014-09-20")
    at = shown["partitions"][0]["new_offset"]
    times = [r["ts"] for r in trip.records("raw_trackpoints")]
    assert at == next(i for i, ts in enumerate(times) if ts >= 1411171200000)
    done = trip.json("rewind", "distance", "--to-current", "--execute")
    assert (done["generation"], done["cursor"]) == (2, {trip.topic: [681]})
    assert trip.totals() == totals
    assert trip.run()["pipelines"][0]["records"] == 0


def test_a_shadow_can_be_rewound_and_live_is_not_touched(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    trip.ok("replay", "distance@km")
    live, shadow = trip.dump("miles"), trip.dump("km")
    done = trip.json("rewind", "distance@km", "--to-offset", "10", "--execute")
    assert (done["version"], done["generation"]) == ("km", 2)
    assert trip.dump("miles") == live
    trip.ok("replay", "distance@km")
    assert trip.dump("km")["table"] == shadow["table"]
    assert trip.cli("diff", "distance").code == 0


# --- a topic that was made again -----------------------------------------------------------------


def test_a_source_that_was_made_again_is_begun_from_nothing(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    lose_end(trip, 90)
    with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
        log.execute("UPDATE topic SET id = 'another' WHERE name = ?", (trip.topic,))
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "playhead rewind distance@miles --to-earliest --execute" in refused.err
    trip.ok("rewind", "distance@miles", "--to-earliest", "--execute")
    assert trip.totals() == {}
    assert trip.run()["pipelines"][0]["records"] == 90
    assert {k: round(v, 6) for k, v in trip.totals().items()} == {1: oracle.KNOWN_MILES[1]}


# --- chains: state behind a pipeline that was rewound ---------------------------------------------

COUNTS = """

counted = app.table("counted", key="track_id", columns={"track_id": int, "n": int, "far": float})


@app.pipeline(distances, to=[counted], version="v1"%s)
def count(rows, state):
    rows = state.running_count(rows, n="distance")
    return state.running_max(rows, far="distance")
"""


@pytest.fixture
def counting(trip: Trip) -> Trip:
    with (trip.folder / "vehicles.py").open("a") as module:
        group = f', group="{trip.prefix}count.v1"' if trip.prefix else ""
        module.write(COUNTS % group)
    trip.run(**SMALL)
    return trip


def counted(trip: Trip) -> dict[int, int]:
    rows = trip.json("query", "SELECT track_id, n FROM counted")["rows"]
    return dict(rows)


ROWS = {1: 90, 2: 113, 3: 23, 4: 129, 8: 20, 10: 3, 11: 108, 12: 14, 13: 180, 14: 1}


def test_a_reader_with_state_refuses_a_newer_generation_and_names_its_own_rewind(
    counting: Trip,
) -> None:
    trip = counting
    assert counted(trip) == ROWS
    trip.ok("rewind", "distance", "--to-earliest", "--execute")
    refused = trip.cli("run", "--until-caught-up", "-o", "json")
    assert refused.code == 3, refused
    assert "playhead rewind count@v1 --to-earliest --execute" in refused.err
    assert counted(trip) == ROWS, "nothing was counted twice"
    assert trip.cli("run", "--until-caught-up").code == 3, "asking again changes nothing"
    trip.ok("rewind", "count@v1", "--to-earliest", "--execute")
    ran = trip.run(**SMALL)["pipelines"]
    assert [p["pipeline"] for p in ran] == ["distance", "count"]
    assert counted(trip) == ROWS, "what was superseded is skipped"
    assert trip.run()["pipelines"][1]["records"] == 0


def test_a_rewind_that_leaves_superseded_records_in_the_state_is_refused_again(
    counting: Trip,
) -> None:
    trip = counting
    trip.ok("rewind", "distance", "--to-earliest", "--execute")
    assert trip.cli("run", "--until-caught-up").code == 3
    source = trip.prefix + "distance_calcs.miles"
    held = [r["partition"] for r in trip.records("distance_calcs.miles")]
    busy = ",".join(str(p) for p in sorted(set(held)) if held.count(p) > 2)
    trip.ok("rewind", "count@v1", "--shift-by", "-1", "--topic", f"{source}:{busy}", "--execute")
    assert trip.cli("run", "--until-caught-up").code == 3
    assert all(counted(trip).get(k, 0) <= n for k, n in ROWS.items())
    trip.ok("rewind", "count@v1", "--to-earliest", "--execute")
    trip.run()
    assert counted(trip) == ROWS


def test_an_accepted_gap_upstream_is_no_reason_to_refuse(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(COUNTS % "")
    trip.run()
    trip.ingest_again()
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "1000", "--execute")
    ran = trip.json("run", "--until-caught-up", "--accept-gap")["pipelines"]
    assert [p["records"] for p in ran] == [362, 362]
    assert sum(counted(trip).values()) == 681 + 362


# --- adopt ----------------------------------------------------------------------------------------


def test_a_refactoring_is_adopted_from_here_on(trip: Trip) -> None:
    trip.run()
    before = trip.dump()
    trip.edit(
        "    points = metres_so_far(points, state)\n    return points.with_columns(distance=pl.col("
        '"total") * MILES_PER_METRE)',
        "    so_far = metres_so_far(points, state)\n    return so_far.with_columns("
        'distance=MILES_PER_METRE * pl.col("total"))',
    )
    assert trip.cli("run", "--until-caught-up").code == 3
    was = trip.json("status")["pipelines"][0]["versions"][0]["fingerprint"]
    done = trip.json("adopt", "distance@miles", "--reason", "renamed a variable")
    assert done["previous"] == was
    assert done["fingerprint"] == trip.json("status")["pipelines"][0]["versions"][0]["fingerprint"]
    assert done["fingerprint"] != was
    assert trip.run()["pipelines"][0]["records"] == 0
    assert trip.dump() == before
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store:
        (detail,) = store.execute(
            "SELECT detail FROM playhead__audit WHERE kind = 'adopted'"
        ).fetchone()
    assert json.loads(detail)["reason"] == "renamed a variable"
    trip.ok("rewind", "distance", "--to-offset", "1", "--topic", f"{trip.topic}:0", "--execute")
    trip.run()
    assert trip.dump()["table"] == before["table"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('lat0="latitude"', 'lat00="latitude"', "slot previous.lat0"),
        ('total="metres"', 'total="metres", all="metres"', "slot running_sum.all"),
    ],
)
def test_other_state_is_more_than_a_refactoring(
    make_trip: MakeTrip, old: str, new: str, said: str
) -> None:
    trip = make_trip("local", 1)
    trip.run()
    trip.edit(old, new)
    trip.edit('"lat0"', '"lat00"') if "lat00" in new else None
    done = trip.cli("adopt", "distance@miles", "--reason", "a try")
    assert (done.code, said in done.err) == (3, True), done
    trip.edit(new, old)
    trip.edit('"lat00"', '"lat0"') if "lat00" in new else None
    assert trip.run()["pipelines"][0]["records"] == 0


def test_what_is_not_changed_or_not_there_is_not_adopted(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    assert trip.cli("adopt", "distance@miles", "--reason", "x").code == 1
    trip.run()
    done = trip.cli("adopt", "distance@miles", "--reason", "x")
    assert (done.code, "is what is recorded" in done.err) == (2, True)
    assert trip.cli("adopt", "distance@miles", "--reason", " ").code == 2
    assert trip.cli("adopt", "distance@nope", "--reason", "x").code == 2
