"""A worker that was frozen wakes up when another one has taken over: it commits nothing."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import oracle
from forked import Command
from story import Trip, headers, wait_for

MakeTrip = Callable[[str, int], Trip]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "50"}
# Between the local log's begin and commit a frozen process would hold the file's lock.
CASES = [
    ("local", "computed"),
    ("local", "before store commit"),
    ("kafka", "before log commit"),
    ("kafka", "before store commit"),
]


def frozen(process: Command) -> bool:
    asked = ["ps", "-o", "stat=", "-p", str(process.pid)]
    assert process.poll() is None, "the worker ended"
    return subprocess.run(asked, capture_output=True, check=True).stdout.startswith(b"T")


def test_a_frozen_worker_that_wakes_commits_nothing_and_says_why(make_trip: MakeTrip) -> None:
    trips = [(make_trip(log, 1), step) for log, step in CASES]
    workers = [
        trip.start("run", **SMALL, PLAYHEAD_CRASH=f"{step}:3:SIGSTOP") for trip, step in trips
    ]
    try:
        for worker in workers:  # all at once: each is waited for until its lease has lapsed
            wait_for(lambda worker=worker: frozen(worker), "the worker to freeze")
        for (trip, _), worker in zip(trips, workers, strict=True):
            while holds_a_file(trip):
                worker.send_signal(signal.SIGCONT)
                time.sleep(0.05)
                worker.send_signal(signal.SIGSTOP)
                wait_for(lambda worker=worker: frozen(worker), "the worker to freeze")
        for trip, _ in trips:
            wait_for(lambda trip=trip: trip.cli("run", "--until-caught-up").code == 0, "a takeover")
        before = [trip.dump() for trip, _ in trips]
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        for (trip, _), worker in zip(trips, workers, strict=True):
            assert worker.wait(30) == 3, said(trip.folder)
            assert "another process has taken over" in said(trip.folder)
            assert "Traceback" not in said(trip.folder)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    for (trip, _), dump in zip(trips, before, strict=True):
        assert trip.dump() == dump
        assert trip.cursor() >= 681
        assert {k: round(v, 6) for k, v in trip.totals().items()} == oracle.KNOWN_MILES
        told = [headers(r) for r in trip.records("distance_calcs.miles")]
        assert len(told) == len({h["playhead-source"] for h in told}) == 681


def holds_a_file(trip: Trip) -> bool:
    """Say whether a frozen thread (a heartbeat, the mirror's) is just writing to a SQLite file.

    Nobody can take over such a file before that thread goes on: locks are SQLite's, not ours.
    """
    for path in (trip.folder / ".playhead").glob("*.db"):
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0.5)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            other.execute("ROLLBACK")
    return False


def said(folder: Path) -> str:
    return (folder / "background.log").read_text()


def frozen_publisher(make_trip: MakeTrip) -> tuple[Trip, Command]:
    """Return a project whose publisher is frozen after it has computed its third batch.

    Where another thread holds a file just then, begin anew: one that is let go on, so that the
    file is free, is frozen somewhere else, and may find nothing to be refused when it wakes up.
    """
    while True:
        trip = make_trip("local", 1)
        shown = 'value={"id": int, "track_id": int, "distance": float}'
        trip.edit(shown, f"{shown}, public=False")
        trip.run()
        trip.ok("replay", "distance@km")
        trip.edit(", public=False", "")
        worker = trip.start("run", **SMALL, PLAYHEAD_CRASH="computed:3:SIGSTOP")
        wait_for(lambda worker=worker: frozen(worker), "the publisher to freeze")
        if not holds_a_file(trip):
            return trip, worker
        worker.kill()
        worker.wait()


def test_a_frozen_publisher_says_nothing_behind_the_next_epoch(make_trip: MakeTrip) -> None:
    trip, worker = frozen_publisher(make_trip)
    try:
        wait_for(lambda: trip.cli("promote", "distance@km").code == 0, "the promotion")
        wait_for(lambda: trip.cli("run", "--until-caught-up").code == 0, "a takeover")
        before = trip.records("distance_calcs")
        worker.send_signal(signal.SIGCONT)
        assert worker.wait(30) == 3, said(trip.folder)
        assert "Traceback" not in said(trip.folder)
    finally:
        worker.kill()
        worker.wait()
    assert trip.records("distance_calcs") == before
    epochs = [headers(r)["playhead-epoch"] for r in before]
    assert epochs == ["1"] * 100 + ["2"] * 681, "two batches, and then the history of the next"
