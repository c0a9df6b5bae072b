"""Base and head, key by key: classes, expectations, statistics, samples."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playhead.core.diff import SAMPLES, Comparing, Shape, Sides, compare
from playhead.core.distribution import DISTINCT_MAX, Tally
from playhead.core.merge import aligned
from playhead.core.schema import schema_of
from playhead.errors import DeclarationError, StoreFailed

COLUMNS = {"track_id": int, "distance": float, "name": str | None, "n": int | None}
FAR = {0: 1000, 1: 1000}


def table(rows, columns=COLUMNS, partition=0):
    """A table from (track_id, distance, …): offsets are 100 + position."""
    schema = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "bool": pl.Boolean}
    dtypes = {c.name: schema[c.kind.name] for c in schema_of(columns, "")}
    full = [(*row, *[None] * (len(dtypes) - len(row))) for row in rows]
    frame = pl.DataFrame(full, schema=dtypes, orient="row")
    return frame.with_columns(
        pl.lit(partition, dtype=pl.Int32).alias("_partition"),
        pl.int_range(100, 100 + len(rows), dtype=pl.Int64).alias("_offset"),
    )


def diff(base, head, *expect, rtol=0.0, bound=None, columns=COLUMNS, key=("track_id",)):
    schema = schema_of(columns, "")
    if not isinstance(base, pl.DataFrame):
        base, head = table(base, columns), table(head, columns)
    return compare(Sides(base, head, key, schema, schema, bound or FAR), expect, rtol)


def classes(found):
    return found.same, found.changed, found.ghost, found.new


BASE = [(1, 1.0, "a"), (2, 2.0, "b"), (3, 3.0, "c")]


# --- classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (BASE, (3, 0, 0, 0)),
        ([(1, 1.0, "a"), (2, 2.5, "b"), (3, 3.0, "x")], (1, 2, 0, 0)),
        (BASE[:2], (2, 0, 1, 0)),
        ([*BASE, (4, 4.0, "d")], (3, 0, 0, 1)),
        ([(9, 1.0, "a")], (0, 0, 3, 1)),
        ([], (0, 0, 3, 0)),
        ([(1, 1.0, None), *BASE[1:]], (2, 1, 0, 0)),
        ([(1, 1.0 + 2**-52, "a"), *BASE[1:]], (2, 1, 0, 0)),
        ([BASE[2], BASE[0], BASE[1]], (3, 0, 0, 0)),
    ],
)
def test_every_key_is_in_one_class(head, expected):
    found = diff(BASE, head)
    assert classes(found) == expected
    assert found.unexplained == sum(expected[1:])
    assert (found.explained, found.in_flight, found.expectations) == (0, 0, ())


def test_two_nulls_are_equal_and_null_is_not_a_value():
    assert classes(diff([(1, 1.0, None, None)], [(1, 1.0, None, None)])) == (1, 0, 0, 0)
    assert classes(diff([(1, 1.0, None, None)], [(1, 1.0, "", 0)])) == (0, 1, 0, 0)


def test_a_key_of_several_columns():
    columns = {"a": int, "b": str, "v": float}
    base, head = [(1, "x", 1.0), (1, "y", 2.0)], [(1, "x", 1.5), (2, "y", 2.0)]
    found = diff(base, head, columns=columns, key=("a", "b"))
    assert classes(found) == (0, 1, 1, 1)
    assert found.unexplained_keys == [
        "changed [1, 'x'] v",
        "ghost [1, 'y'] v",
        "new [2, 'y'] v",
    ]


def test_a_column_that_only_head_has_is_not_a_difference_but_can_be_asked_about():
    wide = {**COLUMNS, "extra": int}
    sides = Sides(
        table(BASE),
        table([(1, 1.0, "a", None, 5), (2, 9.0, "b", None, 5)], wide),
        ("track_id",),
        schema_of(COLUMNS, ""),
        schema_of(wide, ""),
        FAR,
    )
    found = compare(sides, ["extra = 5"])
    assert classes(found) == (1, 1, 1, 0)
    assert (found.explained, found.unexplained) == (1, 1)


@pytest.mark.parametrize("name", ["base", "_class", "head"])
def test_a_column_may_have_a_name_that_the_comparison_uses_itself(name):
    columns = {"track_id": int, name: float}
    if name.startswith("_"):
        with pytest.raises(DeclarationError):
            schema_of(columns, "")
        return
    found = diff([(1, 1.0), (2, 2.0)], [(1, 1.0), (2, 3.0)], columns=columns)
    assert classes(found) == (1, 1, 0, 0)


@pytest.mark.parametrize(
    ("bound", "expected", "in_flight"),
    [
        ({0: 1000}, (1, 1, 0, 1), 0),
        ({0: 102}, (1, 1, 0, 0), 1),  # head's third row is at 102
        ({0: 101}, (1, 0, 0, 0), 2),
        ({0: 0}, (0, 0, 0, 0), 3),
        ({}, (0, 0, 0, 0), 3),
        ({1: 1000}, (0, 0, 0, 0), 3),
    ],
)
def test_rows_beyond_the_smaller_cursor_are_in_flight(bound, expected, in_flight):
    schema = schema_of(COLUMNS, "")
    head = table([(1, 1.0, "a"), (2, 5.0, "b"), (3, 3.0)])
    found = compare(Sides(table(BASE[:2]), head, ("track_id",), schema, schema, bound), ["n = 1"])
    assert (classes(found), found.in_flight) == (expected, in_flight)


def test_a_key_in_flight_on_one_side_is_not_compared():
    schema = schema_of(COLUMNS, "")
    base = table(BASE).with_columns(_offset=pl.Series([5, 6, 7]))
    head = table(BASE[1:]).with_columns(_offset=pl.Series([8, 7]))
    found = compare(Sides(base, head, ("track_id",), schema, schema, {0: 8}))
    assert (classes(found), found.in_flight) == ((1, 0, 1, 0), 1)


# --- floats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "head", "rtol", "same"),
    [
        (1.0, 1.0 + 1e-10, 0.0, False),
        (1.0, 1.0 + 1e-10, 1e-9, True),
        (1.0, 1.0 + 1e-8, 1e-9, False),
        (1e9, 1e9 + 0.5, 1e-9, True),
        (-1e9, -1e9 - 0.5, 1e-9, True),
        (0.0, 1e-300, 1e-9, False),
        (0.0, -0.0, 0.0, True),
    ],
)
def test_floats_are_equal_bit_for_bit_or_within_rtol(base, head, rtol, same):
    found = diff([(1, base)], [(1, head)], rtol=rtol)
    assert classes(found) == ((1, 0, 0, 0) if same else (0, 1, 0, 0))


@pytest.mark.parametrize("rtol", [0.0, 1e-9])
def test_null_differs_from_a_number_whatever_the_tolerance(rtol):
    columns = {"track_id": int, "distance": float | None}
    for base, head in (((1, None), (1, 0.0)), ((1, 0.0), (1, None))):
        assert diff([base], [head], rtol=rtol, columns=columns).changed == 1
    assert diff([(1, None)], [(1, None)], rtol=rtol, columns=columns).same == 1


def test_rtol_is_for_floats_only():
    assert diff([(1, 1.0, "a", 10**12)], [(1, 1.0, "a", 10**12 + 1)], rtol=1e-3).changed == 1


# --- expectations ------------------------------------------------------------------------------

MILES = [(1, 1.0, "a=b", 5), (2, 2.0, "it's", 6), (3, 0.0, "c", 7)]
KM = [(1, 1.609344, "a=b", 5), (2, 2 * 1.609344, "it's", 6), (3, 0.0, "c", 7)]


@pytest.mark.parametrize(
    ("expression", "explained"),
    [
        ("distance = base.distance * 1.609344", 2),
        ("  distance=base.distance*1.609344 ", 2),
        ("distance = base.distance * (1.609344 + 1e-12)", 2),  # within relative 1e-9
        ("distance = base.distance * 1.60934401", 0),
        ("distance = 1.609344", 1),
        ("distance == base.distance * 1.609344", 2),
        ("abs(distance - base.distance * 1.6) < 1e-6", 0),
        ("abs(distance - base.distance * 1.6) < 0.1", 2),
        ("distance > base.distance", 2),
        ("distance >= base.distance AND track_id = 1", 1),
        ("n = base.n", 2),
        ("n = 5", 1),
        ("n = base.n + 0", 2),
        ("name = 'a=b'", 1),
        ("name = 'it''s'", 1),
        ("name = 'a=b' AND n = 5", 1),
        ("name = 'select'", 0),
        ("name = 'x and y'", 0),
        ("name LIKE 'a%'", 1),
        ("n BETWEEN 5 AND 6", 2),
        ("n IN (5, 7)", 1),
        ("NOT n = 5", 1),
        ("TRUE", 2),
        ("1 = 2", 0),
        ("NULL = 1", 0),
        ("name IS NOT NULL", 2),
        (
            "distance = CASE WHEN name = 'a=b' THEN base.distance * 1.609344000000001 "
            "ELSE base.distance * 1.609344 END",
            2,
        ),
        ("distance = base.distance * 1.609344 OR n = 7", 2),
    ],
)
def test_what_an_expectation_explains(expression, explained):
    found = diff(MILES, KM, expression)
    assert classes(found) == (1, 2, 0, 0)
    assert (found.explained, found.unexplained) == (explained, 2 - explained)
    (expectation,) = found.expectations
    assert (expectation.explained, expectation.contradicted) == (explained, 2 - explained)
    assert expectation.holds >= explained


def test_a_tolerance_is_for_a_bare_assignment_and_other_expressions_are_exact():
    nearly = [(1, 1.609344 * (1 + 1e-12), "a=b", 5)]
    assert diff(MILES[:1], nearly, "distance = base.distance * 1.609344").unexplained == 0
    exact = "distance = base.distance * 1.609344 AND n = 5"
    assert diff(MILES[:1], nearly, exact).unexplained == 1


def test_the_whole_tutorial_in_one_expectation():
    base = [(i, 0.1 * i + i * i / 7) for i in range(1, 500)]
    head = [(i, (0.1 * i + i * i / 7) * 1609.344 / 1000) for i, _ in base]
    exact = sum(d * 1.609344 == h[1] for (_, d), h in zip(base, head, strict=True))
    assert 0 < exact < len(base), "or a plain comparison would do, and this proves nothing"
    assert diff(base, head, "distance = base.distance * 1.609344").unexplained == 0


def test_one_of_several_expectations_is_enough():
    found = diff(MILES, KM, "track_id = 1", "track_id = 2", "track_id = 3")
    assert (found.explained, found.unexplained) == (2, 0)
    assert [(e.explained, e.contradicted, e.holds) for e in found.expectations] == [
        (1, 1, 1),
        (1, 1, 1),
        (0, 2, 1),
    ]


@pytest.mark.parametrize(
    ("expression", "explained"),
    [
        ("distance IS NULL", 1),  # the ghost: head's side is null
        ("track_id IS NULL", 1),
        ("base.distance IS NULL", 1),  # the new one
        ("base.track_id IS NULL", 1),
        ("base.track_id = 1", 1),
        ("track_id = 4", 1),
        ("distance = base.distance", 0),  # null is not true
        ("distance <> base.distance", 0),
    ],
)
def test_ghosts_and_new_rows_are_asked_too_with_the_missing_side_null(expression, explained):
    found = diff([(1, 1.0), (2, 2.0)], [(2, 2.0), (4, 4.0)], expression)
    assert classes(found) == (1, 0, 1, 1)
    assert (found.explained, found.unexplained) == (explained, 2 - explained)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("distance = base.distanc * 2", "cannot be read"),
        ("speed = 1", "cannot be read"),
        ("speed > 1", "cannot be read"),
        ("distance = = 1", "cannot be read"),
        ("", "cannot be read"),
        ("distance +", "cannot be read"),
        ("base.distance * 2", "not true or false"),
        ("distance", "not true or false"),
        ("'text'", "not true or false"),
        ("n IN (SELECT 1)", "subqueries"),
        ("distance = (select max(distance) from base)", "subqueries"),
        ("name > 5", "cannot be read"),
        ("sum(distance) > 0", "more than one row"),
        ("distance > sum(base.distance)", "more than one row"),
        ("count(*) > 1", "more than one row"),
        ("distance = first(distance)", "more than one row"),
        ("row_number() OVER (ORDER BY n) = 1", "more than one row"),
    ],
)
def test_an_expectation_that_cannot_be_asked_is_named(expression, said):
    for base, head in ((MILES, KM), ([], [])):
        with pytest.raises(DeclarationError) as e:
            diff(base, head, expression)
        assert repr(expression) in str(e.value)
        assert said in str(e.value)
        assert "\n\n" not in str(e.value)
    if said == "cannot be read":
        assert "track_id, distance, name, n" in e.value.cure


# --- statistics and samples --------------------------------------------------------------------


def test_ratios_are_those_of_head_to_base_over_changed_rows():
    base = [(i, 1.0 if i else 0.0, "a", 1) for i in range(6)]
    factors = [9.0, 2.0, 2.0, 2.0, 4.0, 1.0]
    head = [(i, factors[i], "b" if i == 5 else "a", 1) for i in range(6)]
    columns = diff(base, head).columns
    distance = columns["distance"]
    assert (distance["changed"], distance["compared"], distance["share"]) == (5, 6, 5 / 6)
    ratio = distance["ratio"]
    assert (ratio["min"], ratio["median"], ratio["max"], ratio["rows"]) == (2.0, 2.0, 4.0, 4)
    assert ratio["most_common"] == [{"ratio": 2.0, "rows": 3}, {"ratio": 4.0, "rows": 1}]
    assert columns["name"] == {"changed": 1, "compared": 6, "share": 1 / 6}
    assert columns["n"] == {"changed": 0, "compared": 6, "share": 0.0}
    assert "track_id" not in columns


def test_rows_of_one_side_only_have_no_ratio():
    columns = diff([(1, 1.0)], [(2, 2.0)]).columns
    assert columns["distance"] == {"changed": 0, "compared": 0, "share": None}


def test_ratios_that_are_equally_common_are_told_in_a_stable_order():
    base = [(i, 1.0) for i in range(40)]
    head = [(i, 2.0 + i) for i in range(40)]
    told = [diff(base, head).columns["distance"]["ratio"]["most_common"] for _ in range(10)]
    assert [t for t in told if t != told[0]] == []


def test_samples_show_unexplained_rows_first_with_the_offsets_they_come_from():
    base = table([(1, 1.0), (2, 2.0), (3, 3.0), (5, 5.0)], partition=1)
    head = table([(1, 9.0), (2, 4.0), (4, 4.0), (5, 5.0)], partition=1)
    found = diff(base, head, "distance = base.distance * 2")
    assert [(s["class"], s["key"], s["explained"]) for s in found.samples] == [
        ("changed", [1], False),
        ("ghost", [3], False),
        ("new", [4], False),
        ("changed", [2], True),
    ]
    changed, ghost, new, _ = found.samples
    assert (changed["base"]["distance"], changed["head"]["distance"]) == (1.0, 9.0)
    assert (changed["base_offset"], changed["head_offset"], changed["partition"]) == (100, 100, 1)
    assert (ghost["head"], ghost["base_offset"], ghost["head_offset"]) == (None, 102, None)
    assert (new["base"], new["head_offset"], new["partition"]) == (None, 102, 1)
    assert list(new["head"]) == list(COLUMNS)


def test_there_are_at_most_so_many_samples_and_all_unexplained_keys():
    n = 3 * SAMPLES
    found = diff([(i, 1.0) for i in range(n)], [(i, 2.0) for i in range(n)])
    assert len(found.samples) == SAMPLES
    assert len(found.unexplained_keys) == n == found.unexplained
    assert found.unexplained_keys[0] == "changed [0] distance"


def test_unexplained_keys_name_the_columns_that_differ():
    found = diff([(1, 1.0, "a", 1)], [(1, 2.0, "b", 1)])
    assert found.unexplained_keys == ["changed [1] distance,name"]


def test_keys_of_other_types():
    columns = {"day": str, "ok": bool, "v": float}
    found = diff([("x'", True, 1.0)], [("x'", False, 1.0)], columns=columns, key=("day", "ok"))
    assert classes(found) == (0, 0, 1, 1)
    dates = pl.DataFrame({"d": [date(2026, 1, 1)], "v": [1.0]}).with_columns(
        _partition=pl.lit(0, dtype=pl.Int32), _offset=pl.lit(1, dtype=pl.Int64)
    )
    schema = schema_of({"d": date, "v": float}, "")
    assert compare(Sides(dates, dates, ("d",), schema, schema, FAR)).same == 1


def test_a_spike_says_which_unit_it_may_be():
    base = [(i, 0.5 + i) for i in range(20)]
    cases = {
        "mile → kilometre": lambda v: v * 1.609344,
        "kilometre → mile": lambda v: v / 1.609344,
        "minute → second": lambda v: v * 60,
        "counted twice": lambda v: v * 2,
        "°F → °C": lambda v: (v - 32) * 5 / 9,
        "°C → °F": lambda v: v * 9 / 5 + 32,
    }
    for name, of in cases.items():
        units = diff(base, [(k, of(v)) for k, v in base]).columns["distance"]["units"]
        assert (units[0]["name"], units[0]["rows"]) == (name, 20)
    odd = diff(base, [(k, v * 1.7 + k) for k, v in base]).columns["distance"]
    assert "units" not in odd


def test_differences_and_the_largest_changes_say_where_to_look():
    base = [(i, 10.0) for i in range(30)]
    head = [(i, 10.0 + i * (-1) ** i) for i in range(30)]
    distance = diff(base, head).columns["distance"]
    assert (distance["difference"]["min"], distance["difference"]["max"]) == (-29.0, 28.0)
    assert [r["key"] for r in distance["largest"][:3]] == [[29], [28], [27]]
    worst = distance["largest"][0]
    assert (worst["base"], worst["head"], worst["difference"], worst["ratio"]) == (
        10.0,
        -19.0,
        -29.0,
        -1.9,
    )
    assert (worst["partition"], worst["base_offset"], worst["head_offset"]) == (0, 129, 129)
    assert sum(distance["difference"]["histogram"]["rows"]) == 29


def test_times_differ_by_seconds_and_dates_by_days():
    columns = {"track_id": int, "at": datetime, "day": date}
    schema = schema_of(columns, "")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    dtypes = {"track_id": pl.Int64, "at": pl.Datetime("us", "UTC"), "day": pl.Date}
    origin = {"_partition": pl.Int32, "_offset": pl.Int64}
    rows = [(1, at, date(2026, 1, 1), 0, 1)]
    later = [(1, at + timedelta(hours=1), date(2026, 1, 3), 0, 1)]
    base, head = (pl.DataFrame(r, {**dtypes, **origin}, orient="row") for r in (rows, later))
    found = compare(Sides(base, head, ("track_id",), schema, schema, FAR)).columns
    assert found["at"]["difference"]["median"] == 3600.0
    assert found["at"]["difference"]["unit"] == "seconds"
    assert (found["day"]["difference"]["max"], found["day"]["difference"]["unit"]) == (2.0, "days")


def test_ghosts_and_new_keys_are_listed():
    found = diff([(i, 1.0) for i in range(40)], [(i, 1.0) for i in range(39, 42)])
    assert found.ghost_keys == [[i] for i in range(20)]
    assert found.new_keys == [[40], [41]]


def test_a_tally_keeps_what_is_common_however_much_there_is():
    tally = Tally()
    n = 3 * DISTINCT_MAX
    for begin in range(0, n, 50_000):
        some = pl.int_range(begin, min(n, begin + 50_000), eager=True).cast(pl.Float64)
        tally.add(1 + some / n)
        tally.add(pl.Series([1.609344] * 1000 + [None, float("inf")]))
    told = tally.content("ratio")
    assert len(tally._held) <= DISTINCT_MAX
    assert told["rows"] == n + 4000
    assert (told["min"], round(told["max"], 4)) == (1.0, 2.0)
    assert told["median"] == pytest.approx(1.51, abs=1e-3)
    assert told["most_common"][0]["ratio"] == pytest.approx(1.609344, rel=1e-3)
    assert told["most_common"][0]["rows"] >= 4000
    assert sum(told["histogram"]["rows"]) == told["rows"]


def test_numbers_over_decades_are_shown_by_their_logarithms():
    tally = Tally()
    tally.add(pl.Series([1e-3, 1.0, 1e6]))
    histogram = tally.content("ratio")["histogram"]
    assert histogram["scale"] == "log"
    assert histogram["edges"][-1] == pytest.approx(1e6)
    assert (histogram["rows"][0], histogram["rows"][-1]) == (1, 1)


def test_the_first_unexplained_keys_are_kept_and_a_last_line_counts_the_others():
    many = [(i, 1.0) for i in range(9)]
    whole = diff(many, [])
    schema = schema_of(COLUMNS, "")
    comparing = Comparing(Shape(("track_id",), schema, schema, FAR), keep=5)
    comparing.add(table(many), None)
    found = comparing.found()
    assert found.unexplained_keys == [*whole.unexplained_keys[:5], "and 4 more"]
    assert (found.unexplained, found.digest) == (9, whole.digest)


# --- laws --------------------------------------------------------------------------------------

some_rows = st.dictionaries(
    st.integers(0, 6),
    st.tuples(
        st.sampled_from([0.0, 1.0, 1.0 + 2**-52, -2.5]),
        st.none() | st.sampled_from(["", "a"]),
        st.none() | st.integers(0, 1),
        st.integers(0, 9),
    ),
    max_size=7,
)


def as_table(rows):
    frame = table([(key, *row[:3]) for key, row in rows.items()])
    offsets = pl.Series([row[3] for row in rows.values()], dtype=pl.Int64)
    return frame.with_columns(offsets.alias("_offset"))


@settings(max_examples=30, deadline=None)
@given(some_rows, some_rows, st.integers(0, 12))
def test_diff_of_a_and_b_mirrors_diff_of_b_and_a(a, b, bound):
    one = diff(as_table(a), as_table(b), bound={0: bound})
    two = diff(as_table(b), as_table(a), bound={0: bound})
    assert classes(one) == (two.same, two.changed, two.new, two.ghost)
    assert one.in_flight == two.in_flight
    for name in COLUMNS.keys() - {"track_id"}:
        assert one.columns[name]["changed"] == two.columns[name]["changed"]
    total = sum(classes(one)) + one.in_flight
    assert total == len(a.keys() | b.keys())
    expected = {k for k in a.keys() & b.keys() if max(a[k][3], b[k][3]) < bound}
    assert one.same == sum(a[k][:3] == b[k][:3] for k in expected)
    assert one.changed == len(expected) - one.same
    assert one.ghost == sum(a[k][3] < bound for k in a.keys() - b.keys())


@settings(max_examples=30, deadline=None)
@given(some_rows)
def test_diff_of_a_and_a_is_empty(a):
    found = diff(as_table(a), as_table(dict(reversed(a.items()))))
    assert classes(found) == (len(a), 0, 0, 0)
    assert (found.unexplained, list(found.samples), found.unexplained_keys) == (0, [], [])


@settings(max_examples=60, deadline=None)
@given(some_rows, some_rows, st.integers(0, 12), st.integers(1, 4), st.integers(1, 4))
def test_tables_in_pieces_differ_as_whole_ones_do(a, b, bound, one, two):
    schema = schema_of(COLUMNS, "")
    base, head = (as_table(rows).sort("track_id") for rows in (a, b))
    expectations = ["distance = base.distance", "track_id > 3", "base.n IS NULL"]
    whole = compare(
        Sides(base, head, ("track_id",), schema, schema, {0: bound}), expectations, 1e-12
    )
    comparing = Comparing(Shape(("track_id",), schema, schema, {0: bound}, 1e-12), expectations)
    pieces = aligned((iter(base.iter_slices(one)), iter(head.iter_slices(two))), ("track_id",))
    for pair in pieces:
        comparing.add(*pair)
    assert comparing.found() == whole


keys = st.tuples(st.text("aAé\uffff\U00010000", max_size=2), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.sets(keys, max_size=9), st.sets(keys, max_size=9), st.integers(1, 3), st.integers(1, 3))
def test_pieces_that_come_together_cover_the_same_keys(a, b, one, two):
    frames = [
        pl.DataFrame(sorted(rows), {"k": pl.String, "l": pl.Boolean}, orient="row")
        for rows in (a, b)
    ]
    assert frames[0].rows() == frames[0].sort("k", "l").rows(), "one order everywhere"
    sides = [iter(f.iter_slices(n)) for f, n in zip(frames, (one, two), strict=True)]
    before: list = []
    found: list = [[], []]
    for pair in aligned(sides, ("k", "l")):
        rows = [[] if piece is None else piece.rows() for piece in pair]
        assert all(row > other for side in rows for row in side for other in before)
        before += [*rows[0], *rows[1]]
        found = [had + more for had, more in zip(found, rows, strict=True)]
    assert found == [sorted(a), sorted(b)]


def test_rows_out_of_order_are_an_error_and_not_a_difference():
    pieces = [pl.DataFrame({"k": ["b"]}), pl.DataFrame({"k": ["a"]})]
    with pytest.raises(StoreFailed, match="out of the order"):
        list(aligned((iter(pieces), iter([])), ("k",)))
