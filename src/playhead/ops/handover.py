"""From one version to another while records come in: head follows, live stands, one swap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from playhead.engine.capped import Following
from playhead.engine.events import OnEvent, Step
from playhead.engine.hold import LOOK_S, Standing, held
from playhead.engine.task import Task
from playhead.engine.worker import Worker
from playhead.errors import CheckpointConflict, PlayheadError, PromotionRefused, Refused
from playhead.ops import versions
from playhead.ops.diff import Difference
from playhead.ops.journal import now
from playhead.ops.versions import Known
from playhead.ports import Log, Store, Swap, VersionRow
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
        standings = self.store.ledger.standings(row.name)
        return {p: s.cursor.next for p, s in standings.items()}


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
        cursor: Where live stood at the swap, by partition.
        epoch: Epoch of the pointer.
        paused_s: From when live stood still to the swap.
        difference: What differed at the swap.
    """

    cursor: Mapping[int, int]
    epoch: int
    paused_s: float
    difference: Difference


def hand_over(job: Handover, pair: Pair, difference: Callable[[], Difference]) -> Over:
    """Make head live where live stands.

    1. Head comes near to where live stands; whoever runs it, or else this process, goes on.
    2. Live is held: it stands at C with nothing pending, and its leases are ours.
    3. Head runs to exactly C.
    4. ``difference`` is taken at C; it raises what forbids to go on.
    5. One store transaction: pointer, stages, views, audit, under live's leases and both cursors.
    6. The hold is given back: who ran live runs head.

    Raises:
        PromotionRefused: Live did not stand still in time, or head did not come to where it stood.
    """
    if pair.head.stage == "retired":
        pair = replace(pair, head=replace(pair.head, stage="shadow"))
        job.store.catalog.change(pair.head)
    base = job.task(pair.base)
    with _followed(job, pair) as follower:
        if not pair.behind:
            follower.near()
        project = job.project
        with held(base, job.log, project.open_store, job.tell, job.timeout_s) as standing:
            if not pair.behind:
                follower.reach({p: c.next for p, c in standing.cursors.items()})
            job.tell(Step("head stands"))
            found = difference()
            job.tell(Step("before swap"))
            epoch = _swap(job, pair, standing, found)
            job.tell(Step("after swap"))
            paused_s = time.monotonic() - standing.since_s
            follower.stop()
        job.tell(Step("hold given back"))
    cursor = {p: c.next for p, c in standing.cursors.items()}
    return Over(cursor, epoch, paused_s, found)


def _swap(job: Handover, pair: Pair, standing: Standing, found: Difference) -> int:
    pointer = job.store.catalog.pointer(pair.head.pipeline)
    heads = job.store.ledger.standings(pair.head.name)
    swap = Swap(
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
    )
    try:
        (epoch,) = job.store.catalog.swap(swap)
    except CheckpointConflict as moved:
        raise PromotionRefused(
            f"{pair.base.name} or {pair.head.name} went on before the swap: {moved.message}",
            safe=f"Nothing was changed: {pair.base.name} is live.",
            cure="Try again.",
        ) from moved
    return epoch


class Follower:
    """Brings head to where live stands: whoever runs it does, else a thread of this process."""

    def __init__(self, job: Handover, pair: Pair) -> None:
        """Prepare; `near` and `reach` do the work."""
        self._job, self._pair = job, pair
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: list[PlayheadError] = []

    def near(self) -> None:
        """Wait until head is less than a batch behind live, which goes on."""
        job, pair = self._job, self._pair
        few = job.project.settings.batch_records

        def is_near() -> bool:
            at, live = job.positions(pair.head), job.positions(pair.base)
            return sum(max(0, end - at.get(p, 0)) for p, end in live.items()) <= few

        self._wait(is_near)

    def reach(self, target: Mapping[int, int]) -> None:
        """Wait until head stands at exactly the target."""
        self._wait(lambda: self._job.positions(self._pair.head) == target)

    def stop(self) -> None:
        """End our thread, if there is one."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _wait(self, holds: Callable[[], bool]) -> None:
        """Wait as long as head moves.

        Raises:
            PromotionRefused: It stood still for longer than the time allowed.
        """
        head = self._pair.head
        at, since = self._job.positions(head), time.monotonic()
        while True:
            self._run()
            if holds():
                return
            if self._job.positions(head) != at:
                at, since = self._job.positions(head), time.monotonic()
            if time.monotonic() - since > self._job.timeout_s:
                live = self._job.positions(self._pair.base)
                raise PromotionRefused(
                    f"{head.name} stands at {at}, live at {live}",
                    safe="Nothing was changed.",
                    cure=f"playhead replay {head.name}",
                )
            time.sleep(LOOK_S)

    def _run(self) -> None:
        """Run head, unless somebody does."""
        if self._failed:
            raise self._failed[0]
        if self._thread is not None and self._thread.is_alive():
            return
        lease = self._job.store.ledger.lease(f"worker/{self._pair.head.name}/0")
        if lease is not None and lease.in_force:
            return
        task = self._job.task(self._pair.head)
        self._thread = threading.Thread(target=self._work, args=(task,), name=self._pair.head.name)
        self._thread.start()

    def _work(self, task: Task) -> None:
        project = self._job.project
        worker = Worker(task, project.open_log, project.open_store, self._job.tell, self._stop)
        try:
            worker.run(Following(task.version.pipeline))
        except PlayheadError as error:
            self._failed.append(error)


@contextmanager
def _followed(job: Handover, pair: Pair) -> Iterator[Follower]:
    follower = Follower(job, pair)
    try:
        yield follower
    finally:
        follower.stop()


def catch_up(job: Handover, pair: Pair) -> None:
    """Run the version that is live now to where the one before it stood, unless somebody does."""
    task = replace(job.task(pair.head), stage="live")
    worker = Worker(task, job.project.open_log, job.project.open_store, job.tell)
    try:
        worker.run(job.positions(pair.base))
    except Refused as other:
        lease = job.store.ledger.lease(f"worker/{pair.head.name}/0")
        if lease is None or not lease.in_force:
            raise other
