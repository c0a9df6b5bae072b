"""Reading up to a bound: what was read beyond it is kept back until the bound moves there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from playhead.core.records import Records
from playhead.ports import Reader, Store, positions

Wait = Callable[[float], object]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A bound that was taken once; what has reached it is done."""

    at: Mapping[int, int]

    def now(self, _store: Store) -> Mapping[int, int]:
        """Return the position to stop at, by partition."""
        return self.at


@dataclass(frozen=True, slots=True)
class Following:
    """The live cursor of a pipeline, wherever it stands by now: a bound that is never reached."""

    pipeline: str

    def now(self, store: Store) -> Mapping[int, int]:
        """Return where live stands, by partition, read in one transaction; nothing where none is.

        A promotion between the two looks gives where the version before stopped: never too far.
        """
        pointer = store.catalog.pointer(self.pipeline)
        if pointer is None:
            return {}
        return positions(store.ledger.standings(f"{self.pipeline}@{pointer.label}"))


Bound = Fixed | Following


class Capped:
    """Hands out what lies before a bound, and no record beyond it.

    A partition that the bound does not name is not read at all. Without a bound everything is
    handed out. The position moves to the bound also where only a gap lies before it.
    """

    def __init__(
        self,
        open_reader: Callable[[Mapping[int, int]], Reader],
        positions: Mapping[int, int],
        bound: Callable[[], Mapping[int, int]] | None,
        wait: Wait,
        *,
        moves: bool = True,
    ) -> None:
        """Begin at ``positions``; ``bound`` is asked before each read, for it may have moved.

        Where it ``moves``, a partition that has reached it goes on being read, into memory.
        """
        self._open_reader, self._moves = open_reader, moves
        self._at = dict(positions)
        self._bound, self._wait = bound, wait
        self._ahead: dict[int, Records] = {}
        self._reader: Reader | None = None
        self._read: set[int] = set()

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows the positions before the bound, at most one `Records` a partition."""
        if self._bound is None:
            return self._opened(set(self._at)).read(max_records, timeout_s)
        bound = self._bound()
        found = self._handed(bound)
        if found:
            return found
        work = {p for p, at in self._at.items() if p not in self._ahead and at < bound.get(p, at)}
        if not work:
            self._wait(timeout_s)
            return []
        kept = sum(map(len, self._ahead.values()))
        if not work <= self._read or (kept >= max_records and self._read & self._ahead.keys()):
            self._close()
        rest = bound.keys() & self._at.keys() - self._ahead.keys() if self._moves else work
        for records in self._opened(rest).read(max_records, timeout_s):
            partition = records.source.partition
            before = self._ahead.get(partition)
            self._ahead[partition] = before.followed_by(records) if before else records
        return self._handed(bound)

    def _opened(self, partitions: set[int]) -> Reader:
        if self._reader is None:
            self._reader = self._open_reader({p: self._at[p] for p in partitions})
            self._read = set(partitions)
        return self._reader

    def _handed(self, bound: Mapping[int, int]) -> list[Records]:
        """Take what lies before the bound out of what was read."""
        found = []
        for partition, records in sorted(self._ahead.items()):
            end = bound.get(partition, 0)
            if end <= self._at[partition]:
                continue
            cut = records.before(end)
            found.append(cut)
            self._at[partition] = cut.next
            if cut.next < records.next:
                self._ahead[partition] = records.slice(len(cut), len(records))
            else:
                del self._ahead[partition]
        return found

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
        self._close()


class Pace:
    """Keeps a worker to so many records a second; it saves nothing up for later."""

    def __init__(self, records_per_s: float) -> None:
        """Begin now."""
        self.records_per_s = records_per_s
        self._free_at = time.monotonic()

    def batch(self, records: int) -> int:
        """Return how many records a batch may have: no more than those of one second."""
        return max(1, min(records, int(self.records_per_s)))

    def spend(self, records: int) -> float:
        """Return how many seconds to wait after a batch."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0) + records / self.records_per_s
        return max(0.0, self._free_at - now)
