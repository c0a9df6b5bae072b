"""The local log: one SQLite file with Kafka's semantics.

Topics, partitions, offsets, keys, headers, timestamps, groups with offset and metadata. What
differs from Kafka: a transaction leaves no marker, so offsets have no gaps; a group has one
active member at a time, who holds every partition (a second one waits for it to leave); nothing
expires (``retention.ms`` is kept and shown, not acted upon).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from playhead.adapters import local_records
from playhead.adapters.local_groups import LocalGroups
from playhead.adapters.local_session import LocalMember, LocalReader
from playhead.adapters.sqlite_file import SqliteFile
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Outgoing
from playhead.errors import LogFailed, OffsetOutOfRange, Refused
from playhead.ports import BATCH_BYTES, TopicInfo

JOIN_TIMEOUT_S = 60.0
SCHEMA = """
CREATE TABLE IF NOT EXISTS topic (
  name TEXT PRIMARY KEY, id TEXT NOT NULL, config TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partition (
  topic TEXT, partition INTEGER, start_offset INTEGER NOT NULL, end_offset INTEGER NOT NULL,
  PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grp (
  name TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS committed (
  grp TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL, metadata TEXT NOT NULL,
  PRIMARY KEY (grp, topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS member (
  grp TEXT, id TEXT, topic TEXT, host TEXT, boot TEXT, pid INTEGER, started TEXT,
  heartbeat REAL, PRIMARY KEY (grp, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS producer (
  transactional_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
"""
SCHEMA += local_records.SCHEMA


class LocalLog(LocalGroups):
    """The `Log` port over one SQLite file."""

    remote = False

    def __init__(self, path: Path) -> None:
        """Open the file, creating it if needed.

        Raises:
            LogFailed: It cannot be opened, or an earlier Playhead wrote it.
        """
        self._path = path
        super().__init__(SqliteFile(path, SCHEMA, LogFailed))
        if self._db.one("SELECT 1 FROM sqlite_master WHERE name = 'record'"):
            raise LogFailed(
                f"{path} was written by an earlier Playhead, which kept a row for each record",
                safe="It was not changed.",
                cure="Move it away, and ingest its topics again.",
            )

    def topics(self) -> list[TopicInfo]:
        """Return every topic, sorted by name."""
        names = self._db.all("SELECT name FROM topic ORDER BY name")
        return [info for (name,) in names if (info := self.topic(name)) is not None]

    def topic(self, name: str) -> TopicInfo | None:
        """Return one topic, or None."""
        row = self._db.one(
            "SELECT id, config, (SELECT count(*) FROM partition WHERE topic = name) "
            "FROM topic WHERE name = ?",
            name,
        )
        if row is None:
            return None
        return TopicInfo(name, row[0], row[2], msgspec.json.decode(row[1], type=dict[str, str]))

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create a topic."""
        with self._db.transaction():
            if self._db.one("SELECT 1 FROM topic WHERE name = ?", name):
                raise Refused(f"topic {name} exists already", safe="It was not changed.")
            settings = msgspec.json.encode(dict(config)).decode()
            self._db.run("INSERT INTO topic VALUES (?, ?, ?)", name, uuid.uuid4().hex, settings)
            self._db.run_many(
                "INSERT INTO partition VALUES (?, ?, 0, 0)", [(name, p) for p in range(partitions)]
            )
        return TopicInfo(name, _existing(self, name).id, partitions, dict(config))

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records, and what groups have committed of it."""
        with self._db.transaction():
            self._db.run("DELETE FROM topic WHERE name = ?", name)
            for table in ("partition", "record_batch", "committed"):
                self._db.run(f"DELETE FROM {table} WHERE topic = ?", name)

    def retained(self, topic: str) -> dict[int, OffsetRange]:
        """Return what each partition holds."""
        _existing(self, topic)
        rows = self._db.all(
            "SELECT partition, start_offset, end_offset FROM partition WHERE topic = ?", topic
        )
        return {partition: OffsetRange(start, end) for partition, start, end in rows}

    def held_back(self, topic: str) -> dict[int, int]:
        """Return nothing: what is not committed has no offset yet."""
        _existing(self, topic)
        return {}

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete each partition's records before an offset."""
        with self._db.transaction():
            held = self.retained(topic)
            for partition, offset in sorted(before.items()):
                place = TopicPartition(topic, partition)
                if partition not in held:
                    raise LogFailed(f"{place} does not exist", safe="Nothing was deleted.")
                if not 0 <= offset <= held[partition].end:
                    raise OffsetOutOfRange(
                        f"nothing can be deleted before {offset}: the topic holds "
                        f"{held[partition]}",
                        where=str(place),
                        safe="Nothing was deleted.",
                    )
                local_records.delete_before(self._db, place, offset)
                self._db.run(
                    "UPDATE partition SET start_offset = ? "
                    "WHERE topic = ? AND partition = ? AND start_offset < ?",
                    offset,
                    topic,
                    partition,
                    offset,
                )

    def offset_at(self, topic: str, timestamp_ms: int) -> dict[int, int | None]:
        """Return the first offset with a timestamp at or after the time; None: there is none."""
        return {
            partition: local_records.first_since(
                self._db, TopicPartition(topic, partition), timestamp_ms
            )
            for partition in self.retained(topic)
        }

    def reader(
        self, topic: str, positions: Mapping[int, int], max_bytes: int = BATCH_BYTES
    ) -> LocalReader:
        """Return a reader of these partitions, at these positions."""
        _existing(self, topic)
        return LocalReader(self._db, topic, positions, max_bytes)

    def join(self, group: str, topic: str) -> LocalMember:
        """Join the group and wait until no other member is active."""
        partitions = tuple(range(_existing(self, topic).partitions))
        deadline = time.monotonic() + JOIN_TIMEOUT_S
        member = LocalMember(SqliteFile(self._path, SCHEMA, LogFailed), group, topic, partitions)
        while not member.enter():
            if time.monotonic() > deadline:
                member.close()
                raise LogFailed(
                    f"group {group} has an active member: "
                    + ", ".join(self.describe_group(group).members),
                    cure="Stop it first.",
                )
            time.sleep(0.1)
        return member

    def appender(self, name: str) -> LocalAppender:
        """Return an appender of one transaction at a time."""
        return LocalAppender(self._db)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._db.close()


def _existing(log: LocalLog, name: str) -> TopicInfo:
    info = log.topic(name)
    if info is None:
        raise LogFailed(
            f"topic {name} does not exist", cure="playhead topics list shows those that do."
        )
    return info


class LocalAppender:
    """Appends records; what is not committed was never there."""

    def __init__(self, db: SqliteFile) -> None:
        """Append into this file."""
        self._db = db
        self._open: list[Outgoing] = []

    def append(self, outgoing: Outgoing) -> None:
        """Keep the records for the next commit."""
        self._open.append(outgoing)

    def commit(self) -> None:
        """Append what was kept, all at once."""
        with self._db.transaction():
            for outgoing in self._open:
                local_records.append(self._db, outgoing)
        self._open = []

    def close(self) -> None:
        """Forget what is uncommitted."""
        self._open = []
