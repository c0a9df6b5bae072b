"""Composite keys, tombstones and dicts of outputs, from file to table, on both logs."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from playhead.adapters.kafka import KafkaLog
from playhead.adapters.local_log import LocalLog
from playhead.core.records import Outgoing, partition_of
from playhead.ports import Log
from story import Trip, in_full

MODULE = """
import polars as pl
import playhead as ph

app = ph.App("fares")
COLUMNS = {"city": str, "car": int, "fare": float}
fares = app.topic("P.fares", key=["city", "car"], value=COLUMNS, tombstones=True, partitions=3)
TOTAL = {"city": str, "car": int, "total": float}
sums = app.topic("P.sums", key=["city", "car"], value=TOTAL, tombstones=True)
totals = app.table("totals", key=["city", "car"], columns=TOTAL)
large = app.table("large", key=["car", "city"], columns=COLUMNS)


@app.pipeline(fares, to=[sums, large], version="v1", group="P.total.v1")
def total(points, state):
    points = state.running_sum(points, total="fare")
    return {sums: points, large: points.filter(pl.col("fare") > 5)}


app.pipeline(sums, to=[totals], name="writer", version="v1", group="P.writer.v1")
"""
ROWS = [("oslo", 1, 2.0), ("bergen", 1, 6.0), ("oslo", 2, 9.0), ("oslo", 1, 7.5)]


@pytest.fixture(params=in_full(["local", "kafka"], but=["local"]))
def trip(request: pytest.FixtureRequest, tmp_path: Path) -> Trip:
    url, name = None, "own"
    if request.param == "kafka":
        url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
        name = f"t{uuid4().hex[:8]}"
    made = Trip.make(tmp_path / "project", url)
    module = MODULE.replace("P.", f"{name}.").replace('fares")\nCOL', f'{name}")\nCOL')
    (made.folder / "vehicles.py").write_text(module)
    made.topic = f"{name}.fares"
    return made


def open_log(trip: Trip) -> Log:
    if trip.log.startswith("kafka://"):
        return KafkaLog(trip.log.removeprefix("kafka://"))
    return LocalLog(trip.folder / trip.log.removeprefix("local:"))


def tombstone(trip: Trip, key: bytes) -> None:
    with closing(open_log(trip)) as log:
        outgoing = Outgoing(trip.topic)
        outgoing.add(partition_of(key, 3), key, None, 1_400_000_000_000)
        with closing(log.appender(f"another producer of {trip.topic}")) as appender:
            appender.append(outgoing)
            appender.commit()


def ask(trip: Trip, table: str, columns: str) -> list[list[object]]:
    rows: list[list[object]] = trip.json("query", f"SELECT {columns} FROM {table} ORDER BY ALL")[
        "rows"
    ]
    return rows


def ingest(trip: Trip, suffix: str) -> None:
    path = trip.folder / f"fares{suffix}"
    if suffix == ".csv":
        path.write_text("city,car,fare\n" + "".join(f"{c},{n},{f}\n" for c, n, f in ROWS))
    else:
        lines = (json.dumps(dict(zip(("city", "car", "fare"), row, strict=True))) for row in ROWS)
        path.write_text("\n".join(lines))
    trip.ok("ingest", path.name, "--topic", trip.topic, "--key", "city,car")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_composite_keys_from_file_to_table(trip: Trip, suffix: str) -> None:
    ingest(trip, suffix)
    listed = trip.ok("topics", "tail", trip.topic).out.splitlines()
    for record in map(json.loads, listed):
        payload = json.loads(record["payload"])
        assert json.loads(record["key"]) == [payload["city"], payload["car"]]
        assert record["partition"] == partition_of(record["key"].encode(), 3)
    trip.run()
    assert ask(trip, "totals", "city, car, total") == [
        ["bergen", 1, 6.0],
        ["oslo", 1, 9.5],
        ["oslo", 2, 9.0],
    ]
    assert ask(trip, "large", "car, city, fare") == [
        [1, "bergen", 6.0],
        [1, "oslo", 7.5],
        [2, "oslo", 9.0],
    ]


def test_a_tombstone_goes_from_topic_to_topic_and_deletes_the_row(trip: Trip) -> None:
    ingest(trip, ".csv")
    trip.run()
    tombstone(trip, b'["oslo",1]')
    tombstone(trip, b'["nowhere",7]')
    trip.run()
    assert ask(trip, "totals", "city, car") == [["bergen", 1], ["oslo", 2]]
    sums = trip.topic.replace("fares", "sums") + ".v1"
    last = [json.loads(line) for line in trip.ok("topics", "tail", sums).out.splitlines()]
    assert [r["payload"] for r in last if r["key"] == '["oslo",1]'][-1] is None
    (folder := trip.folder / "more.csv").write_text("city,car,fare\noslo,1,0.5\n")
    trip.ok("ingest", folder.name, "--topic", trip.topic)
    trip.run()
    assert ask(trip, "totals", "city, car, total")[1] == ["oslo", 1, 10.0]


def test_a_rewind_takes_a_deleted_row_back_and_deletes_it_again(trip: Trip) -> None:
    ingest(trip, ".csv")
    trip.run()
    tombstone(trip, b'["oslo",2]')
    trip.run()
    assert ask(trip, "large", "car, city") == [[1, "bergen"], [1, "oslo"], [2, "oslo"]]
    group = trip.topic.replace("fares", "writer.v1")
    trip.ok("groups", "reset", "--group", group, "--to-earliest", "--execute")
    trip.run()
    assert ask(trip, "totals", "city, car") == [["bergen", 1], ["oslo", 1]]
