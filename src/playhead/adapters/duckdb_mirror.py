"""The mirror: a DuckDB file for analysts, built aside and swapped in whole.

Readers are never locked out: an open reader keeps the old file. The file is read-only (0444), so
that nobody leaves a write-ahead log beside it; a stray one is moved aside before the rename,
because DuckDB would refuse the new file, or replay the stray log onto it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from playhead.core.offsets import TopicPartition
from playhead.errors import PlayheadError, StoreFailed
from playhead.ports import Cut

logger = logging.getLogger("playhead.mirror")

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
    """What the mirror says of itself: the change counter it shows, and when it was built."""

    changes: int
    built_at_s: float
    versions: dict[str, str]
    as_of: dict[str, list[int]]


class _Stream:
    """Hands a frame to DuckDB through the Arrow C stream interface; needs no pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise StoreFailed(
            f"the mirror {path.name} cannot be built: {error}",
            safe="Store and results are unchanged.",
        ) from error


def build(path: Path, cut: Cut) -> None:
    """Write the cut beside ``path`` and rename it into place.

    Raises:
        StoreFailed: The file cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        try:
            _write(aside, cut)
            aside.chmod(0o444)
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
            aside.with_name(aside.name + ".wal").unlink(missing_ok=True)


def _write(path: Path, cut: Cut) -> None:
    connection = duckdb.connect(str(path))
    try:
        for physical, rows in cut.rows.items():
            connection.register("incoming", _Stream(_plain(rows)))
            connection.execute(f"CREATE TABLE {_quoted(physical)} AS SELECT * FROM incoming")
            connection.unregister("incoming")
        said: list[tuple[Any, ...]] = []
        now = datetime.now(UTC).replace(tzinfo=None)
        for version in cut.versions:
            cursors = cut.cursors.get(version.name, {})
            for table in version.tables:
                if version.stage == "live":
                    columns = ", ".join(_quoted(c.name) for c in table.schema)
                    connection.execute(
                        f"CREATE VIEW {_quoted(table.name)} AS "
                        f"SELECT {columns} FROM {_quoted(table.physical)}"
                    )
                for partition, cursor in cursors.items():
                    place = TopicPartition(version.source, partition)
                    said.append(
                        (table.name, table.physical, version.name, version.stage, place.topic,
                         partition, cursor.next, cut.changes, now)
                    )  # fmt: skip
        connection.execute(
            "CREATE TABLE playhead (table_name VARCHAR, physical VARCHAR, version VARCHAR, "
            "stage VARCHAR, topic VARCHAR, partition BIGINT, next_offset BIGINT, "
            "changes BIGINT, built_at TIMESTAMP)"
        )
        connection.executemany("INSERT INTO playhead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", said or [
            ("", "", "", "", "", -1, 0, cut.changes, now)
        ])  # fmt: skip
    finally:
        connection.close()


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    """Return UTC times without a zone: fetching zoned ones needs a package that DuckDB lacks."""
    return rows.with_columns(
        pl.col(name).dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        for name, dtype in rows.schema.items()
        if isinstance(dtype, pl.Datetime)
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def inspect(path: Path) -> Built | None:
    """Return what the mirror says of itself, or None when there is no readable one."""
    if not path.exists():
        return None
    try:
        connection = duckdb.connect(str(path), read_only=True, config=_CLOSED)
    except duckdb.Error:
        return None
    try:
        rows = connection.execute(
            "SELECT table_name, version, stage, topic, next_offset, changes, built_at "
            "FROM playhead ORDER BY version, partition"
        ).fetchall()
    except duckdb.Error:
        return None
    finally:
        connection.close()
    versions = {t: v for t, v, stage, *_ in rows if stage == "live"}
    as_of: dict[str, list[int]] = {}
    taken: dict[str, tuple[str, str]] = {}
    for table, version, stage, topic, following, *_ in rows:
        shown = (table, version)
        if stage == "live" and taken.setdefault(topic, shown) == shown:
            as_of.setdefault(topic, []).append(following)
    return Built(rows[0][5], rows[0][6].replace(tzinfo=UTC).timestamp(), versions, as_of)


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
        described = result.description or []
        rows = result.fetchall()
    except (duckdb.Error, ImportError) as error:
        text = str(error).strip()
        cure = "playhead query 'SHOW TABLES' lists the tables." if "Catalog" in text else None
        raise PlayheadError(f"the query failed: {text}", cure=cure) from error
    finally:
        connection.close()
    return Answer([d[0] for d in described], [str(d[1]) for d in described], rows)
