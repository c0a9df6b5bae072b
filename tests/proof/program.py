"""One program of the stateful model: the product in this process, and beside it the oracle.

`Program` does what users, accidents and other tools do to a project: it produces, runs, crashes,
resets, replays, promotes. After each act `check` reads the store and the log and compares them with
the oracle: tables, state and counters with what one pass up to the cursor gives, and every
published record with what its generation must have published at that offset, once and in order.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from playhead.core.offsets import TopicPartition
from playhead.core.targets import Target
from playhead.engine.events import Event, Step
from playhead.engine.line import Line
from playhead.engine.session import Session
from playhead.engine.task import Task
from playhead.engine.worker import Worker, ends
from playhead.errors import OffsetOutOfRange, Refused, SessionLost, Unexplained
from playhead.ops import versions
from playhead.ops.diff import Difference, diff
from playhead.ops.diff import Request as DiffRequest
from playhead.ops.plan import plan
from playhead.ops.promote import promote, rollback
from playhead.ops.replay import Request, replay
from playhead.ops.rewind import Request as RewindRequest
from playhead.ops.rewind import rewind
from playhead.ops.versions import Known
from playhead.ports import Store
from playhead.project import Project
from proof import oracle
from proof.project import FACTORS, TABLES, Given, Site, as_published, stored

# Where a frozen process may wake up: no transaction of its own is open there.
AWAKE = ("computed", "begin", "after log commit", "before store commit", "after store commit")
Name = tuple[str, str]  # pipeline, label


class Crash(BaseException):
    """The process is gone: nothing after this point happens."""


@dataclass
class Track:
    """What the model knows of one version.

    Attributes:
        done: Offsets that were processed, in order, by partition: those of the lineage.
        at: The cursor that was seen last, by partition.
        generation: The generation that was seen last, by partition.
        out: Where the next published record has to come from, by partition.
        seen: How many published records were compared already, by partition.
    """

    done: dict[int, list[int]] = field(default_factory=dict)
    at: dict[int, int] = field(default_factory=dict)
    generation: dict[int, int] = field(default_factory=dict)
    out: dict[int, int] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)


@dataclass
class Sleeper:
    """A process that stands still, in the middle of its work.

    Attributes:
        name: The version that it runs.
        session: Its session.
        store: Its store.
        overtaken: Whether another process has started the same version meanwhile.
        moved: Where somebody moved the group to meanwhile.
    """

    name: Name
    session: Session
    store: Store
    overtaken: bool = False
    moved: dict[int, int] = field(default_factory=dict)


class Program:
    """A project in a folder, acted upon and checked."""

    def __init__(self, folder: Path, partitions: int, snapshot_records: int = 20) -> None:
        """Make the project."""
        self.site = Site.build(folder, snapshot_records=snapshot_records)
        self.project: Project = self.site.project
        self.tracks: dict[Name, Track] = {}
        self.sleeper: Sleeper | None = None
        self.happened: dict[str, int] = {}
        self.site.produce([], partitions)

    # -------------------------------------------------------------------------- what is done

    def produce(self, given: list[Given]) -> None:
        """Append to the source topic."""
        self.site.produce(given)

    def live(self, pipeline: str) -> str:
        """Return the label that is live; before the first start, the one that will be."""
        with closing(self.project.open_store()) as store:
            pointer = store.catalog.pointer(pipeline)
        return pointer.label if pointer else "one"

    def run(
        self,
        pipeline: str,
        records: int,
        *,
        most: int | None = None,
        to: Mapping[int, int] | None = None,
        crash: tuple[str, int] | None = None,
        accept_gap: bool = False,
    ) -> str:
        """Run what is live, in batches of ``records``; return how it ended.

        Args:
            pipeline: The pipeline.
            records: Most records of a batch.
            most: Most offsets of a partition to process; None: to the end.
            to: Where to stop, by partition; None: at the end.
            crash: Step and occurrence at which the process dies.
            accept_gap: As the option of ``playhead run``.
        """
        name = (pipeline, self.live(pipeline))
        tell = crash_at(*crash) if crash else _quiet
        task = self.task(name, records, accept_gap=accept_gap)
        try:
            self._work(task, most, to, tell)
            ended = "done"
        except Crash:
            ended = "crashed"
        except OffsetOutOfRange:
            ended = "out of range"
        except Refused:
            ended = "refused"
        self._count(f"run {ended}")
        if ended in {"done", "crashed"}:  # a refusal may come before anything was taken over
            self._overtake(name)
        self.check(whole=ended == "done", only=name, gap=accept_gap)
        return ended

    def caught_up(self, pipeline: str, records: int) -> bool:
        """Run to the end, following the cure of each refusal; say whether there is one.

        There is none where the log forgot what was not processed yet, and the witness is gone:
        nothing can tell what was published. A new label is the only way then.
        """
        ended = self.run(pipeline, records)
        if ended == "refused":
            self.reset(pipeline, self.cursors(pipeline))
            ended = self.run(pipeline, records)
        if ended == "out of range":
            self.reset(pipeline, self._retained_from(pipeline))
            ended = self.run(pipeline, records, accept_gap=True)
        if ended != "done" and self._hopeless(pipeline):
            self._count("only a new label helps")
            return False
        assert ended == "done", ended
        assert self.cursors(pipeline) == self.ends()
        return True

    def _hopeless(self, pipeline: str) -> bool:
        with closing(self.project.open_log()) as log:
            held = log.retained(self.site.topic)
            witness = log.committed(f"{self.group(pipeline)}.witness")
        behind = any(at < held[p].start for p, at in self.cursors(pipeline).items())
        return behind and len(witness) < len(held)

    def reset(self, pipeline: str, offsets: Mapping[int, int]) -> None:
        """Move the group as Kafka's own tool does: another tool moves the playhead."""
        places = {TopicPartition(self.site.topic, p): at for p, at in offsets.items()}
        with closing(self.project.open_log()) as log:
            log.reset(self.group(pipeline), places)
        if self.sleeper and self.sleeper.name == (pipeline, self.live(pipeline)):
            self.sleeper.moved = dict(offsets)
        self._count("reset")

    def rewind(self, pipeline: str, to: int, crash: tuple[str, int] | None = None) -> str:
        """Rewind what is live with our own command; return how it ended."""
        name = (pipeline, self.live(pipeline))
        if name not in self.tracks:
            return "refused"
        request = RewindRequest(pipeline, Target("offset", to), execute=True)
        before = self.cursors(pipeline)
        try:
            rewind(self.project, request, crash_at(*crash) if crash else _quiet)
            ended = "done"
        except Crash:
            ended = "crashed"
        except Refused:
            ended = "refused"
        self._count(f"rewind {ended}")
        if ended != "refused":
            self._overtake(name)
        self.check(whole=ended == "done", only=name)
        if ended == "done":
            assert self.cursors(pipeline) == dict.fromkeys(before, to)
        return ended

    def lose_group(self, pipeline: str, *, witness: bool) -> None:
        """Let the group's offsets expire; the witness's too."""
        group = self.group(pipeline)
        names = [group, f"{group}.witness"] if witness else [group]
        with self._log_file() as log:
            for name in names:
                log.execute("DELETE FROM committed WHERE grp = ?", (name,))
        self._count("group lost")

    def delete_records(self, before: Mapping[int, int]) -> None:
        """Let the log forget what lies before these offsets."""
        with closing(self.project.open_log()) as log:
            log.delete_records(self.site.topic, before)
        self._count("records deleted")

    def recreate_topic(self, pipeline: str, records: int) -> None:
        """Delete and create the source topic: every start is refused until it is back."""
        if not self.cursors(pipeline):
            return
        with self._log_file() as log:
            (was,) = log.execute("SELECT id FROM topic WHERE name = 'points'").fetchone()
            log.execute("UPDATE topic SET id = 'another' WHERE name = 'points'")
        before = self.everything()
        assert self.run(pipeline, records) == "refused"
        assert self.everything() == before
        with self._log_file() as log:
            log.execute("UPDATE topic SET id = ? WHERE name = 'points'", (was,))
        self._count("topic recreated")

    def replay(self, pipeline: str, label: str, crash: tuple[str, int] | None = None) -> None:
        """Replay into a shadow: live is not touched, and afterwards there is nothing to plan."""
        live = self.live(pipeline)
        before = self.version_state((pipeline, live))
        name = f"{pipeline}@{label}"
        tell = crash_at(*crash) if crash else _quiet
        try:
            done = replay(self.project, Request((name,)), threading.Event(), tell)
            if any(one.resumed for one in done):  # to the end of the one that was interrupted
                replay(self.project, Request((name,)), threading.Event(), tell)
            ended = "done"
        except Crash:
            ended = "crashed"
        except Refused:
            ended = "refused"
        self._count(f"replay {ended}")
        if ended != "refused":
            self._overtake((pipeline, label))
        self.check(whole=ended == "done", only=(pipeline, label))
        if label != live:
            assert self.version_state((pipeline, live)) == before, "a replay touched live"
        if ended != "done":
            return
        steps = plan(self.project, pipeline).steps
        assert not [s for s in steps if getattr(s, "version", "") == name], steps

    def promote(self, pipeline: str, label: str, records: int) -> None:
        """Promote a shadow and roll back: refused exactly where the oracle finds it unexplained."""
        if not self.caught_up(pipeline, records):
            return
        self.replay(pipeline, label)
        live = self.live(pipeline)
        if label == live or self.cursors(pipeline, live) != self.cursors(pipeline, label):
            return  # what the shadow needs is no longer retained
        digest = None
        before = self.public(pipeline)
        if self.compare(pipeline, live, label).unexplained:
            with pytest.raises(Unexplained) as raised:
                promote(self.project, f"{pipeline}@{label}")
            assert self.live(pipeline) == live
            self._count("promotion unexplained")
            digest = (raised.value.cure or "").rstrip(".").split()[-1]
        promote(self.project, f"{pipeline}@{label}", accept_diff=digest)
        self._count("promotion")
        for name in (live, label):
            self._overtake((pipeline, name))
        self.check()
        assert self.live(pipeline) == label
        assert self.cursors(pipeline, live) == self.cursors(pipeline, label)
        self.rollback(pipeline)
        assert self.public(pipeline) == before, "readers see another table"
        self.rollback(pipeline)
        assert self.live(pipeline) == label

    def rollback(self, pipeline: str) -> None:
        """Roll back what was promoted: readers see what the old version gives."""
        live = self.live(pipeline)
        if (pipeline, live) not in self.tracks:
            return  # nothing has run yet
        try:
            rollback(self.project, pipeline)
        except Refused:
            self._count("rollback refused")
            self.check()
            assert self.live(pipeline) == live
            return
        self._count("rollback")
        for name in (live, self.live(pipeline)):
            self._overtake((pipeline, name))
        self.check()
        assert self.live(pipeline) != live

    def freeze_in(self, pipeline: str, step: str, records: int) -> None:
        """Freeze a process at a step, let another take over, wake the first: it commits nothing."""
        name = (pipeline, self.live(pipeline))
        seen: list[Any] = []

        def tell(event: Event) -> None:
            if isinstance(event, Step) and event.name == step and not seen and self.sleeper:
                self._freeze(self.sleeper)
                seen.append(None)
                self.caught_up(pipeline, records)
                seen[0] = self.everything()

        sleeper = self.sleep(name, records, tell)
        if sleeper is None:
            return
        lost = False
        for _ in range(2):  # at the last step the first batch is committed, and the second is not
            if seen and lost:
                break
            lost = not self._one_batch(sleeper, records)
        self._bury()
        if seen:
            assert self.everything() == seen[0], "a process that woke up committed something"
            self._count("frozen at a step")
        self.check()

    def sleep(self, name: Name, records: int, tell: Callable[[Event], None]) -> Sleeper | None:
        """Begin a session that will stand still; None where it cannot start."""
        self.wake(records)
        store = self.project.open_store()
        log = self.project.open_log()
        session = Session(self.task(name, records), log, store, tell)
        self.sleeper = Sleeper(name, session, store)
        try:
            session.start()
        except Refused:
            self._bury()
            self.check()
            return None
        self.check()
        return self.sleeper

    def fall_asleep(self, pipeline: str, records: int, batches: int) -> None:
        """Begin a session, commit some batches, and stand still."""
        sleeper = self.sleep((pipeline, self.live(pipeline)), records, _quiet)
        if sleeper:
            for _ in range(batches):
                self._one_batch(sleeper, records)
            self._freeze(sleeper)
            self.check()

    def wake(self, records: int) -> None:
        """Let the frozen process go on: overtaken, it commits nothing."""
        sleeper = self.sleeper
        if sleeper is None:
            return
        before = self.everything()
        committed = self._one_batch(sleeper, records)
        if sleeper.overtaken:
            assert self.everything() == before, "a process that woke up committed something"
            self._count("woke up overtaken")
        elif sleeper.moved:
            with closing(self.project.open_log()) as log:
                now = log.committed(".".join(sleeper.name))
            assert {p.partition: c.offset for p, c in now.items()} == sleeper.moved
            self._count("woke up after a reset")
        elif committed:
            self._count("woke up in time")
        self._bury()
        self.check()

    # -------------------------------------------------------------------------- how it is done

    def task(self, name: Name, records: int, *, accept_gap: bool = False) -> Task:
        """Return a version as a task; the first start records it as live."""
        spelled = "@".join(name)
        with closing(self.project.open_log()) as log, closing(self.project.open_store()) as store:
            known = Known.read(self.project, store)
            if spelled not in known.rows:
                version = known.version(spelled)
                versions.record(known, self.project, log, store, version, stage="live")
                known = Known.read(self.project, store)
            task = versions.task_of(
                known, self.project, log, known.rows[spelled], accept_gap=accept_gap
            )
        return replace(task, batch_records=records)

    def _work(
        self,
        task: Task,
        most: int | None,
        to: Mapping[int, int] | None,
        tell: Callable[[Event], None],
    ) -> None:
        pipeline, label = task.version.pipeline, task.version.label
        bound = dict(to or self.ends())
        if most is not None:
            at = self.cursors(pipeline, label)
            bound = {p: min(end, at.get(p, 0) + most) for p, end in bound.items()}
        Worker(task, self.project.open_log, self.project.open_store, tell).run(bound)

    def _one_batch(self, sleeper: Sleeper, records: int) -> bool:
        session = sleeper.session
        positions = {p: seat.cursor.next for p, seat in session.seats.items()}
        with closing(session.log.reader(self.site.topic, positions)) as reader:
            try:
                batches = reader.read(records, 0)
                if batches:
                    Line(session, overlaps=False).put(batches)
            except (SessionLost, OffsetOutOfRange):
                return False
        return bool(batches)

    def _freeze(self, sleeper: Sleeper) -> None:
        """Make the process look dead to others: no heartbeat, its leases expired."""
        member = sleeper.session.member
        if member is not None:
            member._stop.set()
            member._beat.join()
        with self._log_file() as log:
            log.execute("UPDATE member SET heartbeat = 0")
        with self._store_file() as store:
            store.execute("UPDATE playhead__lease SET expires_s = 1")

    def _bury(self) -> None:
        sleeper, self.sleeper = self.sleeper, None
        if sleeper is None:
            return
        member = sleeper.session.member
        if member is not None:
            with suppress(SessionLost):
                member.close()
            with self._log_file() as log:
                log.execute("DELETE FROM member WHERE id = ?", (member._id,))
            member._db.close()
        sleeper.session.log.close()
        sleeper.store.close()

    def _overtake(self, name: Name) -> None:
        if self.sleeper and self.sleeper.name == name:
            self.sleeper.overtaken = True

    @contextmanager
    def _log_file(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.site.folder / ".playhead/log.db")) as file, file:
            yield file

    @contextmanager
    def _store_file(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.site.folder / ".playhead/store.db")) as file, file:
            yield file

    def _count(self, what: str) -> None:
        self.happened[what] = self.happened.get(what, 0) + 1

    def _most(self, what: str, number: int) -> None:
        self.happened[what] = max(self.happened.get(what, 0), number)

    def group(self, pipeline: str) -> str:
        """Return the group of what is live."""
        return f"{pipeline}.{self.live(pipeline)}"

    def cursors(self, pipeline: str, label: str | None = None) -> dict[int, int]:
        """Return the cursors of a version; of what is live unless it is named."""
        with closing(self.project.open_store()) as store:
            found = store.ledger.standings(f"{pipeline}@{label or self.live(pipeline)}")
        return {p: s.cursor.next for p, s in found.items()}

    def ends(self) -> dict[int, int]:
        """Return the end of each partition of the source topic."""
        with closing(self.project.open_log()) as log:
            return ends(log.retained(self.site.topic))

    def at(self, shares: Sequence[float]) -> dict[int, int]:
        """Return offsets: a share of each partition."""
        return {p: int(end * shares[p]) for p, end in self.ends().items()}

    def safe_to_delete(self) -> dict[int, int]:
        """Return how much of the source may go: nothing of a batch that was not stored yet."""
        found = self.ends()
        with closing(self.project.open_log()) as log, closing(self.project.open_store()) as store:
            for row in store.catalog.versions():
                at = {p: s.cursor.next for p, s in store.ledger.standings(row.name).items()}
                for group in (row.group, f"{row.group}.witness"):
                    for place, committed in log.committed(group).items():
                        p = place.partition
                        if committed.checkpoint and committed.offset > at.get(p, 0):
                            found[p] = min(found[p], at.get(p, 0))
        return found

    def _retained_from(self, pipeline: str) -> dict[int, int]:
        with closing(self.project.open_log()) as log:
            held = log.retained(self.site.topic)
        at = self.cursors(pipeline)
        return {p: max(h.start, at.get(p, 0)) for p, h in held.items()}

    # -------------------------------------------------------------------------- what is checked

    def check(self, *, whole: bool = False, only: Name | None = None, gap: bool = False) -> None:
        """Compare everything with the oracle.

        Args:
            whole: Nothing may be pending: what was published is what was stored.
            only: The version that ``whole`` is said of; None: of every one.
            gap: Whether a new generation may have skipped something.
        """
        self.given = {(r["partition"], r["offset"]): r for r in self._remembered()}
        with closing(self.project.open_store()) as store:
            for row in store.catalog.versions():
                name = (row.pipeline, row.label)
                track = self.tracks.setdefault(name, Track())
                self._advance(store, name, track, gap=gap)
                self._check_store(store, name, track)
                if row.topics:
                    self._check_topic(name, track, whole=whole and name == (only or name))

    def _remembered(self) -> list[dict[str, Any]]:
        """Return every record that ever was in the source topic, deleted or not."""
        known = getattr(self, "_input", {})
        known.update({(r["partition"], r["offset"]): r for r in self.site.given()})
        self._input: dict[tuple[int, int], dict[str, Any]] = known
        return list(known.values())

    def _advance(self, store: Store, name: Name, track: Track, *, gap: bool) -> None:
        """Follow the version's cursors: forward by batches, back by rewinds."""
        spelled = "@".join(name)
        generations = store.ledger.generations(spelled)
        for p, standing in store.ledger.standings(spelled).items():
            done = track.done.setdefault(p, [])
            for new in generations[p][track.generation.get(p, 0) :]:
                at = track.at.get(p, new.start)
                if new.gap_from is not None:
                    assert gap, "a skip that nobody accepted"
                    done += range(at, new.gap_from)
                else:
                    done += range(at, new.start)  # what was published and not stored, before
                    done[:] = [offset for offset in done if offset < new.start]
                    self._count("rewind" if new.number > 1 else "first start")
                track.generation[p] = new.number
                track.at[p] = track.out[p] = new.start
            cursor = standing.cursor
            done += range(track.at[p], cursor.next)
            track.at[p] = cursor.next
            assert cursor.generation == track.generation[p]
            self._most("dead letters", standing.counts.dead)
            counted = standing.counts.records + standing.counts.dead
            assert counted == len(done), "n_in is not n_processed + n_dead"

    def _check_store(self, store: Store, name: Name, track: Track) -> None:
        """Table and state are those of one pass over what was processed."""
        found = stored(store, *name)
        folds = {p: self.fold(name, p, done) for p, done in track.done.items()}
        rows = sorted(list(row) for fold in folds.values() for row in fold.rows.values())
        assert found["table"] == rows
        assert found["dead"] == sorted(list(d) for fold in folds.values() for d in fold.dead)
        assert found["state"] == {str(p): fold.state() for p, fold in folds.items()}

    def _check_topic(self, name: Name, track: Track, *, whole: bool) -> None:
        """Each generation has published its offsets once, in order, with the right content."""
        published = [as_published(r) for r in self.site.topic_dump(f"sums.{name[1]}")]
        for p, at in track.at.items():
            here = [r for r in published if r["partition"] == p]
            new = here[track.seen.get(p, 0) :]
            track.seen[p] = len(here)
            end = new[-1]["source"] + 1 if new else at
            fold = self.fold(name, p, [*track.done[p], *range(at, end)])
            for record in new:
                self._pass_dead(track, p, fold, end)
                expected = fold.out[track.out[p]]
                assert record == {**expected, "generation": track.generation[p]}
                track.out[p] += 1
            self._pass_dead(track, p, fold, at)
            assert track.out[p] >= at, "stored, but never published"
            if whole:
                assert track.out[p] == at, "published, and not stored"

    def _pass_dead(self, track: Track, p: int, fold: oracle.Fold, end: int) -> None:
        """Dead letters are not published: go on to the next record that is."""
        while track.out[p] < end and track.out[p] not in fold.out:
            track.out[p] += 1

    def fold(self, name: Name, partition: int, offsets: Iterable[int]) -> oracle.Fold:
        """Return what the oracle makes of these offsets."""
        fold = oracle.Fold(FACTORS[name[1]])
        for offset in offsets:
            fold.take(self.given[partition, offset])
        return fold

    def table(self, name: Name) -> dict[int, tuple[float, Any, int]]:
        """Return what the oracle has in the table: total, before and n by key."""
        rows = [
            row
            for p, done in self.tracks[name].done.items()
            for row in self.fold(name, p, done).rows.values()
        ]
        return {key: (float.fromhex(total), before, n) for key, total, before, n, *_ in rows}

    def unexplained(self, pipeline: str, base: str, head: str) -> int:
        """Return how many rows differ in a way that was not declared, by the oracle."""
        b, h = self.table((pipeline, base)), self.table((pipeline, head))
        differ = [k for k in b.keys() | h.keys() if b.get(k) != h.get(k)]
        if head != "two":
            return len(differ)
        return sum(
            k not in b or k not in h or not math.isclose(h[k][0], b[k][0] * 2, rel_tol=1e-9)
            for k in differ
        )

    def compare(self, pipeline: str, base: str, head: str) -> Difference:
        """Take a diff both ways; its classes are the oracle's."""
        found = diff(self.project, DiffRequest(pipeline, base, head))
        back = diff(self.project, DiffRequest(pipeline, head, base))
        b, h = self.table((pipeline, base)), self.table((pipeline, head))
        if self.cursors(pipeline, base) == self.cursors(pipeline, head):
            both = b.keys() & h.keys()
            same = sum(b[k] == h[k] for k in both)
            counts = (same, len(both) - same, len(b) - len(both), len(h) - len(both))
            names = ("same", "changed", "ghost", "new")
            assert tuple(found.total(n) for n in names) == counts
            assert found.unexplained == self.unexplained(pipeline, base, head)
        mirrored = ("same", "changed", "new", "ghost", "in_flight")
        straight = ("same", "changed", "ghost", "new", "in_flight")
        assert [found.total(n) for n in straight] == [back.total(n) for n in mirrored]
        itself = diff(self.project, DiffRequest(pipeline, base, base))
        assert [itself.total(n) for n in ("changed", "ghost", "new")] == [0, 0, 0]
        self._count("diff")
        return found

    def public(self, pipeline: str) -> list[Any]:
        """Return what readers of the table see."""
        with self._store_file() as store:
            return store.execute(f"SELECT * FROM {TABLES[pipeline]} ORDER BY key").fetchall()

    def version_state(self, name: Name) -> list[Any]:
        """Return everything that belongs to a version: results, cursor, group, topic."""
        with closing(self.project.open_store()) as store:
            found: list[Any] = [stored(store, *name), store.ledger.standings("@".join(name))]
        with closing(self.project.open_log()) as log:
            found.append(log.committed(".".join(name)))
            topic = f"sums.{name[1]}"
            found.append(log.retained(topic) if log.topic(topic) else None)
        return found

    def everything(self) -> list[Any]:
        """Return all that a commit could change: cursors, results, topics, groups."""
        columns = "version, partition, next, generation, batch, records"
        with self._store_file() as store:
            found = [store.execute(f"SELECT {columns} FROM playhead__cursor").fetchall()]
            found.append(store.execute("SELECT * FROM playhead__past").fetchall())
            for (name,) in store.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%\\_\\_%' "
                "ESCAPE '\\' AND name NOT LIKE 'playhead%'"
            ).fetchall():
                found.append(store.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall())
        with self._log_file() as log:
            found.append(log.execute("SELECT * FROM partition ORDER BY 1, 2").fetchall())
            found.append(log.execute("SELECT * FROM committed ORDER BY 1, 2, 3").fetchall())
        return found

    def close(self) -> None:
        """Let go of everything."""
        self._bury()


def crash_at(step: str, nth: int) -> Callable[[Event], None]:
    """Return a listener that dies when a step is told for the nth time."""
    seen = 0

    def tell(event: Event) -> None:
        nonlocal seen
        if isinstance(event, Step) and event.name == step:
            seen += 1
            if seen == nth:
                raise Crash(step)

    return tell


def _quiet(_event: Event) -> None:
    pass
