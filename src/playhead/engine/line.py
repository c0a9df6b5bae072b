"""One batch is computed while the one before it is being published."""

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

    A batch is published when the one before it is stored, and stored when it is published. What
    may go on beside the publishing, in a thread of its own, is the computing of the next batch,
    and nothing else: if it comes to nothing, it is dropped with the session.
    """

    def __init__(self, session: Session, *, overlap: bool) -> None:
        """Prepare; without ``overlap`` each batch is finished before the next one begins."""
        self._session = session
        self._pending: tuple[Batch, Future[None]] | None = None
        self._thread = ThreadPoolExecutor(1, "publish") if overlap else None

    @property
    def busy(self) -> bool:
        """Whether a batch is being published."""
        return self._pending is not None

    def put(self, read: Sequence[Records]) -> tuple[Orders, Counts] | None:
        """Compute a batch and begin to publish it; return what the one finished before gave.

        Raises:
            BadRecord, FunctionFailed: A record stops the work; all before it was committed.
            SessionLost, CheckpointConflict: The session is over.
        """
        try:
            batch = compute(self._session, read)
        except Exception:
            self.finish()
            raise
        if self._thread is None:
            publish(self._session, batch)
            return settle(self._session, batch)
        before = self.finish()
        self._pending = (batch, self._thread.submit(publish, self._session, batch))
        return self.finish() if batch.failed else before

    def finish(self) -> tuple[Orders, Counts] | None:
        """Wait until the batch that is being published is, and store it; None: there is none."""
        if self._pending is None:
            return None
        batch, published = self._pending
        self._pending = None
        published.result()
        return settle(self._session, batch)

    def close(self) -> None:
        """Wait for the thread; a batch that was published and not stored is the next session's."""
        if self._pending is not None:
            wait([self._pending[1]])
        if self._thread is not None:
            self._thread.shutdown()
