"""The loop: sessions, one after another, each reading and committing batches until told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from playhead.core.offsets import OffsetRange
from playhead.engine.batch import run_batch
from playhead.engine.capped import Bound, Capped, Fixed, Pace
from playhead.engine.events import OnEvent, Reading
from playhead.engine.leases import LeaseKeeper
from playhead.engine.patience import Patience
from playhead.engine.preconditions import Watch
from playhead.engine.session import Session
from playhead.engine.task import Task
from playhead.errors import CheckpointConflict, PlayheadError, Refused, StoreLost
from playhead.ports import Log, Store

IDLE_S = 0.2


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
    """Runs one version in this process; a second one of the same version is refused."""

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
        name = f"worker/{self.task.version.name}/0"
        with closing(self._open_store()) as store:
            ledger = store.ledger.id
            lease = {name: store.ledger.take_free(name, "running")}
        with LeaseKeeper(self._open_store) as keeper:
            keeper.keep(lease)
            patience = Patience(self.task.version.name, self._tell)
            while not self.stop.is_set():
                done = summary.records
                try:
                    with closing(self._open_log()) as log, closing(self._open_store()) as store:
                        self._still_ours(store, ledger, lease)
                        session = Session(self.task, log, store, self._tell)
                        with closing(session):
                            session.start()
                            keeper.keep(session.epochs)
                            self._batches(session, keeper, patience, (bound, summary))
                    break
                except PlayheadError as error:
                    pause_s = patience.after(error, progress=summary.records > done)
                self.stop.wait(pause_s)
        return summary

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
    ) -> None:
        bound, summary = how_far
        summary.cursor = session.positions
        summary.stage = stage = session.stage()
        if _reached(session, bound):
            patience.over()
            return
        watch = Watch(session.log, self.task)
        most = self.task.batch_records
        most = self._pace.batch(most) if self._pace else most
        with closing(self._reader(session, bound)) as reader:
            while not self.stop.is_set() and not _reached(session, bound):
                keeper.check()
                watch.look()
                with watch.named({p: seat.cursor for p, seat in session.seats.items()}):
                    if session.member is not None:
                        session.member.ensure()
                    batches = reader.read(most, IDLE_S)
                if batches:
                    now, counts = run_batch(session, batches)
                    summary.records += counts.records
                    summary.dead += counts.dead
                    summary.cursor = session.positions
                    if self._pace:
                        self.stop.wait(self._pace.spend(counts.records + counts.dead))
                else:
                    now = session.stage()
                patience.over()
                summary.stage = now
                if now != stage:
                    return

    def _reader(self, session: Session, bound: Bound | None) -> Capped:
        """Return a reader that never hands out what lies beyond the bound, and tell the bound."""
        topic = self.task.topic.name
        if bound is None:
            return Capped(session.log, topic, session.positions, None, self.stop.wait)
        moves = not isinstance(bound, Fixed)
        told: list[Mapping[int, int]] = []

        def now() -> Mapping[int, int]:
            at = bound.now(session.store)
            if at not in told:
                told[:] = [at]
                self._tell(Reading(session.name, session.positions, dict(at), moves))
            return at

        return Capped(session.log, topic, session.positions, now, self.stop.wait, moves=moves)


@contextmanager
def settled(
    task: Task, log: Log, open_store: Callable[[], Store], tell: OnEvent
) -> Iterator[Session]:
    """Run the start sequence of a version, so that nothing of it is pending, and hold its leases.

    Raises:
        Refused: Another process runs the version, or the start sequence said no.
    """
    store = open_store()
    try:
        with LeaseKeeper(open_store) as keeper:
            name = f"worker/{task.version.name}/0"
            keeper.keep({name: store.ledger.take_free(name, "settling")})
            session = Session(task, log, store, tell)
            try:
                session.start()
                keeper.keep(session.epochs)
                yield session
            finally:
                session.close()
    finally:
        store.close()


def _reached(session: Session, bound: Bound | None) -> bool:
    if not isinstance(bound, Fixed):
        return False
    return all(at >= bound.at.get(p, at) for p, at in session.positions.items())


def ends(retained: Mapping[int, OffsetRange]) -> dict[int, int]:
    """Return the end of each partition: where a run that stops when caught up stops."""
    return {partition: held.end for partition, held in retained.items()}
