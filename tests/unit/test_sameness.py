"""Which difference of two passes is the first, and which is none."""

from __future__ import annotations

import polars as pl
import pytest

from playhead.core.sameness import alike, first_unlike

KEYS = {"table/t": ("car",)}


def topic(*rows: tuple[int, bytes | None]) -> dict[str, pl.DataFrame]:
    frame = pl.DataFrame(
        [(0, offset, 0, b"k", value) for offset, value in rows],
        schema=["_partition", "_offset", "to", "key", "value"],
        orient="row",
    )
    return {"topic/out": frame}


def table(*rows: tuple[int, object]) -> dict[str, pl.DataFrame]:
    rows_of = [(car, x, 0, car) for car, x in rows]
    names = ["car", "x", "_partition", "_offset"]
    return {"table/t": pl.DataFrame(rows_of, schema=names, orient="row")}


def test_a_published_value_is_compared_column_by_column() -> None:
    one = topic((4, b'{"a":1,"b":2.0}'), (7, b'{"a":1,"b":3.0}'))
    two = topic((4, b'{"a":1,"b":2.0}'), (7, b'{"a":1,"b":4.0}'))
    found = first_unlike(one, two, KEYS, 0.0)
    assert found is not None
    assert (found.output, found.partition, found.offset) == ("topic/out", 0, 7)
    assert (found.column, found.values, found.close) == ("b", (3.0, 4.0), False)
    assert first_unlike(one, one, KEYS, 0.0) is None


def test_a_row_that_only_one_has_is_the_difference() -> None:
    found = first_unlike(topic((4, b"{}"), (7, b"{}")), topic((7, b"{}")), KEYS, 0.0)
    assert found is not None
    assert (found.offset, found.column, found.values[1]) == (4, None, None)
    found = first_unlike(topic((4, b"{}")), topic((4, b"{}"), (4, b"{}")), KEYS, 0.0)
    assert found is not None
    assert (found.offset, found.values[0]) == (4, None)
    assert first_unlike({}, table((1, 2.0)), KEYS, 0.0) is not None


def test_a_tombstone_is_not_a_value() -> None:
    found = first_unlike(topic((4, None)), topic((4, b'{"a":1}')), KEYS, 1.0)
    assert found is not None
    assert found.column == "_tombstone"


def test_tables_are_compared_by_key_and_topics_come_first() -> None:
    one, two = table((1, 1.0), (2, 2.0)), table((1, 1.0), (2, 2.0 + 1e-12))
    found = first_unlike(one, two, KEYS, 0.0)
    assert found is not None
    assert (found.key, found.offset, found.column, found.close) == ({"car": 2}, 2, "x", True)
    assert first_unlike(one, two, KEYS, 1e-9) is None
    both = first_unlike(topic((4, b"{}")) | one, topic((5, b"{}")) | two, KEYS, 0.0)
    assert both is not None
    assert both.output == "topic/out"


def test_state_has_a_partition_and_no_offset() -> None:
    one = {"state/3/sum.t": pl.DataFrame({"car": [1], "_t": [0.0]})}
    two = {"state/3/sum.t": pl.DataFrame({"car": [1], "_t": [-0.0]})}
    found = first_unlike(one, two, KEYS, 0.0)  # equal for polars, and not the same bits
    assert found is not None
    assert (found.partition, found.offset, found.key) == (3, None, {"car": 1})


@pytest.mark.parametrize(
    ("a", "b", "rtol", "same"),
    [
        (1.0, 1.0 + 1e-12, 0.0, False),
        (1.0, 1.0 + 1e-12, 1e-9, True),
        (1.0, 1.1, 1e-9, False),
        (1, 2, 1.0, False),
        (1.0, None, 1.0, False),
        ([1.0, {"a": 1.0}], [1.0, {"a": 1.0 + 1e-12}], 1e-9, True),
        ([1.0], [1.0, 1.0], 1e-9, False),
        ({"a": 1.0}, {"b": 1.0}, 1e-9, False),
        (float("nan"), float("nan"), 0.0, True),
    ],
)
def test_floats_alone_are_compared_within_a_tolerance(
    a: object, b: object, rtol: float, same: bool
) -> None:
    assert alike(a, b, rtol) is same
