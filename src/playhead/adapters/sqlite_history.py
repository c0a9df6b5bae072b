"""The history over a SQLite file: deltas, snapshots, dead letters, skips."""

from __future__ import annotations

import time
from collections.abc import Sequence

from playhead.adapters.sqlite_file import SqliteFile
from playhead.adapters.sqlite_journal import now, write_note
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts, Saved
from playhead.errors import CheckpointConflict, StoreFailed
from playhead.ports import DeadLetter, Move, Snapshot


class SqliteHistory:
    """The `History` port over one SQLite file."""

    def __init__(self, db: SqliteFile) -> None:
        """Keep the connection."""
        self._db = db

    def saved(self, version: str, partition: int) -> list[Saved]:
        """Return every delta and snapshot of every generation, in the order of writing."""
        rows = self._db.all(
            "SELECT generation, batch, whole, begin, next, records, dead, length(content), at_s "
            "FROM playhead__past WHERE version = ? AND partition = ? "
            "ORDER BY generation, batch, whole",
            version,
            partition,
        )
        return [
            Saved(g, b, bool(w), begin, end, Counts(records, dead), size, at)
            for g, b, w, begin, end, records, dead, size, at in rows
        ]

    def content(self, version: str, partition: int, saved: Saved) -> bytes:
        """Return the content of one, as it was written."""
        row = self._db.one(
            "SELECT content FROM playhead__past "
            "WHERE version = ? AND partition = ? AND generation = ? AND batch = ? AND whole = ?",
            version,
            partition,
            saved.generation,
            saved.batch,
            saved.whole,
        )
        if row is None:
            raise StoreFailed(f"{version}: batch {saved.batch} is not in the history any more")
        return bytes(row[0])

    def save(self, version: str, snapshot: Snapshot) -> None:
        """Save a snapshot, with the counters of the cursor row."""
        place, cursor = snapshot.place, snapshot.cursor
        with self._db.transaction():
            row = self._db.one(
                "SELECT records, dead FROM playhead__cursor "
                "WHERE version = ? AND topic = ? AND partition = ? "
                "AND next = ? AND generation = ? AND batch = ? AND epoch = ?",
                version,
                place.topic,
                place.partition,
                cursor.next,
                cursor.generation,
                cursor.batch,
                snapshot.epoch,
            )
            if row is None:
                raise CheckpointConflict(
                    f"{version}: the cursor is no longer {cursor}; another process has taken over",
                    where=str(place),
                    safe="No snapshot was saved.",
                )
            counts = Counts(*row)
            _insert(self._db, version, Saved(cursor.generation, cursor.batch, True, cursor.next,
                    cursor.next, counts, 0, time.time()), place, snapshot.content)  # fmt: skip

    def forget(self, version: str, partition: int, saved: Sequence[Saved]) -> None:
        """Delete deltas and snapshots."""
        with self._db.transaction():
            self._db.run_many(
                "DELETE FROM playhead__past "
                "WHERE version = ? AND partition = ? AND generation = ? AND batch = ? "
                "AND whole = ?",
                [(version, partition, s.generation, s.batch, s.whole) for s in saved],
            )

    def dead_letters(self, version: str) -> list[DeadLetter]:
        """Return every dead letter of every generation, by place, offset and generation."""
        rows = self._db.all(
            "SELECT topic, partition, offset, generation, error, timestamp_ms, key, value "
            "FROM playhead__dead_letter WHERE version = ? "
            "ORDER BY topic, partition, offset, generation",
            version,
        )
        return [DeadLetter(TopicPartition(t, p), *rest) for t, p, *rest in rows]

    def skip(self, version: str, place: TopicPartition, offset: int, reason: str) -> None:
        """Write down that this record is to be a dead letter whenever it is read."""
        with self._db.transaction():
            self._db.run(
                "INSERT OR REPLACE INTO playhead__skip VALUES (?, ?, ?, ?, ?, ?)",
                version,
                place.topic,
                place.partition,
                offset,
                reason,
                now(),
            )
            detail = {"place": str(place), "offset": offset, "reason": reason}
            write_note(self._db, "skipped", version, detail)

    def skips(self, version: str) -> dict[int, dict[int, str]]:
        """Return the reasons of `skip` by partition and offset."""
        found: dict[int, dict[int, str]] = {}
        for partition, offset, reason in self._db.all(
            "SELECT partition, offset, reason FROM playhead__skip WHERE version = ?", version
        ):
            found.setdefault(partition, {})[offset] = reason
        return found


def write_past(db: SqliteFile, version: str, move: Move) -> None:
    """Write what a move leaves: delta or snapshot, and dead letters; in the caller's transaction.

    A batch leaves its delta; a move that begins a generation leaves a snapshot.
    """
    after = move.after
    fresh = after.generation != move.before.generation
    begin = after.next if fresh else move.before.next
    saved = Saved(
        after.generation, after.batch, fresh, begin, after.next, move.counts, 0, time.time()
    )
    _insert(db, version, saved, move.place, move.content)
    db.run_many(
        "INSERT INTO playhead__dead_letter VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (version, d.place.topic, d.place.partition, d.generation, d.offset, d.error,
             d.timestamp_ms, d.key, d.value, now())
            for d in move.dead
        ],
    )  # fmt: skip


def _insert(
    db: SqliteFile, version: str, saved: Saved, place: TopicPartition, content: bytes
) -> None:
    db.run(
        "INSERT OR REPLACE INTO playhead__past VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        version,
        place.partition,
        saved.generation,
        saved.batch,
        saved.whole,
        saved.begin,
        saved.next,
        saved.counts.records,
        saved.counts.dead,
        saved.at_s,
        content,
    )
