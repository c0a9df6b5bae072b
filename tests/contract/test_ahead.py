"""What is read ahead of a hand-over gives what is read anew, whatever happened meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import polars as pl
import pytest

from playhead.core.scope import Scope
from playhead.ops import ahead as reading
from playhead.ops.ahead import Ahead
from playhead.ops.pairing import Stage, TablePair
from playhead.ports import Store, TableRow, VersionRow
from stores import World, Writer, a_version, started, table


def pairs_of(base: VersionRow, head: VersionRow) -> list[TablePair]:
    return [TablePair(Stage((base,), (head,)), base.tables[0], head.tables[0])]


def anew(store: Store, row: TableRow) -> pl.DataFrame:
    with store.catalog.moment() as moment:
        return pl.concat(moment.pieces(row, 3))


def later(store: Store, ahead: Ahead, row: TableRow) -> tuple[pl.DataFrame, bool]:
    """Return a table as it is now, and whether it was read as a whole."""
    with store.catalog.moment() as moment:
        now = ahead.at(moment)
        read_anew = now._whole(row) is None  # type: ignore[attr-defined]
        return pl.concat(now.pieces(row, 3)), read_anew


def nothing(_writer: Writer) -> None: ...


def goes_on(writer: Writer) -> None:
    writer.commit(writer.batch(0, (3, 9.5), (100, 1.5), (-1, 2.5)), writer.batch(1, (1005, 7.5)))
    writer.commit(writer.batch(0, (3, 9.75)))


def passes_records_without_rows(writer: Writer) -> None:
    writer.commit(writer.batch(0, records=5))


def a_row_goes(writer: Writer) -> None:
    writer.commit(writer.deletes(4))


def one_goes_and_another_comes(writer: Writer) -> None:
    writer.commit(writer.deletes(4))
    writer.commit(writer.batch(0, (55, 1.0)))


def one_goes_and_comes_again(writer: Writer) -> None:
    writer.commit(writer.deletes(4))
    writer.commit(writer.batch(0, (4, 1.25)))


def is_rewound(writer: Writer) -> None:
    writer.commit(writer.rewind(0, 2, (0, 5.5), (1, 6.5)))


def is_rewound_and_comes_back(writer: Writer) -> None:
    is_rewound(writer)
    writer.commit(writer.batch(0, *((i, 8.5) for i in range(20))))


def begins_a_partition(writer: Writer) -> None:
    other = Writer.start(writer.store, writer.version, 2)
    other.commit(other.batch(2, (2001, 1.0)))


@pytest.mark.parametrize(
    ("happens", "whole"),
    [
        (nothing, False),
        (goes_on, False),
        (passes_records_without_rows, False),
        (a_row_goes, True),
        (one_goes_and_another_comes, True),
        (one_goes_and_comes_again, False),
        (is_rewound, True),
        (is_rewound_and_comes_back, True),
        (begins_a_partition, True),
    ],
)
def test_whatever_happens_meanwhile(
    world: World, happens: Callable[[Writer], None], *, whole: bool
) -> None:
    store, other = world.open(), world.open()
    base, head = a_version("a", "live"), a_version("b")
    writer, idle = started(other, 0, 1, version=base), started(other, version=head)
    writer.commit(
        writer.batch(0, *((i, 0.5) for i in range(9))),
        writer.batch(1, *((1000 + i, 0.5) for i in range(7))),
    )
    idle.commit(idle.batch(0, (1, 0.5)))
    ahead = Ahead()
    with store.catalog.moment() as moment:
        ahead.read(moment, pairs_of(base, head))
    happens(writer)
    found, read_anew = later(store, ahead, base.tables[0])
    wanted = anew(store, base.tables[0])
    assert found.equals(wanted), (found, wanted)
    assert found.schema == wanted.schema
    assert read_anew == whole
    assert later(store, ahead, head.tables[0])[0].equals(anew(store, head.tables[0]))


def test_texts_come_in_the_order_that_the_store_has(world: World) -> None:
    store, other = world.open(), world.open()
    texts = ["", "a", "B", "b", "Z", "é", "e\u0301", "ß", "\uffff", "\U00010000", "aa", "a b", "-a"]
    row = table("a", {"k": str, "n": int, "v": float | None}, key=("k", "n"))
    version = a_version("a", "live", [row])
    writer = started(other, version=version)
    Random(1).shuffle(texts)
    writer.commit(writer.batch(0, *((t, n, 0.5) for t in texts[:7] for n in (2, 1))))
    ahead = Ahead()
    with store.catalog.moment() as moment:
        ahead.read(moment, pairs_of(version, version))
    writer.commit(writer.batch(0, *((t, n, 0.75) for t in texts[5:] for n in (1, 2))))
    found, read_anew = later(store, ahead, row)
    assert (found.equals(anew(store, row)), read_anew) == (True, False)


def test_what_is_not_read_ahead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    store = world.open()
    base, head = a_version("a", "live"), a_version("b")
    for version in (base, head):
        writer = started(store, version=version)
        writer.commit(writer.batch(0, (1, 0.5), (2, 0.5)))

    def ahead_of(one: VersionRow, two: VersionRow) -> set[str]:
        ahead = Ahead()
        with store.catalog.moment() as moment:
            ahead.read(moment, pairs_of(one, two))
        return set(ahead._read)

    assert ahead_of(base, head) == {"t__a", "t__b"}
    part = replace(head, scope=Scope("p@a", {0: 0}, {0: 1}))
    assert ahead_of(base, part) == {"t__a"}
    monkeypatch.setattr(reading, "ROWS_MAX", 3)
    assert ahead_of(base, head) == set(), "they would not fit the memory"


def test_rows_since_a_position_and_their_number(world: World) -> None:
    store = world.open()
    version = a_version("a", "live")
    (row,) = version.tables
    writer = started(store, 0, 1, version=version)
    writer.commit(
        writer.batch(0, *((i, 0.5) for i in range(5))),
        writer.batch(1, *((10 + i, 0.5) for i in range(4))),
    )

    def keys(positions: Any) -> list[int]:
        with store.catalog.moment() as moment:
            assert moment.count(row) == 9
            found = moment.since(row, positions)
        assert found.schema == store.catalog.rows(row).schema
        return sorted(found["k"])

    assert keys({0: 3, 1: 0}) == [3, 4, 10, 11, 12, 13]
    assert keys({1: 4}) == []
    assert keys({}) == []
