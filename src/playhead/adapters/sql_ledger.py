"""The ledger over a SQL database: cursors, generations, leases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from playhead.adapters.process import Process, this_process
from playhead.adapters.sql_database import Sql
from playhead.adapters.sql_history import write_past
from playhead.adapters.sql_journal import now
from playhead.adapters.sql_tables import delete_partition, write_rows
from playhead.core.checkpoint import Cursor
from playhead.core.offsets import TopicPartition
from playhead.core.past import Counts
from playhead.errors import CheckpointConflict, Refused
from playhead.ports import Generation, Lease, Move, Orders, Standing

LEASE_S = 10.0
_UPSTREAM = msgspec.json.Decoder(dict[str, tuple[tuple[int, int], ...]])


class SqlLedger:
    """The `Ledger` port."""

    on_step: Callable[[str], None] | None = None

    def __init__(self, sql: Sql) -> None:
        """Keep the connection."""
        self._sql = sql
        self.id: str = sql.meta("ledger") or ""

    def standings(self, version: str) -> dict[int, Standing]:
        """Return where the version stands, by partition."""
        rows = self._sql.all("ledger.standings", version=version)
        return {
            p: Standing(Cursor(n, g, b), e, s, t, Counts(records, dead))
            for p, n, g, b, e, s, t, records, dead in rows
        }

    def generations(self, version: str) -> dict[int, list[Generation]]:
        """Return every generation of every partition, oldest first."""
        found: dict[int, list[Generation]] = {}
        for partition, number, start, gap_from, upstream in self._sql.all(
            "ledger.generations", version=version
        ):
            known = _UPSTREAM.decode(upstream)
            found.setdefault(partition, []).append(Generation(number, start, gap_from, known))
        return found

    def begin(self, version: str, place: TopicPartition, topic_id: str, move: Move) -> None:
        """Insert the cursor row of a first start."""
        with self._sql.transaction():
            held = self._sql.one("lease.lock", name=_lease_name(version, place))
            if held != (move.epoch,):
                raise _conflict(version, place, "the lease is another's now")
            inserted = self._sql.run(
                "ledger.insert_cursor",
                version=version,
                topic=place.topic,
                partition=place.partition,
                topic_id=topic_id,
                next=move.after.next,
                generation=move.after.generation,
                batch=move.after.batch,
                epoch=move.epoch,
            )
            if not inserted:
                raise _conflict(version, place, "it has a cursor already")
            _begin_generation(self._sql, version, move)
            for table, rows in move.rows.items():
                write_rows(self._sql, table, rows, move.place)

    def commit(self, version: str, moves: Sequence[Move]) -> Orders:
        """Move the cursors and write content and rows, all or nothing; return the orders."""
        with self._sql.transaction():
            for move in sorted(moves, key=lambda m: m.place):
                self._compare_and_set(version, move)
            self._step("after compare-and-set")
            for move in moves:
                if move.after.generation != move.before.generation:
                    _begin_generation(self._sql, version, move)
                else:
                    write_past(self._sql, version, move)
            self._step("between delta and rows")
            for move in moves:
                for table, rows in move.rows.items():
                    write_rows(self._sql, table, rows, move.place)
            self._sql.run("meta.changed")
            return self.orders(version)

    def orders(self, version: str) -> Orders:
        """Return what a worker of this version is told now."""
        pipeline, _, label = version.partition("@")
        stage = self._sql.one("ledger.stage", pipeline=pipeline, label=label)
        hold = self.lease(f"hold/{pipeline}")
        told = hold.epoch if hold is not None and hold.in_force else None
        return Orders(str(stage[0]) if stage else "", told)

    def _step(self, name: str) -> None:
        if self.on_step is not None:
            self.on_step(name)

    def _compare_and_set(self, version: str, move: Move) -> None:
        changed = self._sql.run(
            "ledger.compare_and_set",
            version=version,
            topic=move.place.topic,
            partition=move.place.partition,
            after_next=move.after.next,
            after_generation=move.after.generation,
            after_batch=move.after.batch,
            topic_id=move.topic_id,
            fresh=move.after.generation != move.before.generation,
            records=move.counts.records,
            dead=move.counts.dead,
            next=move.before.next,
            generation=move.before.generation,
            batch=move.before.batch,
            epoch=move.epoch,
        )
        if changed != 1:
            raise _conflict(version, move.place, f"the cursor is no longer {move.before}")

    def take(
        self, names: Sequence[str], note: str, at: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """Take leases whether in force or not; with ``at`` only from those who had them then."""
        with self._sql.transaction():
            for name in in_lock_order(names if at is not None else ()):
                if self._sql.one("lease.lock", name=name) != ((at or {}).get(name),):
                    raise CheckpointConflict(f"lease {name} was taken by another process")
            return {name: self._take(name, note) for name in in_lock_order(names)}

    def _take(self, name: str, note: str) -> int:
        owner = msgspec.json.encode(this_process())
        self._sql.run("lease.insert", name=name, owner=owner)
        row = self._sql.one("lease.take", name=name, owner=owner, note=note, for_s=LEASE_S)
        epoch = int(row[0]) if row else 0
        if name.startswith("part/"):
            version, topic, partition = name.removeprefix("part/").split("/")
            self._sql.run(
                "lease.stamp", epoch=epoch, version=version, topic=topic, partition=int(partition)
            )
        return epoch

    def take_free(self, name: str, note: str) -> int:
        """Take a lease that is free, expired, or held by a process that is gone."""
        with self._sql.transaction():
            self._sql.run("lease.insert", name=name, owner=msgspec.json.encode(this_process()))
            self._sql.one("lease.lock", name=name)
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
        with self._sql.transaction():
            for name in in_lock_order(epochs):
                if not self._sql.run("lease.renew", for_s=LEASE_S, name=name, epoch=epochs[name]):
                    raise CheckpointConflict(f"lease {name} was taken by another process")

    def answer(self, name: str, epoch: int, note: str) -> bool:
        """Write a note on a lease that another holds; say whether it still stood there."""
        with self._sql.transaction():
            held = self.lease(name)
            if held is None or not held.in_force:
                return False
            return bool(self._sql.run("lease.answer", name=name, epoch=epoch, note=note))

    def release(self, epochs: Mapping[str, int]) -> None:
        """Give leases back, those that are still ours; the epoch stays."""
        with self._sql.transaction():
            self._sql.run_many(
                "lease.release",
                [{"name": name, "epoch": epochs[name]} for name in in_lock_order(epochs)],
            )

    def lease(self, name: str) -> Lease | None:
        """Return one lease, or None when it was never taken or was given back."""
        row = self._sql.one("lease.look", name=name)
        if row is None:
            return None
        epoch, owner, in_time, note = row
        process = msgspec.json.decode(owner, type=Process)
        return Lease(name, epoch, str(process), bool(in_time) and not process.gone(), note)


def _begin_generation(sql: Sql, version: str, move: Move) -> None:
    sql.run(
        "ledger.insert_generation",
        version=version,
        topic=move.place.topic,
        partition=move.place.partition,
        number=move.after.generation,
        start=move.after.next,
        gap_from=move.gap_from,
        upstream=msgspec.json.encode(move.upstream),
        begun_at=now(),
        why=move.why,
    )
    write_past(sql, version, move)
    if move.topic_id:
        place = move.place
        sql.run(
            "history.drop_skips",
            version=version,
            topic=place.topic,
            partition=place.partition,
        )
    for table in move.rows:
        delete_partition(sql, table, move.place)


def in_lock_order(names: Iterable[str]) -> list[str]:
    """Return lease names in the order in which everybody locks them: partitions by number.

    `SqlLedger.commit` locks cursors in the order of their partitions, and a lease is followed by
    its cursor: in the order of text, 10 would come before 2 and two could wait for each other.
    """

    def order(name: str) -> tuple[str, int]:
        head, _, last = name.rpartition("/")
        return (head, int(last)) if last.isdigit() else (name, 0)

    return sorted(names, key=order)


def _lease_name(version: str, place: TopicPartition) -> str:
    return f"part/{version}/{place.topic}/{place.partition}"


def _conflict(version: str, place: TopicPartition, what: str) -> CheckpointConflict:
    return CheckpointConflict(
        f"{version}: {what}; another process has taken over",
        where=str(place),
        safe="Nothing of this batch was stored.",
    )
