"""The example against geopy, step by step, and against the totals that were measured."""

import csv
import importlib.util
from pathlib import Path

import polars as pl
import pytest
from geopy.distance import geodesic

import playhead as ph
from playhead.core.offsets import TopicPartition
from playhead.core.slots import merge
from playhead.core.state import State

EXAMPLE = Path(ph.__file__).parent / "example"
MICROMETRE = 1e-6

# track: rows, miles, km (facts.md, measured with geopy on WGS-84)
TRACKS = {
    1: (90, 1.732114, 2.787567),
    2: (113, 3.427947, 5.516746),
    3: (23, 0.542257, 0.872678),
    4: (129, 4.644179, 7.474082),
    8: (20, 0.280208, 0.450952),
    10: (3, 0.005860, 0.009431),
    11: (108, 1.965171, 3.162636),
    12: (14, 0.440290, 0.708577),
    13: (180, 5.221804, 8.403679),
    14: (1, 0.0, 0.0),
}


@pytest.fixture(scope="module")
def vehicles():
    spec = importlib.util.spec_from_file_location("vehicles_of_test", EXAMPLE / "vehicles.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows():
    with (EXAMPLE / "trackpoints.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    types = {"id": int, "latitude": float, "longitude": float, "track_id": int, "time": str}
    return [{name: kind(row[name]) for name, kind in types.items()} for row in found]


@pytest.fixture(scope="module")
def steps(rows):
    """Metres from the point before, by geopy, in plain Python; 0 for a track's first point."""
    before, metres = {}, []
    for row in rows:
        here = (row["latitude"], row["longitude"])
        start = before.get(row["track_id"], here)
        metres.append(geodesic(start, here, ellipsoid="WGS-84").m)
        before[row["track_id"]] = here
    return metres


def test_the_data_is_the_tutorials(rows):
    counts = dict.fromkeys(TRACKS, 0)
    for row in rows:
        counts[row["track_id"]] += 1
    assert counts == {track: n for track, (n, _, _) in TRACKS.items()}
    assert len(rows) == 681


@pytest.mark.parametrize("batch", [7, 681])
def test_every_step_equals_geopys_to_a_micrometre(vehicles, rows, steps, batch):
    slots, metres = {}, []
    for begin in range(0, len(rows), batch):
        part = rows[begin : begin + batch]
        frame = pl.DataFrame(part).with_columns(
            _partition=pl.lit(0, dtype=pl.Int32),
            _offset=pl.int_range(begin, begin + len(part), dtype=pl.Int64),
        )
        state = State(TopicPartition("raw_trackpoints", 0), ("track_id",), slots)
        metres += vehicles.metres_so_far(frame, state)["metres"].to_list()
        slots = merge(slots, state.changes())
    assert len(metres) - len(TRACKS) == 671
    apart = max(abs(a - b) for a, b in zip(metres, steps, strict=True))
    assert apart < MICROMETRE
    assert max(steps) > 100  # there is something to compare


@pytest.mark.parametrize(("label", "unit"), [("miles", 1609.344), ("km", 1000.0)])
def test_the_ten_totals_and_every_one_on_the_way(vehicles, rows, steps, label, unit):
    version = vehicles.distance.versions[label]
    found = ph.testing.run(version, rows, cuts=(7, None))
    column = {"miles": 1, "km": 2}[label]
    totals = {row["track_id"]: row["distance"] for row in found["dist_calc"]}
    assert totals == {t: pytest.approx(v[column], abs=1e-6) for t, v in TRACKS.items()}
    so_far = {}
    for row, metres, published in zip(rows, steps, found["distance_calcs"], strict=True):
        so_far[row["track_id"]] = so_far.get(row["track_id"], 0.0) + metres
        assert (published["id"], published["track_id"]) == (row["id"], row["track_id"])
        assert published["distance"] == pytest.approx(so_far[row["track_id"]] / unit, abs=1e-8)


def test_kilometres_are_what_was_said_of_miles(vehicles, rows):
    miles, km = (
        {r["track_id"]: r["distance"] for r in ph.testing.run(v, rows, (None,))["dist_calc"]}
        for v in vehicles.distance.versions.values()
    )
    assert vehicles.distance.versions["km"].expectations == ("distance = base.distance * 1.609344",)
    assert km == {t: pytest.approx(d * 1.609344, rel=1e-9) for t, d in miles.items()}
