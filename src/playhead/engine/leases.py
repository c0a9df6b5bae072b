"""Keeping leases alive, in a thread of its own with a store of its own.

Expiry only decides how long others wait. The fence is the compare-and-set on the epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from playhead.errors import CheckpointConflict, PlayheadError
from playhead.ports import Store

RENEW_S = 3.0


class LeaseKeeper:
    """Renews leases every three seconds until closed; then gives them back."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        """Renew through a store that ``open_store`` opens."""
        self._open_store = open_store
        self._epochs: dict[str, int] = {}
        self._lock = threading.Lock()
        self._lost: PlayheadError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def keep(self, epochs: Mapping[str, int]) -> None:
        """Renew these leases too, or at these epochs from now on."""
        with self._lock:
            self._epochs.update(epochs)

    def check(self) -> None:
        """Raise what the thread found out.

        Raises:
            CheckpointConflict: A lease is no longer ours.
        """
        if self._lost is not None:
            raise self._lost

    def _renew(self) -> None:
        store = self._open_store()
        try:
            while not self._stop.wait(RENEW_S):
                with self._lock:
                    epochs = dict(self._epochs)
                try:
                    store.ledger.renew(epochs)
                except CheckpointConflict as lost:
                    with self._lock:
                        # A newer session of this process may have raised an epoch meanwhile.
                        if epochs == self._epochs:
                            self._lost = lost
                            return
                except PlayheadError:
                    continue  # the store is busy or away: ten seconds are allowed
            store.ledger.release(self._epochs)
        finally:
            store.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
