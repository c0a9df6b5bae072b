"""One batch is computed while the log commits the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from playhead.core.past import Counts
from playhead.core.records import Records
from playhead.engine.batch import Batch, compute, publish, settle
from playhead.engine.session import Session
from playhead.ports import Orders


class Line:
    """The batches of one session, one after another: in the order that makes them exactly once.

    A batch is published when the one before it is stored, and stored when it is published. While
    a thread waits for the log to commit, the next batch is computed, and nothing else is done: if
    it comes to nothing, it is dropped with the session.
    """

    def __init__(self, session: Session, *, overlaps: bool) -> None:
        """Prepare; unless it ``overlaps``, each batch is finished before the next begins."""
        self.orders: Orders | None = None  # what the store told with the last commit
        self.counts = Counts()
        self._session = session
        self._overlaps = overlaps
        self._pending: tuple[Batch, Future[None]] | None = None
        self._thread = ThreadPoolExecutor(1, "commit")  # it begins with the first use

    @property
    def busy(self) -> bool:
        """Whether the log is committing a batch."""
        return self._pending is not None

    def put(self, read: Sequence[Records]) -> None:
        """Compute a batch and begin to publish it, once the one before it is finished.

        Raises:
            BadRecord, FunctionFailed: A record stops the work; all before it was committed.
            SessionLost, CheckpointConflict: The session is over.
        """
        try:
            batch = compute(self._session, read)
        except Exception:
            self.finish()
            raise
        self.finish()
        commit = publish(self._session, batch)
        if self._overlaps and not batch.failed:
            self._pending = (batch, self._thread.submit(commit))
            return
        commit()
        self._settle(batch)

    def finish(self) -> None:
        """Wait until the log has committed what it is committing, and store it."""
        if self._pending is not None:
            (batch, committed), self._pending = self._pending, None
            committed.result()
            self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        self.orders, counts = settle(self._session, batch)
        self.counts += counts

    def close(self) -> None:
        """Wait for the thread; a batch that was published and not stored is the next session's."""
        if self._pending is not None:
            wait([self._pending[1]])
        self._thread.shutdown()
