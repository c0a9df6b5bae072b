"""A plan that is saved and done later: as it stands, or not at all."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from playhead.adapters.local_log import LocalLog
from story import Trip, delete_topic

MakeTrip = Callable[..., Trip]


@pytest.fixture
def trip(ran: Trip, tmp_path: Path) -> Trip:
    trip = Trip.copy(ran, tmp_path / "ran")
    save(trip)
    return trip


def save(trip: Trip) -> None:
    (trip.folder / "plan.json").write_text(trip.ok("plan", "distance", "-o", "json").out)


def stands(trip: Trip) -> dict[str, int]:
    """Return the cursors by version."""
    rows = trip.sql("SELECT version, next FROM playhead__cursor")
    return {version: at for version, at in rows if ".public@" not in version}


def kinds(trip: Trip) -> list[str]:
    return [s["kind"] for s in trip.json("plan", "distance")["steps"]]


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_it_is_done_as_it_was_saved_though_live_went_on(make_trip: MakeTrip, log: str) -> None:
    trip = make_trip(log, 2)
    trip.run()
    save(trip)
    ends = {
        p["partition"]: p["end_offset"]
        for p in trip.json("plan", "distance")["steps"][-1]["partitions"]
    }
    trip.ingest_again()
    trip.run()
    (done,) = trip.json("replay", "--plan", "plan.json", "--reason", "as agreed")["replays"]
    assert (done["version"], done["records"]) == ("km", 681)
    assert done["cursor"] == {trip.topic: [ends[0], ends[1]]}
    assert trip.json("history", "--kind", "replay")["entries"][0]["reason"] == "as agreed"
    again = trip.ok("replay", "--plan", "plan.json")
    assert "distance@km: this plan was done already" in again.err
    assert kinds(trip) == ["replay"], "what came later is another plan"
    trip.ok("replay", "distance@km")
    assert kinds(trip) == [], "law 3"
    assert trip.json("diff", "distance")["unexplained"] == 0


def changed_code(trip: Trip) -> None:
    trip.edit('pl.col("total") * KM_PER_METRE', 'pl.col("total") * KM_PER_METRE * 1')


def replayed(trip: Trip) -> None:
    trip.ok("replay", "distance@km", "--to", "400")


def rewound(trip: Trip) -> None:
    trip.ok("rewind", "distance", "--to-offset", "600", "--execute")


def rewound_and_run(trip: Trip) -> None:
    rewound(trip)
    trip.run()


def promoted(trip: Trip) -> None:
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    trip.ok("rollback", "distance")


def retained_less(trip: Trip) -> None:
    with closing(LocalLog(trip.folder / ".playhead/log.db")) as log:
        log.delete_records(trip.topic, {0: 300})


def made_again(trip: Trip) -> None:
    delete_topic(trip, trip.topic)
    trip.ingest()


@pytest.mark.parametrize(
    ("moves", "said"),
    [
        (changed_code, "the code of distance@km has changed"),
        (replayed, "distance@km is shadow, and was not recorded"),
        (rewound, "live stands at 600 of raw_trackpoints[0], before the end 681"),
        (rewound_and_run, "distance@miles was rewound, or a gap accepted"),
        (promoted, "distance@miles is live (epoch 3), and distance@miles was (epoch 1)"),
        (retained_less, "raw_trackpoints[0] would be read from 300 on, and not from 0"),
        (made_again, "topic raw_trackpoints was deleted and created again"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_it_is_refused_where_the_world_has_moved(
    trip: Trip, moves: Callable[[Trip], None], said: str
) -> None:
    moves(trip)
    before = stands(trip)
    refused = trip.cli("replay", "--plan", "plan.json")
    assert refused.code == 3
    assert "the plan for distance@km is outdated: " in refused.err
    assert said in refused.err
    assert "Plan anew: playhead plan distance -o json > plan.json" in refused.err
    assert stands(trip) == before


def test_a_store_of_another_project_is_another_world(trip: Trip, make_trip: MakeTrip) -> None:
    other = make_trip("local", 1)
    other.run()
    (other.folder / "plan.json").write_text((trip.folder / "plan.json").read_text())
    refused = other.cli("replay", "--plan", "plan.json")
    assert refused.code == 3
    assert "this is another store" in refused.err


def test_killed_it_goes_on_to_the_end_that_was_saved(trip: Trip) -> None:
    trip.ingest_again()
    trip.run()
    small = {"PLAYHEAD_BATCH_RECORDS": "100"}
    killed = trip.cli(
        "replay", "--plan", "plan.json", **small, PLAYHEAD_CRASH="after store commit:3"
    )
    assert killed.code == -signal.SIGKILL
    assert 0 < stands(trip)["distance@km"] < 681
    (done,) = trip.json("replay", "--plan", "plan.json", **small)["replays"]
    assert (done["resumed"], done["cursor"]) == (True, {trip.topic: [681]})


def test_killed_before_its_rewind_it_ends_where_it_was_saved(trip: Trip) -> None:
    trip.ok("replay", "distance@km")
    changed_code(trip)
    save(trip)
    assert kinds(trip) == ["rewind", "replay"]
    trip.ingest_again()
    trip.run()
    killed = trip.cli("replay", "--plan", "plan.json", PLAYHEAD_CRASH="rewind intent")
    assert killed.code == -signal.SIGKILL
    (done,) = trip.json("replay", "--plan", "plan.json")["replays"]
    assert (done["records"], done["cursor"]) == (681, {trip.topic: [681]})


def test_after_a_rewind_a_plan_that_was_done_is_not_done_again(trip: Trip) -> None:
    trip.ok("replay", "--plan", "plan.json")
    trip.ok("rewind", "distance@km", "--to-offset", "100", "--execute")
    refused = trip.cli("replay", "--plan", "plan.json")
    assert refused.code == 3
    assert "distance@km is shadow, and was not recorded" in refused.err


def test_what_does_not_go_together(trip: Trip) -> None:
    (trip.folder / "no.json").write_text("{}")
    for args, said in (
        ((), "name a version, PIPELINE@VERSION, or a saved plan with --plan FILE"),
        (("--plan", "absent.json"), "absent.json cannot be read"),
        (("--plan", "no.json"), "no.json is no saved plan"),
        (("--plan", "plan.json", "--to", "100"), "a saved plan says where it begins and ends"),
        (("--plan", "plan.json", "--follow"), "a saved plan says where it begins and ends"),
    ):
        wrong = trip.cli("replay", *args)
        assert (wrong.code, said in wrong.err) == (2, True), wrong
    assert stands(trip) == {"distance@miles": 681}
