"""One call of a function: frames and rows in, outputs and state out, failures named."""

import inspect
import json
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

import playhead as ph
from playhead.core.declare import Pipeline
from playhead.core.offsets import TopicPartition
from playhead.core.records import Records, partition_of
from playhead.core.slots import merge
from playhead.engine.call import Caller
from playhead.errors import BadRecord, DeclarationError, FunctionFailed, PlayheadError

PLACE = TopicPartition("points", 2)
VALUE = {"car": int, "x": float}
NAN = float("nan")
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def records(*values, at=10, position=None):
    """Records of JSON values, keys and times made from offsets."""
    n = len(values)
    payloads = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    times = [1_400_000_000_000 + at + i for i in range(n)]
    return Records(PLACE, range(at, at + n), times, [b"k"] * n, payloads, position or at + n)


def cars(*pairs, at=10):
    return records(*({"car": car, "x": x} for car, x in pairs), at=at)


def pipeline(function, *, table=None, topic=None, source=None, key="car", **options):
    """A pipeline over points with a table and/or a topic of the given columns; () = undeclared."""
    app = ph.App("vehicles")
    points = app.topic("points", key=key, value=VALUE if source is None else source)
    to = []
    if table is not None:
        to.append(app.table("totals", key="car", columns=table or None))
    if topic is not None:
        to.append(app.topic("out", key="car", value=topic or None))
    declared = app.pipeline(points, to=to, version="v1", **options)
    return declared(function) if function else declared


def caller(made, partitions=3):
    if isinstance(made, Pipeline):
        made = made.versions["v1"]
    return Caller(made, {"out.v1": partitions})


def call(made, batch, slots=None, generation=1):
    return caller(made).call(batch, slots or {}, generation)


def failure(act, *words, kind=FunctionFailed):
    with pytest.raises(kind) as e:
        act()
    missing = [word for word in words if word not in str(e.value)]
    assert missing == [], str(e.value)
    return e.value


def as_is(points, state):
    return points


POINTS = cars((1, 1.0), (2, 2.0), (1, 3.0))
TABLE = {"car": int, "x": float}


# --- frames ------------------------------------------------------------------------------------


def keep_with_columns(points, state):
    return points.with_columns(x=pl.col("x") * 2)


def keep_filter(points, state):
    return points.filter(pl.col("x") > 1)


def keep_explode(points, state):
    return points.with_columns(x=pl.concat_list("x", pl.col("x") + 0.5)).explode("x")


def keep_join(points, state):
    other = pl.DataFrame({"car": [1, 2], "name": ["a", "b"]})
    return points.join(other, on="car", maintain_order="left")


def keep_select(points, state):
    return points.select(ph.origin, "car", x=pl.col("x") + 1)


@pytest.mark.parametrize(
    ("function", "published"),
    [
        (keep_with_columns, [(1, 2.0), (2, 4.0), (1, 6.0)]),
        (keep_filter, [(2, 2.0), (1, 3.0)]),
        (keep_explode, [(1, 1.0), (1, 1.5), (2, 2.0), (2, 2.5), (1, 3.0), (1, 3.5)]),
        (keep_join, [(1, 1.0), (2, 2.0), (1, 3.0)]),
        (keep_select, [(1, 2.0), (2, 3.0), (1, 4.0)]),
    ],
)
def test_what_keeps_the_origin(function, published):
    outcome = call(pipeline(function, table=TABLE, topic=TABLE), POINTS)
    (out,) = outcome.outgoing
    assert [tuple(json.loads(v).values()) for v in out.values] == published
    folded = dict(published)
    assert dict(outcome.rows["totals__v1"].select("car", "x").rows()) == folded


def test_select_without_origin_is_named_before_any_data():
    def only_x(points, state):
        return points.select("car", "x")

    error = failure(lambda: caller(pipeline(only_x, table=TABLE)), "only_x@v1", "_offset")
    assert "ph.origin" in error.cure


def test_rows_without_a_record_are_refused():
    def outer(points, state):
        other = pl.DataFrame({"car": [1, 77]})
        return points.join(other, on="car", how="full", coalesce=True)

    made = pipeline(outer, topic={"car": int, "x": float | None})
    failure(lambda: call(made, POINTS), "not those of its input")


def test_rows_leave_in_log_order_whatever_the_function_did():
    def backwards(points, state):
        return pl.concat([points.reverse(), points.with_columns(x=-pl.col("x"))])

    outcome = call(pipeline(backwards, table=TABLE, topic=TABLE), POINTS)
    (out,) = outcome.outgoing
    assert [json.loads(v)["x"] for v in out.values] == [1.0, -1.0, 2.0, -2.0, 3.0, -3.0]
    assert [h[3][1] for h in out.headers] == [b"points[2]@%d" % o for o in (10, 10, 11, 11, 12, 12)]
    assert dict(outcome.rows["totals__v1"].select("car", "x").rows()) == {1: -3.0, 2: -2.0}


def test_the_frame_is_the_one_of_the_design():
    seen = []

    def look(points, state):
        seen.append(points)
        return points

    call(pipeline(look, table=TABLE), POINTS)
    dry, real = seen
    assert dry.schema == real.schema
    assert len(dry) == 0
    assert real.columns == ["car", "x", "_partition", "_offset", "_timestamp", "_key"]
    assert real["_offset"].to_list() == [10, 11, 12]


def test_names_that_begin_with_an_underscore_are_never_written():
    def more(points, state):
        return points.with_columns(_secret=1, y=1)

    made = pipeline(more, table=(), topic=())
    assert [[c.name for c in t.schema] for t in caller(made).targets] == [["car", "x", "y"]] * 2
    outcome = call(made, POINTS)
    assert outcome.rows["totals__v1"].columns == ["car", "x", "y", "_partition", "_offset"]
    assert list(json.loads(outcome.outgoing[0].values[0])) == ["car", "x", "y"]


def test_undeclared_columns_are_found_without_data():
    def all_kinds(points, state):
        return points.select(
            ph.origin,
            "car",
            i=pl.lit(1, dtype=pl.Int8),
            f=pl.lit(1.5, dtype=pl.Float32),
            s=pl.lit("a"),
            t=pl.col("_timestamp"),
            d=pl.lit(date(2026, 11, 1)),
            many=pl.concat_list("x", "x"),
            deep=pl.struct(a="x"),
        )

    (target,) = caller(pipeline(all_kinds, table=())).targets
    assert {c.name: c.typed() for c in target.schema} == {
        "car": "int",
        "i": "int | None",
        "f": "float | None",
        "s": "str | None",
        "t": "datetime | None",
        "d": "date | None",
        "many": "list[float | None] | None",
        "deep": "{a: float | None} | None",
    }
    assert target.physical == "totals__v1"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda points: points.rename({"car": "vehicle"}), ["key 'car'", "not one of its columns"]),
        (lambda points: points.with_columns(car=pl.col("x")), ["car", "float"]),
        (lambda points: points.with_columns(y=pl.duration(days=1)), ["totals.y", "dtype"]),
        (lambda points: points.with_columns(y=None), ["totals.y", "dtype Null"]),
    ],
    ids=["no key", "float key", "unwritable", "no type"],
)
def test_an_undeclared_output_that_cannot_be(function, words):
    def run(points, state):
        return function(points)

    failure(lambda: caller(pipeline(run, table=())), *words, kind=DeclarationError)


def test_a_declared_type_is_compared_with_the_returned_one_before_any_data():
    def text(points, state):
        return points.with_columns(x=pl.lit("a"))

    failure(lambda: caller(pipeline(text, table=TABLE)), "'x'", "Float64", "String")


@pytest.mark.parametrize("returned", [None, 5, {"a": 1}, [1]], ids=repr)
def test_a_function_returns_a_frame(returned):
    def wrong(points, state):
        return returned

    failure(lambda: caller(pipeline(wrong, table=TABLE)), "wrong@v1", type(returned).__name__)


def test_a_lazy_frame_is_not_one():
    def lazy(points, state):
        return points.lazy()

    failure(lambda: caller(pipeline(lazy, table=TABLE)), "LazyFrame", "polars DataFrame")


# --- a function that raises --------------------------------------------------------------------


def test_a_function_that_raises_names_batch_line_and_cause():
    def broken(points, state):
        if len(points):
            raise ValueError("no such car\nsecond line")
        return points

    line = inspect.getsourcelines(broken)[1] + 2
    made = caller(pipeline(broken, table=TABLE))
    error = failure(
        lambda: made.call(cars((1, 1.0), (1, 2.0)), {}, 1),
        "broken@v1 raised ValueError: no such car",
        f"(test_call.py:{line})",
    )
    assert error.where == "points[2] [10, 12)"
    assert error.safe == "Nothing of this batch was committed."
    assert isinstance(error.__cause__, ValueError)
    assert "second line" not in str(error)


def test_the_batch_ends_where_the_position_is():
    def broken(points, state):
        return points if not len(points) else 1 / 0

    batch = records({"car": 1, "x": 1.0}, position=50)
    error = failure(lambda: call(pipeline(broken, table=TABLE), batch), "ZeroDivisionError")
    assert error.where == "points[2] [10, 50)"


def in_the_standard_library(points, state):
    if len(points):
        json.loads("{")
    return points


def in_polars(points, state):
    if len(points):
        points.select("no_such_column")
    return points


@pytest.mark.parametrize("function", [in_the_standard_library, in_polars])
def test_the_line_is_the_users_own_not_one_of_a_library(function):
    line = inspect.getsourcelines(function)[1] + 2
    failure(lambda: call(pipeline(function, table=TABLE), POINTS), f"(test_call.py:{line})")


def test_a_function_that_cannot_take_no_rows_fails_before_any_data():
    def first(points, state):
        return points.with_columns(x=points["x"].to_list()[0])

    failure(lambda: caller(pipeline(first, table=TABLE)), "first@v1", "IndexError", "test_call.py")


def test_an_error_of_playhead_passes_through():
    said = FunctionFailed("of my own", where="here", cure="this")

    def raises(points, state):
        if len(points):
            raise said
        return points

    with pytest.raises(FunctionFailed) as e:
        call(pipeline(raises, table=TABLE), POINTS)
    assert e.value is said


def test_an_error_of_state_passes_through_with_its_row():
    def sums(points, state):
        return state.running_sum(points.with_columns(x=pl.lit(NAN)), total="x")

    made = pipeline(sums, table={"car": int, "total": float})
    error = failure(lambda: call(made, POINTS), "NaN")
    assert error.where == "points[2]@10"


def test_a_record_that_cannot_be_decoded_is_named():
    batch = records({"car": 1, "x": 1.0}, b'{"car": 1')
    error = failure(lambda: call(pipeline(as_is, table=TABLE), batch), kind=BadRecord)
    assert error.where == "points[2]@11"


# --- state -------------------------------------------------------------------------------------


def total(points, state):
    return state.running_sum(points, total="x")


def test_state_goes_from_batch_to_batch_and_the_call_changes_nothing_itself():
    made = caller(pipeline(total, table={"car": int, "total": float}))
    first = made.call(POINTS, {}, 1)
    assert dict(first.rows["totals__v1"].select("car", "total").rows()) == {1: 4.0, 2: 2.0}
    slots = merge({}, first.delta)
    kept = {name: slot.clone() for name, slot in slots.items()}
    second = made.call(cars((2, 10.0), at=13), slots, 1)
    assert second.rows["totals__v1"].select("car", "total").rows() == [(2, 12.0)]
    assert [name for name in kept if not kept[name].equals(slots[name])] == []
    assert second.place == PLACE


# --- per="row" ---------------------------------------------------------------------------------


def rows_of(function, batch=POINTS, slots=None, columns=None):
    made = pipeline(function, table=columns or TABLE, topic=columns or TABLE, per="row")
    outcome = call(made, batch, slots)
    return [json.loads(v) for v in outcome.outgoing[0].values], outcome


def test_a_row_gives_a_dict_a_list_of_dicts_or_none():
    def some(row, state):
        if row["x"] == 1.0:
            return {"car": row["car"], "x": 10, "not_declared": 1}
        if row["x"] == 2.0:
            return None
        return [{"car": 1, "x": 0.5}, {"car": 2, "x": -0.0}]

    published, outcome = rows_of(some)
    assert published == [{"car": 1, "x": 10.0}, {"car": 1, "x": 0.5}, {"car": 2, "x": 0.0}]
    assert [h[3][1] for h in outcome.outgoing[0].headers] == [
        b"points[2]@10",
        b"points[2]@12",
        b"points[2]@12",
    ]
    assert dict(outcome.rows["totals__v1"].select("car", "x").rows()) == {1: 0.5, 2: 0.0}


def test_a_function_that_returns_nothing_writes_nothing():
    published, outcome = rows_of(writes_nothing)
    assert published == []
    assert len(outcome.rows["totals__v1"]) == 0
    assert outcome.rows["totals__v1"].columns == ["car", "x", "_partition", "_offset"]


def writes_nothing(row, state):
    return None


def test_a_row_is_a_dict_of_its_columns_and_origin():
    seen = []

    def look(row, state):
        seen.append(row)

    rows_of(look, records({"car": 1, "x": 1.5}))
    assert seen == [
        {
            "car": 1,
            "x": 1.5,
            "_partition": 2,
            "_offset": 10,
            "_timestamp": datetime.fromtimestamp(1_400_000_000.010, UTC),
            "_key": b"k",
        }
    ]


def count(row, state):
    state["n"] = state.get("n", 0) + 1
    state.setdefault("xs", []).append(row["x"])
    return {"car": row["car"], "x": state["n"]}


def test_a_rows_state_is_kept_per_key_within_and_across_batches():
    published, outcome = rows_of(count)
    assert [(r["car"], r["x"]) for r in published] == [(1, 1), (2, 1), (1, 2)]
    published, _ = rows_of(count, cars((2, 9.0), (3, 9.0), at=13), merge({}, outcome.delta))
    assert [(r["car"], r["x"]) for r in published] == [(2, 2), (3, 1)]


def test_a_state_returned_as_the_row_is_as_it_was_at_that_row():
    def flat(row, state):
        state.update(car=row["car"], x=state.get("x", 0.0) + row["x"])
        return state

    def nested(row, state):
        state.update(car=row["car"], x=[*state.get("x", []), row["x"]])
        state["x"].sort()
        return state

    batch = cars((1, 3.0), (1, 1.0), (1, 2.0))
    published, outcome = rows_of(flat, batch)
    assert [r["x"] for r in published] == [3.0, 4.0, 6.0]
    assert rows_of(flat, cars((1, 1.0), at=13), merge({}, outcome.delta))[0][0]["x"] == 7.0
    columns = {"car": int, "x": list[float]}
    published, _ = rows_of(nested, batch, columns=columns)
    assert [r["x"] for r in published] == [[3.0], [1.0, 3.0], [1.0, 2.0, 3.0]]


def test_a_row_that_raises_is_named():
    def broken(row, state):
        state["n"] = 1
        if row["x"] == 2.0:
            raise KeyError("speed")
        return {"car": 1, "x": 1.0}

    error = failure(lambda: rows_of(broken), "broken@v1 raised KeyError", "test_call.py:")
    assert error.where == "points[2]@11"
    assert error.safe == "Nothing of this batch was committed."


def test_state_that_cannot_be_kept_is_an_error_at_that_row():
    def keeps_a_set(row, state):
        if row["x"] == 3.0:
            state["seen"] = {1}
        return {"car": 1, "x": 1.0}

    assert failure(lambda: rows_of(keeps_a_set)).where == "points[2]@12"


@pytest.mark.parametrize("returned", [5, "a", (1,), [1], [{}, None]], ids=repr)
def test_what_a_row_must_not_return(returned):
    def wrong(row, state):
        return returned

    error = failure(lambda: rows_of(wrong), "wrong@v1", "a dict, a list of dicts, or None")
    assert error.where == "points[2]@10"


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 1.0),
        (int, "1"),
        (int, True),
        (int, 2**63),
        (int, 2**64),
        (float, "1"),
        (float, True),
        (float, 10**400),
        (float, NAN),
        (float, None),
        (bool, 1),
        (str, 1),
        (str, b"a"),
        (str, object()),
        (bytes, "a"),
        (date, "2026-11-01"),
        (date, 5),
        (date, datetime(2026, 11, 1, 5, tzinfo=UTC)),
        (datetime, date(2026, 11, 1)),
        (list[int], ["1"]),
        (list[int], [2**63]),
        (list[int], {1, 2}),  # a set has no order of its own: a redo would differ
        (list[int], 5),
        ({"a": int}, {"a": "s"}),
        ({"a": int}, {"b": 1}),
        ({"a": int}, 5),
    ],
    ids=lambda v: f"{v!r}"[:20],
)
def test_a_value_of_the_wrong_type_is_named_at_its_row(annotation, value):
    plain = {int: 1, float: 1.0, bool: True, str: "a", bytes: b"a", list[int]: [1]}
    times = {date: date(2026, 1, 1), datetime: datetime(2026, 1, 1, tzinfo=UTC)}
    good = {"a": 1} if isinstance(annotation, dict) else (plain | times)[annotation]

    def wrong(row, state):
        return {"car": 1, "y": value if row["x"] == 2.0 else good}

    error = failure(lambda: rows_of(wrong, columns={"car": int, "y": annotation}), "y")
    assert error.where == "points[2]@11"
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("annotation", "value", "written"),
    [
        (float, 1, 1.0),
        (float, np.float64(1.5), 1.5),
        (int, np.int64(3), 3),
        (float | None, None, None),
        (datetime, datetime(2026, 11, 1, tzinfo=UTC), "2026-11-01T00:00:00Z"),
        (datetime, NOON.replace(tzinfo=None), "2026-11-01T12:00:00Z"),
        (date, date(2026, 11, 1), "2026-11-01"),
        (bytes, b"hi", "aGk="),
        (list[float], [1, 2.5], [1.0, 2.5]),
        ({"a": int, "b": str | None}, {"a": 1, "b": None}, {"a": 1, "b": None}),
    ],
    ids=str,
)
def test_a_value_of_the_right_type_is_written(annotation, value, written):
    def right(row, state):
        return {"car": row["car"], "y": value}

    published, _ = rows_of(right, columns={"car": int, "y": annotation})
    assert [r["y"] for r in published] == [written] * 3


def test_two_outputs_may_declare_one_column_differently():
    def one(row, state):
        return {"car": 1, "x": 3}

    for table, topic in ((float, int), (int, float)):
        made = pipeline(
            one, table={"car": int, "x": table}, topic={"car": int, "x": topic}, per="row"
        )
        outcome = call(made, POINTS)
        assert outcome.rows["totals__v1"]["x"].to_list() == [table(3)]
        assert outcome.outgoing[0].values[0] == (b'{"car":1,"x":%s}' % str(topic(3)).encode())


def test_a_row_function_needs_declared_outputs():
    for output in ({"table": ()}, {"topic": ()}):
        error = failure(
            lambda output=output: caller(pipeline(count, per="row", **output)),
            'per="row"',
            "declare its columns",
            kind=DeclarationError,
        )
        assert "columns=" in error.cure


def test_a_row_function_without_a_key_has_no_state():
    def stateless(row, state):
        assert state == {}
        return {"car": row["car"], "x": row["x"]}

    made = pipeline(stateless, table=TABLE, key=None, per="row")
    assert call(made, POINTS).delta == {}


def test_a_row_function_that_keeps_state_without_a_key_is_told():
    made = pipeline(count, table=TABLE, key=None, per="row")
    failure(lambda: call(made, POINTS), "key")


def test_a_key_that_is_not_a_column_is_an_error_with_words():
    def one(row, state):
        return {"car": 1, "x": 1.0}

    made = pipeline(one, table=TABLE, source=bytes, per="row")
    failure(lambda: call(made, records(b"raw")), "car", kind=PlayheadError)


# --- forwarding --------------------------------------------------------------------------------


def test_a_pipeline_without_a_function_forwards():
    made = pipeline(None, table=(), topic=(), name="copy")
    outcome = call(made, POINTS)
    (out,) = outcome.outgoing
    assert out.topic == "out.v1"
    assert [json.loads(v) for v in out.values] == [
        {"car": 1, "x": 1.0},
        {"car": 2, "x": 2.0},
        {"car": 1, "x": 3.0},
    ]
    assert dict(outcome.rows["totals__v1"].select("car", "x").rows()) == {1: 3.0, 2: 2.0}
    assert outcome.delta == {}
    assert {c.name: c.typed() for c in caller(made).targets[0].schema} == {
        "car": "int",
        "x": "float",
    }


def test_a_forwarded_table_takes_a_subset_of_the_columns():
    made = pipeline(None, table={"car": int}, name="copy")
    assert call(made, POINTS).rows["totals__v1"].columns == ["car", "_partition", "_offset"]


def test_bytes_are_never_forwarded_without_their_value():
    app = ph.App("vehicles")
    raw = app.topic("points", value=bytes)
    made = app.pipeline(raw, to=[app.topic("out")], version="v1", name="copy")
    try:
        values = call(made, records(b"\x00\xff", b"v")).outgoing[0].values
    except DeclarationError:
        values = None  # refused before any data
    assert values in (None, [b"\x00\xff", b"v"])


# --- records -----------------------------------------------------------------------------------


def test_what_is_published_says_version_generation_and_source_and_keeps_event_time():
    outcome = call(pipeline(as_is, topic=TABLE), POINTS, generation=7)
    (out,) = outcome.outgoing
    assert out.timestamps_ms == [1_400_000_000_010, 1_400_000_000_011, 1_400_000_000_012]
    assert out.headers[1] == (
        ("playhead-pipeline", b"as_is"),
        ("playhead-version", b"v1"),
        ("playhead-generation", b"7"),
        ("playhead-source", b"points[2]@11"),
    )
    assert out.keys == [b"1", b"2", b"1"]
    assert out.partitions == [partition_of(k, 3) for k in out.keys]


def test_an_empty_batch_gives_nothing():
    outcome = call(pipeline(total, table={"car": int, "total": float}, topic=()), records())
    assert [len(out) for out in outcome.outgoing] == [0]
    assert [len(rows) for rows in outcome.rows.values()] == [0]
    assert outcome.delta == {}
