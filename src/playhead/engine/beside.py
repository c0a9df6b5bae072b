"""A thread beside a block of work, with a store of its own, that ends with the block."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from playhead.errors import PlayheadError
from playhead.ports import Store

RETRY_S = 1.0
T = TypeVar("T")


class Beside(ABC):
    """Takes turns until the block ends, then one last turn.

    An error ends nothing: it is kept in `failed`, the store is opened anew (its connection may be
    dead), and the next turn tries again.

    Attributes:
        failed: Why the last turn failed, or None.
    """

    def __init__(self, name: str, open_store: Callable[[], Store], first_pause_s: float) -> None:
        """Prepare a thread of this name; the first turn comes after the pause."""
        self.failed: PlayheadError | None = None
        self._open_store = open_store
        self._store: Store | None = None
        self._first_pause_s = first_pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    @abstractmethod
    def turn(self, store: Store) -> float:
        """Do what is to be done now; return how many seconds to pause."""

    @abstractmethod
    def last(self, store: Store) -> object:
        """Do what is to be done at the end."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _loop(self) -> None:
        pause_s = self._first_pause_s
        while not self._stop.wait(pause_s):
            pause_s = self._guarded(self.turn, RETRY_S)
        self._guarded(self.last, None)
        self._close()

    def _guarded(self, act: Callable[[Store], T], otherwise: T) -> T:
        try:
            if self._store is None:
                self._store = self._open_store()
            done = act(self._store)
        except PlayheadError as error:
            self.failed = error
            self._close()
            return otherwise
        self.failed = None
        return done

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()
