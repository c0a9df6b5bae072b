"""The SQLite store: how the file says what the SQL store asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from playhead.adapters.sql_database import Dialect
from playhead.adapters.sql_store import SqlStore
from playhead.adapters.sql_tables import nested_json
from playhead.adapters.sqlite_file import SqliteFile
from playhead.core.codec import dtype_of, json_reader, series
from playhead.core.naming import quoted
from playhead.core.schema import Column
from playhead.errors import StoreFailed

DIALECT = Dialect(
    name="sqlite",
    mark="?",
    words={
        "any": "",
        "text": "TEXT",
        "int": "INTEGER",
        "bool": "INTEGER",
        "real": "REAL",
        "blob": "BLOB",
        "serial": "INTEGER PRIMARY KEY",
        "now_s": "((julianday('now') - 2440587.5) * 86400.0)",
        "for_update": "",  # a writing transaction has the file to itself
    },
    types={
        "bool": "BOOLEAN",
        "int": "INTEGER",
        "float": "REAL",
        "str": "TEXT",
        "bytes": "BLOB",
        "date": "DATE",
        "datetime": "TIMESTAMP",
        "nested": "TEXT",
    },
    text_order=" COLLATE BINARY",
    table_options="",
    drop_view=True,
    name_max=None,
)
_STAGE = "temp.playhead__stage"
_CACHE_KB = 32_768  # most of what a batch touches of a table with a million keys
_LOG_PAGES = 16_000


class SqliteDatabase(SqliteFile):
    """The `Database` of the SQL store, in one file."""

    dialect = DIALECT

    def __init__(self, path: Path) -> None:
        """Open the file, creating it if needed."""
        super().__init__(path, DIALECT.queries["schema"].sql, StoreFailed)
        self.run(f"PRAGMA cache_size=-{_CACHE_KB}")
        # A batch may touch most pages of a table: they go into the database file once for several.
        self.run(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")

    def stage(self, table: str, rows: pl.DataFrame) -> str:
        """Put rows into a temporary table with the column types of their own table."""
        columns = ", ".join(map(quoted, rows.columns))
        self.run(f"DROP TABLE IF EXISTS {_STAGE}")
        self.run(
            f"CREATE TEMPORARY TABLE playhead__stage AS "
            f"SELECT {columns} FROM {quoted(table)} WHERE false"
        )
        self._insert(_STAGE, rows)
        return _STAGE

    def insert(self, table: str, rows: pl.DataFrame, conflict: str) -> int:
        """Insert rows one by one."""
        return self._insert(quoted(table), rows, conflict)

    def _insert(self, table: str, rows: pl.DataFrame, conflict: str = "") -> int:
        columns, marks = ", ".join(map(quoted, rows.columns)), ", ".join("?" * rows.width)
        return self.run_many(
            f"INSERT INTO {table} ({columns}) VALUES ({marks}) {conflict}", stored(rows).rows()
        )

    def loaded(self, column: Column, values: list[Any]) -> pl.Series:
        """Return what was read of a column, in its dtype."""
        dtype = dtype_of(column.kind)
        if column.kind.name == "datetime":
            text = pl.Series(values, dtype=pl.String)
            return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.6f", time_unit="us", time_zone="UTC")
        if column.kind.name == "date":
            return pl.Series(values, dtype=pl.String).str.to_date("%Y-%m-%d")
        if column.kind.name == "bool":
            return pl.Series(values, dtype=pl.Int8).cast(pl.Boolean)
        if dtype.is_nested():
            read = json_reader(column)
            return series(column, [None if v is None else read(v) for v in values])
        return pl.Series(values, dtype=dtype)

    def refused(self, rows: pl.DataFrame) -> tuple[int, str] | None:
        """Return None: SQLite stores every value that an output may have."""
        return None


def stored(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with each column as SQLite stores it: times as ISO-8601 UTC, nested as JSON."""
    columns = []
    for name, dtype in rows.schema.items():
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime):
            column = column.dt.strftime("%Y-%m-%d %H:%M:%S%.6f")
        elif dtype == pl.Date:
            column = column.dt.strftime("%Y-%m-%d")
        elif dtype.is_nested():
            column = column.map_elements(nested_json, return_dtype=pl.String, skip_nulls=True)
        columns.append(column)
    return rows.select(columns)


class SqliteStore(SqlStore):
    """The `Store` port over one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it if needed.

        Raises:
            StoreFailed: It cannot be opened.
        """
        super().__init__(SqliteDatabase(path))
