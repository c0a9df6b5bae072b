"""Text cells to values of declared types, and types found in text."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from playhead.core.cells import cell, inferred
from playhead.core.schema import Column, schema_of

NAIVE = datetime(2026, 11, 1, tzinfo=UTC).replace(tzinfo=None)


def column(annotation):
    return schema_of({"x": annotation}, "")[0]


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (int, "1", 1),
        (int, " -1 ", -1),
        (int, "+5", 5),
        (int, "007", 7),
        (int, str(2**63 - 1), 2**63 - 1),
        (float, "1", 1.0),
        (float, " 1.5e3", 1500.0),
        (float, ".5", 0.5),
        (bool, "true", True),
        (bool, "FALSE", False),
        (bool, "1", True),
        (bool, "0", False),
        (str, "", ""),
        (str, " a ", " a "),
        (str, "é", "é"),
        (date, "2026-11-01", date(2026, 11, 1)),
        (datetime, "2026-11-01", NAIVE),
        (datetime, "2026-11-01 10:00", NAIVE.replace(hour=10)),
        (datetime, "2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        (
            datetime,
            "2026-11-01T10:00:00+02:00",
            datetime(2026, 11, 1, 10, tzinfo=timezone(timedelta(hours=2))),
        ),
        (list[int], "[1, 2]", [1, 2]),
        (list[int | None], "[null]", [None]),
        ({"a": int}, '{"a": 1}', {"a": 1}),
        (int | None, "", None),
        (str | None, "", None),
        (float | None, "1", 1.0),
        (list[int] | None, "", None),
    ],
)
def test_what_a_cell_holds(annotation, text, value):
    found = cell(column(annotation), text)
    assert found == value
    assert type(found) is type(value)


NOT_CELLS = [
    (int, ["", "x", "1.0", "1e3", "1_000", "0x1", "--1", "1 2", str(2**63), str(-(2**63) - 1)]),
    (float, ["", "x", "nan", "inf", "-Infinity", "1e400", "1_0", "1,5"]),
    (bool, ["", "yes", "2", "t"]),
    (date, ["", "1/2/2026", "2026-02-30", "x"]),
    (datetime, ["", "1/2/2026 10:00", "noon"]),
    (list[int], ["", "[", "5", "{}", '["x"]', "[1.5]", "[null]", "[1e400]", "[" * 100_000]),
    ({"a": int}, ["", '{"a": "s"}', "{}", "[1]", "5"]),
    (int | None, ["x", "null"]),
]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        pytest.param(annotation, text, id=f"{column(annotation).typed()} {text[:12]!r}")
        for annotation, texts in NOT_CELLS
        for text in texts
    ],
)
def test_a_cell_of_another_type_is_told(annotation, text):
    with pytest.raises(ValueError, match=r"^x is ") as e:
        cell(column(annotation), text)
    assert str(e.value).endswith(f"not {column(annotation).typed()}")
    assert len(str(e.value)) < 120


@pytest.mark.parametrize(
    ("texts", "typed"),
    [
        (["1", "-2", " 3"], "int"),
        (["1", "2.5"], "float"),
        (["1e5", ".5"], "float"),
        (["1", "a"], "str"),
        (["a", "1"], "str"),
        (["1", ""], "int | None"),
        (["", "1.5"], "float | None"),
        (["", "a"], "str"),  # an empty cell of text is empty text
        (["nan"], "str"),
        (["1e400"], "str"),
        (["true"], "str"),
        (["2026-11-01"], "str"),
        ([str(2**63 - 1)], "int"),
        ([str(2**64), "1"], "str"),  # a float would lose its last digits
        (["1_000"], "str"),
    ],
    ids=str,
)
def test_the_narrowest_type_that_fits_every_cell(texts, typed):
    found = inferred("x", texts)
    assert (found.name, found.typed()) == ("x", typed)
    for text in texts:
        cell(found, text)


def test_cells_are_read_once():
    found = inferred("x", iter(["1", "2", ""]))
    assert found == Column("x", column(int).kind, nullable=True)
