"""Whether a worker goes on after an error, and how long it waits before it does."""

from __future__ import annotations

import time

from playhead.engine.events import OnEvent, Recovered, SessionOver, Waiting
from playhead.errors import PlayheadError, SessionLost

FIRST_PAUSE_S = 0.1
PAUSE_MAX_S = 5.0
RESTARTS_MAX = 5
STEADY_S = 60.0


class Patience:
    """Waits for what is passing, as long as it takes; for a lost session a few times only.

    A session that is lost again and again, with nothing done in between, has a cause that waiting
    does not cure; one that was lost after it had done something, or had held for a minute, begins
    the count anew.
    """

    def __init__(self, version: str, tell: OnEvent) -> None:
        """Tell what is waited for, once each time that it goes away or comes back."""
        self._version = version
        self._tell = tell
        self._away_since: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._lost = 0
        self._held_since = time.monotonic()

    def over(self) -> None:
        """Note that log and store answered: batches go on."""
        if self._away_since is not None:
            self._tell(Recovered(self._version, time.monotonic() - self._away_since))
        self._away_since = None
        self._pause_s = FIRST_PAUSE_S

    def after(self, error: PlayheadError, *, progress: bool) -> float:
        """Return how many seconds to wait before the next session; raise what ends the worker."""
        if error.passing:
            if self._away_since is None:
                self._away_since = time.monotonic()
                self._tell(Waiting(self._version, error.message))
        elif isinstance(error, SessionLost):
            steady = progress or time.monotonic() - self._held_since > STEADY_S
            self._lost = 1 if steady else self._lost + 1
            if self._lost > RESTARTS_MAX:
                raise error
            self._tell(SessionOver(self._version, str(error)))
        else:
            raise error
        pause_s, self._pause_s = self._pause_s, min(PAUSE_MAX_S, 2 * self._pause_s)
        self._held_since = time.monotonic() + pause_s
        return pause_s
