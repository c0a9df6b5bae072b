"""Promotions and rollbacks, again and again, while records come in and readers poll."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from playhead.config import load
from playhead.ops.promote import promote, rollback
from playhead.ops.replay import Request, replay
from playhead.project import Project
from proof import figures
from story import Trip, wait_for

CYCLES = 200 if figures.LONG else 20
RATE = 5_000
LOAD = Path(__file__).resolve().parents[1] / "proof/load.py"
MODULE = """\
import polars as pl

import playhead as ph

app = ph.App("cycles")
points = app.topic("points", key="key", value={"key": int})
counted = app.table("counted", key="key", columns={"key": int, "n": int, "v": str})


@app.pipeline(points, to=[counted], version="one")
def count(rows, state):
    return state.running_count(rows, n="key").with_columns(v=pl.lit("one"))


@count.version("two", expect="n = base.n")
def count_two(rows, state):
    return state.running_count(rows, n="key").with_columns(v=pl.lit("two"))
"""


@pytest.fixture
def trip(tmp_path: Path) -> Trip:
    (tmp_path / "cycles.py").write_text(MODULE)
    (tmp_path / "playhead.toml").write_text('app = "cycles:app"\n')
    trip = Trip(tmp_path, "local:.playhead/log.db", "points")
    trip.ok("topics", "create", "points", "--partitions", "2")
    (tmp_path / "first.jsonl").write_text('{"key": 0}\n')
    trip.ok("ingest", "first.jsonl", "--topic", "points")
    trip.ok("run", "--until-caught-up")
    return trip


@contextmanager
def loaded(trip: Trip) -> Iterator[dict[str, Any]]:
    """Produce and read beside the block; what was found is there after it."""
    command = [sys.executable, str(LOAD), str(trip.folder), str(RATE)]
    found: dict[str, Any] = {}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as load_process:
        assert load_process.stdout is not None
        assert load_process.stdout.readline() == "ready\n"
        try:
            yield found
        finally:
            out, _ = load_process.communicate(timeout=60)
        found |= json.loads(out)


def test_readers_see_one_version_whole_while_versions_change_places(trip: Trip) -> None:
    project = Project(load(trip.folder, {}))
    paused: list[float] = []
    with trip.running() as worker:
        with loaded(trip) as found:
            for _ in range(CYCLES):
                replay(project, Request(("count@two",)), threading.Event())
                paused.append(promote(project, "count@two").paused_s)
                paused.append(rollback(project, "count").paused_s)
                assert worker.poll() is None, (trip.folder / "background.log").read_text()
        total = found["produced"] + 1
        wait_for(lambda: processed(project, "one") == total, "live to catch up")
    assert found["wrong"] == []
    assert found["versions"] == ["one", "two"]
    assert min(found["read"].values()) > CYCLES
    replay(project, Request(("count@two",)), threading.Event())
    for label in ("one", "two"):
        assert counted(project, label) == total
    longest = max(paused)
    print(f"{longest:.2f} s held at most, {found['longest_standstill_s']:.2f} s seen by readers")
    figures.count("cycles", "promotions and rollbacks", 2 * CYCLES)
    figures.count("cycles", f"records, at {RATE} a second", total)
    figures.count("cycles", "results read", sum(found["read"].values()))
    assert sorted(paused)[CYCLES] <= 2.0


def processed(project: Project, label: str) -> int:
    with closing(project.open_store()) as store:
        return sum(s.counts.records for s in store.ledger.standings(f"count@{label}").values())


def counted(project: Project, label: str) -> int:
    """Return how many records the table says there were: each counts once."""
    with closing(project.open_store()) as store:
        (row,) = [v for v in store.catalog.versions() if v.name == f"count@{label}"]
        return int(store.catalog.rows(row.tables[0])["n"].sum())
