"""Keeping leases alive, in a thread of its own with a store of its own.

Expiry only decides how long others wait. The fence is the compare-and-set on the epoch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from playhead.engine.beside import Beside
from playhead.errors import CheckpointConflict
from playhead.ports import Lease, Store

RENEW_S = 3.0


def worker_lease(version: str) -> str:
    """Return the name of the lease that whoever runs a version holds (``pipeline@label``)."""
    return f"worker/{version}/0"


def runner(store: Store, version: str) -> Lease | None:
    """Return the lease of who runs a version; None where nobody does."""
    lease = store.ledger.lease(worker_lease(version))
    return lease if lease is not None and lease.in_force else None


class LeaseKeeper(Beside):
    """Renews leases every three seconds until closed; then gives them back."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        """Renew through a store that ``open_store`` opens."""
        super().__init__("leases", open_store, RENEW_S)
        self._epochs: dict[str, int] = {}
        self._lock = threading.Lock()
        self._lost: CheckpointConflict | None = None

    def keep(self, epochs: Mapping[str, int]) -> None:
        """Renew these leases too, or at these epochs from now on."""
        with self._lock:
            self._epochs.update(epochs)
            self._lost = None

    def leave(self, names: Iterable[str]) -> None:
        """Renew these no more: somebody else may take them."""
        with self._lock:
            for name in names:
                self._epochs.pop(name, None)
            self._lost = None

    def check(self) -> None:
        """Raise what the thread found out.

        Raises:
            CheckpointConflict: A lease is no longer ours.
        """
        with self._lock:
            if self._lost is not None:
                raise self._lost

    def turn(self, store: Store) -> float:
        """Renew; a store that is busy or away is tried again: ten seconds are allowed."""
        with self._lock:
            epochs = dict(self._epochs)
        try:
            store.ledger.renew(epochs)
        except CheckpointConflict as lost:
            with self._lock:
                # A newer session of this process may have raised an epoch meanwhile.
                if epochs == self._epochs:
                    self._lost = lost
        return RENEW_S

    def last(self, store: Store) -> None:
        """Give the leases back."""
        store.ledger.release(self._epochs)
