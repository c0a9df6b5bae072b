"""playhead check: which functions depend on what they must not, said by the installed command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from story import Done, Trip, in_full

HEAD = """
import random
from datetime import date, datetime

import polars as pl
import playhead as ph

app = ph.App("fares")
fares = app.topic("fares", key="car", value={"car": int, "fare": float})
out = app.topic("out", key="car")
last = app.table("last", key="car")
"""
FRAME = '@app.pipeline(fares, to=[out, last], version="v1")\n'

# The tutorial's own: rows wait in a list until there are five.
BUFFER = """
waiting = []

@app.pipeline(fares, to=[out], version="v1")
def five(points, state):
    packets = []
    for row in points.iter_rows(named=True):
        waiting.append(row)
        if len(waiting) == 5:
            packets += waiting
            waiting.clear()
    return pl.DataFrame(packets, schema=points.schema).select(ph.origin, "car", "fare")
"""
CLOCK = f"""
{FRAME}
def stamped(points, state):
    return points.select(ph.origin, "car", at=pl.lit(datetime.now().isoformat()))
"""
DAY = f"""
{FRAME}
def dated(points, state):
    return points.select(ph.origin, "car", on=pl.lit(date.today().isoformat()))
"""
CHANCE = f"""
{FRAME}
def thrown(points, state):
    return points.select(ph.origin, "car", x=pl.lit(random.random()))
"""
SET = f"""
WORDS = {{"slow", "fast", "late", "early", "full", "empty"}}

{FRAME}
def told(points, state):
    return points.select(ph.origin, "car", words=pl.lit(" ".join(WORDS)))
"""
CONSTANT = """
@app.pipeline(fares, to=[out, last], version="v1"{options})
def in_miles(points, state):
    return points.select(ph.origin, "car", miles=pl.col("fare") / 1609.344)
"""
ROLLING = f"""
{FRAME}
def smooth(points, state):
    mean = pl.col("fare").rolling_mean(3, min_samples=1)
    return points.select(ph.origin, "car", mean=mean)
"""
DICT = f"""
totals = {{}}

{FRAME}
def summed(points, state):
    sums = []
    for car, fare in zip(points["car"], points["fare"]):
        totals[car] = totals.get(car, 0.0) + fare
        sums.append(totals[car])
    return points.select(ph.origin, "car", total=pl.Series(sums, dtype=pl.Float64))
"""
COUNTER = """
count = app.table("count", key="car", columns={"car": int, "n": int})
seen = 0

@app.pipeline(fares, to=[count], version="v1", per="row")
def numbered(row, state):
    global seen
    seen += 1
    return {"car": row["car"], "n": seen}
"""
TALL = f"""
{FRAME}
def tall(points, state):
    if len(points) in (0, 60):
        return points.select(ph.origin, "car")
    raise ValueError("too few")
"""
BROKEN = f"""
{FRAME}
def broken(points, state):
    if len(points):
        raise ValueError("no such luck")
    return points.select(ph.origin, "car")
"""
STATE = """
@app.pipeline(fares, to=[last], version="v1")
def hidden(points, state):
    points = points.with_columns(height=pl.lit(len(points)))
    return state.running_sum(points, total="height").select(ph.origin, "car")
"""
ROW = """
count = app.table("count", key="car", columns={"car": int, "n": int})

@app.pipeline(fares, to=[count], version="v1", per="row")
def counted(row, state):
    state["n"] = state.get("n", 0) + 1
    return {"car": row["car"], "n": state["n"]}
"""
FORWARD = """
same = app.table("same", key="car", columns={"car": int, "fare": float})
app.pipeline(fares, to=[same], name="db_writer", version="v1")
"""
WRITER = """
copy = app.table("copy", key="track_id", columns={"track_id": int, "distance": float})
app.pipeline(distances, to=[copy], name="writer", version="v1")
"""


@pytest.fixture
def checked(tmp_path: Path) -> Callable[..., Done]:
    """Check a module of its own on sixty records, with the installed command."""

    def run(module: str, *args: str, pipeline: str | None = None) -> Done:
        trip = Trip.make(tmp_path / "project")
        (trip.folder / "vehicles.py").write_text(HEAD + module)
        lines = [f"{i % 3},{0.1 * i * i}" for i in range(1, 61)]
        (trip.folder / "fares.csv").write_text("\n".join(["car,fare", *lines]))
        trip.ok("ingest", "fares.csv", "--topic", "fares", "--partitions", "1")
        name = pipeline or module.split("def ")[1].partition("(")[0]
        trip.spawn = True
        done = trip.cli("check", name, *args)
        trip.spawn = False
        assert not (trip.folder / ".playhead/store.db").exists()
        assert trip.json("groups", "describe", "--all-groups")["groups"] == []
        assert [t["topic"] for t in trip.json("topics", "list")["topics"]] == ["fares"]
        return done

    return run


def first(done: Done) -> dict[str, Any]:
    assert done.code == 4, done.err
    assert done.json["equal"] is False
    found: dict[str, Any] = done.json["first_difference"]
    return found


@pytest.mark.parametrize(
    ("module", "run", "column", "cause"),
    [
        (CLOCK, "one batch, a second time in the same process", "topic/out.at", "_timestamp"),
        (CHANCE, "one batch, a second time in the same process", "topic/out.x", "random"),
        (DICT, "one batch, a second time in the same process", "topic/out.total", "state"),
        (COUNTER, "one batch, a second time in the same process", "table/count.n", "counter"),
        (SET, "PYTHONHASHSEED=1", "topic/out.words", "sorted("),
        (CONSTANT.format(options=""), "random batches", "topic/out.miles", "x * (1 / constant)"),
        (ROLLING, "two halves", "topic/out.mean", "state.rolling_mean"),
        (STATE, "two halves", "state/0/running_sum.total._total", "rows that share its batch"),
    ],
    ids=["clock", "random", "dict", "counter", "set", "constant", "rolling", "state"],
)
def test_what_a_function_must_not_depend_on_is_caught(
    checked: Callable[..., Done], module: str, run: str, column: str, cause: str
) -> None:
    found = first(checked(module, "-o", "json"))
    assert [r["run"] for r in found["runs"]] == ["one batch", run]
    assert f"{found['output']}.{found['column']}" == column
    assert found["values"][0] != found["values"][1]
    assert cause in found["hint"]
    if column.startswith("topic"):
        assert found["where"] == f"fares[0]@{found['offset']}"


def test_the_day_is_another_in_another_zone(checked: Callable[..., Done]) -> None:
    found = first(checked(DAY, "-o", "json"))
    assert found["runs"][1]["zone"] in {"Pacific/Kiritimati", "Etc/GMT+12"}
    assert found["column"] == "on"
    assert "UTC" in found["hint"]


def test_the_tutorials_buffer_of_five_rows(checked: Callable[..., Done]) -> None:
    found = first(checked(BUFFER, "-o", "json"))
    assert found["raised"][0] is None  # sixty rows in one batch are twelve whole packets
    assert found["runs"][1]["cut"] == "random"
    assert "until there are enough" in found["hint"]


def test_a_buffered_tail_is_named_by_the_row_that_is_missing(checked: Callable[..., Done]) -> None:
    found = first(checked(BUFFER, "--records", "58", "-o", "json"))
    assert found["runs"][1]["cut"] == "again"
    assert "module-level list" in found["hint"]


def test_a_function_that_raises_on_one_cut_only(checked: Callable[..., Done]) -> None:
    done = checked(TALL)
    assert done.code == 4
    assert "one batch: passed" in done.out
    assert "two halves: raised: five" not in done.out
    assert "two halves: raised: tall@v1 raised ValueError: too few (vehicles.py:" in done.out


def test_a_function_that_raises_in_every_run_is_an_error(checked: Callable[..., Done]) -> None:
    done = checked(BROKEN)
    assert (done.code, done.out) == (1, "")
    assert "no such luck" in done.err
    assert "Nothing was written" in done.err


@pytest.mark.parametrize(
    ("module", "pipeline"),
    [(ROW, "counted"), (FORWARD, "db_writer"), (CONSTANT.format(options=", rtol=1e-9"), None)],
    ids=["row", "forward", "rtol"],
)
def test_what_depends_on_its_input_alone_passes(
    checked: Callable[..., Done], module: str, pipeline: str | None
) -> None:
    done = checked(module, pipeline=pipeline)
    assert done.code == 0, done.out
    bound = "floats within rtol 1e-09, all else bit for bit" if "rtol" in module else "bit for bit"
    assert f"11 runs are equal ({bound})" in done.out
    assert "60 of fares[0] [0, 60)" in done.out


@pytest.mark.parametrize("log", in_full(["local", "kafka"], but=["local"]))
def test_the_example_passes_on_either_log(make_trip: Callable[..., Trip], log: str) -> None:
    trip = make_trip(log, 4)
    found = trip.json("check", "distance@miles", "--records", "100", "--newest")
    assert (found["equal"], found["runs"], found["first_difference"]) == (True, 11, None)
    ends = trip.json("topics", "describe", trip.topic)["topics"][0]["end_offsets"]
    assert 0 < found["records"] <= sum(min(100, end) for end in ends)
    assert (found["version"], found["rtol"]) == ("miles", 0.0)


@pytest.mark.long
def test_every_declared_version_is_taken_and_a_reader_reads_what_was_written(
    make_trip: Callable[..., Trip],
) -> None:
    trip = make_trip("local", 1)
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(WRITER)
    both = trip.json("check", "distance", "--records", "50")["versions"]
    assert both == [{"version": f"distance@{v}", "equal": True} for v in ("miles", "km")]
    done = trip.cli("check", "writer")
    assert done.code == 1
    assert "topic distance_calcs.miles does not exist" in done.err
    trip.run()
    found = trip.json("check", "writer", "--records", "50")
    assert (found["topic"], found["records"]) == ("distance_calcs.miles", 50)
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "600", "--execute")
    trip.run()
    assert len(trip.records("distance_calcs.miles")) == 681 + 81
    assert trip.json("check", "writer")["records"] == 681  # what was superseded is not read


def test_without_records_there_is_nothing_to_check(tmp_path: Path) -> None:
    trip = Trip.make(tmp_path / "project")
    trip.ok("topics", "create", "raw_trackpoints")
    done = trip.cli("check", "distance")
    assert done.code == 1
    assert "holds no records" in done.err
    done = trip.cli("check", "distanse")
    assert done.code == 2
    assert "Did you mean distance?" in done.err
