"""Keep the mirror fresh: build it when the store has changed, one writer at a time."""

from __future__ import annotations

import threading
import time
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from playhead.errors import CheckpointConflict, PlayheadError, Refused
from playhead.ports import Store
from playhead.project import Project

if TYPE_CHECKING:
    from playhead.adapters.duckdb_mirror import Built

PAUSE_S = 2.0
PAUSE_BUILDS = 10
WAIT_S = 30.0
LEASE = "mirror"


def refresh(project: Project, store: Store) -> bool:
    """Build the mirror if it is missing or older than the store; say whether it was built.

    Raises:
        StoreFailed: The file cannot be written.
        Refused: Another process has been building it for half a minute.
    """
    from playhead.adapters.duckdb_mirror import build, inspect

    path = project.settings.path(project.settings.mirror)
    deadline = time.monotonic() + WAIT_S
    while True:
        if _fresh(inspect(path), store):
            return False
        try:
            epoch = store.ledger.take_free(LEASE, "building")
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
            continue
        try:
            if _fresh(inspect(path), store):
                return False  # somebody else built it while we waited
            # A builder that was frozen must not put an older cut over a newer one.
            build(path, store.catalog.cut(), partial(store.ledger.renew, {LEASE: epoch}))
        except CheckpointConflict:
            continue
        finally:
            store.ledger.release({LEASE: epoch})
        return True


def _fresh(built: Built | None, store: Store) -> bool:
    if built is None:
        return False
    return (built.ledger, built.changes) == (store.ledger.id, store.catalog.changes())


class MirrorThread:
    """Rebuilds the mirror beside running work, and once more at its end."""

    def __init__(self, project: Project) -> None:
        """Build the mirror of this project."""
        self._project = project
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="mirror", daemon=True)
        self.failed: PlayheadError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _loop(self) -> None:
        store = self._project.open_store()
        pause_s = 0.0
        try:
            while not self._stop.wait(pause_s):
                pause_s = self._once(store)
            self._once(store)
        finally:
            store.close()

    def _once(self, store: Store) -> float:
        begun = time.monotonic()
        try:
            refresh(self._project, store)
            self.failed = None
        except PlayheadError as error:
            self.failed = error
        return max(PAUSE_S, PAUSE_BUILDS * (time.monotonic() - begun))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
