"""Topics compared record by record, and chains by what they all go back to."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from story import TIME, Trip

MakeTrip = Callable[..., Trip]
COUNTS = ("same", "changed", "ghost", "new", "in_flight", "explained", "unexplained")


def counts(found: dict[str, object]) -> tuple[object, ...]:
    return tuple(found[name] for name in COUNTS)


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_a_pipeline_without_a_table_is_compared_by_its_records(
    make_trip: MakeTrip, log: str
) -> None:
    trip = make_trip(log, 3)
    trip.edit("to=[distances, dist_calc]", "to=[distances]")
    trip.run()
    trip.ok("replay", "distance@km")
    payloads = [json.loads(r["payload"]) for r in trip.records("distance_calcs.miles")]
    zero = sum(p["distance"] == 0 for p in payloads)
    found = trip.json("diff", "distance")
    assert counts(found) == (zero, 681 - zero, 0, 0, 0, 681 - zero, 0)
    topic = f"topic {trip.prefix}distance_calcs"
    assert found["columns"][f"{topic}.distance"]["units"][0]["name"] == "mile → kilometre"
    assert found["columns"][f"{topic}.id"]["changed"] == 0
    assert list(found["samples"][0]["head"]) == ["id", "track_id", "distance", "_tombstone"]
    # What an older generation made is superseded, in its own topic, too.
    trip.ok("rewind", "distance@miles", "--to-offset", "100", "--execute")
    half = counts(trip.json("diff", "distance"))
    assert (half[4], half[6]) == (681 - sum(half[:2]), 0)
    assert half[4] > 200, "what was taken back is not there yet"
    trip.run()
    assert len(trip.records("distance_calcs.miles")) > 900
    again = trip.json("diff", "distance")
    assert counts(again) == counts(found)
    assert again["digest"] != found["digest"], "it stands in another generation"
    trip.ok("promote", "distance@km")


LOSSY = '''

@distance.version("lossy", expect="distance = base.distance * 1.609344")
def distance_lossy(points, state):
    """Kilometres; some rows twice, some not, one another way."""
    points = metres_so_far(points, state)
    points = points.with_columns(distance=pl.col("total") * KM_PER_METRE)
    points = points.with_columns(
        distance=pl.when(pl.col("id") == 20).then(-1.0).otherwise(pl.col("distance"))
    )
    return pl.concat([points.filter(pl.col("id") != 10), points.filter(pl.col("id") == 30)])
'''


def test_records_are_named_by_the_input_that_they_were_made_from(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(LOSSY)
    trip.ok("replay", "distance@lossy")
    only_table = trip.json("diff", "distance")
    assert list(only_table["tables"]) == ["dist_calc"]
    assert only_table["unexplained"] == 0, "no car's last row is one of the three"
    done = trip.cli("diff", "distance", "--topics", "-o", "json")
    assert done.code == 4
    found = done.json
    assert list(found["tables"]) == ["dist_calc", "topic distance_calcs"]
    topic = found["tables"]["topic distance_calcs"]
    assert topic["key"] == ["source_partition", "source_offset", "record_key", "nth"]
    assert (topic["ghost"], topic["new"], topic["unexplained"]) == (1, 1, 3)
    at = {json.loads(r["payload"])["id"]: r["offset"] for r in trip.records("distance_calcs.miles")}
    odd = {s["class"]: s for s in found["samples"] if not s["explained"]}
    assert odd["ghost"]["key"] == [0, at[10], "1", 0]
    assert odd["new"]["key"] == [0, at[30], "1", 1]
    assert (odd["changed"]["key"][1], odd["changed"]["head"]["distance"]) == (at[20], -1.0)


def chained(trip: Trip) -> Trip:
    """Give distance → distance_calcs → db_writer → dist_calc and kept → count → counted."""
    trip.edit("to=[distances, dist_calc]", "to=[distances]")
    # All in one partition: its offsets have nothing to do with those of the points.
    trip.edit('distance_calcs", key="track_id"', 'distance_calcs", partitions=1, key="track_id"')
    prefix = trip.prefix
    trip.edit(
        "\n\n@app.pipeline(trackpoints",
        f'\nkept = app.topic("{prefix}kept", key="track_id", '
        'value={"track_id": int, "distance": float})\n'
        'counted = app.table("counted", key="track_id", columns={"track_id": int, "n": int})\n'
        "\n\n@app.pipeline(trackpoints",
    )
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(
            f"""

db_writer = app.pipeline(
    distances, to=[dist_calc, kept], name="db_writer", version="v1", group="{prefix}db_writer.v1"
)


@app.pipeline(kept, to=[counted], version="c1", group="{prefix}count.c1")
def count(rows, state):
    return state.running_count(rows, n="distance")
"""
        )
    return trip


def of_tables(trip: Trip, pipeline: str) -> dict[str, tuple[object, ...]]:
    """Return the counts of each table of a diff."""
    found = trip.cli("diff", pipeline, "-o", "json").json
    return {name: counts(c) for name, c in found["tables"].items()}


def test_a_chain_is_compared_up_to_where_both_have_come(make_trip: MakeTrip) -> None:
    trip = chained(make_trip("local", 3))
    trip.run()
    trip.ok("replay", "distance@km")
    explained, equal = (1, 9, 0, 0, 0, 9, 0), (10, 0, 0, 0, 0, 0, 0)
    assert of_tables(trip, "distance") == {"dist_calc": explained, "counted": equal}
    roles = {v["version"]: v["role"] for v in trip.json("diff", "distance")["versions"]}
    assert roles == {
        "distance@miles": "base",
        "distance@km": "head",
        "db_writer@v1": "chain",
        "db_writer@v1+km": "chain",
        "count@c1": "chain",
        "count@c1+km": "chain",
    }
    # Live goes on with one car; the shadows do not.
    lines = (trip.folder / "trackpoints.csv").read_text().splitlines(keepends=True)
    car = lines[0].rstrip().split(",").index("track_id")
    more = [lines[0], *(line for line in lines if line.rstrip().split(",")[car] == "13")]
    (trip.folder / "more.csv").write_text("".join(more))
    trip.ok("ingest", "more.csv", "--topic", trip.topic, *TIME)
    trip.ok("run", "distance", "--until-caught-up")
    trip.ok("run", "db_writer", "--until-caught-up")
    flying = (1, 8, 0, 0, 1, 8, 0)
    assert of_tables(trip, "distance") == {"dist_calc": flying, "counted": equal}
    trip.run()
    both = {"dist_calc": flying, "counted": (9, 0, 0, 0, 1, 0, 0)}
    assert of_tables(trip, "distance") == both
    assert of_tables(trip, "count") == {"counted": both["counted"]}
    trip.ok("replay", "distance@km")
    assert of_tables(trip, "distance") == {"dist_calc": explained, "counted": equal}
    assert of_tables(trip, "db_writer") == {"dist_calc": explained, "counted": equal}
    # Head's second stage alone is behind: what its first wrote is not in its table yet.
    trip.ok("rewind", "db_writer@v1+km", "--to-offset", "100", "--execute")
    behind = of_tables(trip, "distance")["dist_calc"]
    assert behind[4] > 0
    assert behind[6] == 0
