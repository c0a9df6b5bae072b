"""playhead.testing.run: the user's own unit test, which cuts the input in every way."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

import playhead as ph
from playhead.errors import BadRecord, FunctionFailed

ROWS = [{"car": i % 3, "x": 0.1 * i} for i in range(1, 30)]


def pipeline(function, *, columns=None, topic=True, key="car", value=None, **options):
    app = ph.App("vehicles")
    points = app.topic("points", key=key, value=value or {"car": int, "x": float})
    to = [app.table("totals", key="car", columns=columns)]
    if topic:
        to.append(app.topic("out", key="car", value=columns))
    return app.pipeline(points, to=to, version="v1", **options)(function)


def total(points, state):
    return state.running_sum(points, total="x").select(ph.origin, "car", "total")


def plain(rows, of=lambda x: x):
    """The same sum in plain Python: every total, and the last one of each car."""
    sums, every = {}, []
    for row in rows:
        sums[row["car"]] = sums.get(row["car"], 0.0) + of(row["x"])
        every.append({"car": row["car"], "total": sums[row["car"]]})
    return every, [{"car": car, "total": sums[car]} for car in sorted(sums)]


def test_it_returns_a_tables_rows_and_a_topics_values():
    every, last = plain(ROWS)
    assert ph.testing.run(pipeline(total), ROWS) == {"out": every, "totals": last}


@pytest.mark.parametrize("cuts", [(None,), (1,), (2, 3, 5), (1, 7, None), (100,)])
def test_any_cuts_give_one_result(cuts):
    assert ph.testing.run(pipeline(total), ROWS, cuts)["totals"] == plain(ROWS)[1]


def test_a_version_may_be_tried_instead_of_the_first_one():
    made = pipeline(total)

    @made.version("half")
    def half(points, state):
        return total(points.with_columns(pl.col("x") * 0.5), state)

    assert ph.testing.run(half, ROWS)["totals"] == plain(ROWS, lambda x: x * 0.5)[1]
    assert ph.testing.run(made, ROWS)["totals"] == plain(ROWS)[1]


def divides_by_a_constant(points, state):
    return points.with_columns(y=pl.col("x") / 1609.344)


def means_over_the_batch(points, state):
    return points.with_columns(y=pl.col("x").mean())


def numbers_the_rows(points, state):
    return points.with_row_index("y").with_columns(pl.col("y").cast(pl.Int64))


def drops_the_last(points, state):
    return points.head(max(0, len(points) - 1))


REMEMBERED = []


def remembers_by_itself(points, state):
    REMEMBERED.extend(points["x"])
    return points.with_columns(y=pl.lit(float(len(REMEMBERED))))


@pytest.mark.parametrize(
    "function",
    [
        divides_by_a_constant,
        means_over_the_batch,
        numbers_the_rows,
        drops_the_last,
        remembers_by_itself,
    ],
)
def test_a_function_that_depends_on_where_batches_end_is_caught(function):
    with pytest.raises(AssertionError) as e:
        ph.testing.run(pipeline(function), ROWS)
    assert str(e.value).startswith(("out", "totals"))
    assert "batches of 1 give" in str(e.value)


def test_the_same_arithmetic_by_multiplication_passes():
    def multiplies(points, state):
        return points.with_columns(y=pl.col("x") * (1 / 1609.344))

    assert len(ph.testing.run(pipeline(multiplies), ROWS)["out"]) == len(ROWS)


def test_rows_one_at_a_time():
    def count(row, state):
        state["n"] = state.get("n", 0) + 1
        return {"car": row["car"], "n": state["n"]}

    made = pipeline(count, columns={"car": int, "n": int}, topic=False, per="row")
    assert ph.testing.run(made, ROWS) == {
        "totals": [{"car": 0, "n": 9}, {"car": 1, "n": 10}, {"car": 2, "n": 10}]
    }


def test_no_rows_at_all():
    assert ph.testing.run(pipeline(total), []) == {"out": [], "totals": []}


def test_values_of_every_type_come_in_as_python_has_them():
    value = {"car": str, "t": datetime, "d": date, "b": bytes, "n": int | None}

    def same(points, state):
        return points

    row = {
        "car": "a",
        "t": datetime(2026, 11, 1, tzinfo=UTC),
        "d": date(2026, 11, 1),
        "b": b"\xff",
        "n": None,
    }
    made = pipeline(same, value=value, columns=value, topic=False)
    assert ph.testing.run(made, [row]) == {"totals": [row]}


@pytest.mark.parametrize("key", ["car", ["car", "x"], None], ids=str)
@pytest.mark.parametrize(
    "bad",
    [{"car": 1}, {"x": 1.0}, {"car": None, "x": 1.0}, {"car": "a", "x": 1.0}, {"car": 1.5, "x": 1}],
    ids=str,
)
def test_a_row_that_is_not_what_is_declared_is_named_by_its_offset(bad, key):
    def same(points, state):
        return points

    value = {"car": int, "x": float} if key != ["car", "x"] else {"car": int, "x": int}
    rows = [{"car": 1, "x": 1}, {"car": 2, "x": 2}, bad]
    with pytest.raises(BadRecord) as e:
        ph.testing.run(pipeline(same, key=key, value=value, topic=False), rows)
    assert e.value.where == "points[0]@2"


def test_what_the_function_raises_is_what_is_raised():
    def broken(points, state):
        if points["x"].sum() > 5:
            raise ValueError("too far")
        return points

    with pytest.raises(FunctionFailed, match="too far"):
        ph.testing.run(pipeline(broken), ROWS)
