"""Live stands still: how a promotion asks for it, and what the worker does.

The rules are those of `tests/model/hold.py`, where each one, left out, leads to a version that was
retired and publishes, or to a gap:

- a hold is the lease ``hold/<pipeline>``; live sees it with its commit, and answers on it between
  two batches, naming the lease epochs of its session;
- the promotion takes live's leases from that very session, whole or not at all;
- a hold that is over, however it ended, is followed by a new session before anything is published;
- where nobody runs live, its start sequence finishes what is pending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass

import msgspec

from playhead.core.checkpoint import Cursor
from playhead.engine.events import Held, OnEvent, Step
from playhead.engine.leases import LeaseKeeper, worker_lease
from playhead.engine.session import Session
from playhead.engine.task import Task
from playhead.errors import CheckpointConflict, PromotionRefused, Refused, SessionLost
from playhead.ports import Log, Orders, Store

LIVE = "live"
ASKED = "asked"
SETTLING = "settling"
LOOK_S = 0.02
STARTS_MAX = 3


def stand_still(session: Session, hold: int, keeper: LeaseKeeper, stop: threading.Event) -> Orders:
    """Answer a hold, and wait until it is over; return what the store tells then.

    The session is over afterwards: its leases may have been taken. Until then its member stays,
    so that nobody resets the group.
    """
    name = f"hold/{session.task.version.pipeline}"
    standing = msgspec.json.encode(session.epochs).decode()
    if session.store.ledger.answer(name, hold, standing):
        keeper.leave(session.epochs)
        session.tell(Held(session.name, session.positions))
    orders = session.orders()
    while orders == Orders(LIVE, hold) and not stop.wait(LOOK_S):
        if session.member is not None:
            session.member.ensure()
        orders = session.orders()
    return orders


@dataclass(frozen=True, slots=True)
class Standing:
    """Where live stands still.

    Attributes:
        epochs: Epochs of its partitions' leases, which are the promotion's now.
        cursors: Its cursors, by partition.
        since_s: When it began to, on the monotonic clock.
    """

    epochs: Mapping[str, int]
    cursors: Mapping[int, Cursor]
    since_s: float


@contextmanager
def held(
    task: Task, log: Log, open_store: Callable[[], Store], tell: OnEvent, timeout_s: float
) -> Iterator[Standing]:
    """Make live stand still with nothing pending, and keep it there.

    A worker that runs it is asked to; where there is none, its start sequence is run.

    Raises:
        PromotionRefused: It did not answer in time, or somebody else holds it.
        Refused: Its start sequence said no.
    """
    pipeline = task.version.pipeline
    name = f"hold/{pipeline}"
    with closing(open_store()) as store, LeaseKeeper(open_store) as keeper:
        try:
            epoch = store.ledger.take_free(name, ASKED)
        except Refused as other:
            raise PromotionRefused(
                f"another promotion of {pipeline} is under way: {other.message}",
                safe="Nothing was changed.",
                cure="Wait for it; playhead status shows what is live.",
            ) from other
        keeper.keep({name: epoch})
        tell(Step("hold asked"))
        with ExitStack() as settling:
            epochs = _standing(store, task, name, timeout_s)
            if worker_lease(task.version.name) in epochs:
                session = settling.enter_context(settled(task, log, open_store, tell, epochs))
                epochs = session.epochs
            since_s = time.monotonic()
            keeper.keep(epochs)
            standings = store.ledger.standings(task.version.name)
            tell(Step("live stands"))
            yield Standing(epochs, {p: s.cursor for p, s in standings.items()}, since_s)


def _standing(store: Store, task: Task, name: str, timeout_s: float) -> dict[str, int]:
    """Wait for the answer and take live's leases, or where nobody runs it that of its worker."""
    worker = worker_lease(task.version.name)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        hold = store.ledger.lease(name)
        if hold is None or not hold.in_force:
            break
        if hold.note != ASKED:
            said = msgspec.json.decode(hold.note, type=dict[str, int])
            try:
                return store.ledger.take(list(said), "held", at=said)
            except CheckpointConflict:
                pass  # a newer session of live: it will answer, too
        with suppress(Refused):  # somebody runs it
            return {worker: store.ledger.take_free(worker, SETTLING)}
        time.sleep(LOOK_S)
    raise PromotionRefused(
        f"{task.version.name} did not stop at a batch within {timeout_s:g} s",
        safe="The hold was removed; nothing was changed, and live goes on.",
        cure="Try again with a longer --hold-timeout, or stop playhead run first.",
    )


@contextmanager
def settled(
    task: Task,
    log: Log,
    open_store: Callable[[], Store],
    tell: OnEvent,
    lease: Mapping[str, int] | None = None,
) -> Iterator[Session]:
    """Run the start sequence of a version, so that nothing of it is pending, and hold its leases.

    Its worker's ``lease`` may have been taken already.

    Raises:
        Refused: Another process runs the version, or the start sequence said no.
    """
    with closing(open_store()) as store, LeaseKeeper(open_store) as keeper:
        name = worker_lease(task.version.name)
        keeper.keep(lease or {name: store.ledger.take_free(name, SETTLING)})
        with closing(_started(task, log, store, tell)) as session:
            keeper.keep(session.epochs)
            yield session


def _started(task: Task, log: Log, store: Store, tell: OnEvent) -> Session:
    """Return a session that has started; one that was lost meanwhile is begun again.

    Fenced though the lease is ours: the log was still ending what a process that died had begun.
    """
    left = STARTS_MAX
    while True:
        session, left = Session(task, log, store, tell), left - 1
        try:
            session.start()
        except BaseException as error:
            session.close()
            if left and type(error) is SessionLost:
                continue
            raise
        return session
