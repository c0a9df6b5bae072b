"""Promotions and rollbacks, again and again, while records come in and readers poll."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from playhead.config import load
from playhead.ops.promote import promote, rollback
from playhead.ops.replay import Request, replay
from playhead.project import Project
from proof import figures
from story import Trip, headers, wait_for

CYCLES = 200 if figures.LONG else 20
LOAD = Path(__file__).resolve().parents[1] / "proof/load.py"
MODULE = """\
import polars as pl

import playhead as ph

app = ph.App("cycles")
points = app.topic("points", key="key", value={"key": int})
COLUMNS = {"key": int, "n": int, "v": str}
counted = app.table("counted", key="key", columns=COLUMNS)
told = app.topic("told", key="key", value=COLUMNS, on_promote="POLICY")


@app.pipeline(points, to=[counted, told], version="one")
def count(rows, state):
    return state.running_count(rows, n="key").with_columns(v=pl.lit("one"))


@count.version("two", expect="n = base.n")
def count_two(rows, state):
    return state.running_count(rows, n="key").with_columns(v=pl.lit("two"))
"""


@dataclass(frozen=True)
class Case:
    """What is shown in the public topic, how often versions change places, and what comes in."""

    policy: str
    cycles: int
    rate: int  # records a second
    alone: bool = False  # nothing else runs beside it: so each pause counts


CASES = [
    pytest.param(Case("none", CYCLES, 1_000), id="none"),
    # Each difference reads what the two topics hold by then.
    pytest.param(Case("changed", CYCLES, 250), id="changed", marks=pytest.mark.long),
    *(
        pytest.param(
            Case(policy, 20, 5_000, alone=True),
            id=f"fast-{policy}",
            marks=[pytest.mark.long, pytest.mark.alone],
        )
        for policy in ("none", "changed")
    ),
]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return cast("Case", request.param)


@pytest.fixture
def trip(tmp_path: Path, case: Case) -> Trip:
    (tmp_path / "cycles.py").write_text(MODULE.replace("POLICY", case.policy))
    (tmp_path / "playhead.toml").write_text('app = "cycles:app"\n')
    trip = Trip(tmp_path, "local:.playhead/log.db", "points")
    trip.ok("topics", "create", "points", "--partitions", "2")
    (tmp_path / "first.jsonl").write_text('{"key": 0}\n')
    trip.ok("ingest", "first.jsonl", "--topic", "points")
    trip.ok("run", "--until-caught-up")
    return trip


@contextmanager
def loaded(trip: Trip, rate: int) -> Iterator[dict[str, Any]]:
    """Produce and read beside the block; what was found is there after it."""
    command = [sys.executable, str(LOAD), str(trip.folder), str(rate)]
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


@pytest.mark.timeout(1800)
def test_readers_see_one_version_whole_while_versions_change_places(trip: Trip, case: Case) -> None:
    project = Project(load(trip.folder, {}))
    paused: list[float] = []
    with trip.running() as worker:
        with loaded(trip, case.rate) as found:
            for _ in range(case.cycles):
                replay(project, Request(("count@two",)), threading.Event())
                paused.append(promote(project, "count@two").paused_s)
                goes_on(project, "two")
                paused.append(rollback(project, "count").paused_s)
                goes_on(project, "one")
                assert worker.poll() is None, (trip.folder / "background.log").read_text()
        total = found["produced"] + 1
        wait_for(lambda: processed(project, "one") == total, "live to catch up")
    assert found["wrong"] == []
    assert found["versions"] == ["one", "two"]
    assert min(found["read"].values()) > case.cycles
    replay(project, Request(("count@two",)), threading.Event())
    for label in ("one", "two"):
        assert counted(project, label) == total
    trip.run()
    said = public(trip)
    for partition in said.values():
        epochs = [epoch for epoch, *_ in partition]
        assert epochs == sorted(epochs), "an older epoch spoke behind a newer one"
    all_said = [one for partition in said.values() for one in partition]
    once = [(epoch, source) for epoch, source, *_ in all_said]
    assert len(once) == len(set(once)), "a record came twice in one epoch"
    if case.policy == "none":
        sources = sorted(source for _, source, *_ in all_said)
        assert sources == sorted(read(project)), "a gap, or an overlap"
    last = {key: n for _, _, key, n in all_said}
    assert last == dict(trip.sql("SELECT key, n FROM counted__one"))
    longest = max(paused)
    print(f"{longest:.2f} s held at most, {found['longest_standstill_s']:.2f} s seen by readers")
    figures.count("cycles", "promotions and rollbacks", 2 * case.cycles)
    figures.count("cycles", f"records, at {case.rate:,} a second", total)
    figures.count("cycles", "results read", sum(found["read"].values()))
    if case.alone:
        stood = found["longest_standstill_s"]
        about = f"at {case.rate:,} a second, {case.policy!r}, in ms"
        figures.count("cycles", f"longest pause {about}", longest * 1000)
        figures.count("cycles", f"longest that readers saw nothing new {about}", stood * 1000)
        assert max(longest, stood) <= 2.0
    assert sorted(paused)[case.cycles] <= 2.0


def public(trip: Trip) -> dict[int, list[tuple[int, str, int, int]]]:
    """Return what readers of the public topic see, by partition: epoch, source, key and count."""
    found: dict[int, list[tuple[int, str, int, int]]] = {}
    for line in trip.ok("topics", "tail", "told").out.splitlines():
        record = json.loads(line)
        about, row = headers(record), json.loads(record["payload"])
        said = (int(about["playhead-epoch"]), about["playhead-source"], row["key"], row["n"])
        found.setdefault(record["partition"], []).append(said)
    return found


def read(project: Project) -> Iterator[str]:
    """Yield every record that live has read, as the header names it."""
    with closing(project.open_store()) as store:
        for partition, standing in store.ledger.standings("count@one").items():
            yield from (f"points[{partition}]@{at}" for at in range(standing.cursor.next))


def goes_on(project: Project, label: str) -> None:
    """Wait until the version that is live now has committed something as such."""
    at = processed(project, label)
    wait_for(lambda: processed(project, label) > at, f"{label} to go on")


def processed(project: Project, label: str) -> int:
    with closing(project.open_store()) as store:
        return sum(s.counts.records for s in store.ledger.standings(f"count@{label}").values())


def counted(project: Project, label: str) -> int:
    """Return how many records the table says there were: each counts once."""
    with closing(project.open_store()) as store:
        (row,) = [v for v in store.catalog.versions() if v.name == f"count@{label}"]
        return int(store.catalog.rows(row.tables[0])["n"].sum())
