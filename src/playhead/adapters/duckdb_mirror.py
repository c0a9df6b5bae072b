"""The mirror: a DuckDB file for analysts, built aside and swapped in whole.

Readers are never locked out: an open reader keeps the old file. The file is read-only (0444), so
that nobody leaves a write-ahead log beside it; a stray one is moved aside before the rename,
because DuckDB would refuse the new file, or replay the stray log onto it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl

from playhead.core.codec import instance
from playhead.core.naming import quoted
from playhead.errors import PlayheadError, Refused, StoreFailed
from playhead.ports import Cut, Stand, TableRow, VersionRow, shown_columns

logger = logging.getLogger("playhead.mirror")

# One table after another is copied: a second thread costs more to make than it helps.
_ALONE: dict[str, str | bool | int | float | list[str]] = {"threads": 1}
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows that a query gave, with DuckDB's own type names."""

    names: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Built:
    """What the mirror says of itself: the store and change counter it shows, when, and how."""

    ledger: str
    changes: int
    built_at_s: float
    versions: dict[str, str]
    as_of: dict[str, list[int]]
    stands: dict[str, Stand] = field(default_factory=dict)


class Outdated(StoreFailed):
    """The mirror before cannot be taken over: rows are gone since."""


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise StoreFailed(
            f"the mirror {path.name} cannot be built: {error}",
            safe="Store and results are unchanged.",
        ) from error


def build(path: Path, cut: Cut, still_ours: Callable[[], None] = lambda: None) -> None:
    """Write the cut beside ``path`` and rename it into place.

    Args:
        path: The mirror.
        cut: What it shows.
        still_ours: Called just before the rename; raises where another builder has taken over.

    Raises:
        StoreFailed: The file cannot be written.
        Refused: There is a DuckDB file that is no mirror; it is not touched.
    """
    _check_ours(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        try:
            try:
                _write(aside, cut, path)
                aside.chmod(0o444)
            finally:
                still_ours()  # one that was overtaken finds its file gone: that is no failure
            stray = path.with_name(path.name + ".wal")
            if stray.exists():
                moved = path.with_name(f"{path.name}.wal.stray-{int(time.time())}")
                stray.rename(moved)
                logger.warning(
                    "%s lay beside the mirror: somebody opened it for writing. Moved to %s",
                    stray.name,
                    moved.name,
                )
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
            for left in (".wal", ".parquet"):
                aside.with_name(aside.name + left).unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove what a builder that was killed left: there is one at a time."""
    ours = re.compile(re.escape(f".{path.name}.") + r"\d+(\.wal|\.tmp|\.parquet)?")
    for left in list(path.parent.iterdir()):
        if not ours.fullmatch(left.name):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _check_ours(path: Path) -> None:
    if not path.is_file() or inspect(path) is not None:
        return
    try:
        with closing(duckdb.connect(str(path), read_only=True, config=_CLOSED)) as connection:
            ours = connection.execute(
                "SELECT 1 FROM duckdb_tables() WHERE table_name = 'playhead'"
            ).fetchone()
    except duckdb.Error:
        # Not readable: a mirror that somebody spoiled is made anew, another's file is not ours to.
        ours = None if path.stat().st_mode & 0o222 else (1,)
    if ours is None:
        raise Refused(
            f"{path.name} exists, but is not a mirror of Playhead's",
            safe="It was not touched.",
            cure="Move it, or name another file with mirror = in playhead.toml.",
        )


def _write(path: Path, cut: Cut, old: Path) -> None:
    connection = duckdb.connect(str(path), config=_ALONE)
    try:
        for physical, rows in cut.rows.items():
            with _handed(path, rows) as handed:
                copied = f"CREATE TABLE {quoted(physical)} AS SELECT * FROM {handed}"
                connection.execute(copied)
        if cut.since:
            try:
                _take_over(connection, path, cut, old)
            except duckdb.Error as error:
                raise Outdated(f"the mirror before cannot be taken over: {error}") from error
        said: list[tuple[Any, ...]] = []
        now = datetime.now(UTC).replace(tzinfo=None)
        for version in cut.versions:
            at: list[tuple[int | None, int | None]] = [
                (p, c.next) for p, c in cut.cursors.get(version.name, {}).items()
            ]
            for table in version.tables:
                if version.stage == "live":
                    columns = ", ".join(_shown(cut, version, table))
                    connection.execute(
                        f"CREATE VIEW {quoted(table.name)} AS "
                        f"SELECT {columns} FROM {quoted(table.physical)}"
                    )
                said += [
                    (table.name, table.physical, version.name, version.stage, version.source,
                     partition, following, cut.ledger, cut.changes, now)
                    for partition, following in at or [(None, None)]
                ]  # fmt: skip
        said = said or [("", "", "", "", "", None, None, cut.ledger, cut.changes, now)]
        connection.execute(
            "CREATE TABLE playhead (table_name VARCHAR, physical VARCHAR, version VARCHAR, "
            "stage VARCHAR, topic VARCHAR, partition BIGINT, next_offset BIGINT, "
            "store VARCHAR, changes BIGINT, built_at TIMESTAMP)"
        )
        connection.executemany("INSERT INTO playhead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", said)
        # Not among what SHOW TABLES lists: it is for who builds the next one.
        connection.execute("CREATE SCHEMA playhead_internal")
        connection.execute("CREATE TABLE playhead_internal.stands (physical VARCHAR, stand BLOB)")
        for physical, stand in cut.stands.items():
            kept = [physical, msgspec.json.encode(stand)]
            connection.execute("INSERT INTO playhead_internal.stands VALUES (?, ?)", kept)
        connection.execute("CHECKPOINT")  # closing does it, too, but says nothing of a full disk
    finally:
        connection.close()


@contextmanager
def _handed(path: Path, rows: pl.DataFrame) -> Iterator[str]:
    """Give rows to DuckDB as a file: handed a frame, it would import pandas, which is slow."""
    handed = path.with_name(f"{path.name}.parquet")
    _plain(rows).write_parquet(handed, compression="lz4")
    yield f"read_parquet({_text(handed)})"
    handed.unlink()


def _take_over(connection: duckdb.DuckDBPyConnection, path: Path, cut: Cut, old: Path) -> None:
    """Copy tables from the mirror before, with what is new in place of older rows.

    Raises:
        Outdated: A table has another number of rows then: some are gone; or somebody has
            damaged the mirror before.
    """
    keys = {t.physical: t.key for v in cut.versions for t in v.tables}
    connection.execute(f"ATTACH {_text(old)} AS old (READ_ONLY)")
    for physical, since in cut.since.items():
        table = quoted(physical)
        same = " AND ".join(f"n.{quoted(k)} = o.{quoted(k)}" for k in keys[physical])
        with _handed(path, since.rows) as new:
            connection.execute(
                f"CREATE TABLE {table} AS SELECT * FROM old.{table} o "
                f"WHERE NOT EXISTS (SELECT 1 FROM {new} n WHERE {same}) UNION ALL FROM {new}"
                if len(since.rows)
                else f"CREATE TABLE {table} AS FROM old.{table}"
            )
        ((found,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
        if found != since.count:
            raise Outdated(f"{physical} has {since.count} rows, and not {found}")
    connection.execute("DETACH old")


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _shown(cut: Cut, version: VersionRow, table: TableRow) -> Iterator[str]:
    """Yield the columns of a public view; one that only other versions have is null, typed."""
    own = {c.name for c in table.schema}
    for column in shown_columns(cut.versions, version.pipeline, table.name):
        name = quoted(column.name)
        if column.name in own:
            yield name
            continue
        there = cut.rows.keys() | cut.since.keys()
        others = (t for v in cut.versions for t in v.tables if t.physical in there)
        having = next(t for t in others if t.name == table.name and column in t.schema)
        yield f"(SELECT {name} FROM {quoted(having.physical)} LIMIT 0) AS {name}"


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    """Return UTC times without a zone: fetching zoned ones needs a package that DuckDB lacks."""
    return rows.cast({name: _zoneless(dtype) for name, dtype in rows.schema.items()})


def _zoneless(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime(dtype.time_unit)
    if isinstance(dtype, pl.List):
        return pl.List(_zoneless(instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({f.name: _zoneless(instance(f.dtype)) for f in dtype.fields})
    return dtype


_read: dict[Path, tuple[tuple[int, int, int], Built | None]] = {}


def inspect(path: Path) -> Built | None:
    """Return what the mirror says of itself, or None when there is no readable one.

    To open a DuckDB file takes 25 ms, and this is asked often: a file that was read before, and is
    the same one, is not opened again.
    """
    try:
        found = path.stat()
    except OSError:
        return None
    if path.with_name(path.name + ".wal").exists():
        return None
    same = (found.st_ino, found.st_mtime_ns, found.st_size)
    if path not in _read or _read[path][0] != same:
        _read[path] = (same, _inspected(path))
    return _read[path][1]


def _inspected(path: Path) -> Built | None:
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_CLOSED)
    except duckdb.Error:
        return None
    try:
        rows = connection.execute(
            "SELECT table_name, version, stage, topic, next_offset, store, changes, built_at "
            "FROM playhead ORDER BY version, partition"
        ).fetchall()
        stands = {
            physical: msgspec.json.decode(stand, type=Stand)
            for physical, stand in connection.execute(
                "SELECT physical, stand FROM playhead_internal.stands"
            ).fetchall()
        }
    except duckdb.Error:
        return None
    finally:
        connection.close()
    versions = {t: v for t, v, stage, *_ in rows if stage == "live"}
    as_of: dict[str, list[int]] = {}
    taken: dict[str, tuple[str, str]] = {}
    for table, version, stage, topic, following, *_ in rows:
        shown = (table, version)
        if following is not None and stage == "live" and taken.setdefault(topic, shown) == shown:
            as_of.setdefault(topic, []).append(following)
    ledger, changes, built_at = rows[0][5:]
    built_at_s = built_at.replace(tzinfo=UTC).timestamp()
    return Built(ledger, changes, built_at_s, versions, as_of, stands)


def ask(path: Path, sql: str) -> Answer:
    """Run one query, read only.

    Raises:
        PlayheadError: DuckDB refuses the query; its own words say why.
    """
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_CLOSED)
    except duckdb.Error as error:
        raise StoreFailed(f"the mirror {path.name} cannot be opened: {error}") from error
    try:
        result = connection.execute(sql)
        described = (result.description if result else None) or []
        rows = result.fetchall() if described else []
    except (duckdb.Error, ImportError) as error:
        text = str(error).strip()
        cure = "playhead query 'SHOW TABLES' lists the tables." if "Catalog" in text else None
        raise PlayheadError(f"the query failed: {text}", cure=cure) from error
    finally:
        connection.close()
    if not described:
        raise PlayheadError("the query failed: it is empty", cure="playhead query 'SHOW TABLES'")
    return Answer([d[0] for d in described], [str(d[1]) for d in described], rows)
