"""Sentences of the design on declarations and versions, each through the command line."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from story import Trip

HEAD = """
import polars as pl
import playhead as ph

app = ph.App("fares")
fares = app.topic("fares", key="car", value={"car": int, "fare": float}, partitions=4)
"""
TOTAL = """
totals = app.table("totals", key="car")


@app.pipeline(fares, to=[totals], version="v1")
def total(points, state):
    points = state.running_sum(points, total="fare")
    return points.select(ph.origin, "car", "total")
"""
WIDER = """

@total.version("v2", expect="true")
def total_v2(points, state):
    points = state.running_sum(points, total="fare")
    points = state.running_count(points, rides="fare")
    return points.select(ph.origin, "rides", "car", "total")
"""


@pytest.fixture
def trip(tmp_path: Path) -> Trip:
    return Trip.make(tmp_path / "project")


def write(trip: Trip, *parts: str) -> None:
    (trip.folder / "vehicles.py").write_text("".join(parts))


def ingest(trip: Trip, *rows: tuple[int, float]) -> None:
    path = trip.folder / "fares.csv"
    path.write_text("car,fare\n" + "".join(f"{car},{fare}\n" for car, fare in rows))
    trip.ok("ingest", path.name, "--topic", "fares")


def ask(trip: Trip, sql: str) -> list[list[object]]:
    rows: list[list[object]] = trip.json("query", sql)["rows"]
    return rows


def names(trip: Trip, sql: str) -> list[str]:
    return [column["name"] for column in trip.json("query", sql)["columns"]]


def stored(trip: Trip, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store:
        return store.execute(sql).fetchall()


def test_columns_that_a_version_adds_are_appended_and_null_after_a_rollback(trip: Trip) -> None:
    write(trip, HEAD, TOTAL, WIDER)
    ingest(trip, (1, 2.0), (2, 3.0), (1, 4.0))
    trip.run()
    trip.ok("replay", "total@v2")
    assert names(trip, "SELECT * FROM totals") == ["car", "total"]
    trip.ok("promote", "total@v2")
    assert names(trip, "SELECT * FROM totals") == ["car", "total", "rides"]
    assert ask(trip, "SELECT * FROM totals ORDER BY 1") == [[1, 6.0, 2], [2, 3.0, 1]]
    trip.ok("rollback", "total")
    assert ask(trip, "SELECT * FROM totals ORDER BY 1") == [[1, 6.0, None], [2, 3.0, None]]
    assert stored(trip, "SELECT * FROM totals ORDER BY 1") == [(1, 6.0, None), (2, 3.0, None)]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("", "it removes totals.total"),
        ('total=pl.col("total").cast(pl.String)', "it changes the type or the key of totals.total"),
    ],
)
def test_a_removed_column_and_a_changed_type_are_refused_by_plan(
    trip: Trip, column: str, said: str
) -> None:
    last = f'points.select(ph.origin, "car", {column})'
    other = WIDER.replace('points.select(ph.origin, "rides", "car", "total")', last)
    write(trip, HEAD, TOTAL, other)
    ingest(trip, (1, 2.0))
    trip.run()
    planned = trip.cli("plan", "total", "-o", "json")
    assert [r["reason"] for r in planned.json["refused"]] == [said]
    replayed = trip.cli("replay", "total@v2")
    assert replayed.code == 3
    assert said in replayed.err


def test_a_column_that_the_view_still_shows_keeps_its_type(trip: Trip) -> None:
    write(trip, HEAD, TOTAL, WIDER)
    ingest(trip, (1, 2.0))
    trip.run()
    trip.ok("replay", "total@v2")
    trip.ok("promote", "total@v2")
    trip.ok("rollback", "total")
    third = WIDER.replace("v2", "v3")
    text = '"car", "total", pl.col("rides").cast(pl.String)'
    write(trip, HEAD, TOTAL, WIDER, third.replace('"rides", "car", "total"', text))
    planned = trip.cli("plan", "total", "-o", "json").json
    assert "it changes the type or the key of totals.rides" in str(planned["refused"])
    write(trip, HEAD, TOTAL, WIDER, third.replace('"rides", "car", "total"', '"car", "total"'))
    assert trip.cli("plan", "total", "-o", "json").json["refused"] == []


def test_a_recorded_version_that_is_not_declared_is_listed_never_run_never_an_error(
    trip: Trip,
) -> None:
    write(trip, HEAD, TOTAL, WIDER)
    ingest(trip, (1, 2.0))
    trip.run()
    trip.ok("replay", "total@v2")
    write(trip, HEAD, TOTAL)
    ingest(trip, (1, 3.0))
    ran = trip.run()["pipelines"]
    assert [(p["pipeline"], p["version"], p["records"]) for p in ran] == [("total", "v1", 1)]
    (listed,) = trip.json("status")["pipelines"]
    assert [(v["version"], v["stage"]) for v in listed["versions"]] == [
        ("v1", "live"),
        ("v2", "shadow"),
    ]
    assert stored(trip, "SELECT total FROM totals__v2") == [(2.0,)]


CALLS = """
totals = app.table("totals", key="car")


@app.pipeline(fares, to=[totals], version="v1")
def total(points, state):
    if points["_partition"].n_unique() > 1:
        raise ValueError("two partitions in one call")
    if (points["fare"] < 0).any():
        raise ValueError("a negative fare")
    return state.running_sum(points, total="fare").select(ph.origin, "car", "total")
"""


def test_a_batch_of_several_partitions_is_several_calls_and_one_commit(trip: Trip) -> None:
    write(trip, HEAD, CALLS)
    cars = [(car, 1.0) for car in range(20)]
    ingest(trip, *cars)
    trip.run()
    at = "SELECT partition, next, batch FROM playhead__cursor ORDER BY 1"
    before = stored(trip, at)
    assert [row[0] for row in before] == [0, 1, 2, 3]
    assert all(next_ > 0 and batch == 1 for _, next_, batch in before)  # type: ignore[operator]
    ingest(trip, *cars, (0, -1.0))
    assert "a negative fare" in trip.cli("run", "--until-caught-up").err
    after = stored(trip, at)
    assert [row[2] for row in after] == [2, 2, 2, 2], "one commit, up to the bad record"
    assert sum(row[1] for row in after) == 2 * sum(row[1] for row in before)  # type: ignore[misc]


def test_several_pipelines_may_write_one_topic(trip: Trip) -> None:
    write(
        trip,
        HEAD,
        'merged = app.topic("merged", key="car", value={"car": int, "fare": float})\n'
        'other = app.topic("other", key="car", value={"car": int, "fare": float}, partitions=4)\n'
        'app.pipeline(fares, to=[merged], name="one", version="v1")\n'
        'app.pipeline(other, to=[merged], name="two", version="v1")\n',
    )
    ingest(trip, (1, 2.0), (2, 3.0))
    (trip.folder / "other.csv").write_text("car,fare\n7,9.0\n")
    trip.ok("ingest", "other.csv", "--topic", "other")
    trip.run()
    payloads = [json.loads(r["payload"]) for r in trip.records("merged.v1")]
    assert sorted(p["car"] for p in payloads) == [1, 2, 7]


def test_start_latest_begins_behind_what_is_there(trip: Trip) -> None:
    write(trip, HEAD, TOTAL.replace('version="v1"', 'version="v1", start="latest"'))
    ingest(trip, (1, 2.0))
    trip.run()
    ingest(trip, (1, 5.0))
    trip.run()
    assert ask(trip, "SELECT car, total FROM totals") == [[1, 5.0]]


def test_a_file_that_results_depend_on_counts_as_code(trip: Trip) -> None:
    model = trip.folder / "model.json"
    model.write_text('{"factor": 1}')
    write(trip, HEAD, TOTAL.replace('version="v1"', 'version="v1", reads=["model.json"]'))
    ingest(trip, (1, 2.0))
    trip.run()
    model.write_text('{"factor": 2}')
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "give it a new label with @total.version" in refused.err


def test_topics_that_are_created_have_declared_settings_and_keep_their_records(trip: Trip) -> None:
    write(
        trip,
        HEAD.replace("partitions=4", 'partitions=3, config={"max.message.bytes": "999999"}'),
        'out = app.topic("out", key="car", value={"car": int, "fare": float})\n'
        'app.pipeline(fares, to=[out], name="one", version="v1")\n',
    )
    ingest(trip, (1, 2.0))
    trip.run()
    topics = {t["topic"]: t for t in trip.json("topics", "list")["topics"]}
    partitions = {name: t["partitions"] for name, t in topics.items()}
    assert partitions == {"fares": 3, "out.v1": 3, "out": 3}
    assert topics["fares"]["config"]["max.message.bytes"] == "999999"
    assert {t["config"]["retention.ms"] for t in topics.values()} == {"-1"}


RAW = """
import json
import polars as pl
import playhead as ph

app = ph.App("raw")
raw = app.topic("raw", value=bytes)
lengths = app.table("lengths", key="n", columns={"n": int, "name": str, "own": bytes})


@app.pipeline(raw, to=[lengths], version="v1")
def length(points, state):
    n = points["_value"].bin.size().cast(pl.Int64)
    return points.with_columns(n=n, name=points["_value"].cast(pl.String), own="_key")
"""


def test_bytes_are_handed_over_as_they_are_and_the_messages_own_key_too(trip: Trip) -> None:
    write(trip, RAW)
    (trip.folder / "raw.csv").write_text("k,x\na,1\nb,22\n")
    trip.ok("ingest", "raw.csv", "--topic", "raw", "--key", "k", "--partitions", "1")
    trip.run()
    assert stored(trip, "SELECT n, name, own FROM lengths ORDER BY n") == [
        (15, '{"k":"a","x":1}', b"a"),
        (16, '{"k":"b","x":22}', b"b"),
    ]


NESTED = """
import playhead as ph

app = ph.App("nested")
VALUE = {"id": str, "tags": list[int], "spot": {"lat": float, "names": list[str | None] | None}}
points = app.topic("points", key="id", value=VALUE)
copies = app.table("copies", key="id", columns=VALUE)
app.pipeline(points, to=[copies], name="copy", version="v1")
"""


def test_lists_and_nested_dicts_come_through_to_the_table(trip: Trip) -> None:
    write(trip, NESTED)
    rows = [
        {"id": "a", "tags": [1, 2], "spot": {"lat": 1, "names": ["x", None]}},
        {"id": "b", "tags": [], "spot": {"lat": -0.0}},
    ]
    (trip.folder / "points.jsonl").write_text("\n".join(map(json.dumps, rows)))
    trip.ok("ingest", "points.jsonl", "--topic", "points")
    ran = trip.ok("run", "--until-caught-up", PYTHONUNBUFFERED="1")
    assert "aligned" not in ran.err, "pyarrow, where it is installed, has nothing to say"
    assert ask(trip, "SELECT id, tags, spot.lat, spot.names FROM copies ORDER BY id") == [
        ["a", [1, 2], 1.0, ["x", None]],
        ["b", [], 0.0, None],
    ]


def test_plan_warns_of_a_library_that_is_another_than_the_one_recorded(trip: Trip) -> None:
    write(trip, HEAD, TOTAL)
    ingest(trip, (1, 2.0))
    trip.run()
    assert trip.json("plan", "total")["remarks"] == []
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store, store:
        (content,) = store.execute("SELECT content FROM playhead__version").fetchone()
        row = json.loads(content)
        here = row["environment"]["polars"]
        row["environment"]["polars"] = "1.0.0"
        store.execute("UPDATE playhead__version SET content = ?", (json.dumps(row).encode(),))
    planned = trip.json("plan", "total")
    assert planned["remarks"] == [
        f"warning: total@v1 was recorded with polars 1.0.0, here is {here}: its results may differ"
    ]
    assert planned["refused"] == []
    trip.run()


def test_changed_code_under_a_live_label_is_refused_with_the_way_out(trip: Trip) -> None:
    write(trip, HEAD, TOTAL)
    ingest(trip, (1, 2.0))
    trip.run()
    write(trip, HEAD, TOTAL.replace('total="fare"', 'total="fare", by="fare"'))
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "restore it, or give it a new label with @total.version, then playhead plan total" in (
        refused.err.lower().replace("\n", " ")
    )


KINDS = """
import playhead as ph

app = ph.App("fares")
fares = app.topic("fares", key="car", value={"car": int, "fare": float})
totals = app.table("totals", key="car", columns={"car": int, "total": float, "recent": float})


@app.pipeline(fares, to=[totals], version="v1", frame="FRAME")
def total(points, state):
    points = state.running_sum(points, total="fare")
    return state.rolling_sum(points, span="1h", recent="fare")
"""


@pytest.mark.parametrize("kind", ["polars", "pandas", "arrow"])
def test_a_function_on_each_kind_of_frame_goes_on_where_it_stopped(trip: Trip, kind: str) -> None:
    write(trip, KINDS.replace("FRAME", kind))
    path = trip.folder / "fares.csv"
    for minutes in ("00", "59"), ("58", "30"):
        lines = (f"1,{n}.5,2026-11-01T1{n - 1}:{at}:00Z\n" for n, at in enumerate(minutes, 1))
        path.write_text("car,fare,at\n" + "".join(lines))
        trip.ok("ingest", path.name, "--topic", "fares", "--timestamp", "at")
        trip.run()
    # 10:00 1.5, 11:59 2.5, then 10:58 1.5 which is late, and 11:30 2.5 which is not too late.
    assert ask(trip, "SELECT * FROM totals") == [[1, 8.0, 5.0]]


JOIN = """
import polars as pl
import playhead as ph

app = ph.App("fares")
value = {"car": int, "fare": float | None, "driver": str | None}
fares = app.topic("fares", key="car", value=value)
drivers = app.topic("drivers", key="car", value=value)
events = app.topic("events", key="car", value=value)
fared = app.table("fared", key="car", columns={"car": int, "driver": str | None, "total": float})
app.pipeline(fares, to=[events], name="fares_in", version="v1")
app.pipeline(drivers, to=[events], name="drivers_in", version="v1")


@app.pipeline(events, to=[fared], version="v1")
def joined(rows, state):
    rows = state.latest(rows, who="driver")
    rows = state.running_sum(rows, total="fare")
    return rows.with_columns(driver=pl.col("who"))
"""


def test_topics_are_joined_by_forwarding_them_into_one(trip: Trip) -> None:
    write(trip, JOIN)

    def append(topic: str, text: str) -> None:
        (trip.folder / "rows.csv").write_text(text)
        trip.ok("ingest", "rows.csv", "--topic", topic)

    append("drivers", "car,driver\n1,Ada\n2,Bo\n")
    append("fares", "car,fare\n1,5\n2,7\n")
    trip.run()
    append("drivers", "car,driver\n1,Cy\n")
    append("fares", "car,fare\n1,2\n")
    trip.run()
    expected = [[1, "Cy", 7.0], [2, "Bo", 7.0]]
    assert ask(trip, "SELECT car, driver, total FROM fared ORDER BY car") == expected
    trip.ok("rewind", "fares_in", "--to-earliest", "--execute")
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "what fares_in@v1 made of offset" in refused.err
    trip.ok("rewind", "joined", "--to-earliest", "--execute")
    trip.run()
    assert ask(trip, "SELECT car, driver, total FROM fared ORDER BY car") == expected


def test_two_writers_of_one_source_need_one_label(trip: Trip) -> None:
    write(trip, JOIN.replace('name="drivers_in", version="v1"', 'name="drivers_in", version="v2"'))
    for topic in ("drivers", "fares"):
        trip.ok("topics", "create", topic)
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "different labels" in refused.err
