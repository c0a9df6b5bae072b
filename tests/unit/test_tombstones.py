"""Tombstones: a null value is a row that says its key is gone; it deletes, and is passed on."""

from datetime import UTC, datetime

import polars as pl
import pytest

import playhead as ph
from playhead.core.codec import Decoder
from playhead.core.offsets import TopicPartition
from playhead.core.records import Records
from playhead.engine.call import Caller
from playhead.errors import BadRecord, FunctionFailed

PLACE = TopicPartition("points", 0)
VALUE = {"car": int, "x": float, "note": str | None, "tags": list[int]}
FULL = b'{"car": 1, "x": 1.5, "tags": [1]}'


def topic(key="car", value=None, **options):
    return ph.App("vehicles").topic("points", key=key, value=value or VALUE, **options)


def records(*pairs):
    n = len(pairs)
    keys, values = zip(*pairs, strict=True)
    return Records(PLACE, range(10, 10 + n), [0] * n, list(keys), list(values), 10 + n)


def test_a_null_value_is_a_row_whose_key_alone_is_known():
    frame = Decoder(topic(tombstones=True)).frame(records((b"1", FULL), (b"2", None)))
    assert frame["_tombstone"].to_list() == [False, True]
    assert frame.drop("_timestamp", "_partition").rows() == [
        (1, 1.5, None, [1], 10, b"1", False),
        (2, None, None, None, 11, b"2", True),
    ]
    assert frame.schema == Decoder(topic(tombstones=True)).empty().schema


def test_the_column_is_there_in_every_frame_of_such_a_topic_and_in_no_other():
    frame = Decoder(topic(tombstones=True)).frame(records((b"1", FULL)))
    assert frame["_tombstone"].to_list() == [False]
    assert "_tombstone" not in Decoder(topic()).frame(records((b"1", FULL))).columns
    assert "_tombstone" not in Decoder(topic()).empty().columns


def test_without_tombstones_a_null_value_is_a_bad_record():
    with pytest.raises(BadRecord, match="does not say tombstones=True") as e:
        Decoder(topic()).frame(records((b"1", FULL), (b"2", None)))
    assert e.value.where == "points[0]@11"
    with pytest.raises(BadRecord, match="the value is null"):
        Decoder(ph.App("a").topic("points", value=bytes)).frame(records((None, None)))


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (int, b"7", 7),
        (str, b"7", "7"),
        (bool, b"true", True),
        (datetime, b"2026-11-01T12:00:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
    ],
)
def test_the_key_is_decoded_to_its_declared_type(kind, text, value):
    declared = topic("k", {"k": kind, "x": float}, tombstones=True)
    frame = Decoder(declared).frame(records((text, None)))
    assert frame.select("k", "x").rows() == [(value, None)]


def test_a_composite_key_is_decoded_from_its_json_array():
    declared = topic(["b", "a"], {"a": int, "b": str, "x": float}, tombstones=True)
    frame = Decoder(declared).frame(records((b'["north",7]', None)))
    assert frame.select("a", "b", "x").rows() == [(7, "north", None)]


@pytest.mark.parametrize("key", [b"seven", b"", None])
def test_a_key_that_cannot_be_decoded_is_a_bad_record(key):
    with pytest.raises(BadRecord) as e:
        Decoder(topic(tombstones=True)).frame(records((b"1", FULL), (key, None)))
    assert e.value.where == "points[0]@11"


def test_a_topic_without_a_key_has_tombstones_with_nulls_alone():
    frame = Decoder(topic(None, tombstones=True)).frame(records((b"k", None)))
    assert frame.select("car", "x", "_key", "_tombstone").rows() == [(None, None, b"k", True)]


def test_a_topic_of_bytes_has_tombstones_too():
    declared = ph.App("a").topic("points", value=bytes, tombstones=True)
    frame = Decoder(declared).frame(records((b"a", b"1"), (b"b", None)))
    assert frame.select("_value", "_tombstone").rows() == [(b"1", False), (None, True)]


# --- outputs -----------------------------------------------------------------------------------


def made(function, columns=None, per="frame", key="car"):
    app = ph.App("vehicles")
    points = app.topic("points", key=key, value={"car": int, "x": float}, tombstones=True)
    table = app.table("totals", key="car", columns=columns or {"car": int, "x": float})
    out = app.topic("out", key="car", value=columns or {"car": int, "x": float})
    if function is None:
        return app.pipeline(points, to=[table, out], version="v1", name="copy")
    return app.pipeline(points, to=[table, out], version="v1", per=per)(function)


def call(pipeline, *pairs):
    version = pipeline.versions["v1"]
    return Caller(version, {"out.v1": 3}).call(records(*pairs), {}, 1)


def car(n, x=1.5):
    return b"%d" % n, b'{"car": %d, "x": %r}' % (n, x)


def test_a_forwarding_pipeline_passes_them_on():
    outcome = call(made(None), car(1), car(2), (b"1", None))
    rows = outcome.rows["totals__v1"]
    assert rows.select("car", "x", "_tombstone", "_offset").rows() == [
        (2, 1.5, False, 11),
        (1, None, True, 12),
    ]
    (out,) = outcome.outgoing
    assert out.values == [b'{"car":1,"x":1.5}', b'{"car":2,"x":1.5}', None]
    assert out.keys == [b"1", b"2", b"1"]
    assert out.partitions[0] == out.partitions[2]


def test_the_column_is_there_only_where_a_row_is_gone():
    outcome = call(made(None), car(1), (b"1", None), car(1, 2.5))
    assert outcome.rows["totals__v1"].columns == ["car", "x", "_partition", "_offset"]
    assert call(made(None), car(1)).rows["totals__v1"].columns[-1] == "_offset"


def as_is(points, state):
    return points


def test_a_function_passes_them_on_with_its_frame():
    outcome = call(made(as_is), (b"1", None))
    assert outcome.rows["totals__v1"]["_tombstone"].to_list() == [True]


def test_a_function_may_say_itself_that_a_key_is_gone():
    def far(points, state):
        return points.with_columns(_tombstone=pl.col("x") > 2)

    outcome = call(made(far), car(1, 1.0), car(2, 3.0))
    assert outcome.rows["totals__v1"].select("car", "x", "_tombstone").rows() == [
        (1, 1.0, False),
        (2, None, True),
    ]
    assert outcome.outgoing[0].values == [b'{"car":1,"x":1.0}', None]


def test_what_stands_in_a_row_that_is_gone_does_not_matter():
    def broken(points, state):
        gone = pl.lit(value=True)
        return points.with_columns(x=pl.lit(float("nan")), _tombstone=gone)

    assert call(made(broken), car(1)).rows["totals__v1"]["x"].to_list() == [None]


def test_its_key_does_matter():
    def keyless(points, state):
        return points.with_columns(car=pl.lit(None, pl.Int64), _tombstone=pl.lit(value=True))

    with pytest.raises(FunctionFailed, match=r"totals\.car is null"):
        call(made(keyless), car(1))


def test_a_null_tombstone_is_none_and_another_type_is_refused():
    def null(points, state):
        return points.with_columns(_tombstone=pl.lit(None))

    def text(points, state):
        return points.with_columns(_tombstone=pl.lit("yes"))

    assert "_tombstone" not in call(made(null), car(1)).rows["totals__v1"].columns
    with pytest.raises(FunctionFailed, match="must be Boolean"):
        call(made(text), car(1))


def test_without_the_column_a_null_is_a_null():
    def drops(points, state):
        return points.select(ph.origin, "car", "x")

    with pytest.raises(FunctionFailed, match=r"totals\.x is null") as e:
        call(made(drops), car(1), (b"1", None))
    assert e.value.where == "points[0]@11"


def test_row_functions_see_them_and_give_them():
    def one(row, state):
        state["n"] = state.get("n", 0) + 1
        return {"car": row["car"], "x": state["n"], "_tombstone": row["_tombstone"]}

    outcome = call(made(one, per="row"), car(1), (b"2", None))
    assert outcome.rows["totals__v1"].select("car", "x", "_tombstone").rows() == [
        (1, 1.0, False),
        (2, None, True),
    ]


def test_state_takes_their_nulls():
    def total(points, state):
        points = state.running_sum(points, total="x")
        points = state.running_count(points, n="x")
        points = state.previous(points, before="x")
        return state.rolling_sum(points, rows=2, last="x")

    columns = {"car": int, "total": float | None, "n": int | None, "before": float | None}
    rows = [
        {"car": 1, "x": 1.5},
        {"car": 1, "_tombstone": True},
        {"car": 1, "x": 2.0},
    ]
    found = ph.testing.run(made(total, columns), rows)
    assert found["totals"] == [{"car": 1, "total": 3.5, "n": 2, "before": None}]


def test_testing_run_takes_them_and_shows_them():
    rows = [{"car": 1, "x": 1.0}, {"car": 2, "x": 2.0}, {"car": 1, "_tombstone": True}]
    found = ph.testing.run(made(as_is), rows)
    assert found["totals"] == [{"car": 2, "x": 2.0}]
    assert found["out"] == [*rows[:2], {"_tombstone": True, "car": 1}]
