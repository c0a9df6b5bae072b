"""How far a replay has come, and when it will be done; nothing here looks at a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Part:
    """How far one partition has come.

    Attributes:
        partition: Which.
        offset: The next offset to read.
        end: Where it ends.
        done: Offsets that are behind it since it began.
        total: Offsets in all.
        eta_s: Seconds until it is done at its own pace; None where it has not moved yet.
        time_ms: Event time reached: the newest of all records so far.
    """

    partition: int
    offset: int
    end: int
    done: int
    total: int
    eta_s: float | None
    time_ms: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a version has come, in all its partitions.

    Attributes:
        version: ``pipeline@label``.
        parts: One a partition.
        records: Records processed so far.
        records_per_s: Since it began.
        done: Offsets that are behind it.
        total: Offsets in all.
        eta_s: Seconds until the slowest partition is done; None where nobody can tell.
        time_ms: Event time reached: the newest of all records so far.
    """

    version: str
    parts: tuple[Part, ...]
    records: int
    records_per_s: float
    done: int
    total: int
    eta_s: float | None
    time_ms: int | None


class Meter:
    """Adds up what one version has done. Times are seconds on any clock that only goes on."""

    def __init__(self, version: str, now_s: float) -> None:
        """Begin now."""
        self.version = version
        self._begun_s = now_s
        self._start: dict[int, int] = {}
        self._at: dict[int, int] = {}
        self._end: dict[int, int] = {}
        self._times_ms: dict[int, int] = {}
        self._records = 0

    def reads(self, positions: Mapping[int, int], bound: Mapping[int, int]) -> None:
        """Take where it stands and where it ends; a bound that has moved is given again."""
        for partition, at in positions.items():
            self._start.setdefault(partition, at)
            self._at[partition] = at
        self._end = {p: max(bound.get(p, at), at) for p, at in positions.items()}

    def did(self, records: int, positions: Mapping[int, int], times_ms: Mapping[int, int]) -> None:
        """Take what one batch did."""
        self._records += records
        self._at.update(positions)
        for partition, time_ms in times_ms.items():
            self._times_ms[partition] = max(time_ms, self._times_ms.get(partition, time_ms))

    def look(self, now_s: float) -> Progress:
        """Return how far it has come."""
        passed_s = max(now_s - self._begun_s, 1e-9)
        parts = tuple(self._part(p, passed_s) for p in sorted(self._start))
        waits = [part.eta_s for part in parts]
        known = [wait for wait in waits if wait is not None]
        return Progress(
            version=self.version,
            parts=parts,
            records=self._records,
            records_per_s=self._records / passed_s,
            done=sum(part.done for part in parts),
            total=sum(part.total for part in parts),
            eta_s=max(known, default=None) if len(known) == len(waits) else None,
            time_ms=max(self._times_ms.values(), default=None),
        )

    def _part(self, partition: int, passed_s: float) -> Part:
        start, at = self._start[partition], self._at[partition]
        end = max(self._end.get(partition, at), at)
        done, left = at - start, end - at
        eta_s = 0.0 if not left else left * passed_s / done if done > 0 else None
        time_ms = self._times_ms.get(partition)
        return Part(partition, at, end, done, end - start, eta_s, time_ms)
