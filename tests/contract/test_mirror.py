"""The mirror: whole, fresh, read-only, and never in a reader's way. Real processes, real files."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from playhead.adapters.duckdb_mirror import ask, build, inspect
from playhead.config import Settings
from playhead.core.checkpoint import Cursor
from playhead.errors import PlayheadError, StoreFailed
from playhead.ops.mirror import LEASE, MirrorThread, refresh
from playhead.ops.query import query
from playhead.ports import Cut
from playhead.project import Project
from stores import (
    TESTS,
    VALUES,
    Writer,
    a_version,
    frame,
    go,
    lease_name,
    promote,
    started,
    table,
    wait_for_go,
    wait_for_state,
)


class Place:
    """A project in a folder: its store with a live version ``a``, and its mirror."""

    def __init__(self, folder: Path) -> None:
        self.project = Project(Settings(folder))
        self.mirror = folder / "warehouse.duckdb"
        self.store = self.project.open_store()

    def refresh(self) -> bool:
        return refresh(self.project, self.store)

    def said(self, sql: str = "SELECT * FROM t ORDER BY k") -> list[tuple[Any, ...]]:
        """Return what a query through the product answers."""
        return query(self.project, sql).rows

    def spoil(self, *statements: str) -> None:
        """Change the mirror as nobody should."""
        self.mirror.chmod(0o644)
        with closing(duckdb.connect(str(self.mirror))) as connection:
            for statement in (*statements, "CHECKPOINT"):
                connection.execute(statement)
        self.mirror.chmod(0o444)

    def beside(self) -> list[str]:
        """Return what lies in the folder besides the mirror and the store's folder."""
        names = {path.name for path in self.mirror.parent.iterdir()}
        return sorted(names - {self.mirror.name, ".playhead"})


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.store.close()


@pytest.fixture
def live(here: Place) -> Writer:
    """A live version with two rows on two partitions, and its mirror."""
    writer = started(here.store, 0, 1, version=a_version("a", "live"))
    writer.commit(writer.batch(0, (1, 1.0), records=5), writer.batch(1, (2, None)))
    here.refresh()
    return writer


# ------------------------------------------------------------------ another process


@contextmanager
def another_process(
    what: str, *args: object, ready: bool = True
) -> Iterator[subprocess.Popen[str]]:
    """Run a function of this module in a process of its own."""
    code = f"import sys; from contract.test_mirror import {what}; {what}(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if ready:
            assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def read_twice(path: str) -> None:
    """Open the mirror; once told, read it through the connection that is open."""
    with closing(duckdb.connect(path, read_only=True)) as connection:
        before = connection.execute("SELECT changes FROM playhead").fetchone()
        wait_for_go()
        rows = connection.execute("SELECT * FROM t__a ORDER BY k").fetchall()
        after = connection.execute("SELECT changes FROM playhead").fetchone()
    with closing(duckdb.connect(path, read_only=True)) as connection:
        fresh = connection.execute("SELECT count(*) FROM t__a").fetchone()
    sys.stdout.write(repr((before, after, rows, fresh)))


def poll(path: str, until: str) -> None:
    """Open and read the mirror again and again: every answer is wholly one version."""
    wait_for_go()
    seen = set()
    while not Path(until).exists():
        with closing(duckdb.connect(path, read_only=True)) as connection:
            found = connection.execute(
                "SELECT count(*), min(v), max(v), (SELECT DISTINCT version FROM playhead "
                "WHERE stage = 'live') FROM t"
            ).fetchone()
        seen.add(found)
    sys.stdout.write(repr(sorted(seen)))


def write_and_die(path: str, sql: str) -> None:
    """Open the mirror for writing, as an analyst may, and die with the log not yet folded in."""
    Path(path).chmod(0o644)
    connection = duckdb.connect(path)
    connection.execute("PRAGMA wal_autocheckpoint='1TB'")
    connection.execute(sql)
    wait_for_go()
    os.kill(os.getpid(), signal.SIGKILL)


def refresh_once(folder: str) -> None:
    place = Place(Path(folder))
    wait_for_go()
    sys.stdout.write(repr(place.refresh()))
    place.store.close()


def refresh_frozen(folder: str) -> None:
    """Refresh, and stop where the new file is written and not yet in place."""

    def freeze(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.chmod" and ".warehouse.duckdb" in str(args[0]):
            os.kill(os.getpid(), signal.SIGSTOP)

    place = Place(Path(folder))
    sys.addaudithook(freeze)
    place.refresh()
    place.store.close()


# --------------------------------------------------------------------- what is in it


def test_the_public_name_shows_the_live_version(here: Place, live: Writer) -> None:
    head = started(here.store, 0, version=a_version("b"))
    head.commit(head.batch(0, (1, 2.0)))
    assert here.said() == [(1, 1.0), (2, None)]
    promote(here.store, live.version, head.version)
    assert here.said() == [(1, 2.0)]
    promote(here.store, head.version, live.version)
    assert here.said() == [(1, 1.0), (2, None)]


def test_added_columns_stay_null_and_typed_after_a_rollback(here: Place, live: Writer) -> None:
    columns = {"v": float | None, "k": int, "w": datetime | None, "tags": list[str]}
    head = started(here.store, 0, version=a_version("b", tables=[table("b", columns=columns)]))
    head.commit(head.batch(0, (2.0, 1, None, ["a"])))
    assert here.said() == [(1, 1.0), (2, None)]
    promote(here.store, live.version, head.version)
    assert here.said() == [(1, 2.0, None, ["a"])]
    promote(here.store, head.version, live.version)
    assert here.said() == [(1, 1.0, None, None), (2, None, None, None)]
    types = query(here.project, "SELECT * FROM t").types
    assert types == ["BIGINT", "DOUBLE", "TIMESTAMP", "VARCHAR[]"]


def test_the_tables_of_other_versions_are_there_too(here: Place, live: Writer) -> None:
    head = started(here.store, 0, version=a_version("b"))
    head.commit(head.batch(0, (1, 2.0)))
    assert live.version.label == "a"
    assert here.said("SELECT a.k, a.v, b.v FROM t__a a JOIN t__b b USING (k)") == [(1, 1.0, 2.0)]
    assert here.said("SELECT k, _partition, _offset FROM t__a ORDER BY k") == [(1, 0, 0), (2, 1, 0)]


def test_the_table_playhead_says_which_version_and_offsets_each_shows(
    here: Place, live: Writer
) -> None:
    head = started(here.store, 0, version=a_version("b"))
    head.commit(head.batch(0, (1, 2.0), records=3))
    rows = here.said(
        "SELECT table_name, physical, version, stage, topic, partition, next_offset, changes "
        "FROM playhead ORDER BY version, partition"
    )
    changes = here.store.catalog.changes()
    assert rows == [
        ("t", "t__a", "p@a", "live", "src.topic", 0, 5, changes),
        ("t", "t__a", "p@a", "live", "src.topic", 1, 1, changes),
        ("t", "t__b", "p@b", "shadow", "src.topic", 0, 3, changes),
    ]
    ((built_at,),) = here.said("SELECT DISTINCT built_at FROM playhead")
    assert abs(built_at.replace(tzinfo=UTC).timestamp() - time.time()) < 60
    assert live.version.stage == "live"


def test_a_version_without_a_cursor_is_in_the_table_playhead(here: Place, live: Writer) -> None:
    here.store.catalog.record(a_version("b"))
    assert here.said("SELECT count(*) FROM t__b") == [(0,)]
    assert here.said("SELECT DISTINCT version FROM playhead ORDER BY 1") == [("p@a",), ("p@b",)]
    assert live.version.name == "p@a"


def test_what_the_mirror_says_of_itself(here: Place, live: Writer) -> None:
    built = inspect(here.mirror)
    assert built is not None
    assert built.changes == here.store.catalog.changes()
    assert built.versions == {"t": "p@a"}
    assert built.as_of == {"src.topic": [5, 1]}
    assert abs(built.built_at_s - time.time()) < 60
    answered = query(here.project, "SELECT k, v FROM t ORDER BY k")
    assert (answered.names, answered.types) == (["k", "v"], ["BIGINT", "DOUBLE"])
    assert (answered.versions, answered.as_of) == ({"t": "p@a"}, {"src.topic": [5, 1]})
    assert 0 <= answered.age_s < 60
    assert live.cursors[0].next == 5


def test_what_is_no_mirror_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    assert inspect(path) is None
    path.write_bytes(b"not a database")
    assert inspect(path) is None
    with pytest.raises(StoreFailed, match=r"warehouse\.duckdb"):
        ask(path, "SELECT 1")


def test_a_mirror_of_nothing(here: Place) -> None:
    here.refresh()
    answer = ask(here.mirror, "SELECT changes FROM playhead")
    assert answer.rows == [(here.store.catalog.changes(),)]


NAMES = {
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "float": "DOUBLE",
    "str": "VARCHAR",
    "bytes": "BLOB",
    "date": "DATE",
    "datetime": "TIMESTAMP",
    "list of int": "BIGINT[]",
    "list of float": "DOUBLE[]",
    "list of str": "VARCHAR[]",
    "list of bool": "BOOLEAN[]",
    "list of list": "BIGINT[][]",
    "list of date": "DATE[]",
    "list of datetime": "TIMESTAMP[]",
    "list of bytes": "BLOB[]",
    "dict": "STRUCT(a BIGINT, b VARCHAR, c STRUCT(d DOUBLE), e BIGINT[])",
    "dict of date": "STRUCT(a DATE)",
    "dict of datetime": "STRUCT(a TIMESTAMP)",
    "dict of bytes": "STRUCT(a BLOB)",
    "only nulls": "BIGINT[]",
}


def unzoned(value: Any) -> Any:
    """Return the value with UTC times as DuckDB answers them: without a zone."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, list):
        return [unzoned(v) for v in value]
    if isinstance(value, dict):
        return {k: unzoned(v) for k, v in value.items()}
    return value


@pytest.mark.parametrize("kind", sorted(VALUES))
def test_types_and_values_are_as_duckdb_names_them(tmp_path: Path, kind: str) -> None:
    annotation, values = VALUES[kind]
    row = table(columns={"k": int, "v": annotation})
    rows = frame(row, list(enumerate(values)), 0, range(len(values)))
    version = a_version(stage="live", tables=[row])
    path = tmp_path / "warehouse.duckdb"
    for content, expected in ((rows, [unzoned(v) for v in values]), (rows.clear(), [])):
        build(path, Cut(1, [version], {"p@a": {0: Cursor(1, 1, 1)}}, {row.physical: content}))
        answer = ask(path, "SELECT v FROM t ORDER BY k")
        assert answer.types == [NAMES[kind]]
        assert [v for (v,) in answer.rows] == expected


def test_columns_with_odd_names(here: Place) -> None:
    names = ["select", "a b", 'say "hi"', "it's", "k"]
    row = table(columns=dict.fromkeys(names, str))
    writer = started(here.store, version=a_version(stage="live", tables=[row]))
    writer.commit(writer.batch(0, names))
    answered = query(here.project, "SELECT * FROM t")
    assert answered.names == names
    assert answered.rows == [tuple(names)]


def test_times_keep_their_microseconds(here: Place) -> None:
    row = table(columns={"k": int, "seen": datetime, "day": date})
    writer = started(here.store, version=a_version(stage="live", tables=[row]))
    at = datetime(2014, 9, 13, 7, 24, 36, 123456, UTC)
    writer.commit(writer.batch(0, (1, at, at.date())))
    assert here.said() == [(1, at.replace(tzinfo=None), at.date())]
    assert here.said("SELECT seen::VARCHAR FROM t") == [("2014-09-13 07:24:36.123456",)]


# ------------------------------------------------------------------- taken over


def goes_on(writer: Writer) -> None:
    writer.commit(writer.batch(0, (1, 1.5), (3, 3.0)), writer.batch(1, (20, None)))


def a_row_goes(writer: Writer) -> None:
    writer.commit(writer.deletes(1))


def one_goes_and_another_comes(writer: Writer) -> None:
    a_row_goes(writer)
    writer.commit(writer.batch(0, (55, 1.0)))


def is_rewound(writer: Writer) -> None:
    writer.commit(writer.rewind(0, 1, (1, 7.0)))


def is_rewound_and_comes_back(writer: Writer) -> None:
    is_rewound(writer)
    writer.commit(*(writer.batch(0, (8, 8.0), records=9),))


def is_removed_and_made_again(writer: Writer) -> None:
    """The same name, generation and batches, further on: and other rows."""
    version = writer.version
    leases = {lease_name(version, p): epoch for p, epoch in writer.epochs.items()}
    writer.store.ledger.release(leases)
    writer.store.catalog.forget(version, {})
    again = started(writer.store, 0, 1, version=version)
    one = again.batch(0, (1, 11.0), (2, 12.0), records=50)
    again.commit(one, again.batch(1, (30, 13.0), records=50))


@pytest.mark.parametrize(
    ("happens", "taken"),
    [
        (goes_on, True),
        (a_row_goes, False),
        (one_goes_and_another_comes, False),
        (is_rewound, False),
        (is_rewound_and_comes_back, False),
        (is_removed_and_made_again, False),
    ],
)
def test_the_mirror_before_is_taken_over_where_it_may_be(
    here: Place, live: Writer, happens: Callable[[Writer], None], *, taken: bool
) -> None:
    """Marked with a value that the store has not, the mirror tells which rows come from where."""
    shadow = started(here.store, 0, 1, version=a_version("b"))
    shadow.commit(shadow.batch(0, (1, 1.0), (2, 2.0), records=5), shadow.batch(1, (30, 4.0)))
    live.commit(live.batch(0, (4, 4.0)))
    here.refresh()
    here.spoil("UPDATE t__a SET v = -v", "UPDATE t__b SET v = -v")
    happens(shadow)
    here.refresh()
    fresh = {row[0] for row in here.store.catalog.rows(shadow.version.tables[0]).rows()}
    rows = dict(here.said("SELECT k, v FROM t__b"))
    wanted = {r[0]: r[1] for r in here.store.catalog.rows(shadow.version.tables[0]).rows()}
    assert rows.keys() == wanted.keys() == fresh
    from_before = {k for k, v in rows.items() if v != wanted[k]}
    assert from_before == ({2, 30} if taken else set())


def test_a_mirror_that_lacks_a_table_is_built_anew(here: Place, live: Writer) -> None:
    here.spoil("DROP VIEW t", "DROP TABLE t__a")
    live.commit(live.batch(0, (3, 3.0)))
    assert here.said() == [(1, 1.0), (2, None), (3, 3.0)]


def test_a_mirror_of_another_store_is_not_taken_over(here: Place, live: Writer) -> None:
    here.spoil("UPDATE t__a SET v = -1", "UPDATE playhead SET store = 'another'")
    live.commit(live.batch(0, (3, 3.0)))
    assert here.said() == [(1, 1.0), (2, None), (3, 3.0)]


def test_a_mirror_without_a_note_of_how_it_stood_is_built_anew(here: Place, live: Writer) -> None:
    here.spoil("DROP SCHEMA playhead_internal CASCADE")
    live.commit(live.batch(0, (3, 3.0)))
    assert here.said() == [(1, 1.0), (2, None), (3, 3.0)]


# ------------------------------------------------------------------------- freshness


def test_refresh_builds_what_is_missing_or_older_than_the_store(here: Place, live: Writer) -> None:
    assert here.refresh() is False
    live.commit(live.batch(0, (3, 3.0)))
    assert here.refresh() is True
    assert here.refresh() is False
    here.mirror.unlink()
    assert here.refresh() is True
    assert here.store.ledger.take_free(LEASE, "it was given back") > 1


def test_a_query_is_never_behind_the_store(here: Place, live: Writer) -> None:
    for i in range(5):
        live.commit(live.batch(0, (10 + i, None)))
        assert here.said("SELECT max(k) FROM t") == [(10 + i,)]


def test_a_rewind_that_leaves_no_rows_is_shown(here: Place, live: Writer) -> None:
    live.commit(live.rewind(0, 0))
    assert here.said() == [(2, None)]


def test_the_mirror_of_another_store_is_not_fresh(tmp_path: Path) -> None:
    """Somebody removed .playhead, corrected the function, and ran again: as many changes."""
    for value in (1.0, 1.6):
        place = Place(tmp_path)
        writer = started(place.store, version=a_version(stage="live"))
        writer.commit(writer.batch(0, (1, value)))
        place.refresh()
        assert place.said() == [(1, value)]
        place.store.close()
        for path in (tmp_path / ".playhead").iterdir():
            path.unlink()


def test_nothing_has_run_here_yet(tmp_path: Path) -> None:
    with pytest.raises(PlayheadError, match="nothing has run here yet; next: playhead run"):
        query(Project(Settings(tmp_path)), "SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_the_thread_builds_once_more_at_its_end(here: Place, live: Writer) -> None:
    with MirrorThread(here.project) as thread:
        for i in range(20):
            live.commit(live.batch(0, (100 + i, None)))
    assert thread.failed is None
    built = inspect(here.mirror)
    assert built is not None
    assert built.changes == here.store.catalog.changes()


def test_two_processes_refreshing_at_once_build_it_once(here: Place, live: Writer) -> None:
    folder = here.mirror.parent
    with another_process("refresh_once", folder) as a, another_process("refresh_once", folder) as b:
        live.commit(live.batch(0, *((k, None) for k in range(10, 2_010))))
        go(a, b)
        assert a.stdout is not None
        assert b.stdout is not None
        assert sorted([a.stdout.read(), b.stdout.read()]) == ["False", "True"]
    assert here.refresh() is False
    assert ask(here.mirror, "SELECT count(*) FROM t").rows == [(2_002,)]
    assert here.beside() == []


def test_an_older_cut_never_replaces_a_newer_one(here: Place, live: Writer) -> None:
    live.commit(live.batch(0, (3, 3.0)))
    with another_process("refresh_frozen", here.mirror.parent, ready=False) as process:
        wait_for_state(process, "T")
        # Ten seconds later its lease is free for others.
        here.store.ledger.release(here.store.ledger.take([LEASE], "expired"))
        live.commit(live.batch(0, (4, 4.0)))
        assert here.refresh() is True
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 0, "to be overtaken is no error"
    assert ask(here.mirror, "SELECT max(k) FROM t").rows == [(4,)]


def test_a_killed_build_leaves_the_old_mirror_and_the_next_one_cleans_up(
    here: Place, live: Writer
) -> None:
    live.commit(live.batch(0, (3, 3.0)))
    with another_process("refresh_frozen", here.mirror.parent, ready=False) as process:
        wait_for_state(process, "T")
        process.kill()
        process.wait()
    assert ask(here.mirror, "SELECT max(k) FROM t").rows == [(2,)]
    begun = time.monotonic()
    assert here.refresh() is True
    assert time.monotonic() - begun < 5, "the killed process's lease was waited for"
    assert ask(here.mirror, "SELECT max(k) FROM t").rows == [(3,)]
    assert here.beside() == []


def test_what_killed_builds_left_is_removed_and_nothing_else(here: Place, live: Writer) -> None:
    spilled = here.mirror.parent / ".warehouse.duckdb.4194303.tmp"  # DuckDB's, of a large build
    spilled.mkdir()
    (spilled / "duckdb_temp_storage-0.tmp").touch()
    (here.mirror.parent / ".warehouse.duckdb.4194303").touch()
    (here.mirror.parent / ".warehouse.duckdb.4194303.wal").touch()
    (here.mirror.parent / ".warehouse.duckdb.notes").touch()
    live.commit(live.batch(0, (3, 3.0)))
    assert here.refresh() is True
    assert here.beside() == [".warehouse.duckdb.notes"]


# ------------------------------------------------------------------- the file itself


def test_the_file_is_read_only_and_alone(here: Place, live: Writer) -> None:
    assert here.mirror.stat().st_mode & 0o777 == 0o444
    live.commit(live.batch(0, (3, 3.0)))
    here.refresh()
    assert here.mirror.stat().st_mode & 0o777 == 0o444
    assert here.beside() == []


def test_an_open_reader_keeps_the_whole_old_cut(here: Place, live: Writer) -> None:
    before = here.store.catalog.changes()
    with another_process("read_twice", here.mirror) as reader:
        live.commit(live.batch(0, (1, 9.0), (3, 3.0)))
        assert here.refresh() is True
        live.commit(live.rewind(1, 0, (4, 4.0)))
        assert here.refresh() is True
        go(reader)
        assert reader.stdout is not None
        old = [(1, 1.0, 0, 0), (2, None, 1, 0)]
        assert reader.stdout.read() == repr(((before,), (before,), old, (3,)))


def test_a_polling_reader_sees_each_result_set_wholly_one_version(
    here: Place, live: Writer
) -> None:
    head = started(here.store, 0, version=a_version("b"))
    live.commit(live.batch(1, (2, 1.0)), live.batch(0, *((k, 1.0) for k in range(100, 200))))
    head.commit(head.batch(0, *((k, 2.0) for k in range(50))))
    here.refresh()
    over = here.mirror.parent / "over"
    with another_process("poll", here.mirror, over) as reader:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
        versions = [live.version, head.version]
        for i in range(12):
            promote(here.store, versions[i % 2], versions[1 - i % 2])
            assert here.refresh() is True
        over.touch()
        assert reader.wait(20) == 0
        assert reader.stdout is not None
        assert reader.stdout.read() == repr([(50, 2.0, 2.0, "p@b"), (102, 1.0, 1.0, "p@a")])


@pytest.mark.parametrize("changed", [True, False], ids=["store has changed", "store is the same"])
def test_a_stray_log_is_moved_aside_with_a_warning(
    here: Place, live: Writer, caplog: pytest.LogCaptureFixture, changed: bool
) -> None:
    with another_process("write_and_die", here.mirror, "DELETE FROM t__a") as process:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        process.wait()
    assert here.beside() == ["warehouse.duckdb.wal"]
    if changed:
        live.commit(live.batch(0, (3, 3.0)))
    with caplog.at_level(logging.WARNING, "playhead.mirror"):
        assert here.said("SELECT count(*) FROM t") == [(3 if changed else 2,)]
    (message,) = caplog.messages
    (moved,) = here.beside()
    assert moved.startswith("warehouse.duckdb.wal.stray-")
    assert moved in message
    assert here.mirror.stat().st_mode & 0o777 == 0o444


def test_a_database_that_is_not_ours_is_not_overwritten(here: Place) -> None:
    started(here.store, version=a_version(stage="live"))
    with closing(duckdb.connect(str(here.mirror))) as connection:
        connection.execute("CREATE TABLE precious AS SELECT 42 AS answer")
    with pytest.raises(PlayheadError, match=r"warehouse\.duckdb"):
        here.refresh()
    with closing(duckdb.connect(str(here.mirror), read_only=True)) as connection:
        assert connection.execute("SELECT answer FROM precious").fetchall() == [(42,)]


def test_a_database_that_another_program_has_open_is_not_overwritten(here: Place) -> None:
    started(here.store, version=a_version(stage="live"))
    with closing(duckdb.connect(str(here.mirror))) as connection:
        connection.execute("CREATE TABLE precious AS SELECT 42 AS answer")
    with (
        another_process("write_and_die", here.mirror, "SELECT 1"),
        pytest.raises(PlayheadError, match=r"warehouse\.duckdb"),
    ):
        here.refresh()
    with closing(duckdb.connect(str(here.mirror), read_only=True)) as connection:
        assert connection.execute("SELECT answer FROM precious").fetchall() == [(42,)]


def test_a_place_that_cannot_be_written_is_one_error(here: Place) -> None:
    here.mirror.mkdir()
    with pytest.raises(StoreFailed, match=r"warehouse\.duckdb") as raised:
        here.refresh()
    assert raised.value.safe
    assert here.beside() == []
    assert list(here.mirror.iterdir()) == []


# --------------------------------------------------------------------------- asking

OUTSIDE = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('{folder}/secret')",
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM glob('/etc/*')",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY t TO '{folder}/out.parquet' (FORMAT parquet)",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/other.duckdb'",
    "ATTACH ':memory:' AS m; COPY (SELECT 1) TO '{folder}/out.csv'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SELECT * FROM 'https://example.com/a.csv'",
]


@pytest.mark.parametrize("sql", OUTSIDE)
def test_a_query_reaches_nothing_outside(here: Place, live: Writer, sql: str) -> None:
    folder = here.mirror.parent
    for name in ("secret", "secret.csv"):
        (folder / name).write_text("a,b\n1,2\n")
    with pytest.raises(PlayheadError, match="the query failed"):
        ask(here.mirror, sql.format(folder=folder))
    assert here.beside() == ["secret", "secret.csv"]
    assert live.version.stage == "live"


@pytest.mark.parametrize(
    "sql",
    [
        "selec",
        "SELECT * FROM nope",
        "SELECT nope FROM t",
        "SELECT 1 / 'a'",
        "CREATE TABLE x (i INT)",
        "INSERT INTO t__a VALUES (9, 9, 0, 0)",
        "DELETE FROM t__a",
        "DROP VIEW t",
        "SELECT now()",
        "SELECT [now()]",
        "",
        " ; ",
        "-- nothing",
    ],
)
def test_a_query_that_fails_is_one_clear_error(here: Place, live: Writer, sql: str) -> None:
    with pytest.raises(PlayheadError) as raised:
        ask(here.mirror, sql)
    assert raised.value.message.startswith("the query failed: ")
    assert "Traceback" not in str(raised.value)
    assert here.said() == [(1, 1.0), (2, None)]
    assert live.version.stage == "live"


def test_an_unknown_table_says_how_to_list_them(here: Place, live: Writer) -> None:
    with pytest.raises(PlayheadError, match="nope") as raised:
        ask(here.mirror, "SELECT * FROM nope")
    assert raised.value.cure is not None
    assert "SHOW TABLES" in raised.value.cure
    assert here.said("SHOW TABLES") == [("playhead",), ("t",), ("t__a",)]
    assert live.version.stage == "live"
