"""A disk without room stops a worker with a clear message; with room it goes on exactly."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import oracle
from playhead.adapters.sqlite_file import SqliteFile
from playhead.errors import StoreFailed
from story import COMMAND, TIME, Trip, headers

MakeTrip = Callable[[str, int], Trip]


def test_a_full_disk_is_named_and_what_was_committed_stays(tmp_path: Path) -> None:
    with closing(
        SqliteFile(tmp_path / "f.db", "CREATE TABLE IF NOT EXISTS t (x)", StoreFailed)
    ) as file:
        file.run("INSERT INTO t VALUES ('kept')")
        file.run("PRAGMA max_page_count=4")
        with pytest.raises(StoreFailed, match="the disk is full") as raised, file.transaction():
            file.run("INSERT INTO t VALUES (zeroblob(100000))")
        assert not raised.value.passing
        assert "Make room" in str(raised.value)
        file.run("PRAGMA max_page_count=1000000")
        assert file.all("SELECT x FROM t") == [("kept",)]


def with_room(trip: Trip, size: int, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command that can make no file larger than ``size`` bytes."""
    done = subprocess.run(
        [COMMAND, *args, "--log", trip.log],
        cwd=trip.folder,
        env={**os.environ, "PLAYHEAD_BATCH_RECORDS": "5"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_worker_stops_when_the_disk_is_full_and_resumes_exactly(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    done = with_room(trip, 350_000, "run", "--until-caught-up")
    assert done.returncode == 1, done.stderr
    assert "store.db: the disk cannot be written to: it is full, or it fails" in done.stderr
    assert "Make room, then run again" in done.stderr
    assert 0 < trip.cursor() < 681
    trip.run()
    assert {k: round(v, 6) for k, v in trip.totals().items()} == oracle.KNOWN_MILES
    told = [headers(r) for r in trip.records("distance_calcs.miles")]
    assert len(told) == len({h["playhead-source"] for h in told}) == 681


def test_a_log_without_room_takes_a_file_wholly_or_not_at_all(tmp_path: Path) -> None:
    trip = Trip.make(tmp_path / "trip")
    done = with_room(trip, 60_000, "ingest", "trackpoints.csv", "--topic", trip.topic, *TIME)
    assert done.returncode == 1, done.stderr
    assert "log.db: the disk cannot be written to" in done.stderr
    trip.ingest()
    assert len(trip.records("raw_trackpoints")) == 681
