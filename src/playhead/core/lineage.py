"""Lineage: which generation an offset belongs to, after rewinds and accepted gaps.

The owner of an offset is the newest generation that started at or before it. What an older
generation made of it is superseded: its deltas, snapshots, dead letters, counters and, downstream,
its records (docs/DESIGN.md, "Generations").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from playhead.core.offsets import OffsetRange

Upstream = Mapping[str, Sequence[tuple[int, int]]]
"""Generations of the versions that write the source: (number, start) by ``pipeline@label[n]``,
where n is the partition that the writer read."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One run of a version over a partition, from ``start`` on.

    Attributes:
        number: 1, 2, 3, …
        start: Its first offset.
        gap_from: Where the cursor stood when a skip to ``start`` was accepted; None otherwise.
        upstream: For a source that pipelines of the app write: their generations when this one
            began. Records that are superseded by them are skipped, now and in any redo.
    """

    number: int
    start: int
    gap_from: int | None = None
    upstream: Upstream = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets that one generation owns and has processed, or will."""

    generation: Generation
    offsets: OffsetRange


def limit(history: Sequence[Generation], number: int, end: int) -> int:
    """Return the first offset that generation ``number`` no longer owns, at most ``end``."""
    return min((g.start for g in history if g.number > number), default=end)


def spans(history: Sequence[Generation], to: int) -> list[Span]:
    """Return what was processed on the way to ``to``, in the order of offsets.

    Gaps that were accepted are left out, as far as no later generation began before their end.
    """
    gaps = []
    for generation in history:
        if generation.gap_from is not None:
            end = limit(history, generation.number, generation.start)
            gaps.append(OffsetRange(generation.gap_from, min(end, generation.start)))
    found = []
    for generation in history:
        end = min(to, limit(history, generation.number, to))
        parts = [OffsetRange(generation.start, end)]
        for gap in gaps:
            parts = [piece for part in parts for piece in _without(part, gap)]
        found += [Span(generation, part) for part in parts if len(part)]
    return sorted(found, key=lambda span: span.offsets.start)


def _without(part: OffsetRange, gap: OffsetRange) -> list[OffsetRange]:
    if not len(gap):
        return [part]
    before = OffsetRange(part.start, min(part.end, gap.start))
    after = OffsetRange(max(part.start, gap.end), part.end)
    return [piece for piece in (before, after) if len(piece)]


def owner(starts: Sequence[tuple[int, int]], offset: int) -> int:
    """Return the number of the newest generation that started at or before ``offset``; 0: none."""
    return max((number for number, start in starts if start <= offset), default=0)


def first_start(history: Sequence[Generation]) -> int:
    """Return the lowest offset that a generation began at, gaps aside."""
    return min(g.start for g in history if g.gap_from is None)
