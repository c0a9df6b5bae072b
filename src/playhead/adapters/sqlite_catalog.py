"""The catalog over a SQLite file: versions, pointers, result tables, runs, audit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import polars as pl

from playhead.adapters.sqlite_file import SqliteFile, quoted
from playhead.adapters.sqlite_journal import now, write_note
from playhead.core.checkpoint import Cursor
from playhead.core.codec import dtype_of, json_reader, series
from playhead.core.schema import Column
from playhead.errors import CheckpointConflict, Refused
from playhead.ports import Cut, Pointer, Swap, TableRow, VersionRow, shown_columns

_TYPES = {
    "bool": "BOOLEAN",
    "int": "INTEGER",
    "float": "REAL",
    "bytes": "BLOB",
    "date": "DATE",
    "datetime": "TIMESTAMP",
}


class SqliteCatalog:
    """The `Catalog` port over one SQLite file."""

    def __init__(self, db: SqliteFile) -> None:
        """Keep the connection."""
        self._db = db

    def versions(self) -> list[VersionRow]:
        """Return every recorded version, in the order of recording."""
        rows = self._db.all("SELECT stage, content FROM playhead__version ORDER BY seq")
        return [
            replace(msgspec.json.decode(content, type=VersionRow), stage=stage)
            for stage, content in rows
        ]

    def record(self, version: VersionRow) -> None:
        """Record a new version with its physical tables; a live one gets pointer and views."""
        with self._db.transaction():
            _check_public(self._db, version, self.versions())
            for table in version.tables:
                _create(self._db, table)
            version = replace(version, shown=int(version.stage == "live"))
            self._db.run(
                "INSERT INTO playhead__version (pipeline, label, stage, content, recorded_at) "
                "VALUES (?, ?, ?, ?, ?)",
                version.pipeline,
                version.label,
                version.stage,
                msgspec.json.encode(version),
                now(),
            )
            if version.stage == "live":
                self._db.run(
                    "INSERT INTO playhead__pointer VALUES (?, ?, 1, NULL)",
                    version.pipeline,
                    version.label,
                )
                _show(self._db, version, self.versions())
            _changed(self._db)

    def change(self, version: VersionRow) -> None:
        """Change what is recorded of a version; a table whose columns changed is made anew."""
        with self._db.transaction():
            before = [row for row in self.versions() if row.name == version.name]
            known = {t for row in before for t in row.tables}
            version = replace(version, shown=max((row.shown for row in before), default=0))
            for table in known - set(version.tables):
                self._db.run(f"DROP TABLE {quoted(table.physical)}")
            for table in version.tables:
                if table not in known:
                    _create(self._db, table)
            self._set(version, version.stage)
            if version.stage == "live":
                _show(self._db, version, self.versions())
            _changed(self._db)

    def _set(self, version: VersionRow, stage: str) -> None:
        self._db.run(
            "UPDATE playhead__version SET stage = ?, content = ? WHERE pipeline = ? AND label = ?",
            stage,
            msgspec.json.encode(version),
            version.pipeline,
            version.label,
        )

    def pointer(self, pipeline: str) -> Pointer | None:
        """Return the pipeline's pointer, or None when nothing is live."""
        row = self._db.one(
            "SELECT label, epoch, previous FROM playhead__pointer WHERE pipeline = ?", pipeline
        )
        return Pointer(*row) if row else None

    def swap(self, swap: Swap) -> int:
        """Make head live in one transaction; return the pointer's epoch."""
        with self._db.transaction():
            moved = self._db.run(
                "UPDATE playhead__pointer SET label = ?, previous = label, epoch = epoch + 1 "
                "WHERE pipeline = ? AND label = ? AND epoch = ?",
                swap.head.label,
                swap.head.pipeline,
                swap.base.label,
                swap.epoch,
            )
            if not moved:
                raise CheckpointConflict(f"{swap.head.pipeline}: another promotion came first")
            self._check(swap)
            shown = {row.name: row.shown for row in self.versions()}
            base = replace(swap.base, shown=shown[swap.base.name] or 1)
            self._set(base, "retired")
            turn = max([base.shown, *shown.values()]) + 1
            self._set(replace(swap.head, shown=shown[swap.head.name] or turn), "live")
            _show(self._db, swap.head, self.versions())
            write_note(self._db, "promoted", swap.head.name, swap.detail)
            _changed(self._db)
        return swap.epoch + 1

    def _check(self, swap: Swap) -> None:
        for name, epoch in swap.leases.items():
            if self._db.one("SELECT epoch FROM playhead__lease WHERE name = ?", name) != (epoch,):
                raise CheckpointConflict(f"lease {name} was taken by another process")
        cursors = _cursors(self._db)
        for version, wanted in swap.cursors.items():
            if cursors.get(version, {}) != dict(wanted):
                raise CheckpointConflict(f"the cursors of {version} have moved")

    def rows(self, table: TableRow, partition: int | None = None) -> pl.DataFrame:
        """Return a physical table, or one partition's rows of it, with their origin."""
        names = [*(c.name for c in table.schema), "_partition", "_offset"]
        content = self._db.all(
            f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table.physical)} "
            "WHERE ?1 IS NULL OR _partition = ?1",
            partition,
        )
        columns = list(zip(*content, strict=True)) if content else [()] * len(names)
        given = dict(zip(names, columns, strict=True))
        loaded = {c.name: _loaded(c, list(given[c.name])) for c in table.schema}
        loaded["_partition"] = pl.Series(given["_partition"], dtype=pl.Int32)
        loaded["_offset"] = pl.Series(given["_offset"], dtype=pl.Int64)
        return pl.DataFrame(loaded)

    def cut(self, only: Collection[str] | None = None) -> Cut:
        """Return results of one moment: of the named versions, or of every version."""
        with self._db.snapshot():
            versions = self.versions()
            chosen = [v for v in versions if only is None or v.name in only]
            rows = {t.physical: self.rows(t) for v in chosen for t in v.tables}
            return Cut(self.changes(), versions, _cursors(self._db), rows, _ledger(self._db))

    def changes(self) -> int:
        """Return a counter that each change of results or pointers raises."""
        row = self._db.one("SELECT value FROM playhead__meta WHERE key = 'changes'")
        return int(row[0]) if row else 0


def _column(column: Column) -> str:
    declared = _TYPES.get(column.kind.name, "TEXT")
    return f"{quoted(column.name)} {declared}{'' if column.nullable else ' NOT NULL'}"


def _loaded(column: Column, values: list[Any]) -> pl.Series:
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


def _ledger(db: SqliteFile) -> str:
    row = db.one("SELECT value FROM playhead__meta WHERE key = 'ledger'")
    return str(row[0]) if row else ""


def _check_public(db: SqliteFile, version: VersionRow, known: Collection[VersionRow]) -> None:
    """Refuse a public name that something else in the database has."""
    shown = {t.name for row in known if row.pipeline == version.pipeline for t in row.tables}
    for table in version.tables:
        others = [r.name for r in known if r.pipeline != version.pipeline for t in r.tables
                  if t.name == table.name]  # fmt: skip
        taken = others or db.one("SELECT 1 FROM sqlite_master WHERE name = ?", table.name)
        if taken and table.name not in shown:
            raise Refused(
                f"table or view {table.name} exists, but the catalog does not know it",
                safe="It was not touched.",
                cure="Rename it, or declare the table under another name.",
            )


def _create(db: SqliteFile, table: TableRow) -> None:
    if db.one("SELECT 1 FROM sqlite_master WHERE name = ?", table.physical):
        raise Refused(
            f"table {table.physical} exists, but the catalog does not know it",
            safe="It was not touched.",
            cure="Rename it, or use another label.",
        )
    columns = [_column(c) for c in table.schema]
    key = ", ".join(map(quoted, table.key))
    db.run(
        f"CREATE TABLE {quoted(table.physical)} ({', '.join(columns)}, "
        f"_partition INTEGER NOT NULL, _offset INTEGER NOT NULL, PRIMARY KEY ({key}))"
    )


def _show(db: SqliteFile, version: VersionRow, known: list[VersionRow]) -> None:
    """Make the public views; a column that only other versions have is there, null."""
    for table in version.tables:
        own = {c.name for c in table.schema}
        columns = ", ".join(
            quoted(c.name)
            if c.name in own
            else f"CAST(NULL AS {_TYPES.get(c.kind.name, 'TEXT')}) AS {quoted(c.name)}"
            for c in shown_columns(known, version.pipeline, table.name)
        )
        db.run(f"DROP VIEW IF EXISTS {quoted(table.name)}")
        db.run(
            f"CREATE VIEW {quoted(table.name)} AS SELECT {columns} FROM {quoted(table.physical)}"
        )


def _changed(db: SqliteFile) -> None:
    db.run("UPDATE playhead__meta SET value = value + 1 WHERE key = 'changes'")


def _cursors(db: SqliteFile) -> dict[str, dict[int, Cursor]]:
    found: dict[str, dict[int, Cursor]] = {}
    for version, partition, *cursor in db.all(
        "SELECT version, partition, next, generation, batch FROM playhead__cursor "
        "ORDER BY version, partition"
    ):
        found.setdefault(version, {})[partition] = Cursor(*cursor)
    return found
