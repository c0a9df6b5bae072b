"""frame="pandas" and frame="arrow": the function works with their frames, the results are equal."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import playhead as ph
from playhead.core import fingerprint
from playhead.core.kinds import appended, handed, taken
from playhead.errors import DeclarationError, FunctionFailed

VALUE = {
    "car": int,
    "x": float | None,
    "n": int | None,
    "name": str,
    "at": datetime,
    "tags": list[int],
    "deep": {"a": int},
    "raw": bytes,
}
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def row(car, x, n=None):
    rest = {"name": "é", "at": NOON, "tags": [1, 2], "deep": {"a": 1}, "raw": b"\xff"}
    return {"car": car, "x": x, "n": n, **rest}


ROWS = [row(1, 0.1), row(2, 2.0, 2**53 + 1), row(1, None, 5), row(1, 0.3), row(2, 0.5)] * 3
COLUMNS = {**VALUE, "total": float, "before": float | None, "avg": float | None, "y": float}


def pipeline(function, columns=None, **options):
    app = ph.App("vehicles")
    points = app.topic("points", key="car", value=VALUE)
    table = app.table("totals", key="car", columns=columns or COLUMNS)
    out = app.topic("out", key="car", value=columns or COLUMNS)
    return app.pipeline(points, to=[table, out], version="v1", **options)(function)


def in_polars(points, state):
    points = state.running_sum(points, total="x")
    points = state.previous(points, before="x")
    points = state.rolling_mean(points, rows=2, avg="x")
    return points.with_columns(y=pl.col("total") * 2)


def in_pandas(points, state):
    assert isinstance(points, pd.DataFrame)
    assert all(isinstance(dtype, pd.ArrowDtype) for dtype in points.dtypes)
    points = state.running_sum(points, total="x")
    assert isinstance(points, pd.DataFrame)
    points = state.previous(points, before="x")
    points = state.rolling_mean(points, rows=2, avg="x")
    points["y"] = points["total"] * 2
    return points


def in_arrow(points, state):
    assert isinstance(points, pa.Table)
    points = state.running_sum(points, total="x")
    assert isinstance(points, pa.Table)
    points = state.previous(points, before="x")
    points = state.rolling_mean(points, rows=2, avg="x")
    return points.append_column("y", pc.multiply(points["total"], 2.0))


@pytest.mark.parametrize(("kind", "function"), [("pandas", in_pandas), ("arrow", in_arrow)])
def test_each_kind_gives_what_polars_gives(kind, function):
    expected = ph.testing.run(pipeline(in_polars), ROWS)
    found = ph.testing.run(pipeline(function, frame=kind), ROWS)
    assert repr(found) == repr(expected)
    assert found["out"][1]["n"] == 2**53 + 1, "an int with nulls beside it stays an int"


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_a_function_may_return_polars_or_a_dict(kind):
    app = ph.App("vehicles")
    points = app.topic("points", key="car", value=VALUE)
    table = app.table("totals", key="car", columns={"car": int, "total": float})

    @app.pipeline(points, to=[table], version="v1", frame=kind)
    def total(points, state):
        return pl.DataFrame(state.running_sum(points, total="x"))

    @total.version("v2")
    def by_output(points, state):
        return {table: state.running_sum(points, total="x")}

    expected = ph.testing.run(total, ROWS)
    assert [t["car"] for t in expected["totals"]] == [1, 2]
    assert ph.testing.run(by_output, ROWS) == expected


def test_a_version_may_ask_for_another_kind():
    made = pipeline(in_polars)
    changed = made.version("v2", frame="pandas")(in_pandas)
    assert repr(ph.testing.run(changed, ROWS)) == repr(ph.testing.run(made, ROWS))


def test_the_index_of_a_pandas_frame_stays_as_it_is():
    def filtered(points, state):
        kept = points[points["x"].notna()]
        later = state.running_sum(kept, total="x")
        assert list(later.index) == list(kept.index)
        later["y"] = kept["x"]
        return later

    columns = {"car": int, "total": float, "y": float}
    found = ph.testing.run(pipeline(filtered, columns, frame="pandas"), ROWS)
    assert [r["y"] for r in found["out"]] == [r["x"] for r in ROWS if r["x"] is not None]


def test_nan_in_a_column_of_numpys_is_missing():
    def numpys(points, state):
        points["y"] = points["x"].to_numpy(dtype="float64", na_value=float("nan"))
        return points[["_partition", "_offset", "car", "y"]]

    columns = {"car": int, "y": float | None}
    found = ph.testing.run(pipeline(numpys, columns, frame="pandas"), ROWS)
    assert [r["y"] for r in found["out"]] == [r["x"] for r in ROWS]


def test_a_column_of_several_types_is_a_named_error():
    def mixed(points, state):
        points["total"] = [1, "a", None, {}, 5][: len(points)]
        return points

    made = pipeline(mixed, {"car": int, "total": float}, frame="pandas")
    with pytest.raises(FunctionFailed, match="cannot be read as columns"):
        ph.testing.run(made, ROWS[:5], cuts=(None,))


def test_state_takes_the_kind_it_is_given_whatever_the_version_asked_for():
    def turns(points, state):
        frame = state.running_sum(points.to_pandas(use_pyarrow_extension_array=True), total="x")
        return state.running_count(pl.from_pandas(frame), n="x")

    columns = {"car": int, "total": float, "n": int}
    assert ph.testing.run(pipeline(turns, columns), ROWS)["totals"][1]["n"] == 6


def test_a_new_column_takes_the_place_of_one_of_its_name():
    frame = pl.DataFrame({"a": [1], "b": [2]})
    for kind in ("polars", "pandas", "arrow"):
        given = appended(handed(frame, kind), [pl.Series("a", [5]), pl.Series("c", [7])])
        found = taken(given)
        assert found is not None
        assert found.rows(named=True) == [{"a": 5, "b": 2, "c": 7}]


def test_subclasses_are_frames_and_others_are_not():
    class Own(pd.DataFrame):
        pass

    assert taken(Own({"a": [1]})).rows() == [(1,)]
    assert taken(pd.Series([1])) is None
    assert taken(pl.LazyFrame({"a": [1]})) is None
    assert taken({"a": [1]}) is None


def test_another_kind_is_refused_where_it_is_written():
    with pytest.raises(DeclarationError, match="frame='spark': 'polars' or 'pandas' or 'arrow'"):
        pipeline(in_polars, frame="spark")


def test_the_kind_is_part_of_the_fingerprint():
    plain = fingerprint.declarations_of(pipeline(in_polars).versions["v1"])
    same = fingerprint.declarations_of(pipeline(in_polars, frame="polars").versions["v1"])
    other = fingerprint.declarations_of(pipeline(in_pandas, frame="pandas").versions["v1"])
    assert plain == same != other


WITHOUT = """
import sys
sys.path += {path!r}
import playhead as ph
app = ph.App("a")
points = app.topic("points", key="car", value={{"car": int}})
@app.pipeline(points, to=[app.table("t", key="car")], version="v1", frame={kind!r})
def as_is(points, state):
    return points
try:
    ph.testing.run(as_is, [{{"car": 1}}])
except ph.errors.ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("kind", "missing"), [("pandas", "pandas"), ("pandas", "pyarrow"), ("arrow", "pyarrow")]
)
def test_without_the_extra_one_line_says_what_to_install(kind, missing, tmp_path):
    packages = tmp_path / "site-packages"
    packages.mkdir()
    for entry in Path(pl.__file__).parents[1].iterdir():
        if not entry.name.startswith(missing):
            (packages / entry.name).symlink_to(entry)
    path = [str(Path(ph.__file__).parents[1]), str(packages)]
    (tmp_path / "m.py").write_text(WITHOUT.format(path=path, kind=kind))
    done = subprocess.run(
        [sys.executable, "-S", "m.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == (
        f"frame=\"{kind}\" needs pandas and pyarrow: pip install 'playhead[pandas]'\n"
    ), done
