"""A diff of many keys: bounded memory, on both stores, and the same answer as SQL gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from playhead.config import Settings
from playhead.core.records import Outgoing, partition_of
from playhead.project import Project
from proof import figures
from servers import PostgresServer
from story import COMMAND, LOCAL_STORE, Trip, in_full

KEYS, RECORDS = (1_000_000, 5_000_000) if figures.LONG else (20_000, 40_000)
RESIDENT_MAX_MB = 500
MODULE = """
import playhead as ph
import polars as pl

app = ph.App("meters")
readings = app.topic("readings", key="meter", value={"meter": int, "amount": float})
totals = app.table("totals", key="meter", columns={"meter": int, "amount": float, "half": bool})


@app.pipeline(readings, to=[totals], version="a")
def usage(points, state):
    return points.with_columns(half=pl.col("meter") % 2 == 0)


@usage.version("b", expect="amount = base.amount * 1000")
def usage_in_grams(points, state):
    points = points.filter(pl.col("meter") % 1000 != 7)
    return points.with_columns(
        half=pl.col("meter") % 2 == 0,
        amount=pl.col("amount") * pl.when(pl.col("meter") % 10 == 0).then(1.5).otherwise(1000.0),
    )
"""


@pytest.fixture(params=in_full(["sqlite", "postgres"], but=["sqlite"]))
def meters(request: pytest.FixtureRequest, tmp_path: Path) -> Trip:
    store = LOCAL_STORE
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        store = server.database()
    (tmp_path / "meters.py").write_text(MODULE)
    (tmp_path / "playhead.toml").write_text('app = "meters:app"\n')
    trip = Trip(tmp_path, "local:.playhead/log.db", "readings", store=store)
    fill(tmp_path)
    return trip


def fill(folder: Path) -> None:
    """Append readings of every meter by turns."""
    with closing(Project(Settings(folder)).open_log()) as log:
        log.create_topic("readings", 2, {})
        with closing(log.appender("test")) as appender:
            for begin in range(0, RECORDS, 100_000):
                out = Outgoing("readings")
                for i in range(begin, min(begin + 100_000, RECORDS)):
                    meter = i % KEYS
                    key = b"%d" % meter
                    value = b'{"meter":%d,"amount":%d.5}' % (meter, i)
                    out.add(partition_of(key, 2), key, value, 1_700_000_000_000)
                appender.append(out)
                appender.commit()


# A process of its own begins with the peak of the one that started it: a small one does here.
WEIGHED = """\
import os, sys
child = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
print(used.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def diffed(trip: Trip, *args: str) -> tuple[dict[str, object], float]:
    """Run a diff in a process of its own; return what it said, and its most resident MB."""
    command = [COMMAND, "diff", "usage", "-o", "json", *args, "--store", trip.store]
    weighed = [sys.executable, "-c", WEIGHED, *command]
    done = subprocess.run(weighed, cwd=trip.folder, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 4}, done.stderr
    return json.loads(done.stdout), int(done.stderr.split()[-1]) / 1024


@pytest.mark.timeout(1800)
def test_many_keys_are_compared_in_little_memory(
    meters: Trip, record_property: Callable[[str, object], None]
) -> None:
    for args in (("run", "--until-caught-up"), ("replay", "usage@b")):
        command = [COMMAND, *args, "--store", meters.store]
        subprocess.run(command, cwd=meters.folder, check=True, capture_output=True)
    lost, odd = len(range(7, KEYS, 1000)), len(range(0, KEYS, 10))
    found, resident = diffed(meters)
    record_property("resident_mb", resident)
    figures.count("diff", f"{KEYS} keys: MB resident", resident)
    assert (found["same"], found["changed"], found["ghost"]) == (0, KEYS - lost, lost)
    assert (found["explained"], found["unexplained"]) == (KEYS - lost - odd, odd + lost)
    amount = found["columns"]["totals.amount"]
    assert amount["units"][0]["rows"] == KEYS - lost - odd
    assert amount["largest"][0]["key"] == [max(k for k in range(KEYS) if k % 10 and k % 1000 != 7)]
    assert found["columns"]["totals.half"]["changed"] == 0
    assert resident < RESIDENT_MAX_MB
    # Were nothing explained, every key would be kept.
    found, resident = diffed(meters, "--base", "b", "--head", "a")
    assert (found["changed"], found["new"]) == (KEYS - lost, lost)
    assert found["unexplained"] == KEYS
    assert resident < RESIDENT_MAX_MB
