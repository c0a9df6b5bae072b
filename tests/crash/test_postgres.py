"""A PostgreSQL server that is killed under a worker: waited for, and exactly once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import PostgresServer
from story import Trip, wait_for

WAITS = "distance@miles: waiting, and goes on by itself"
BACK = "distance@miles: back after"
KILLS = 3


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    made = PostgresServer()
    made.start()
    yield made
    made.stop()


def test_a_database_killed_under_a_worker_comes_back_and_nothing_is_lost_or_doubled(
    server: PostgresServer, make_trip: Callable[..., Trip], tmp_path: Path
) -> None:
    undisturbed = make_trip("local", 2)
    undisturbed.ok("run", "--until-caught-up", PLAYHEAD_BATCH_RECORDS="3")
    trip = Trip.make(tmp_path / "killed", store=server.database())
    trip.ingest(2)
    said = trip.folder / "background.log"
    worker = trip.start("run", PLAYHEAD_BATCH_RECORDS="3")
    open_batches = 0
    try:
        for kill in range(1, KILLS + 1):
            wait_for(lambda kill=kill: trip.cursor() > 120 * kill, "some batches")
            server.kill()
            wait_for(lambda kill=kill: said.read_text().count(WAITS) >= kill, "it")
            assert worker.poll() is None
            server.start()
            stopped_at = trip.cursor()
            assert stopped_at < 681, "the kill did not hit between first and last commit"
            open_batches += published(trip) > stopped_at
        wait_for(lambda: trip.cursor() == 681, "it to catch up")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 130
    finally:
        worker.kill()
        worker.wait()
    text = said.read_text()
    assert text.count(BACK) == text.count(WAITS) == KILLS
    assert "Traceback" not in text
    assert "postgresql://postgres@127.0.0.1" in text
    print(f"{open_batches} of {KILLS} kills came between the log's commit and the store's")
    assert trip.dump()["table"] == undisturbed.dump()["table"]
    theirs, ours = undisturbed.dump()["topic"], trip.dump()["topic"]
    assert {p: [r[:3] for r in rows] for p, rows in ours.items()} == {
        p: [r[:3] for r in rows] for p, rows in theirs.items()
    }


def published(trip: Trip) -> int:
    """Return how many records of the source were published, by the witness."""
    groups = trip.json("groups", "describe", "--group", f"{trip.group}.witness")["groups"]
    return sum(p["current_offset"] for g in groups for p in g["partitions"])
