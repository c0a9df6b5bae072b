"""kill −9, then the same command again: nothing is lost, doubled, or a mixture."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable

import pytest

from story import Trip, headers, wait_for

MakeTrip = Callable[[str, int], Trip]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "7"}


def kill_between_commits(trip: Trip, chance: random.Random) -> None:
    """Start the worker; kill it once it has committed something, and before it is done."""
    before = trip.cursor()
    worker = trip.start("run", **SMALL)
    try:
        wait_for(lambda: trip.cursor() > before or worker.poll() is not None, "a first commit")
        time.sleep(chance.uniform(0, 0.03))
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    assert worker.returncode == -signal.SIGKILL
    assert before < trip.cursor() < 681, "the kill did not hit between first and last commit"


@pytest.mark.parametrize(("log", "partitions", "kills"), [("local", 1, 10), ("kafka", 4, 3)])
def test_kills_between_commits_leave_no_trace(
    make_trip: MakeTrip, log: str, partitions: int, kills: int
) -> None:
    chance = random.Random(2014)
    trip = make_trip(log, partitions)
    for _ in range(kills):
        kill_between_commits(trip, chance)
    trip.run(**SMALL)
    untouched = make_trip("local", partitions)
    untouched.run()
    found, expected = trip.dump(), untouched.dump()
    assert [row[:3] for row in found["table"]] == [row[:3] for row in expected["table"]]
    assert {p: len(records) for p, records in found["topic"].items()} == {
        p: len(records) for p, records in expected["topic"].items()
    }
    for partition, records in expected["topic"].items():
        assert [r[:3] for r in found["topic"][partition]] == [r[:3] for r in records]
    told = [headers(r) for r in trip.records("distance_calcs.miles")]
    assert {h["playhead-generation"] for h in told} == {"1"}
    assert len({h["playhead-source"] for h in told}) == 681


def test_a_replay_killed_resumes_to_the_bound_it_had(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    crashed = trip.cli("replay", "distance@km", PLAYHEAD_CRASH="after store commit:9", **SMALL)
    assert crashed.code == -signal.SIGKILL
    assert trip.cursor("km") == 63
    resumed = trip.json("replay", "distance@km")["replays"][0]
    assert (resumed["resumed"], resumed["records"]) == (True, 618)
    assert trip.json("diff", "distance")["unexplained"] == 0
