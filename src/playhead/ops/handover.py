"""From one version to another while records come in: head follows, live stands, one swap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from playhead.engine.capped import Following
from playhead.engine.events import Event, OnEvent, Reading, Step
from playhead.engine.hold import LOOK_S, Standing, held
from playhead.engine.leases import runner
from playhead.engine.task import Task
from playhead.engine.worker import Worker, ends
from playhead.errors import CheckpointConflict, PlayheadError, PromotionRefused, Refused
from playhead.ops import epochs, versions
from playhead.ops.diff import Difference
from playhead.ops.journal import now
from playhead.ops.versions import Known
from playhead.ports import Log, Store, Swap, VersionRow, positions
from playhead.project import Project

HOLD_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Handover:
    """What it takes to hand over, open."""

    project: Project
    log: Log
    store: Store
    tell: OnEvent
    timeout_s: float

    def task(self, row: VersionRow) -> Task:
        """Return a recorded version as a task."""
        known = Known.read(self.project, self.store)
        return versions.task_of(known, self.project, self.log, row)

    def positions(self, row: VersionRow) -> dict[int, int]:
        """Return where a version stands now, by partition."""
        return positions(self.store.ledger.standings(row.name))

    def ends(self, row: VersionRow) -> dict[int, int]:
        """Return the ends of what a version reads, by partition."""
        return ends(self.log.retained(row.source))

    def at_the_end(self, row: VersionRow) -> bool:
        """Say whether a version has read everything that there is to read."""
        at = self.positions(row)
        return all(at.get(p, 0) >= end for p, end in self.ends(row).items())

    def wait(self, row: VersionRow, holds: Callable[[], bool], run: Callable[[], None]) -> None:
        """Wait for something as long as a version moves; ``run`` sees to it that it is run.

        Raises:
            PromotionRefused: It stood still for longer than the time allowed.
        """
        at, since_s = self.positions(row), time.monotonic()
        while not holds():
            run()
            now_at = self.positions(row)
            if now_at != at:
                at, since_s = now_at, time.monotonic()
            if time.monotonic() - since_s > self.timeout_s:
                raise PromotionRefused(
                    f"{row.name} stands at {at} and does not come to where it has to",
                    safe="Nothing was changed.",
                    cure="playhead status shows who runs it, and what its last error was.",
                )
            time.sleep(LOOK_S)


@dataclass(frozen=True, slots=True)
class Pair:
    """Who hands over to whom.

    Attributes:
        base: The version that is live.
        head: The version that becomes live.
        kind: ``promote`` or ``rollback``, for the audit.
        reason: Why, for the audit.
        behind: Whether head may become live where it stands, and catch up afterwards.
        begun_at: When it began, for the audit.
    """

    base: VersionRow
    head: VersionRow
    kind: str
    reason: str | None = None
    behind: bool = False
    begun_at: str = field(default_factory=now)


@dataclass(frozen=True, slots=True)
class Over:
    """A hand-over that was done.

    Attributes:
        pair: Who handed over to whom.
        cursor: Where live stood at the swap, by partition.
        epoch: Epoch of the pointer.
        paused_s: From when live stood still to the swap.
    """

    pair: Pair
    cursor: Mapping[int, int]
    epoch: int
    paused_s: float


class Compares(Protocol):
    """What compares the versions of a hand-over."""

    def read_ahead(self) -> None:
        """Read what can be read before live stands still."""

    def difference(self) -> Difference:
        """Return the difference, where all of them stand; raise what forbids to go on."""


def hand_over(
    job: Handover, pairs: Sequence[Pair], comparing: Compares
) -> tuple[list[Over], Difference]:
    """Make each head live where its live version stands: of one pipeline, or of a whole chain.

    1. The heads come near to where live stands; whoever runs them, or else this process, goes on.
       What is to be compared is read ahead.
    2. Live is held: it stands at C with nothing pending, and its leases are ours.
    3. Head runs to exactly C. The next in a chain comes to the end of what it reads, and is held
       there; its head comes to the end of what that reads.
    4. The difference is taken where all of them stand; it raises what forbids to go on.
    5. One store transaction: pointers, stages, views, audit, under live's leases and all cursors.
    6. The holds are given back: who ran live runs head.

    Raises:
        PromotionRefused: Live did not stand still in time, or head did not come to where it stood.
    """
    pairs = [_revived(job, pair) for pair in pairs]
    with ExitStack() as following:
        followers = [Follower(job, pair, first=pair is pairs[0]) for pair in pairs]
        for follower in followers:
            following.callback(follower.stop)
            if not follower.pair.behind:
                follower.near()
        comparing.read_ahead()
        with ExitStack() as holds:
            standings = [holds.enter_context(_stood(job, follower)) for follower in followers]
            job.tell(Step("head stands"))
            found = comparing.difference()
            job.tell(Step("before swap"))
            epochs = _swap(job, list(zip(pairs, standings, strict=True)), found)
            job.tell(Step("after swap"))
            paused_s = time.monotonic() - standings[0].since_s
            for follower in followers:
                follower.stop()
        job.tell(Step("hold given back"))
    over = [
        Over(pair, {p: c.next for p, c in standing.cursors.items()}, epoch, paused_s)
        for pair, standing, epoch in zip(pairs, standings, epochs, strict=True)
    ]
    return over, found


def _revived(job: Handover, pair: Pair) -> Pair:
    if pair.head.stage != "retired":
        return pair
    head = replace(pair.head, stage="shadow")
    job.store.catalog.change(head)
    return replace(pair, head=head)


@contextmanager
def _stood(job: Handover, follower: Follower) -> Iterator[Standing]:
    """Make live stand still, and head stand there too."""
    pair = follower.pair
    if not (pair.behind or follower.first):
        _drain(job, pair.base)
    task = job.task(pair.base)
    with held(task, job.log, job.project.open_store, job.tell, job.timeout_s) as standing:
        if not pair.behind:
            follower.reach({p: c.next for p, c in standing.cursors.items()})
        yield standing


def _drain(job: Handover, live: VersionRow) -> None:
    """Bring a later one of a chain to the end of what it reads: the one before it is held."""

    def run() -> None:
        if runner(job.store, live.name) is None:
            task = replace(job.task(live), stage="live")
            worker = Worker(task, job.project.open_log, job.project.open_store, job.tell)
            worker.run(ends(job.log.retained(live.source)))

    job.wait(live, lambda: job.at_the_end(live), run)


def _swap(job: Handover, ready: Sequence[tuple[Pair, Standing]], found: Difference) -> list[int]:
    swaps = [_swap_of(job, pair, standing, found) for pair, standing in ready]
    try:
        return job.store.catalog.swap(*swaps)
    except CheckpointConflict as moved:
        pair = ready[0][0]
        raise PromotionRefused(
            f"{pair.base.name} or {pair.head.name} went on before the swap: {moved.message}",
            safe=f"Nothing was changed: {pair.base.name} is live.",
            cure="Try again.",
        ) from moved


def _swap_of(job: Handover, pair: Pair, standing: Standing, found: Difference) -> Swap:
    pointer = job.store.catalog.pointer(pair.head.pipeline)
    heads = job.store.ledger.standings(pair.head.name)
    return Swap(
        base=pair.base,
        head=pair.head,
        epoch=pointer.epoch if pointer else 0,
        leases=standing.epochs,
        cursors={
            pair.base.name: standing.cursors,
            pair.head.name: {p: s.cursor for p, s in heads.items()},
        },
        detail={
            "kind": pair.kind,
            "previous": pair.base.name,
            "reason": pair.reason,
            "begun_at": pair.begun_at,
            "fingerprint": pair.head.fingerprint,
            "previous_fingerprint": pair.base.fingerprint,
            "cursor": {str(p): c.next for p, c in sorted(standing.cursors.items())},
            "diff": found.digest,
            "unexplained": found.unexplained,
        },
        public=epochs.begun(
            Known.read(job.project, job.store), job.log, job.store, pair.base, pair.head
        ),
    )


class Follower:
    """Brings head to where live stands: whoever runs it does, else a thread of this process."""

    def __init__(self, job: Handover, pair: Pair, *, first: bool) -> None:
        """Prepare; `near` and `reach` do the work.

        The ``first`` of a chain follows live's cursor; one after it reads what the head before it
        writes, and comes as far as that.
        """
        self.pair, self.first = pair, first
        self._job = job
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._reads = threading.Event()
        self._failed: list[PlayheadError] = []

    def near(self) -> None:
        """Wait until head reads, less than a batch behind live, which goes on meanwhile.

        Its session begins here, with its state: live need not stand still for that.
        """
        job, head = self._job, self.pair.head
        few = job.project.settings.batch_records

        def is_near() -> bool:
            goal = job.positions(self.pair.base) if self.first else job.ends(head)
            at = job.positions(head)
            behind = sum(max(0, end - at.get(p, 0)) for p, end in goal.items())
            return behind <= few and self._follows()

        job.wait(head, is_near, self._run)

    def reach(self, target: Mapping[int, int]) -> None:
        """Wait until head stands where live does: at exactly the target, or at its topic's end."""
        job, head = self._job, self.pair.head
        if self.first:
            job.wait(head, lambda: job.positions(head) == target, self._run)
        else:
            job.wait(head, lambda: job.at_the_end(head), self._run)

    def stop(self) -> None:
        """End our thread, if there is one."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _follows(self) -> bool:
        if self._thread is None:
            return runner(self._job.store, self.pair.head.name) is not None
        return self._reads.is_set()

    def _told(self, event: Event) -> None:
        if isinstance(event, Reading):
            self._reads.set()
        self._job.tell(event)

    def _run(self) -> None:
        """Run head, unless somebody does."""
        if self._failed:
            raise self._failed[0]
        if self._thread is not None and self._thread.is_alive():
            return
        if runner(self._job.store, self.pair.head.name) is not None:
            return
        task = self._job.task(self.pair.head)
        self._thread = threading.Thread(target=self._work, args=(task,), name=self.pair.head.name)
        self._thread.start()

    def _work(self, task: Task) -> None:
        project = self._job.project
        worker = Worker(task, project.open_log, project.open_store, self._told, self._stop)
        try:
            worker.run(Following(task.version.pipeline) if self.first else None)
        except PlayheadError as error:
            self._failed.append(error)


def catch_up(job: Handover, over: Sequence[Over]) -> None:
    """Run what is live now to where the one before it stood, unless somebody does."""
    for one in over:
        head = one.pair.head
        task = replace(job.task(head), stage="live")
        worker = Worker(task, job.project.open_log, job.project.open_store, job.tell)
        try:
            worker.run(one.cursor if one is over[0] else job.ends(head))
        except Refused:
            if runner(job.store, head.name) is None:
                raise
