"""A store whose answer is lost, and files that others lock: waited for, and exactly once."""

from __future__ import annotations

import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import oracle
from playhead.config import Settings
from playhead.engine.events import Event, Recovered, SessionOver, Waiting
from playhead.errors import StoreFailed
from playhead.ops.run import Request, run
from playhead.ports import Ledger, Move, Orders, Store
from playhead.project import Project
from story import Trip, headers, wait_for

WAITS = "distance@miles: waiting, and goes on by itself"
BACK = "distance@miles: back after"
MakeTrip = Callable[[str, int], Trip]


@dataclass
class FaultyLedger:
    """A ledger whose commits fail by number, before or after they took effect."""

    ledger: Ledger
    faults: dict[int, str]
    count: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    def commit(self, version: str, moves: Sequence[Move]) -> Orders:
        self.count[0] += 1
        how = self.faults.get(self.count[0])
        if how == "before":
            raise StoreFailed("the connection is gone", passing=True)
        orders = self.ledger.commit(version, moves)
        if how == "after":
            raise StoreFailed("the connection is gone", passing=True)
        return orders


@dataclass
class FaultyStore:
    """A store with such a ledger; once it has failed, its connection is of no use any more."""

    store: Store
    ledger: FaultyLedger

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


@dataclass(frozen=True)
class FaultyProject(Project):
    """A project whose store fails as the test says."""

    faults: dict[int, str] = field(default_factory=dict)
    count: list[int] = field(default_factory=lambda: [0])

    def open_store(self, *, must_exist: bool = False) -> Any:
        store = super().open_store(must_exist=must_exist)
        return FaultyStore(store, FaultyLedger(store.ledger, self.faults, self.count))


def project_of(trip: Trip, faults: dict[int, str]) -> FaultyProject:
    sys.modules.pop("vehicles", None)
    settings = Settings(trip.folder, app="vehicles:app", log=trip.log, batch_records=90)
    return FaultyProject(settings, faults)


def check(trip: Trip) -> None:
    assert {k: round(v, 6) for k, v in trip.totals().items()} == oracle.KNOWN_MILES
    told = [headers(r) for r in trip.records("distance_calcs.miles")]
    assert len(told) == len({h["playhead-source"] for h in told}) == 681
    assert {h["playhead-generation"] for h in told} == {"1"}


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_a_store_commit_of_unknown_outcome_is_found_out(make_trip: MakeTrip, log: str) -> None:
    trip = make_trip(log, 1)
    faults = {2: "after", 4: "before", 5: "before", 8: "after"}
    events: list[Event] = []
    project = project_of(trip, faults)
    outcome = run(project, Request(until_caught_up=True), threading.Event(), events.append)
    assert project.count[0] > 8
    assert outcome.pipelines[0].cursor[0] >= 681
    check(trip)
    assert [type(e) for e in events if isinstance(e, Waiting | Recovered | SessionOver)] == [
        Waiting, Recovered, Waiting, Recovered, Waiting, Recovered,
    ]  # fmt: skip


def hold(path: Path, until: threading.Event, held: threading.Event) -> None:
    """Lock a SQLite file for writing, as another process would."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        held.set()
        until.wait(60)
        other.execute("ROLLBACK")


def test_a_locked_file_is_waited_for(make_trip: MakeTrip) -> None:
    """Both files at once: SQLite itself waits ten seconds before it says that one is locked."""
    trips = {name: make_trip("local", 1) for name in ("store", "log")}
    release = threading.Event()
    workers, holders = {}, []
    try:
        for name, trip in trips.items():
            workers[name] = trip.start("run", PLAYHEAD_BATCH_RECORDS="3")
            wait_for(lambda trip=trip: trip.cursor() > 0, "a first commit")
            held = threading.Event()
            path = trip.folder / f".playhead/{name}.db"
            holders.append(threading.Thread(target=hold, args=(path, release, held)))
            holders[-1].start()
            assert held.wait(20)
        for trip in trips.values():
            said = trip.folder / "background.log"
            wait_for(lambda said=said: WAITS in said.read_text(), "it to say so")
            assert "locked" in said.read_text()
            assert trip.cursor() < 681
        release.set()
        for trip in trips.values():
            wait_for(lambda trip=trip: trip.cursor() == 681, "it to go on")
        for name, trip in trips.items():
            workers[name].send_signal(signal.SIGTERM)
            assert workers[name].wait(20) == 130
            said = (trip.folder / "background.log").read_text()
            assert said.count(WAITS) == said.count(BACK) == 1
            assert "Traceback" not in said
    finally:
        release.set()
        for thread in holders:
            thread.join()
        for worker in workers.values():
            worker.kill()
            worker.wait()
    for trip in trips.values():
        check(trip)
