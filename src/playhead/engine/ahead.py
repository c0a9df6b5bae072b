"""Reading ahead: what comes next is fetched by a thread while something else is computed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, Full, Queue

from playhead.core.records import Records
from playhead.ports import Reader

WAIT_S = 0.2


class Ahead:
    """A `Reader` in front of another one, which a thread of its own reads: one batch ahead."""

    def __init__(self, reader: Reader) -> None:
        """Begin with the first `read`."""
        self._reader = reader
        self._most = 0
        self._found: Queue[Sequence[Records] | Exception] = Queue(1)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows, as the reader behind does; what it raised is raised here."""
        self._most = max_records
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="read ahead", daemon=True)
            self._thread.start()
        try:
            found = self._found.get(timeout=timeout_s) if timeout_s else self._found.get_nowait()
        except Empty:
            return []
        if isinstance(found, Exception):
            self._thread.join()
            self._thread = None
            raise found
        return list(found)

    def close(self) -> None:
        """End the thread and close the reader; safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._reader.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            found: Sequence[Records] | Exception
            try:
                found = self._reader.read(self._most, WAIT_S)
            except Exception as error:  # noqa: BLE001  it is raised where it is waited for
                found = error
            if found:
                self._put(found)
            if isinstance(found, Exception):
                return

    def _put(self, found: Sequence[Records] | Exception) -> None:
        while not self._stop.is_set():
            try:
                self._found.put(found, timeout=WAIT_S)
            except Full:
                continue
            return
