"""The history over a SQL database: deltas, snapshots, dead letters, skips."""

from __future__ import annotations

from collections.abc import Sequence

from playhead.adapters.sql_database import Sql
from playhead.adapters.sql_journal import now, write_note
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts, Saved
from playhead.errors import CheckpointConflict, StoreFailed
from playhead.ports import DeadLetter, Move, Snapshot


class SqlHistory:
    """The `History` port."""

    def __init__(self, sql: Sql) -> None:
        """Keep the connection."""
        self._sql = sql

    def saved(self, version: str, partition: int) -> list[Saved]:
        """Return every delta and snapshot of every generation, in the order of writing."""
        rows = self._sql.all("history.saved", version=version, partition=partition)
        return [
            Saved(g, b, bool(w), begin, end, Counts(records, dead), size, at)
            for g, b, w, begin, end, records, dead, size, at in rows
        ]

    def content(self, version: str, partition: int, saved: Saved) -> bytes:
        """Return the content of one, as it was written."""
        row = self._sql.one("history.content", **_named(version, partition, saved))
        if row is None:
            raise StoreFailed(f"{version}: batch {saved.batch} is not in the history any more")
        return bytes(row[0])

    def save(self, version: str, snapshot: Snapshot) -> None:
        """Save a snapshot, with the counters of the cursor row."""
        place, cursor = snapshot.place, snapshot.cursor
        with self._sql.transaction():
            row = self._sql.one(
                "ledger.counts",
                version=version,
                topic=place.topic,
                partition=place.partition,
                next=cursor.next,
                generation=cursor.generation,
                batch=cursor.batch,
                epoch=snapshot.epoch,
            )
            if row is None:
                raise CheckpointConflict(
                    f"{version}: the cursor is no longer {cursor}; another process has taken over",
                    where=str(place),
                    safe="No snapshot was saved.",
                )
            here = cursor.next
            saved = Saved(cursor.generation, cursor.batch, True, here, here, Counts(*row), 0, 0)
            _put(self._sql, version, saved, place, snapshot.content)

    def forget(self, version: str, partition: int, saved: Sequence[Saved]) -> None:
        """Delete deltas and snapshots."""
        with self._sql.transaction():
            self._sql.run_many("history.forget", [_named(version, partition, s) for s in saved])

    def dead_letters(self, version: str) -> list[DeadLetter]:
        """Return every dead letter of every generation, by place, offset and generation."""
        rows = self._sql.all("history.dead_letters", version=version)
        return [DeadLetter(TopicPartition(t, p), *rest) for t, p, *rest in rows]

    def skip(self, version: str, place: TopicPartition, offset: int, reason: str) -> None:
        """Write down that this record is to be a dead letter whenever it is read."""
        with self._sql.transaction():
            self._sql.run(
                "history.put_skip",
                version=version,
                topic=place.topic,
                partition=place.partition,
                offset=offset,
                reason=reason.replace("\0", "\\0"),
                at=now(),
            )
            detail = {"place": str(place), "offset": offset, "reason": reason}
            write_note(self._sql, "skipped", version, detail)

    def skips(self, version: str) -> dict[int, dict[int, str]]:
        """Return the reasons of `skip` by partition and offset."""
        found: dict[int, dict[int, str]] = {}
        for partition, offset, reason in self._sql.all("history.skips", version=version):
            found.setdefault(partition, {})[offset] = reason
        return found


def write_past(sql: Sql, version: str, move: Move) -> None:
    r"""Write what a move leaves: delta or snapshot, and dead letters; in the caller's transaction.

    A batch leaves its delta; a move that begins a generation leaves a snapshot. A NUL in an error
    is written as ``\0``: PostgreSQL has no room for it, and no error may keep a batch away.
    """
    after = move.after
    fresh = after.generation != move.before.generation
    begin = after.next if fresh else move.before.next
    saved = Saved(after.generation, after.batch, fresh, begin, after.next, move.counts, 0, 0)
    _put(sql, version, saved, move.place, move.content)
    sql.run_many(
        "history.insert_dead_letter",
        (
            {
                "version": version,
                "topic": d.place.topic,
                "partition": d.place.partition,
                "generation": d.generation,
                "offset": d.offset,
                "error": d.error.replace("\0", "\\0"),
                "timestamp_ms": d.timestamp_ms,
                "key": d.key,
                "value": d.value,
                "at": now(),
            }
            for d in move.dead
        ),
    )


def _named(version: str, partition: int, saved: Saved) -> dict[str, object]:
    return {
        "version": version,
        "partition": partition,
        "generation": saved.generation,
        "batch": saved.batch,
        "whole": saved.whole,
    }


def _put(sql: Sql, version: str, saved: Saved, place: TopicPartition, content: bytes) -> None:
    """Write one delta or snapshot; the database says when."""
    sql.run(
        "history.put",
        **_named(version, place.partition, saved),
        begin=saved.begin,
        next=saved.next,
        records=saved.counts.records,
        dead=saved.counts.dead,
        content=content,
    )
