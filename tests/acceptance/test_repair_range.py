"""Only a time range is repaired: a sensor's rolling mean, the middle third in °F taken for °C.

The last rows of the range are in °C again, as many as the window has: from there on both versions
have the same state, and what live made of all that follows stands.
"""

from __future__ import annotations

import json
import random
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from servers import KafkaServer
from story import Done, Trip, wait_for

MODULE = '''\
"""A rolling mean per sensor and minute; the second version knows °F when it sees it."""

import polars as pl

import playhead as ph

app = ph.App("{app}")
readings = app.topic(
    "{prefix}readings", key="sensor", value={{"sensor": int, "value": float, "at": str}}
)
means = app.table(
    "means", key=["sensor", "minute"], columns={{"sensor": int, "minute": int, "mean": float}}
)


def averaged(rows, state):
    rows = state.rolling_mean(rows, rows=3, mean="value")
    minute = pl.col("_timestamp").dt.epoch("s") // 60
    return rows.with_columns(minute=minute)


@app.pipeline(readings, to=[means], version="celsius", group="{prefix}mean.celsius")
def mean(rows, state):
    return averaged(rows, state)


@mean.version("fixed", group="{prefix}mean.fixed")
def mean_fixed(rows, state):
    hot = pl.col("value") > 45.0
    rows = rows.with_columns(
        value=pl.when(hot).then((pl.col("value") - 32.0) * (5.0 / 9.0)).otherwise(pl.col("value"))
    )
    return averaged(rows, state)


@mean.version("same", group="{prefix}mean.same")
def mean_same(rows, state):
    return averaged(rows, state)


@mean.version("other", group="{prefix}mean.other")
def mean_other(rows, state):
    rows = state.rolling_mean(rows, rows=4, mean="value")
    return rows.with_columns(minute=pl.col("_timestamp").dt.epoch("s") // 60)
'''
BEGIN_S = 1_790_000_000 // 60 * 60
MINUTES, SENSORS = 90, 6
Row = tuple[int, float, int]  # sensor, value, time in seconds


def readings(shuffled: bool = False) -> list[Row]:
    """Return two readings a minute of each sensor; those of the middle third are in °F."""
    chance = random.Random(7)
    rows = []
    for half in range(2 * MINUTES):
        for sensor in range(SENSORS):
            celsius = 20.0 + sensor + chance.uniform(-3, 3)
            fahrenheit = MINUTES // 3 <= half // 2 < 2 * MINUTES // 3
            value = celsius * 9 / 5 + 32 if fahrenheit else celsius
            rows.append((sensor, value, BEGIN_S + 30 * half))
    if shuffled:  # some come up to ten minutes late
        rows.sort(key=lambda r: r[2] + (chance.choice([0, 0, 0, 300, 600])))
    return rows


class Site(Trip):
    """The sensors' project."""

    def _inside(self, args: tuple[str, ...], stdin: bytes | None, env: dict[str, str]) -> Done:
        sys.modules.pop("sensor_app", None)
        return super()._inside(args, stdin, env)

    def produce(self, rows: list[Row]) -> None:
        lines = [
            json.dumps({"sensor": s, "value": v, "at": datetime.fromtimestamp(t, UTC).isoformat()})
            for s, v, t in rows
        ]
        (self.folder / "more.jsonl").write_text("\n".join(lines) + "\n")
        self.ok("ingest", "more.jsonl", "--topic", self.topic, "--timestamp", "at",
                "--partitions", "3")  # fmt: skip

    def table(self, label: str) -> dict[tuple[int, int], tuple[Any, ...]]:
        """Return a version's table: by sensor and minute the bits of the mean, and the origin."""
        rows = self.sql(f"SELECT sensor, minute, mean, _partition, _offset FROM means__{label}")
        return {(s, m): (struct.pack("<d", mean), *origin) for s, m, mean, *origin in rows}

    def state(self, label: str) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT partition, next, generation, batch FROM playhead__cursor "
            f"WHERE version = 'mean@{label}' ORDER BY 1"
        )


def make(folder: Path, log: str | None = None) -> Site:
    folder.mkdir(parents=True)
    prefix = "" if log is None else f"{folder.parent.name[-20:]}.{folder.name}."
    app = prefix.strip(".").replace(".", "_").lower() or "sensors"
    (folder / "sensor_app.py").write_text(MODULE.format(app=app, prefix=prefix))
    url = log or "local:.playhead/log.db"
    (folder / "playhead.toml").write_text(
        f'app = "sensor_app:app"\nlog = "{url}"\n[run]\nbatch_records = 100\n'
    )
    return Site(folder, url, f"{prefix}readings")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = make(tmp_path / "site")
    site.produce(readings())
    site.run()
    return site


def minute(number: int) -> int:
    """Return a minute's number in the table, from its place in the readings."""
    return BEGIN_S // 60 + number


def at(number: int) -> str:
    return "@" + datetime.fromtimestamp(BEGIN_S + 60 * number, UTC).isoformat()


BAD = range(MINUTES // 3, 2 * MINUTES // 3)  # minutes that came in °F
RANGE = ("--from", at(BAD.start), "--to", at(BAD.stop + 3), "--state-from", "base")


def expected(label: str, rows: list[Row]) -> dict[tuple[int, int], float]:
    """Return the means by plain Python: each of the last three readings, newest added first."""
    last: dict[int, list[float]] = {}
    found = {}
    for sensor, value, time_s in rows:
        shown = (value - 32.0) * (5.0 / 9.0) if label == "fixed" and value > 45 else value
        window = last.setdefault(sensor, [])
        window.append(shown)
        del window[:-3]
        found[sensor, time_s // 60] = sum(reversed(window)) / len(window)
    return found


def check_repaired(site: Site, label: str = "fixed") -> None:
    """The range is repaired as the oracle says; the rest of the table is bit-equal to live's."""
    base, head = site.table("celsius"), site.table(label)
    assert base.keys() == head.keys()
    fixed = expected("fixed", readings())
    for key, row in head.items():
        if minute(BAD.start) <= key[1] < minute(BAD.stop + 3) and key in fixed:
            assert struct.unpack("<d", row[0])[0] == pytest.approx(fixed[key], rel=1e-12)
        else:
            assert row == base[key], key
    changed = {key[1] for key in base if base[key] != head[key]}
    assert changed == set(range(minute(BAD.start), minute(BAD.stop + 1)))


@contextmanager
def live(site: Site) -> Iterator[None]:
    """Run live, and give it something to do all the while."""
    with site.running():
        later = readings()[-SENSORS:]
        site.produce([(s, v, t + 60 * k) for k in range(1, 8) for s, v, t in later])
        yield
        site.produce([(s, v, t + 60 * k) for k in range(8, 16) for s, v, t in later])


def test_only_the_range_is_repaired_while_live_goes_on(site: Site) -> None:
    before = site.table("celsius")
    with live(site):
        done = site.ok("replay", "mean@fixed", *RANGE, "-o", "json")
    (repair,) = done.json["replays"]
    assert set(repair["state_equal"].values()) == {True}
    assert repair["records"] == SENSORS * 2 * (len(BAD) + 3), "nothing else was read"
    assert "everything later stands" in done.err
    after = site.table("celsius")
    assert {key: after[key] for key in before} == before, "live's table"
    site.run()
    site.ok("replay", "mean@fixed")  # what live has read since
    check_repaired(site)
    assert [row[:2] for row in site.state("fixed")] == [row[:2] for row in site.state("celsius")]
    found = site.cli("diff", "mean", "--head", "fixed", "-o", "json")
    assert (found.code, found.json["ghost"], found.json["new"]) == (4, 0, 0)
    assert found.json["changed"] == SENSORS * (len(BAD) + 1)
    assert found.json["in_flight"] == 0
    site.ok("promote", "mean@fixed", "--accept-diff", found.json["digest"])
    public = site.sql("SELECT sensor, minute, mean FROM means ORDER BY 1, 2")
    assert len(public) == len(before) + 15 * SENSORS
    site.produce([(0, 68.0, BEGIN_S + 60 * 200)])
    site.run()
    (mean,) = site.sql(f"SELECT mean FROM means WHERE minute = {minute(200)}")[0]
    assert mean < 30, "the corrected code runs live"
    rolled = site.json("rollback", "mean")
    assert rolled["version"] == "celsius"


def test_where_the_states_differ_the_repair_goes_on_to_the_end(site: Site) -> None:
    short = ("--from", at(BAD.start), "--to", at(BAD.stop), "--state-from", "base")
    done = site.cli("replay", "mean@fixed", *short, "-o", "json")
    assert done.code == 6
    (repair,) = done.json["replays"]
    assert set(repair["state_equal"].values()) == {False}
    assert "the repair has to go on to the end; next: playhead replay mean@fixed" in done.err
    rest = site.json("replay", "mean@fixed")["replays"][0]
    assert rest["state_equal"] is None
    assert rest["records"] == SENSORS * 2 * (MINUTES - BAD.stop)
    check_repaired(site)
    assert site.json("plan")["steps"][0]["version"] != "mean@fixed"


@pytest.mark.parametrize(
    "crash",
    ["before store commit:1", "after store commit:2", "after store commit:5", "rewind stored:1",
     "rewind stored:2", "after restore:1"],
)  # fmt: skip
def test_killed_anywhere_it_goes_on(site: Site, crash: str) -> None:
    killed = site.cli("replay", "mean@fixed", *RANGE, PLAYHEAD_CRASH=crash)
    assert killed.code == -9
    site.ok("replay", "mean@fixed", *RANGE)
    check_repaired(site)
    again = site.json("replay", "mean@fixed", *RANGE)["replays"][0]
    assert again["records"] == 0
    check_repaired(site)


@pytest.mark.parametrize("after", [4, 15])
def test_times_count_row_by_row_where_records_come_late(tmp_path: Path, after: int) -> None:
    site = make(tmp_path / "late")
    rows = readings(shuffled=True)
    site.produce(rows)
    site.run()
    within = ("--from", at(BAD.start), "--to", at(BAD.stop + after), "--state-from", "base")
    done = site.json("replay", "mean@fixed", *within)["replays"][0]
    assert set(done["state_equal"].values()) == {True}
    base, head = site.table("celsius"), site.table("fixed")
    assert base.keys() == head.keys()
    inside = range(minute(BAD.start), minute(BAD.stop + after))
    fixed, shipped = expected("fixed", rows), expected("celsius", rows)
    for key, row in head.items():
        if key[1] in inside:
            assert struct.unpack("<d", row[0])[0] == pytest.approx(fixed[key], rel=1e-12)
        else:
            assert row == base[key], key
    outside = [k for k in fixed if k[1] not in inside and abs(fixed[k] - shipped[k]) > 1]
    assert outside, "no late record shows what is tested here"


def test_a_repair_with_the_same_code_changes_nothing(site: Site) -> None:
    """Law 7, of a part."""
    for words in (
        RANGE,
        ("--from", "+20", "--state-from", "base"),
        ("--from", "+20", "--to", "+40"),
    ):
        site.ok("replay", "mean@same", *words)
        assert site.table("same") == site.table("celsius")
        found = site.json("diff", "mean", "--head", "same")
        assert (found["changed"], found["ghost"], found["new"], found["in_flight"]) == (0, 0, 0, 0)
        site.sql("DELETE FROM playhead__version WHERE label = 'same'")
        for table in ("cursor", "generation", "past"):
            site.sql(f"DELETE FROM playhead__{table} WHERE version = 'mean@same'")
        site.sql("DROP TABLE means__same")
        site.ok("groups", "reset", "--group", "mean.same", "--to-earliest", "--execute")


def test_other_state_is_built_from_the_start_and_only_later_rows_are_written(site: Site) -> None:
    done = site.ok("replay", "mean@other", "--from", "+120", "--state-from", "base", "-o", "json")
    assert "mean@other keeps other state than mean@celsius" in done.err
    assert done.json["replays"][0]["records"] == len(readings())
    base, head = site.table("celsius"), site.table("other")
    assert base.keys() == head.keys()
    for key, row in head.items():
        assert (row == base[key]) is (row[2] < 120), key


def test_what_contradicts_itself_is_refused(site: Site) -> None:
    assert site.cli("replay", "mean@fixed", "--state-from", "base").code == 2
    assert site.cli("replay", "mean@fixed", "--from", "99999").code == 3
    site.ok("replay", "mean@fixed")
    refused = site.cli("replay", "mean@fixed", *RANGE)
    assert refused.code == 3
    assert "was begun with all of history" in refused.err


def test_on_kafka(tmp_path: Path, kafka: KafkaServer) -> None:
    site = make(tmp_path / "site", f"kafka://{kafka.bootstrap}")
    site.produce(readings())
    site.run()
    killed = site.cli("replay", "mean@fixed", *RANGE, PLAYHEAD_CRASH="rewind stored:1")
    assert killed.code == -9
    with live(site):
        site.ok("replay", "mean@fixed", *RANGE)
        wait_for(lambda: site.json("status")["pipelines"][0]["versions"][0]["lag"] == 0, "live")
    site.run()
    site.ok("replay", "mean@fixed")
    check_repaired(site)
