"""Reading the local log, and membership in its groups."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from playhead.adapters.local_records import append, read
from playhead.adapters.process import Process, this_process
from playhead.adapters.sqlite_file import SqliteFile
from playhead.core.checkpoint import Committed
from playhead.core.naming import witness_of
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Outgoing, Records
from playhead.errors import LogFailed, OffsetOutOfRange, SessionLost

HEARTBEAT_S = 3.0
SESSION_TIMEOUT_S = 10.0
POLL_S = 0.01
_SHORTLY = "PRAGMA busy_timeout=1000"  # for what is tried again, or expires by itself


def living_members(db: SqliteFile, group: str) -> list[Process]:
    """Return the members that count: the process exists and its heartbeat is fresh."""
    rows = db.all(
        "SELECT host, boot, pid, started, heartbeat FROM member WHERE grp = ? ORDER BY id", group
    )
    now = time.time()
    return [
        process
        for *who, heartbeat in rows
        if now - heartbeat < SESSION_TIMEOUT_S and not (process := Process(*who)).gone()
    ]


class LocalReader:
    """The `Reader` port over the local log."""

    def __init__(
        self, db: SqliteFile, topic: str, positions: Mapping[int, int], max_bytes: int
    ) -> None:
        """Read these partitions of a topic from these positions."""
        self._max_bytes = max_bytes
        self._db = db
        self._topic = topic
        self._positions = dict(sorted(positions.items()))

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows the positions, waiting for the first record."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self._read(max_records)
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(POLL_S)

    def _read(self, max_records: int) -> list[Records]:
        found: list[Records] = []
        max_bytes = self._max_bytes
        for partition in list(self._positions):
            if max_records <= 0 or max_bytes <= 0:
                break
            records = self._read_partition(partition, max_records, max_bytes)
            if records is not None:
                found.append(records)
                max_records -= len(records)
                max_bytes -= records.size
                # The partition that was served goes to the end of the line.
                self._positions[partition] = self._positions.pop(partition)
        return sorted(found, key=lambda records: records.source)

    def _read_partition(self, partition: int, max_records: int, max_bytes: int) -> Records | None:
        position = self._positions[partition]
        place = TopicPartition(self._topic, partition)
        records = read(self._db, place, position, (max_records, max_bytes))
        if records is None or records.offsets[0] != position:
            self._check_retained(place, position)
        if records is not None:
            self._positions[partition] = records.next
        return records

    def _check_retained(self, place: TopicPartition, position: int) -> None:
        row = self._db.one(
            "SELECT start_offset, end_offset FROM partition WHERE topic = ? AND partition = ?",
            place.topic,
            place.partition,
        )
        held = OffsetRange(*row) if row else OffsetRange(0, 0)
        if not held.holds(position, position):
            word = "no longer" if position < held.start else "not"
            raise OffsetOutOfRange(
                f"offset {position} is {word} retained (the topic holds {held}).",
                where=place.at(position),
                cure=f"Replay from {held.start}, or restore the topic from an archive."
                if position < held.start
                else "Was the topic cut or created anew? Compare its id and its end.",
            )

    def close(self) -> None:
        """Nothing of its own to let go of."""


class LocalMember:
    """The `Member` port: a row in the group, kept alive by a thread of its own."""

    on_step: Callable[[str], None] | None = None

    def __init__(self, db: SqliteFile, group: str, topic: str, partitions: tuple[int, ...]) -> None:
        """Prepare; `enter` joins. The connection becomes this member's own."""
        self._db = db
        self._group = group
        self._topic = topic
        self.partitions = partitions
        self._id = uuid.uuid4().hex
        self._generation = 0
        self._over = ""  # why the session ended
        self._producer: tuple[str, int] | None = None
        self._open: Sequence[Outgoing] = ()
        self._stop = threading.Event()
        self._beat = threading.Thread(
            target=self._heartbeats, name=f"heartbeat {group}", daemon=True
        )

    def enter(self) -> bool:
        """Become the group's member, unless another one is alive; say whether it worked."""
        with self._db.transaction():
            if living_members(self._db, self._group):
                return False
            self._register()
        self._beat.start()
        return True

    def _register(self) -> None:
        me = this_process()
        self._db.run("DELETE FROM member WHERE grp = ?", self._group)
        self._db.run(
            "INSERT INTO grp VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET "
            "generation = generation + 1",
            self._group,
        )
        row = self._db.one("SELECT generation FROM grp WHERE name = ?", self._group)
        self._generation = row[0] if row else 0
        self._db.run(
            "INSERT INTO member VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            self._group,
            self._id,
            self._topic,
            me.host,
            me.boot,
            me.pid,
            me.started,
            time.time(),
        )

    def _heartbeats(self) -> None:
        db = SqliteFile(self._db.path, "", LogFailed)
        db.run(_SHORTLY)
        while not self._stop.wait(HEARTBEAT_S):
            try:
                db.run(
                    "UPDATE member SET heartbeat = ? WHERE grp = ? AND id = ?",
                    time.time(),
                    self._group,
                    self._id,
                )
            except LogFailed:
                continue  # a busy file: the next beat tries again, ten seconds are allowed
        db.close()

    def ensure(self) -> None:
        """Check that the membership still counts."""
        row = None
        if not self._over:
            row = self._db.one(
                "SELECT generation FROM grp JOIN member ON grp = name WHERE grp = ? AND id = ?",
                self._group,
                self._id,
            )
        if row != (self._generation,):
            self._over = self._over or "the membership ended"
            raise SessionLost(
                f"The session of group {self._group} on {self._topic} ended: {self._over}.",
                safe="What was not committed is dropped; nothing is repeated from memory.",
            )

    def begin_publishing(self, transactional_id: str) -> None:
        """Raise the epoch of the transactional id: older producers are fenced."""
        self.ensure()
        with self._db.transaction():
            self._db.run(
                "INSERT INTO producer VALUES (?, 1) ON CONFLICT (transactional_id) DO UPDATE SET "
                "epoch = epoch + 1",
                transactional_id,
            )
            row = self._db.one(
                "SELECT epoch FROM producer WHERE transactional_id = ?", transactional_id
            )
        self._producer = (transactional_id, row[0] if row else 0)

    def committed(self) -> dict[int, tuple[Committed | None, Committed | None]]:
        """Return (K, W) of each partition."""
        self.ensure()
        found: list[dict[int, Committed]] = []
        for group in (self._group, witness_of(self._group)):
            rows = self._db.all(
                "SELECT partition, offset, metadata FROM committed WHERE grp = ? AND topic = ?",
                group,
                self._topic,
            )
            found.append({p: Committed(o, m) for p, o, m in rows})
        return {p: (found[0].get(p), found[1].get(p)) for p in self.partitions}

    def append(self, outgoing: Sequence[Outgoing]) -> None:
        """Keep the records for `finish`."""
        self._open = outgoing

    def finish(self, offsets: Mapping[int, Committed]) -> None:
        """Publish what was kept."""
        self.publish(self._open, offsets)

    def publish(self, outgoing: Sequence[Outgoing], offsets: Mapping[int, Committed]) -> None:
        """Append the records and commit for group and witness, in one transaction."""
        self.ensure()
        if self._producer is None:
            raise LogFailed("publish needs begin_publishing first", where=self._group)
        self._over = "a transaction did not finish"  # until it has
        self._step("begin")
        with self._db.transaction():
            self._check_fence(self._producer)
            for out in outgoing:
                append(self._db, out)
            self._step("produced")
            self._commit(self._group, offsets)
            self._step("group offsets sent")
            self._commit(witness_of(self._group), offsets)
            self._step("witness offsets sent")
            self._step("before log commit")
        self._over = ""
        self._step("after log commit")

    def _check_fence(self, producer: tuple[str, int]) -> None:
        row = self._db.one(
            "SELECT generation FROM grp JOIN member ON grp = name WHERE grp = ? AND id = ?",
            self._group,
            self._id,
        )
        mine = self._db.one(
            "SELECT 1 FROM producer WHERE transactional_id = ? AND epoch = ?", *producer
        )
        if row != (self._generation,) or mine is None:
            self._over = "another process took over its transactional id"
            raise SessionLost(
                f"Another process took over publishing for group {self._group}.",
                safe="Nothing of this transaction is visible.",
            )

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Commit the group's own offsets."""
        self.ensure()
        with self._db.transaction():
            self.ensure()
            self._commit(self._group, offsets)

    def _commit(self, group: str, offsets: Mapping[int, Committed]) -> None:
        self._db.run_many(
            "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?, ?)",
            [(group, self._topic, p, c.offset, c.metadata) for p, c in offsets.items()],
        )

    def _step(self, name: str) -> None:
        if self.on_step is not None:
            self.on_step(name)

    def close(self) -> None:
        """Leave the group; safe to call twice."""
        self._over = self._over or "it was closed"
        if self._stop.is_set():
            return
        self._stop.set()
        if self._beat.is_alive():
            self._beat.join()
        try:
            self._db.run(_SHORTLY)
            self._db.run("DELETE FROM member WHERE grp = ? AND id = ?", self._group, self._id)
        except LogFailed:
            pass  # it expires by itself
        finally:
            self._db.close()
