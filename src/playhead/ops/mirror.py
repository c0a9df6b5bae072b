"""Keep the mirror fresh: build it when the store has changed, one writer at a time."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from playhead.engine.beside import Beside
from playhead.errors import CheckpointConflict, Refused
from playhead.ports import Store
from playhead.project import Project

if TYPE_CHECKING:
    from playhead.adapters.duckdb_mirror import Built

FIRST_PAUSE_S = 0.5
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
    from playhead.adapters.duckdb_mirror import Outdated, build, inspect

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
            built = inspect(path)
            if _fresh(built, store):
                return False  # somebody else built it while we waited
            # A builder that was frozen must not put an older cut over a newer one.
            ours = partial(store.ledger.renew, {LEASE: epoch})
            there = built.stands if built and built.ledger == store.ledger.id else {}
            try:
                build(path, store.catalog.cut(there), ours)
            except Outdated:
                build(path, store.catalog.cut(), ours)
        except CheckpointConflict:
            continue
        finally:
            store.ledger.release({LEASE: epoch})
        return True


def _fresh(built: Built | None, store: Store) -> bool:
    if built is None:
        return False
    return (built.ledger, built.changes) == (store.ledger.id, store.catalog.changes())


class MirrorThread(Beside):
    """Rebuilds the mirror beside running work, and once more at its end."""

    def __init__(self, project: Project, pause_s: float | None = None) -> None:
        """Build the mirror of this project, every two seconds or after a longer pause."""
        super().__init__("mirror", project.open_store, pause_s or FIRST_PAUSE_S)
        self._project = project
        self._pause_s = pause_s or PAUSE_S

    def turn(self, store: Store) -> float:
        """Build it if the store has changed; pause longer where building takes long."""
        begun = time.monotonic()
        self.last(store)
        return max(self._pause_s, PAUSE_BUILDS * (time.monotonic() - begun))

    def last(self, store: Store) -> None:
        """Build it if the store has changed."""
        refresh(self._project, store)
