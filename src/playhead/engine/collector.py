"""Python's collector of cycles, kept out of the way of batches.

A batch makes a million small objects, all of which are gone after it, none of them in a cycle; the
collector would look at each of them again and again. Meanwhile it only runs between two batches.
"""

from __future__ import annotations

import gc
import time
from types import TracebackType

EVERY_S = 1.0


class Collector:
    """A context in which the collector runs when `between` is called, at most once a second."""

    def __enter__(self) -> Collector:
        """Begin: what is there now is left out from then on."""
        self._was_on = gc.isenabled()
        gc.disable()
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
        """Leave the collector as it was."""
        gc.unfreeze()
        if self._was_on:
            gc.enable()
