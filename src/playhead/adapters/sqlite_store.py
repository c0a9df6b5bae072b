"""The SQLite store: schema, rows of result tables, and the ledger."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import polars as pl

from playhead.adapters.process import Process, this_process
from playhead.adapters.sqlite_catalog import SqliteCatalog
from playhead.adapters.sqlite_file import SqliteFile, quoted
from playhead.adapters.sqlite_history import SqliteHistory, write_past
from playhead.adapters.sqlite_journal import SqliteJournal
from playhead.core.checkpoint import Cursor
from playhead.core.codec import TOMBSTONE
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts
from playhead.errors import CheckpointConflict, FunctionFailed, Refused, StoreFailed
from playhead.ports import Generation, Lease, Move, Standing

LEASE_S = 10.0
_UPSTREAM = msgspec.json.Decoder(dict[str, tuple[tuple[int, int], ...]])
SCHEMA = """
CREATE TABLE IF NOT EXISTS playhead__meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS playhead__version (
  seq INTEGER PRIMARY KEY, pipeline TEXT NOT NULL, label TEXT NOT NULL, stage TEXT NOT NULL,
  content BLOB NOT NULL, recorded_at TEXT NOT NULL, UNIQUE (pipeline, label));
CREATE TABLE IF NOT EXISTS playhead__pointer (
  pipeline TEXT PRIMARY KEY, label TEXT NOT NULL, epoch INTEGER NOT NULL,
  previous TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS playhead__cursor (
  version TEXT, topic TEXT, partition INTEGER, topic_id TEXT NOT NULL, next INTEGER NOT NULL,
  generation INTEGER NOT NULL, batch INTEGER NOT NULL, epoch INTEGER NOT NULL,
  start INTEGER NOT NULL, records INTEGER NOT NULL, dead INTEGER NOT NULL,
  PRIMARY KEY (version, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS playhead__generation (
  version TEXT, topic TEXT, partition INTEGER, number INTEGER, start INTEGER NOT NULL,
  gap_from INTEGER, upstream BLOB NOT NULL, begun_at TEXT NOT NULL, why TEXT NOT NULL,
  PRIMARY KEY (version, topic, partition, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS playhead__past (
  version TEXT, partition INTEGER, generation INTEGER, batch INTEGER, whole INTEGER,
  begin INTEGER NOT NULL, next INTEGER NOT NULL, records INTEGER NOT NULL, dead INTEGER NOT NULL,
  at_s REAL NOT NULL, content BLOB NOT NULL,
  PRIMARY KEY (version, partition, generation, batch, whole));
CREATE TABLE IF NOT EXISTS playhead__dead_letter (
  version TEXT, topic TEXT, partition INTEGER, generation INTEGER, offset INTEGER,
  error TEXT NOT NULL, timestamp_ms INTEGER NOT NULL, key BLOB, value BLOB, at TEXT NOT NULL,
  PRIMARY KEY (version, topic, partition, generation, offset));
CREATE TABLE IF NOT EXISTS playhead__skip (
  version TEXT, topic TEXT, partition INTEGER, offset INTEGER, reason TEXT NOT NULL,
  at TEXT NOT NULL, PRIMARY KEY (version, topic, partition, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS playhead__lease (
  name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, owner BLOB NOT NULL, expires_s REAL NOT NULL,
  note TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS playhead__run (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, intent BLOB NOT NULL,
  result BLOB, started_at TEXT NOT NULL, finished_at TEXT);
CREATE TABLE IF NOT EXISTS playhead__audit (
  seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
  detail BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS playhead__diff (
  digest TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID;
"""


class SqliteStore:
    """The `Store` port over one SQLite file."""

    def __init__(self, path: Path) -> None:
        """Open the file, creating it if needed.

        Raises:
            StoreFailed: It cannot be opened.
        """
        self._db = SqliteFile(path, SCHEMA, StoreFailed)
        if self._db.one("SELECT 1 FROM playhead__meta WHERE key = 'ledger'") is None:
            with self._db.transaction():
                self._db.run_many(
                    "INSERT OR IGNORE INTO playhead__meta VALUES (?, ?)",
                    [("ledger", uuid.uuid4().hex), ("changes", 0), ("format", 2)],
                )
        self.ledger = SqliteLedger(self._db)
        self.history = SqliteHistory(self._db)
        self.catalog = SqliteCatalog(self._db)
        self.journal = SqliteJournal(self._db)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._db.close()


def _lease_name(version: str, place: TopicPartition) -> str:
    return f"part/{version}/{place.topic}/{place.partition}"


class SqliteLedger:
    """The `Ledger` port over one SQLite file."""

    on_step: Callable[[str], None] | None = None

    def __init__(self, db: SqliteFile) -> None:
        """Keep the connection."""
        self._db = db
        row = db.one("SELECT value FROM playhead__meta WHERE key = 'ledger'")
        self.id: str = row[0] if row else ""

    def standings(self, version: str) -> dict[int, Standing]:
        """Return where the version stands, by partition."""
        rows = self._db.all(
            "SELECT partition, next, generation, batch, epoch, start, topic_id, records, dead "
            "FROM playhead__cursor WHERE version = ? ORDER BY partition",
            version,
        )
        return {
            p: Standing(Cursor(n, g, b), e, s, t, Counts(records, dead))
            for p, n, g, b, e, s, t, records, dead in rows
        }

    def generations(self, version: str) -> dict[int, list[Generation]]:
        """Return every generation of every partition, oldest first."""
        rows = self._db.all(
            "SELECT partition, number, start, gap_from, upstream FROM playhead__generation "
            "WHERE version = ? ORDER BY partition, number",
            version,
        )
        found: dict[int, list[Generation]] = {}
        for partition, number, start, gap_from, upstream in rows:
            known = _UPSTREAM.decode(upstream)
            found.setdefault(partition, []).append(Generation(number, start, gap_from, known))
        return found

    def begin(self, version: str, place: TopicPartition, topic_id: str, move: Move) -> None:
        """Insert the cursor row of a first start."""
        with self._db.transaction():
            held = self._db.one(
                "SELECT epoch FROM playhead__lease WHERE name = ?", _lease_name(version, place)
            )
            if held != (move.epoch,):
                raise _conflict(version, place, "the lease is another's now")
            inserted = self._db.run(
                "INSERT OR IGNORE INTO playhead__cursor VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                version,
                place.topic,
                place.partition,
                topic_id,
                move.after.next,
                move.after.generation,
                move.after.batch,
                move.epoch,
                move.after.next,
            )
            if not inserted:
                raise _conflict(version, place, "it has a cursor already")
            self._begin_generation(version, move)

    def commit(self, version: str, moves: Sequence[Move]) -> str:
        """Move the cursors and write state and rows, all or nothing; return the stage."""
        with self._db.transaction():
            for move in sorted(moves, key=lambda m: m.place):
                self._compare_and_set(version, move)
            self._step("after compare-and-set")
            for move in moves:
                if move.after.generation != move.before.generation:
                    self._begin_generation(version, move)
                else:
                    write_past(self._db, version, move)
            self._step("between delta and rows")
            for move in moves:
                for table, rows in move.rows.items():
                    _write_rows(self._db, table, rows, move.place)
            self._db.run("UPDATE playhead__meta SET value = value + 1 WHERE key = 'changes'")
            pipeline, _, label = version.partition("@")
            stage = self._db.one(
                "SELECT stage FROM playhead__version WHERE pipeline = ? AND label = ?",
                pipeline,
                label,
            )
        return str(stage[0]) if stage else ""

    def _step(self, name: str) -> None:
        if self.on_step is not None:
            self.on_step(name)

    def _compare_and_set(self, version: str, move: Move) -> None:
        fresh = move.after.generation != move.before.generation
        changed = self._db.run(
            "UPDATE playhead__cursor SET next = ?, generation = ?, batch = ?, "
            "topic_id = coalesce(nullif(?, ''), topic_id), "
            "records = CASE WHEN ? THEN 0 ELSE records END + ?, "
            "dead = CASE WHEN ? THEN 0 ELSE dead END + ? "
            "WHERE version = ? AND topic = ? AND partition = ? "
            "AND next = ? AND generation = ? AND batch = ? AND epoch = ?",
            move.after.next,
            move.after.generation,
            move.after.batch,
            move.topic_id,
            fresh,
            move.counts.records,
            fresh,
            move.counts.dead,
            version,
            move.place.topic,
            move.place.partition,
            move.before.next,
            move.before.generation,
            move.before.batch,
            move.epoch,
        )
        if changed != 1:
            raise _conflict(version, move.place, f"the cursor is no longer {move.before}")

    def _begin_generation(self, version: str, move: Move) -> None:
        self._db.run(
            "INSERT INTO playhead__generation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            version,
            move.place.topic,
            move.place.partition,
            move.after.generation,
            move.after.next,
            move.gap_from,
            msgspec.json.encode(move.upstream),
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            move.why,
        )
        write_past(self._db, version, move)
        for table in move.rows:
            self._db.run(f"DELETE FROM {quoted(table)} WHERE _partition = ?", move.place.partition)

    def take(self, names: Sequence[str], note: str) -> dict[str, int]:
        """Take leases whether in force or not; return the epochs."""
        with self._db.transaction():
            return {name: self._take(name, note) for name in sorted(names)}

    def _take(self, name: str, note: str) -> int:
        row = self._db.one(
            "INSERT INTO playhead__lease VALUES (?, 1, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
            "epoch = epoch + 1, owner = excluded.owner, expires_s = excluded.expires_s, "
            "note = excluded.note RETURNING epoch",
            name,
            msgspec.json.encode(this_process()),
            time.time() + LEASE_S,
            note,
        )
        epoch = int(row[0]) if row else 0
        if name.startswith("part/"):
            version, topic, partition = name.removeprefix("part/").split("/")
            self._db.run(
                "UPDATE playhead__cursor SET epoch = ? "
                "WHERE version = ? AND topic = ? AND partition = ?",
                epoch,
                version,
                topic,
                int(partition),
            )
        return epoch

    def take_free(self, name: str, note: str) -> int:
        """Take a lease that is free, expired, or held by a process that is gone."""
        with self._db.transaction():
            held = self.lease(name)
            if held is not None and held.in_force:
                subject = name.removeprefix("worker/").rpartition("/")[0] or name
                raise Refused(
                    f"{subject} is held by {held.owner} ({held.note})",
                    safe="Nothing was changed.",
                    cure="Stop it first.",
                )
            return self._take(name, note)

    def renew(self, epochs: Mapping[str, int]) -> None:
        """Extend leases."""
        with self._db.transaction():
            for name, epoch in sorted(epochs.items()):
                changed = self._db.run(
                    "UPDATE playhead__lease SET expires_s = ? "
                    "WHERE name = ? AND epoch = ? AND expires_s > 0",
                    time.time() + LEASE_S,
                    name,
                    epoch,
                )
                if not changed:
                    raise CheckpointConflict(f"lease {name} was taken by another process")

    def release(self, epochs: Mapping[str, int]) -> None:
        """Give leases back, those that are still ours; the epoch stays."""
        with self._db.transaction():
            self._db.run_many(
                "UPDATE playhead__lease SET expires_s = 0 WHERE name = ? AND epoch = ?",
                sorted(epochs.items()),
            )

    def lease(self, name: str) -> Lease | None:
        """Return one lease, or None when it was never taken or was given back."""
        row = self._db.one(
            "SELECT epoch, owner, expires_s, note FROM playhead__lease WHERE name = ?", name
        )
        if row is None or row[2] == 0:
            return None
        owner = msgspec.json.decode(row[1], type=Process)
        in_force = row[2] > time.time() and not owner.gone()
        return Lease(name, row[0], str(owner), in_force, row[3])


def _conflict(version: str, place: TopicPartition, what: str) -> CheckpointConflict:
    return CheckpointConflict(
        f"{version}: {what}; another process has taken over",
        where=str(place),
        safe="Nothing of this batch was stored.",
    )


def _write_rows(db: SqliteFile, table: str, rows: pl.DataFrame, place: TopicPartition) -> None:
    """Upsert folded rows and delete those that are gone; a row never moves to another partition."""
    key = [name for (name,) in db.all(f"SELECT name FROM pragma_table_info('{table}') WHERE pk")]
    if TOMBSTONE in rows.columns:
        _delete_rows(db, table, key, (rows.filter(TOMBSTONE), place))
        rows = rows.filter(~pl.col(TOMBSTONE).fill_null(value=False)).drop(TOMBSTONE)
    if not len(rows):
        return
    names = [quoted(c) for c in rows.columns]
    updates = ", ".join(f"{n} = excluded.{n}" for n in names)
    written = db.run_many(
        f"INSERT INTO {quoted(table)} ({', '.join(names)}) "
        f"VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({', '.join(map(quoted, key))}) DO UPDATE SET {updates} "
        f"WHERE {quoted(table)}._partition = excluded._partition",
        stored(rows).rows(),
    )
    if written != len(rows):
        raise _on_two_partitions(db, table, key, (rows, place)) or FunctionFailed(
            f"{table}: a key belongs to one partition", where=str(place)
        )


def _delete_rows(
    db: SqliteFile, table: str, key: Sequence[str], gone: tuple[pl.DataFrame, TopicPartition]
) -> None:
    """Delete rows by their keys; one that another partition wrote is not this one's to delete."""
    rows, place = gone
    conflict = _on_two_partitions(db, table, key, gone)
    if conflict is not None:
        raise conflict
    match = " AND ".join(f"{quoted(k)} = ?" for k in key)
    db.run_many(
        f"DELETE FROM {quoted(table)} WHERE {match} AND _partition = ?",
        [(*values, place.partition) for values in stored(rows).select(key).rows()],
    )


def _on_two_partitions(
    db: SqliteFile, table: str, key: Sequence[str], written: tuple[pl.DataFrame, TopicPartition]
) -> FunctionFailed | None:
    rows, place = written
    match = " AND ".join(f"{quoted(k)} = ?" for k in key)
    keys = stored(rows).select(key).rows()
    for row, values in zip(rows.iter_rows(named=True), keys, strict=True):
        other = db.one(
            f"SELECT _partition, _offset FROM {quoted(table)} WHERE {match} AND _partition <> ?",
            *values,
            place.partition,
        )
        if other is not None:
            shown = ", ".join(f"{k}={row[k]!r}" for k in key)
            there = TopicPartition(place.topic, other[0]).at(other[1])
            return FunctionFailed(
                f"{table}: key {shown} was written from {there} before: a key belongs to one "
                "partition",
                where=place.at(row["_offset"]),
                safe="Nothing of this batch was stored.",
                cure="Key the source topic by the table's key, or forward it into a topic that is.",
            )
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
            column = column.map_elements(_json, return_dtype=pl.String, skip_nulls=True)
        columns.append(column)
    return rows.select(columns)


def _json(value: object) -> str:
    plain = value.to_list() if isinstance(value, pl.Series) else value
    return msgspec.json.encode(plain).decode()
