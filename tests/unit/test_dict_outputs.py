"""A function may return a dict keyed by its outputs: each gets its own rows, or none."""

import polars as pl
import pytest

import playhead as ph
from playhead.core.offsets import TopicPartition
from playhead.core.records import Records
from playhead.engine.call import Caller
from playhead.errors import DeclarationError, FunctionFailed

PLACE = TopicPartition("points", 2)
ROWS = [{"car": 1, "x": 1.0}, {"car": 2, "x": 5.0}, {"car": 1, "x": 7.0}]

app = ph.App("vehicles")
points = app.topic("points", key="car", value={"car": int, "x": float})
totals = app.table("totals", key="car", columns={"car": int, "total": float})
alarms = app.topic("alarms", key="car", value={"car": int, "x": float})
seen = app.table("seen", key="car", columns={"car": int})
other = app.table("other", key="car", columns={"car": int})


def made(function, to=(totals, alarms, seen), **options):
    own = ph.App("vehicles")
    return own.pipeline(points, to=list(to), version="v1", **options)(function)


def split(frame, state):
    frame = state.running_sum(frame, total="x")
    return {totals: frame, alarms: frame.filter(pl.col("x") > 2)}


def test_each_output_gets_its_own_rows_and_one_left_out_gets_none():
    assert ph.testing.run(made(split), ROWS) == {
        "totals": [{"car": 1, "total": 8.0}, {"car": 2, "total": 5.0}],
        "alarms": [{"car": 2, "x": 5.0}, {"car": 1, "x": 7.0}],
        "seen": [],
    }


def test_an_empty_dict_is_no_rows_for_any():
    assert ph.testing.run(made(lambda_of({})), ROWS) == {"totals": [], "alarms": [], "seen": []}


def lambda_of(returned):
    def gives(frame, state):
        return returned

    return gives


@pytest.mark.parametrize(
    ("key", "shown"), [(other, "other"), ("totals", "'totals'"), (None, "None")]
)
def test_a_key_that_is_none_of_the_outputs_is_a_named_error(key, shown):
    def wrong(frame, state):
        return {totals: frame.with_columns(total="x"), key: frame}

    with pytest.raises(FunctionFailed) as e:
        ph.testing.run(made(wrong), ROWS)
    assert e.value.message == (
        f"wrong@v1 returned a dict with the key {shown}, which is none of its outputs "
        "(totals, alarms, seen)"
    )
    assert "return {table: frame}" in str(e.value)


def test_every_frame_says_which_record_its_rows_come_from():
    def loses(frame, state):
        return {totals: frame.with_columns(total="x"), seen: frame.select("car")}

    with pytest.raises(FunctionFailed, match="without _partition and _offset"):
        ph.testing.run(made(loses), ROWS)


def test_every_value_is_a_frame():
    with pytest.raises(FunctionFailed, match="returned int for totals, not a polars DataFrame"):
        ph.testing.run(made(lambda_of({totals: 5})), ROWS)


def test_rows_of_each_are_in_log_order():
    def backwards(frame, state):
        return {alarms: frame.sort("_offset", descending=True)}

    assert ph.testing.run(made(backwards), ROWS)["alarms"] == ROWS


def test_columns_are_found_without_rows_from_the_dict():
    own = ph.App("vehicles")
    source = own.topic("points", key="car", value={"car": int, "x": float})
    found = own.table("found", key="car")
    left_out = own.table("left_out", key="car")

    def of(frame, state):
        return {found: frame}

    declared = own.pipeline(source, to=[found], version="v1")(of)
    assert [c.name for c in Caller(declared.versions["v1"], {}).targets[0].schema] == ["car", "x"]
    wider = own.pipeline(source, to=[found, left_out], version="v1", name="wider")(of)
    with pytest.raises(DeclarationError, match="left_out must declare its columns"):
        Caller(wider.versions["v1"], {})


def test_a_row_function_may_return_one_too():
    def one(row, state):
        state["total"] = state.get("total", 0.0) + row["x"]
        found = {totals: {"car": row["car"], "total": state["total"]}, seen: None}
        if row["x"] > 2:
            found[alarms] = [row, row]
        return found

    found = ph.testing.run(made(one, per="row"), ROWS)
    assert found["totals"] == [{"car": 1, "total": 8.0}, {"car": 2, "total": 5.0}]
    assert found["alarms"] == [ROWS[1], ROWS[1], ROWS[2], ROWS[2]]
    assert found["seen"] == []


def test_a_row_functions_wrong_key_is_named_at_its_record():
    def wrong(row, state):
        return {totals: None, other: {"car": 1}} if row["x"] > 2 else None

    with pytest.raises(FunctionFailed, match="the key other") as e:
        ph.testing.run(made(wrong, per="row"), ROWS)
    assert e.value.where == "points[0]@1"


def test_a_row_function_that_returns_no_rows_for_an_output_is_named():
    def wrong(row, state):
        return {totals: 5}

    with pytest.raises(FunctionFailed, match="returned int") as e:
        ph.testing.run(made(wrong, per="row"), ROWS)
    assert e.value.where == "points[0]@0"


def test_records_of_each_come_from_their_own_inputs():
    version = made(split).versions["v1"]
    batch = Records(
        PLACE,
        [10, 12, 15],
        [1, 2, 3],
        [b"1", b"2", b"1"],
        [b'{"car":1,"x":1.0}', b'{"car":2,"x":5.0}', b'{"car":1,"x":7.0}'],
        16,
    )
    outcome = Caller(version, {}).call(batch, {}, 1)
    assert [dict(h)["playhead-source"] for h in outcome.outgoing[0].headers] == [
        b"points[2]@12",
        b"points[2]@15",
    ]
    assert outcome.rows["totals__v1"]["_offset"].to_list() == [12, 15]
