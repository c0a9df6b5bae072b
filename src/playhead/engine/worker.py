"""The loop: sessions, one after another, each reading and committing batches until told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from playhead.core.offsets import OffsetRange
from playhead.core.past import Counts
from playhead.engine.cached import Open, through_cache
from playhead.engine.capped import Bound, Capped, Fixed, Following, Pace
from playhead.engine.collector import Collector
from playhead.engine.events import OnEvent, Reading, Waiting
from playhead.engine.hold import LIVE, SETTLING, stand_still
from playhead.engine.leases import LeaseKeeper, worker_lease
from playhead.engine.line import Line
from playhead.engine.patience import Patience
from playhead.engine.preconditions import Watch
from playhead.engine.session import Session
from playhead.engine.task import Task
from playhead.errors import CheckpointConflict, PlayheadError, Refused, StoreLost
from playhead.ports import Log, Orders, Store

IDLE_S = 0.2
STAND_BY_S = 0.05
RUNNING, RUNNING_LIVE = "running", "running live"  # notes on a worker's lease
GRACE_S, LEAVES_S = 5.0, 60.0  # for who holds the lease to let go of it; for who has to, any moment


@dataclass(slots=True)
class Summary:
    """What a worker did.

    Attributes:
        records: Records that it processed and committed.
        dead: Records that it set aside as dead letters.
        cursor: The next offset to read, by partition.
        stage: The version's stage when it ended.
    """

    records: int = 0
    dead: int = 0
    cursor: dict[int, int] = field(default_factory=dict)
    stage: str = ""


class Worker:
    """Runs one version in this process; a second one of the same version is refused, after 5 s.

    One that is ``patient`` waits for the other one to end, as long as its stage is what it must be.
    """

    def __init__(
        self,
        task: Task,
        open_log: Callable[[], Log],
        open_store: Callable[[], Store],
        tell: OnEvent,
        stop: threading.Event | None = None,
        *,
        max_rate: float | None = None,
    ) -> None:
        """Prepare; `run` does the work until ``stop`` is set, at ``max_rate`` records a second."""
        self.task = task
        self._open_log = open_log
        self._open_store = open_store
        self._tell = tell
        self.stop = stop or threading.Event()
        self._pace = Pace(max_rate) if max_rate else None
        most = task.batch_records
        self._most = self._pace.batch(most) if self._pace else most
        self._collector = Collector()
        self.patient = False

    def run(self, bound: Mapping[int, int] | Bound | None = None) -> Summary:
        """Run until ``bound`` is reached, `stop` is set, or the stage is no longer the same.

        A log or a store that is away for a while is waited for; what was not committed then is
        dropped, and a new session finds out where to go on.

        Args:
            bound: The position to stop at, by partition, or a bound that moves; None runs on.

        Raises:
            Refused: Another process runs the version, or the start sequence said no.
            BadRecord, FunctionFailed: A record or the function stops the pipeline.
        """
        summary = Summary()
        if isinstance(bound, Mapping):
            bound = Fixed(bound)
        with closing(self._open_store()) as store:
            ledger = store.ledger.id
            lease = self._lease(store, summary)
        if lease is None:
            return summary
        with LeaseKeeper(self._open_store) as keeper, self._collector:
            keeper.keep(lease)
            patience = Patience(self.task.version.name, self._tell)
            over = False
            while not (over or self.stop.is_set()):
                done, pause_s = summary.records, 0.0
                try:
                    with closing(self._open_log()) as log, closing(self._open_store()) as store:
                        self._still_ours(store, ledger, lease)
                        with closing(Session(self.task, log, store, self._tell)) as session:
                            session.start()
                            keeper.keep(session.epochs)
                            over = self._batches(session, keeper, patience, (bound, summary))
                except PlayheadError as error:
                    pause_s = patience.after(error, progress=summary.records > done)
                self.stop.wait(pause_s)
        return summary

    def _lease(self, store: Store, summary: Summary) -> dict[str, int] | None:
        """Take the version's lease; None where there is nothing to be patient for any more."""
        version = self.task.version.name
        name = worker_lease(version)
        told = False
        note = RUNNING_LIVE if self.task.stage == LIVE else RUNNING
        begun = time.monotonic()
        while True:
            try:
                return {name: store.ledger.take_free(name, note)}
            except Refused as other:
                held = store.ledger.lease(name)
                summary.stage = store.ledger.orders(version).stage
                leaves = held and held.note == RUNNING_LIVE and summary.stage != LIVE
                passes = held is None or held.note == SETTLING
                waited_s = time.monotonic() - begun
                if not (self.patient or passes) and waited_s > (LEAVES_S if leaves else GRACE_S):
                    raise
                if not told:
                    self._tell(Waiting(version, other.message))
                told = True
            changed = summary.stage != (self.task.stage or summary.stage)
            if changed or self.stop.wait(STAND_BY_S):
                return None

    def _still_ours(self, store: Store, ledger: str, lease: Mapping[str, int]) -> None:
        name = self.task.version.name
        if store.ledger.id != ledger:
            raise StoreLost(
                f"{name}: the store was replaced by another one while this ran",
                safe="Nothing was written to it.",
                cure="Put the store back that it ran on, then run again.",
            )
        try:
            store.ledger.renew(lease)
        except CheckpointConflict as taken:
            raise Refused(
                f"{name}: another process has taken over ({taken.message})",
                safe="What this process had not committed was dropped; nothing is lost.",
                cure="playhead status shows who runs it.",
            ) from taken

    def _batches(
        self,
        session: Session,
        keeper: LeaseKeeper,
        patience: Patience,
        how_far: tuple[Bound | None, Summary],
    ) -> bool:
        """Read and commit in one session; say whether the work is over, or wants another one."""
        bound, summary = how_far
        summary.cursor = session.positions
        # After the leases were taken: from now on nothing retires this version unseen.
        orders = session.orders()
        stage = self.task.stage or orders.stage
        watch = Watch(session.log, self.task)
        while not self.stop.is_set() and orders.stage == stage and not _reached(session, bound):
            if isinstance(bound, Following) and stage == LIVE:
                bound = None  # what it followed is retired: nobody is ahead of it
            if _asked(orders):
                patience.over()
                orders = stand_still(session, orders.hold or 0, keeper, self.stop)
                summary.stage = orders.stage
                return self.stop.is_set() or orders.stage != stage
            with (
                closing(self._reader(session, bound)) as reader,
                closing(Line(session, overlaps=self._overlaps(session))) as line,
            ):
                while not (self.stop.is_set() or _asked(orders) or _reached(session, bound)):
                    keeper.check()
                    watch.look()
                    orders = self._next(session, (watch, line), reader, summary)
                    patience.over()
                    self._collector.between()
                    if orders.stage != stage:
                        break
                line.finish()
                orders = self._counted(session, line, summary) or orders
            if isinstance(bound, Following) and orders.stage == LIVE:
                stage = LIVE
        summary.stage = orders.stage
        patience.over()
        return True

    def _next(
        self, session: Session, how: tuple[Watch, Line], reader: Capped, summary: Summary
    ) -> Orders:
        """Read and commit one batch, or find none; return what the store tells."""
        watch, line = how
        with watch.named({p: seat.cursor for p, seat in session.seats.items()}):
            if session.member is not None and not line.busy:
                session.member.ensure()
            batches = reader.read(self._most, 0 if line.busy else IDLE_S)
        if not batches or self._turned(session):
            line.finish()
            return self._counted(session, line, summary) or session.orders()
        line.put(batches)
        if self._pace:
            self.stop.wait(self._pace.spend(sum(map(len, batches))))
        return self._counted(session, line, summary) or session.orders()

    def _counted(self, session: Session, line: Line, summary: Summary) -> Orders | None:
        """Count what was committed since the last look; return what the store told with it."""
        summary.records += line.counts.records
        summary.dead += line.counts.dead
        summary.cursor = session.positions
        orders, line.orders, line.counts = line.orders, None, Counts()
        return orders

    def _overlaps(self, session: Session) -> bool:
        """Say whether the next batch is computed while the log commits one."""
        return self.task.threads and session.log.remote and self.task.publishes

    def _turned(self, session: Session) -> bool:
        """Look at a publisher's stage after reading: what it read may be a retired version's."""
        return self.task.takes is not None and session.orders().stage != self.task.stage

    def _reader(self, session: Session, bound: Bound | None) -> Capped:
        """Return a reader that never hands out what lies beyond the bound, and tell the bound."""
        task = self.task
        opened: Open = partial(session.log.reader, task.topic.name, max_bytes=task.batch_bytes)
        if bound is None:
            self._tell(Reading(session.name, session.positions, {}))
            return Capped(opened, session.positions, None, self.stop.wait)
        opened = through_cache(task, session.log, opened)
        moves = not isinstance(bound, Fixed)
        told: list[Mapping[int, int]] = []

        def now() -> Mapping[int, int]:
            at = bound.now(session.store)
            if at not in told:
                told[:] = [at]
                self._tell(Reading(session.name, session.positions, dict(at), moves))
            return at

        return Capped(opened, session.positions, now, self.stop.wait, moves=moves)


def _asked(orders: Orders) -> bool:
    """Say whether a promotion waits for this version to stand still."""
    return orders.stage == LIVE and orders.hold is not None


def _reached(session: Session, bound: Bound | None) -> bool:
    if not isinstance(bound, Fixed):
        return False
    at = {p: seat.computed[0].next for p, seat in session.seats.items()}
    return all(at[p] >= bound.at.get(p, at[p]) for p in at)


def ends(retained: Mapping[int, OffsetRange]) -> dict[int, int]:
    """Return the end of each partition: where a run that stops when caught up stops."""
    return {partition: held.end for partition, held in retained.items()}
