"""Python's collector of cycles, kept out of the way of batches.

A batch makes a million small objects, all of which are gone after it, none of them in a cycle; the
collector would look at each of them again and again. Meanwhile it only runs between two batches.
"""

from __future__ import annotations

import gc
import threading
import time
from types import TracebackType

EVERY_S = 5.0


class Collector:
    """A context in which the collector runs when `between` is called, at most once in five seconds.

    Several at once are one: it is as it was when the last of them ends. What a process has when its
    first one begins (modules, mostly) is never looked at again.
    """

    _lock = threading.Lock()
    _open = 0
    _was_on = True
    _frozen = False

    def __enter__(self) -> Collector:
        """Begin."""
        with self._lock:
            if not Collector._open:
                Collector._was_on = gc.isenabled()
                gc.disable()
            Collector._open += 1
            if not Collector._frozen:
                Collector._frozen = True
                gc.collect()
                gc.freeze()
        self._at_s = time.monotonic()
        return self

    def between(self) -> None:
        """Collect, where it is time to."""
        if time.monotonic() - self._at_s > EVERY_S:
            gc.collect()
            self._at_s = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; the last one leaves the collector as it was."""
        with self._lock:
            Collector._open -= 1
            if not Collector._open and Collector._was_on:
                gc.enable()
