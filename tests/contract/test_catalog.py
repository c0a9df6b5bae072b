"""The contract of the `Catalog` and `Journal` ports: every adapter."""

from __future__ import annotations

import os
import pwd
import threading
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from playhead.core.checkpoint import Cursor
from playhead.core.offsets import TopicPartition
from playhead.errors import CheckpointConflict, PlayheadError, Refused, StoreFailed
from playhead.ports import Moment, Pointer, Store, Swap, TableRow, VersionRow
from stores import (
    NO_SUCH_TABLE,
    ORIGIN,
    PLAIN,
    SOURCE,
    World,
    Writer,
    a_version,
    everything,
    promote,
    rows_of,
    started,
    table,
)

# ------------------------------------------------------------------------- catalog


def test_versions_come_back_as_recorded_in_order(store: Store) -> None:
    nested = table("z", columns={"k": int, "v": {"a": list[int | None], "b": datetime | None}})
    recorded = [
        a_version("z", "live", [nested, table("z", name="u")]),
        a_version("a"),
        a_version("m", tables=[table("m", name="w")], pipeline="other"),
    ]
    for version in recorded:
        store.catalog.record(version)
    assert store.catalog.versions() == recorded
    assert [v.name for v in recorded] == ["p@z", "p@a", "other@m"]


def test_recording_a_shadow_makes_its_tables_and_shows_nothing(world: World) -> None:
    store = world.open()
    store.catalog.record(a_version())
    assert rows_of(store, table()) == []
    assert store.catalog.pointer("p") is None
    with pytest.raises(NO_SUCH_TABLE):
        world.sql("SELECT * FROM t")


def test_recording_a_live_version_makes_pointer_and_views(world: World) -> None:
    store = world.open()
    writer = started(store, version=a_version(stage="live"))
    assert store.catalog.pointer("p") == Pointer("a", 1, None)
    writer.commit(writer.batch(0, (1, 1.5)))
    assert world.sql("SELECT * FROM t") == [(1, 1.5)]  # declared columns, nothing else


def wider(label: str, **more: Any) -> VersionRow:
    """Return a version whose table has the plain columns in another order, and more."""
    return a_version(label, tables=[table(label, columns={**more, "v": float | None, "k": int})])


def test_columns_that_versions_add_are_appended_and_null_where_live_lacks_them(
    world: World,
) -> None:
    store = world.open()
    first = started(store, version=a_version("a", "live"))
    late = started(store, version=wider("late", w=str | None))
    second = started(store, version=wider("b", x=int, z=float | None))
    first.commit(first.batch(0, (1, 1.5)))
    second.commit(second.batch(0, (7, None, 2.5, 1)))
    late.commit(late.batch(0, ("w", 3.5, 1)))
    assert world.sql("SELECT * FROM t") == [(1, 1.5)], "no version shows before it is live"
    promote(store, first.version, second.version)
    assert world.sql("SELECT k, v, x, z FROM t") == [(1, 2.5, 7, None)]
    assert world.sql("SELECT * FROM t") == world.sql("SELECT k, v, x, z FROM t")
    promote(store, second.version, first.version)
    assert world.sql("SELECT * FROM t") == [(1, 1.5, None, None)]
    store.catalog.change(replace(second.version, stage="shadow"))  # replayed anew, say
    promote(store, first.version, late.version)
    assert world.sql("SELECT * FROM t") == [(1, 3.5, None, None, "w")]
    store.catalog.change(replace(late.version, stage="live", fingerprint="new"))
    assert world.sql("SELECT * FROM t") == [(1, 3.5, None, None, "w")]


def test_a_table_that_the_catalog_does_not_know_is_refused(world: World) -> None:
    store = world.open()
    world.sql("CREATE TABLE u__a (mine INTEGER)")
    world.sql("INSERT INTO u__a VALUES (42)")
    before = everything(store)
    with pytest.raises(Refused, match="u__a"):
        store.catalog.record(a_version(stage="live", tables=[table(), table(name="u")]))
    assert everything(store) == before
    assert world.sql("SELECT * FROM u__a") == [(42,)]
    store.catalog.record(a_version())  # t__a was not left behind


@pytest.mark.parametrize("what", ["TABLE t AS SELECT 42", "VIEW t AS SELECT 42"])
def test_a_public_name_that_somebody_else_uses_is_refused(world: World, what: str) -> None:
    store = world.open()
    world.sql(f"CREATE {what}")
    with pytest.raises(Refused, match="t"):
        store.catalog.record(a_version(stage="live"))
    assert store.catalog.versions() == []
    assert world.sql("SELECT * FROM t") == [(42,)]


def test_a_public_name_of_another_pipeline_is_refused(world: World) -> None:
    """One pipeline writes a table; two pointers cannot both say what a view shows."""
    store = world.open()
    writer = started(store, version=a_version(stage="live"))
    writer.commit(writer.batch(0, (1, 1.0)))
    before = everything(store)
    with pytest.raises(Refused, match="t"):
        store.catalog.record(a_version("b", "live", pipeline="other"))
    assert everything(store) == before
    assert world.sql("SELECT * FROM t") == [(1, 1.0)]


def test_recording_a_version_twice_is_an_error_and_changes_nothing(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    before = everything(store)
    with pytest.raises(PlayheadError):
        store.catalog.record(a_version())
    assert everything(store) == before


def test_changing_what_is_recorded_keeps_tables_that_stay(store: Store) -> None:
    writer = started(store)
    store.catalog.record(a_version("b"))
    writer.commit(writer.batch(0, (1, 1.0)))
    changed = replace(writer.version, fingerprint="new", environment={}, stage="retired")
    store.catalog.change(changed)
    assert store.catalog.versions() == [changed, a_version("b")]
    assert rows_of(store, table()) == [(1, 1.0, 0, 0)]


@pytest.mark.parametrize(
    "changed",
    [
        table(columns={"k": int, "v": float | None, "w": str | None}),
        table(columns={"k": int, "v": int}),
        table(columns=PLAIN | {"j": int}, key=("k", "j")),
    ],
    ids=["column added", "type changed", "key changed"],
)
def test_a_table_whose_columns_changed_is_made_anew(store: Store, changed: TableRow) -> None:
    writer = started(store)
    other = started(store, version=a_version("b"))
    writer.commit(writer.batch(0, (1, 1.0)))
    other.commit(other.batch(0, (2, 2.0)))
    changes = store.catalog.changes()
    version = replace(writer.version, tables=(changed,))
    store.catalog.change(version)
    assert store.catalog.versions()[0] == version
    assert store.catalog.rows(changed).rows() == []
    assert store.catalog.rows(changed).columns == [*(c.name for c in changed.schema), *ORIGIN]
    assert rows_of(store, other.version.tables[0]) == [(2, 2.0, 0, 0)]
    assert store.catalog.changes() > changes, "the mirror would show the old rows for ever"


def test_a_live_table_that_is_made_anew_is_shown_anew(world: World) -> None:
    store = world.open()
    writer = started(store, version=a_version(stage="live"))
    writer.commit(writer.batch(0, (1, 1.0)))
    changed = table(columns={"v": str | None, "k": int})
    store.catalog.change(replace(writer.version, tables=(changed,)))
    assert world.sql("SELECT k, v FROM t") == []
    again = Writer.start(store, replace(writer.version, tables=(changed,)), 0)
    again.commit(again.batch(0, ("text", 1)))
    assert world.sql("SELECT k, v FROM t") == [(1, "text")]


def test_tables_may_be_added_and_dropped_by_a_change(store: Store) -> None:
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    added = table(name="u")
    store.catalog.change(replace(writer.version, tables=(*writer.version.tables, added)))
    assert store.catalog.rows(added).rows() == []
    assert rows_of(store, table()) == [(1, 1.0, 0, 0)]
    store.catalog.change(replace(writer.version, tables=(added,)))
    with pytest.raises(StoreFailed):
        store.catalog.rows(table())


def test_a_change_is_refused_where_an_unknown_table_is_in_its_way(world: World) -> None:
    store = world.open()
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    world.sql("CREATE TABLE u__a (mine INTEGER)")
    before = everything(store)
    with pytest.raises(Refused, match="u__a"):
        store.catalog.change(replace(writer.version, tables=(table(name="u"),)))
    assert everything(store) == before


def test_pointers_are_per_pipeline(store: Store) -> None:
    store.catalog.record(a_version(stage="live"))
    assert store.catalog.pointer("other") is None
    store.catalog.record(a_version("x", "live", [table("x", name="u")], pipeline="other"))
    assert store.catalog.pointer("other") == Pointer("x", 1, None)
    assert store.catalog.pointer("p") == Pointer("a", 1, None)


@pytest.fixture
def pair(store: Store) -> tuple[Writer, Writer]:
    """A live version a and a shadow b, on two partitions each, with a row each."""
    base = started(store, 0, 1, version=a_version("a", "live"))
    head = started(store, 0, 1, version=a_version("b"))
    base.commit(base.batch(0, (1, 1.0)))
    head.commit(head.batch(0, (1, 2.0)))
    return base, head


def test_a_swap_makes_head_live(world: World, store: Store, pair: tuple[Writer, Writer]) -> None:
    base, head = pair
    changes = store.catalog.changes()
    assert promote(store, base.version, head.version) == 2
    assert store.catalog.pointer("p") == Pointer("b", 2, "a")
    assert [(v.label, v.stage) for v in store.catalog.versions()] == [
        ("a", "retired"),
        ("b", "live"),
    ]
    assert world.sql("SELECT * FROM t") == [(1, 2.0)]
    assert world.audit() == [("promoted", "p@b")]
    assert store.catalog.changes() > changes
    assert rows_of(store, base.version.tables[0]) == [(1, 1.0, 0, 0)]
    assert promote(store, head.version, base.version) == 3
    assert store.catalog.pointer("p") == Pointer("a", 3, "b")
    assert world.sql("SELECT * FROM t") == [(1, 1.0)]


def test_a_swap_shows_the_columns_of_head(world: World, store: Store) -> None:
    wider = table("b", columns={"k": int, "v": float | None, "w": str | None})
    base = started(store, version=a_version("a", "live"))
    head = started(store, version=a_version("b", tables=[wider, table("b", name="u")]))
    promote(store, base.version, head.version)
    assert world.sql("SELECT k, v, w FROM t") == []
    assert world.sql("SELECT k, v FROM u") == []


ONE, TWO = Cursor(1, 1, 1), Cursor(0, 1, 0)
HELD = {f"part/p@{label}/{SOURCE}/{p}": 1 for label in "ab" for p in (0, 1)}


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 0},
        {"epoch": 2},
        {"base": a_version("c")},
        {"base": a_version("b")},
        {"leases": {**HELD, f"part/p@a/{SOURCE}/1": 2}},
        {"leases": {**HELD, f"part/p@b/{SOURCE}/0": 0}},
        {"leases": {**HELD, "part/never": 1}},
        {"cursors": {"p@a": {0: TWO, 1: TWO}, "p@b": {0: ONE, 1: TWO}}},
        {"cursors": {"p@a": {0: ONE, 1: TWO}, "p@b": {0: Cursor(1, 2, 1), 1: TWO}}},
        {"cursors": {"p@a": {0: ONE, 1: TWO}, "p@b": {0: Cursor(1, 1, 2), 1: TWO}}},
        {"cursors": {"p@a": {0: ONE}, "p@b": {0: ONE, 1: TWO}}},
        {"cursors": {"p@a": {0: ONE, 1: TWO, 2: TWO}, "p@b": {0: ONE, 1: TWO}}},
        {"cursors": {"p@c": {0: ONE}}},
    ],
    ids=[
        "pointer behind", "pointer ahead", "another is live", "head is base", "lease of base",
        "lease of head", "lease never taken", "cursor of base", "generation of head",
        "batch of head", "a partition too few", "a partition too many", "unknown version",
    ],
)  # fmt: skip
def test_a_swap_that_is_out_of_date_changes_nothing(
    world: World, store: Store, pair: tuple[Writer, Writer], changed: dict[str, Any]
) -> None:
    base, head = pair
    before = everything(store), world.audit(), world.sql("SELECT * FROM t")
    with pytest.raises(CheckpointConflict):
        promote(store, base.version, head.version, **changed)
    assert (everything(store), world.audit(), world.sql("SELECT * FROM t")) == before
    assert promote(store, base.version, head.version) == 2


def test_a_version_is_forgotten_with_everything_but_the_audit(
    world: World, store: Store, pair: tuple[Writer, Writer]
) -> None:
    base, head = pair
    third = started(store, version=a_version("c"))
    third.commit(third.batch(0, (1, 3.0)))
    store.history.skip("p@c", TopicPartition(SOURCE, 0), 7, "a reason")
    promote(store, base.version, head.version)
    before = world.sql("SELECT * FROM t"), rows_of(store, base.version.tables[0])
    for needed in (base.version, head.version):
        with pytest.raises(Refused):
            store.catalog.forget(needed, {})
    changes = store.catalog.changes()
    store.catalog.forget(third.version, {"why": "test"})
    assert store.catalog.changes() > changes
    assert [v.name for v in store.catalog.versions()] == ["p@a", "p@b"]
    assert store.ledger.standings("p@c") == {}
    assert store.ledger.generations("p@c") == {}
    assert store.history.saved("p@c", 0) == []
    assert store.history.skips("p@c") == {}
    assert world.sql("SELECT name FROM playhead__lease WHERE name LIKE '%p@c%'") == []
    with pytest.raises(NO_SUCH_TABLE):
        world.sql("SELECT * FROM t__c")
    assert (world.sql("SELECT * FROM t"), rows_of(store, base.version.tables[0])) == before
    assert ("clean", "p@c") in world.audit()
    assert rows_of(started(store, version=a_version("c")).store, third.version.tables[0]) == []


def test_several_pointers_are_swapped_together_or_not_at_all(
    world: World, store: Store, pair: tuple[Writer, Writer]
) -> None:
    base, head = pair
    others = [a_version(label, stage, [table(label, name="u")], pipeline="other")
              for label, stage in (("a", "live"), ("b", "shadow"))]  # fmt: skip
    for version in others:
        store.catalog.record(version)
    one = Swap(base.version, head.version, 1, {}, {}, {"why": "test"})
    two = Swap(*others, 1, {}, {}, {"why": "test"})
    before = everything(store), world.audit(), world.sql("SELECT * FROM t")
    for wrong in (
        replace(two, epoch=2),
        replace(two, leases={"part/never": 1}),
        replace(two, cursors={"p@a": {}}),
    ):
        for swaps in ((one, wrong), (wrong, one)):
            with pytest.raises(CheckpointConflict):
                store.catalog.swap(*swaps)
    assert (everything(store), world.audit(), world.sql("SELECT * FROM t")) == before
    assert store.catalog.swap(one, two) == [2, 2]
    assert [v.stage for v in store.catalog.versions()] == ["retired", "live", "retired", "live"]
    assert store.catalog.pointer("other") == Pointer("b", 2, "a")
    assert world.audit() == [("promoted", "p@b"), ("promoted", "other@b")]


def test_of_two_promotions_one_comes_first(store: Store, pair: tuple[Writer, Writer]) -> None:
    base, head = pair
    store.catalog.record(a_version("c"))
    promote(store, base.version, head.version)
    with pytest.raises(CheckpointConflict):
        promote(store, base.version, a_version("c"), epoch=1)
    assert store.catalog.pointer("p") == Pointer("b", 2, "a")


def test_a_polling_reader_sees_each_swap_whole(
    world: World, store: Store, pair: tuple[Writer, Writer]
) -> None:
    versions = [writer.version for writer in pair]
    for writer, value in zip(pair, (1.0, 2.0), strict=True):
        writer.commit(writer.batch(0, *((k, value) for k in range(20))))
    seen: list[frozenset[float]] = []
    errors: list[Exception] = []
    over = threading.Event()

    def poll() -> None:
        try:
            while not over.is_set():
                rows = world.sql("SELECT v FROM t")
                seen.append(frozenset(v for (v,) in rows))
                assert len(rows) == 20
        except Exception as error:  # noqa: BLE001  the test fails on it below
            errors.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for i in range(100):
            promote(store, versions[i % 2], versions[1 - i % 2])
    finally:
        over.set()
        thread.join()
    assert errors == []
    assert set(seen) == {frozenset({1.0}), frozenset({2.0})}
    pointer = store.catalog.pointer("p")
    assert pointer is not None
    assert pointer.epoch == 101


def test_a_cut_names_versions_cursors_and_rows(store: Store, pair: tuple[Writer, Writer]) -> None:
    cut = store.catalog.cut()
    assert cut.changes == store.catalog.changes()
    assert cut.versions == store.catalog.versions()
    assert cut.cursors == {"p@a": {0: ONE, 1: TWO}, "p@b": {0: ONE, 1: TWO}}
    assert {name: rows.rows() for name, rows in cut.rows.items()} == {
        "t__a": [(1, 1.0, 0, 0)],
        "t__b": [(1, 2.0, 0, 0)],
    }
    assert cut.since == {}
    assert {name: stand.cursors for name, stand in cut.stands.items()} == {
        "t__a": {0: ONE, 1: TWO},
        "t__b": {0: ONE, 1: TWO},
    }


def test_a_cut_of_an_empty_store(store: Store) -> None:
    cut = store.catalog.cut()
    assert (list(cut.versions), dict(cut.cursors), dict(cut.rows)) == ([], {}, {})


def test_each_change_of_results_or_pointers_raises_the_counter(store: Store) -> None:
    seen = [store.catalog.changes()]

    def grown() -> bool:
        seen.append(store.catalog.changes())
        return seen[-1] > seen[-2]

    base = started(store, version=a_version("a", "live"))
    assert grown()
    head = started(store, version=a_version("b"))
    assert grown()
    base.commit(base.batch(0, (1, 1.0)))
    assert grown()
    base.commit(base.batch(0, (1, 1.5)))
    assert grown()
    base.commit(base.rewind(0, 0, (1, 1.0)))
    assert grown()
    promote(store, base.version, head.version)
    assert grown()


def test_reading_does_not_raise_the_counter(store: Store, pair: tuple[Writer, Writer]) -> None:
    assert sum(w.cursors[0].next for w in pair) == 2
    before = store.catalog.changes()
    everything(store)
    store.ledger.take(["mirror"], "")
    assert store.catalog.changes() == before


def test_a_diff_is_kept_under_its_digest(world: World) -> None:
    store = world.open()
    assert store.journal.diff("abc") is None
    store.journal.save_diff("abc", b"\0content")
    store.journal.save_diff("def", b"")
    store.journal.save_diff("abc", b"\0content")  # the same diff, taken again
    assert world.open().journal.diff("abc") == b"\0content"
    assert store.journal.diff("def") == b""


def test_runs_come_oldest_first_with_intent_and_result(store: Store) -> None:
    ids = [
        store.journal.begin_run("replay", f"p@{i}", {"bound": {"0": i}, "t": None})
        for i in range(20)
    ]
    assert len(set(ids)) == 20
    store.journal.finish_run(ids[3], {"records": 7})
    store.journal.finish_run(ids[4], {})
    runs = store.journal.runs()
    assert [run.id for run in runs] == ids
    assert [run.subject for run in runs] == [f"p@{i}" for i in range(20)]
    assert runs[3].intent == {"bound": {"0": 3}, "t": None}
    assert [run.result for run in runs[2:6]] == [None, {"records": 7}, {}, None]
    assert {run.kind for run in runs} == {"replay"}
    times = [datetime.fromisoformat(run.started_at) for run in runs]
    assert times == sorted(times)
    assert all(t.tzinfo is not None for t in times)


def test_a_note_is_one_line_of_the_audit(world: World) -> None:
    store = world.open()
    store.journal.note("restart", "p@a", {"why": "ø", "at": [1]})
    store.journal.note("gap", "p@b", {})
    assert world.audit() == [("restart", "p@a"), ("gap", "p@b")]


def test_the_audit_says_what_when_and_by_whom(world: World) -> None:
    store = world.open()
    store.journal.note("restart", "p@a", {"why": "ø", "at": [1], "person": "somebody else"})
    store.history.skip("p@a", TopicPartition("src.topic", 3), 12, "ticket 7")
    store.journal.note("gap", "p@b", {})
    first, second, third = world.open().journal.audit()
    assert (first.kind, first.subject, first.detail) == ("restart", "p@a", {"why": "ø", "at": [1]})
    assert (second.kind, second.detail["reason"]) == ("skipped", "ticket 7")
    assert (third.kind, third.subject, third.detail) == ("gap", "p@b", {})
    assert {row.person for row in (first, second, third)} == {pwd.getpwuid(os.getuid()).pw_name}
    times = [datetime.fromisoformat(row.at) for row in (first, second, third)]
    assert times == sorted(times)
    assert all(t.tzinfo is not None for t in times)


def test_a_run_says_who_began_it_and_when_it_ended(world: World) -> None:
    store = world.open()
    ids = [store.journal.begin_run("run", "p@a", {"i": i}) for i in range(2)]
    store.journal.finish_run(ids[1], {"records": 7})
    open_run, done = store.journal.runs()
    assert (open_run.result, open_run.finished_at) == (None, None)
    assert (done.intent, done.result) == ({"i": 1}, {"records": 7})
    assert done.person == open_run.person == pwd.getpwuid(os.getuid()).pw_name
    assert done.started_at <= (done.finished_at or "")


# ------------------------------------------------------------------------- a moment


def pieces(moment: Moment, row: TableRow, rows: int = 2) -> list[tuple[Any, ...]]:
    return [r for piece in moment.pieces(row, rows) for r in piece.select(row.key).rows()]


@pytest.mark.parametrize("kind", ["str", "int", "bool", "date", "datetime"])
def test_a_table_comes_in_the_order_of_its_key_the_same_everywhere(world: World, kind: str) -> None:
    texts = ["", "a", "B", "b", "Z", "é", "e\u0301", "ß", "\uffff", "\U00010000", "aa", "a b", "-a"]
    values = texts if kind == "str" else [v for v in world.values(kind)[1] if v is not None]
    annotation = {"str": str, "int": int, "bool": bool, "date": date, "datetime": datetime}[kind]
    columns = {"n": int, "k": annotation, "v": float | None}
    row = table("a", columns, key=("k", "n"))
    store = world.open()
    writer = started(store, version=a_version("a", "live", [row]))
    writer.commit(writer.batch(0, *((n, v, 0.5) for v in reversed(values) for n in (2, 1))))
    with store.catalog.moment() as moment:
        found = pieces(moment, row)
        (first, *_) = moment.pieces(row, 3)
    assert found == [(v, n) for v in sorted(values) for n in (1, 2)]
    assert first.schema == store.catalog.rows(row).schema
    assert len(first) == 3


def test_a_moment_stays_as_it_is_while_others_write(world: World) -> None:
    store, other = world.open(), world.open()
    a, b = a_version("a", "live"), a_version("b")
    writer, second = started(other, version=a), started(other, version=b)
    writer.commit(writer.batch(0, *((i, 0.5) for i in range(7))))
    second.commit(second.batch(0, *((i, 0.5) for i in range(5))))
    with store.catalog.moment() as moment:
        one, two = (moment.pieces(v.tables[0], 2) for v in (a, b))
        next(one), next(two)  # by turns
        writer.commit(writer.batch(0, (100, 0.5)))
        assert sum(map(len, one)) == 7 - 2
        assert sum(map(len, two)) == 5 - 2
        assert moment.cursors["p@a"][0].next == 7
    with store.catalog.moment() as moment:
        assert len(pieces(moment, a.tables[0])) == 8
        assert moment.cursors["p@a"][0].next == 8


def test_a_moment_that_is_left_in_the_middle_leaves_nothing_open(world: World) -> None:
    store = world.open()
    row = table("a", {"100%": int, "v": float | None}, key=("100%",))
    writer = started(store, version=a_version("a", "live", [row]))
    writer.commit(writer.batch(0, *((i, 0.5) for i in range(7))))

    def leave() -> None:
        with store.catalog.moment() as moment:
            next(moment.pieces(row, 2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    writer.commit(writer.batch(0, (100, 0.5)))
    assert len(store.catalog.rows(row)) == 8
