"""The catalog over a SQL database: versions, pointers, and what the mirror reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
import polars as pl

from playhead.adapters.sql_database import Sql
from playhead.adapters.sql_journal import now, write_note
from playhead.adapters.sql_publications import begin_epochs, check_leases
from playhead.adapters.sql_tables import (
    count,
    create,
    drop,
    exists,
    read_pieces,
    read_rows,
    read_since,
    show,
)
from playhead.core.checkpoint import Cursor, only_went_on
from playhead.errors import CheckpointConflict, Refused
from playhead.ports import (
    NOTHING,
    Cut,
    Pointer,
    Since,
    Stand,
    Swap,
    TableRow,
    VersionRow,
    shown_columns,
)


class SqlCatalog:
    """The `Catalog` port."""

    def __init__(self, sql: Sql) -> None:
        """Keep the connection."""
        self._sql = sql

    def versions(self) -> list[VersionRow]:
        """Return every recorded version, in the order of recording."""
        return [
            replace(msgspec.json.decode(content, type=VersionRow), stage=stage)
            for stage, content in self._sql.all("catalog.versions")
        ]

    def record(self, version: VersionRow) -> None:
        """Record a new version with its physical tables; a live one gets pointer and views."""
        with self._sql.transaction():
            self._sql.one("catalog.lock")
            _check_public(self._sql, version, self.versions())
            for table in version.tables:
                create(self._sql, table)
            version = replace(version, shown=int(version.stage == "live"))
            self._sql.run(
                "catalog.insert_version",
                pipeline=version.pipeline,
                label=version.label,
                stage=version.stage,
                content=msgspec.json.encode(version),
                recorded_at=now(),
            )
            if version.stage == "live":
                self._sql.run(
                    "catalog.insert_pointer", pipeline=version.pipeline, label=version.label
                )
                self._show(version)
            self._sql.run("meta.changed")

    def change(self, version: VersionRow) -> None:
        """Change what is recorded of a version; a table whose columns changed is made anew."""
        live = version.stage == "live"
        with self._sql.transaction():
            self._sql.one("catalog.lock")
            before = [row for row in self.versions() if row.name == version.name]
            known = {t for row in before for t in row.tables}
            version = replace(version, shown=max((row.shown for row in before), default=0))
            for table in known - set(version.tables):
                drop(self._sql, table, shown=live)
            for table in version.tables:
                if table not in known:
                    create(self._sql, table)
            self._set(version, version.stage)
            if live:
                self._show(version)
            self._sql.run("meta.changed")

    def forget(self, version: VersionRow, detail: Mapping[str, object]) -> None:
        """Remove a version with its tables and everything that the ledger holds of it."""
        with self._sql.transaction():
            self._sql.one("catalog.lock")
            pointer = self.pointer(version.pipeline)
            if pointer is not None and version.label in (pointer.label, pointer.previous):
                raise Refused(
                    f"{version.name} is what {version.pipeline} points at, or goes back to",
                    safe="It was not touched.",
                )
            for query in ("cursor", "generation", "past", "dead_letter", "skip"):
                self._sql.run(f"catalog.forget_{query}", version=version.name)
            self._sql.run("catalog.forget_lease", begin=f"part/{version.name}/")
            for table in version.tables:
                drop(self._sql, table, shown=False)
            self._sql.run("catalog.forget_version", pipeline=version.pipeline, label=version.label)
            write_note(self._sql, "clean", version.name, detail)
            self._sql.run("meta.changed")

    def _set(self, version: VersionRow, stage: str) -> None:
        self._sql.run(
            "catalog.update_version",
            stage=stage,
            content=msgspec.json.encode(version),
            pipeline=version.pipeline,
            label=version.label,
        )

    def _show(self, version: VersionRow) -> None:
        known = self.versions()
        for table in version.tables:
            show(self._sql, table, shown_columns(known, version.pipeline, table.name))

    def pointer(self, pipeline: str) -> Pointer | None:
        """Return the pipeline's pointer, or None when nothing is live."""
        row = self._sql.one("catalog.pointer", pipeline=pipeline)
        return Pointer(*row) if row else None

    def swap(self, *swaps: Swap) -> list[int]:
        """Make each head live, all in one transaction; return the pointers' epochs."""
        with self._sql.transaction():
            self._sql.one("catalog.lock")
            for swap in sorted(swaps, key=lambda s: s.head.pipeline):
                _move_pointer(self._sql, swap)
            _check(self._sql, swaps)
            for swap in swaps:
                self._change_stages(swap)
                begin_epochs(self._sql, swap.public)
                write_note(self._sql, "promoted", swap.head.name, swap.detail)
            self._sql.run("meta.changed")
        return [swap.epoch + 1 for swap in swaps]

    def _change_stages(self, swap: Swap) -> None:
        shown = {row.name: row.shown for row in self.versions()}
        base = replace(swap.base, shown=shown[swap.base.name] or 1)
        self._set(base, "retired")
        turn = max([base.shown, *shown.values()]) + 1
        self._set(replace(swap.head, shown=shown[swap.head.name] or turn), "live")
        self._show(swap.head)

    def rows(self, table: TableRow, partition: int | None = None) -> pl.DataFrame:
        """Return a physical table, or one partition's rows of it, with their origin."""
        return read_rows(self._sql, table, partition)

    def cut(self, before: Mapping[str, Stand] = NOTHING) -> Cut:
        """Return results of one moment, of every version: of what is there, only what is new."""
        with self._sql.snapshot():
            versions, cursors = self.versions(), self._cursors()
            stands = _stands(self._sql, versions, cursors)
            rows: dict[str, pl.DataFrame] = {}
            since: dict[str, Since] = {}
            for table in (t for v in versions for t in v.tables):
                stand, copied = stands.get(table.physical), before.get(table.physical)
                if stand and copied and _follows(copied, stand):
                    positions = {p: at.next for p, at in copied.cursors.items()}
                    fresh = read_since(self._sql, table, positions)
                    since[table.physical] = Since(fresh, count(self._sql, table))
                else:
                    rows[table.physical] = self.rows(table)
            ledger = self._sql.meta("ledger") or ""
            return Cut(self.changes(), versions, cursors, rows, ledger, since, stands)

    def _cursors(self) -> dict[str, dict[int, Cursor]]:
        found: dict[str, dict[int, Cursor]] = {}
        for version, partition, *cursor in self._sql.all("catalog.cursors"):
            found.setdefault(version, {})[partition] = Cursor(*cursor)
        return found

    @contextmanager
    def moment(self) -> Iterator[SqlMoment]:
        """Open results of one moment, to be read in pieces."""
        with self._sql.snapshot():
            yield SqlMoment(self._sql, self._cursors())

    def changes(self) -> int:
        """Return a counter that each change of results or pointers raises."""
        return int(self._sql.meta("changes") or 0)


@dataclass(frozen=True)
class SqlMoment:
    """The `Moment` port: a reading transaction that is open."""

    sql: Sql
    cursors: Mapping[str, Mapping[int, Cursor]]

    def pieces(self, table: TableRow, rows: int) -> Iterator[pl.DataFrame]:
        """Yield a physical table in the order of its key, so many rows at a time."""
        return read_pieces(self.sql, table, rows)

    def count(self, table: TableRow) -> int:
        """Return how many rows a physical table has."""
        return count(self.sql, table)

    def since(self, table: TableRow, positions: Mapping[int, int]) -> pl.DataFrame:
        """Return the rows that come of records at or after a position of each partition."""
        return read_since(self.sql, table, positions)


def _stands(
    sql: Sql, versions: Sequence[VersionRow], cursors: Mapping[str, Mapping[int, Cursor]]
) -> dict[str, Stand]:
    """Return how each table stands; not of a version that takes over rows older than it is."""
    recorded = {f"{p}@{label}": at for p, label, *at in sql.all("catalog.recorded")}
    return {
        t.physical: Stand(
            f"{recorded[v.name]} {[(c.name, c.typed()) for c in t.schema]}",
            cursors.get(v.name, {}),
        )
        for v in versions
        if v.scope is None
        for t in v.tables
    }


def _follows(copied: Stand, stand: Stand) -> bool:
    return copied.made == stand.made and only_went_on(copied.cursors, stand.cursors)


def _check(sql: Sql, swaps: Sequence[Swap]) -> None:
    """Compare leases and cursors, and keep them as they are until the swap is done."""
    check_leases(sql, {n: e for swap in swaps for n, e in swap.leases.items()})
    cursors = {version: at for swap in swaps for version, at in swap.cursors.items()}
    for version, wanted in sorted(cursors.items()):
        rows = sql.all("catalog.lock_cursors", version=version)
        if {partition: Cursor(*cursor) for partition, *cursor in rows} != dict(wanted):
            raise CheckpointConflict(f"the cursors of {version} have moved")


def _move_pointer(sql: Sql, swap: Swap) -> None:
    moved = sql.run(
        "catalog.move_pointer",
        head=swap.head.label,
        pipeline=swap.head.pipeline,
        base=swap.base.label,
        epoch=swap.epoch,
    )
    if not moved:
        raise CheckpointConflict(f"{swap.head.pipeline}: another promotion came first")


def _check_public(sql: Sql, version: VersionRow, known: Collection[VersionRow]) -> None:
    """Refuse a public name that something else in the database has."""
    shown = {t.name for row in known if row.pipeline == version.pipeline for t in row.tables}
    for table in version.tables:
        others = [r.name for r in known if r.pipeline != version.pipeline for t in r.tables
                  if t.name == table.name]  # fmt: skip
        taken = others or exists(sql, table.name)
        if taken and table.name not in shown:
            raise Refused(
                f"table or view {table.name} exists, but the catalog does not know it",
                safe="It was not touched.",
                cure="Rename it, or declare the table under another name.",
            )
