"""Fixes that are wrong: the diff says so, and they are not promoted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from story import Trip

MakeTrip = Callable[..., Trip]
STORES = ["sqlite", "postgres"]

SPHERE = '''

@distance.version("sphere", expect="distance = base.distance * 1.609344")
def distance_on_a_sphere(points, state):
    """Kilometres on a sphere, which the earth is not."""
    points = state.previous(points, lat0="latitude", lon0="longitude")
    lat, lon, lat0, lon0 = (pl.col(c).radians() for c in ("latitude", "longitude", "lat0", "lon0"))
    half = ((lat - lat0) / 2).sin() ** 2 + lat.cos() * lat0.cos() * ((lon - lon0) / 2).sin() ** 2
    points = points.with_columns(step=(half.sqrt().arcsin() * 2 * 6371.0088).fill_null(0.0))
    return state.running_sum(points, distance="step")
'''
LOSES_10 = '''

@distance.version("no_10", expect="distance = base.distance * 1.609344")
def distance_of_long_ways(points, state):
    """Kilometres, but for cars that hardly moved."""
    points = metres_so_far(points, state).filter(pl.col("track_id") != 10)
    return points.with_columns(distance=pl.col("total") * KM_PER_METRE)
'''


def add(trip: Trip, version: str) -> None:
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(version)


@pytest.mark.parametrize("store", STORES)
def test_a_sphere_is_not_what_was_expected(make_trip: MakeTrip, store: str) -> None:
    trip = make_trip("local", 4, store)
    trip.run()
    add(trip, SPHERE)
    trip.ok("replay", "distance@sphere")
    done = trip.cli("diff", "distance", "-o", "json")
    assert done.code == 4
    found = done.json
    assert (found["same"], found["changed"], found["ghost"], found["new"]) == (1, 9, 0, 0)
    assert found["unexplained"] == 9
    assert found["expectations"] == [
        {
            "expr": "distance = base.distance * 1.609344",
            "explained": 0,
            "contradicted": 9,
            "holds": 1,
        }
    ]
    assert found["idle"] == ["distance = base.distance * 1.609344"]
    column = found["columns"]["dist_calc.distance"]
    assert 1.600 < column["ratio"]["min"] < column["ratio"]["max"] < 1.619
    assert "units" not in column, "near the unit is not the unit"
    assert "explains nothing" in trip.cli("diff", "distance").out
    refused = trip.cli("promote", "distance@sphere")
    assert refused.code == 4
    assert "9 rows differ between distance@miles and distance@sphere" in refused.err
    assert trip.json("status")["pipelines"][0]["versions"][0]["stage"] == "live"


def test_a_fix_that_loses_a_car_is_named(make_trip: MakeTrip) -> None:
    trip = make_trip("local")
    trip.run()
    add(trip, LOSES_10)
    trip.ok("replay", "distance@no_10")
    done = trip.cli("diff", "distance", "-o", "json")
    assert done.code == 4
    assert (done.json["changed"], done.json["ghost"], done.json["unexplained"]) == (8, 1, 1)
    assert done.json["ghost_keys"] == [{"table": "dist_calc", "key": [10]}]
    (sample,) = (s for s in done.json["samples"] if not s["explained"])
    assert (sample["class"], sample["key"], sample["head"]) == ("ghost", [10], None)
    assert "ghost in dist_calc (track_id): 10" in trip.cli("diff", "distance").out
    assert trip.cli("promote", "distance@no_10").code == 4
    done = trip.cli("diff", "distance", "--html", "report.html", "--md", "report.md", "-o", "json")
    content = done.json
    assert (done.code, content["verdict"]["state"]) == (4, "unexplained")
    base, head = content["versions"]
    assert (base["role"], base["stage"], head["role"], head["stage"]) == (
        "base",
        "live",
        "head",
        "shadow",
    )
    (read,) = head["partitions"]
    assert (read["read"], read["retained"], read["generation"]) == ([0, 681], [0, 681], 1)
    assert (read["from_time"], read["to_time"]) == ("2014-09-13T07:24:00Z", "2014-10-08T10:20:00Z")
    assert [e["kind"] for e in content["history"]] == ["replay", "run"]
    for file in ("report.html", "report.md"):
        text = (trip.folder / file).read_text()
        assert "1 of 9 rows that differ are not explained." in text
        assert content["digest"] in text
        assert head["fingerprint"][:12] in text
    assert trip.cli("diff", "distance", "-o", "md").out.startswith("# ✗ distance: miles → no")
    nowhere = trip.cli("diff", "distance", "--html", "no/such/folder.html")
    assert (nowhere.code, "cannot be written" in nowhere.err) == (2, True)
    # Who wants that says so.
    expected = ("--expect", "track_id IS NULL AND base.track_id = 10")
    assert trip.json("diff", "distance", *expected)["unexplained"] == 0


def test_a_head_that_began_with_the_final_state_of_base_is_twice_too_long(
    make_trip: MakeTrip,
) -> None:
    trip = make_trip("local")
    trip.run()
    trip.ok("replay", "distance@km", "--to", "0")
    trip.sql(
        "UPDATE playhead__past SET content = (SELECT content FROM playhead__past "
        "WHERE version = 'distance@miles' ORDER BY generation DESC, batch DESC LIMIT 1) "
        "WHERE version = 'distance@km'"
    )
    trip.ok("replay", "distance@km")
    done = trip.cli("diff", "distance", "-o", "json")
    assert (done.code, done.json["changed"], done.json["unexplained"]) == (4, 9, 9)
    ratio = done.json["columns"]["dist_calc.distance"]["ratio"]
    # Twice as long, and from the last point back to the first: as in the tutorial's own table.
    assert ratio["min"] > 2 * 1.609344
    assert len(ratio["most_common"]) == 5
    assert trip.cli("promote", "distance@km").code == 4


def test_the_digest_is_the_same_for_equal_cursors_and_not_for_others(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 4)
    trip.run()
    trip.ok("replay", "distance@km", "--to", "+80")
    few = [trip.json("diff", "distance")["digest"] for _ in range(2)]
    trip.ok("replay", "distance@km")
    all_of_them = [trip.json("diff", "distance") for _ in range(2)]
    assert few[0] == few[1]
    all_of_them = [{**found, "made_at": None} for found in all_of_them]
    assert all_of_them[0] == all_of_them[1]
    assert all_of_them[0]["digest"] != few[0]
    refused = trip.cli("diff", "distance", "--expect", "sum(distance) > 0")
    assert refused.code == 2
    assert "sum looks at more than one row" in refused.err
    more = trip.json("diff", "distance", "--expect", "TRUE")
    assert more["digest"] not in {few[0], all_of_them[0]["digest"]}
