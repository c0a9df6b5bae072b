"""What the ledger keeps of a partition's past: deltas and snapshots, and how long.

A snapshot holds all state and table rows of the partition, a delta what one batch changed. Each
is one blob: state slots under their names, table rows under ``table/<physical>``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from playhead.core.codec import TOMBSTONE
from playhead.core.lineage import Generation, limit
from playhead.core.slots import Slots, decode, encode, folded, is_last

_TABLE = "table/"
NEWEST_KEPT = 2
FOLD_ROWS = 1_000_000
DELTAS_MAX = 250


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records were processed, and how many became dead letters."""

    records: int = 0
    dead: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add both."""
        return Counts(self.records + other.records, self.dead + other.dead)


@dataclass(frozen=True, slots=True)
class Rules:
    """When snapshots are saved, and how long deltas are kept.

    Attributes:
        snapshot_records: Records between two snapshots of a partition.
        snapshot_s: Longest time between two snapshots while records come, seconds.
        history_s: How far back every offset can be restored from the store alone, seconds.
        history_bytes: Most bytes of deltas of a partition, whatever their age.
    """

    snapshot_records: int = 500_000
    snapshot_s: float = 600.0
    history_s: float = 7 * 86_400.0
    history_bytes: int = 10 * 1024**3


@dataclass(frozen=True, slots=True)
class Saved:
    """One delta or snapshot in the store, without its content.

    Attributes:
        generation: Generation that wrote it.
        batch: The batch that it stands after.
        whole: A snapshot; else the delta of that batch.
        begin: First offset of the batch; for a snapshot the same as ``next``.
        next: The next offset after it.
        counts: Of the batch; for a snapshot of everything before ``next``.
        size: Bytes of its content.
        at_s: When it was written, seconds since 1970 on the store's clock.
    """

    generation: int
    batch: int
    whole: bool
    begin: int
    next: int
    counts: Counts
    size: int
    at_s: float


@dataclass(slots=True)
class Content:
    """State slots and table rows: what changed, or all of them.

    ``rows`` has a frame by physical table with the declared columns, ``_partition`` and
    ``_offset``; a Boolean ``_tombstone`` marks deleted keys, in a delta only.
    """

    slots: Slots = field(default_factory=dict)
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)


def pack(content: Content) -> bytes:
    """Return the content as one blob with its checksum."""
    return encode(content.slots | {_TABLE + name: rows for name, rows in content.rows.items()})


def unpack(blob: bytes, what: str) -> Content:
    """Return the content of a blob; ``what`` names it in an error.

    Raises:
        StoreFailed: It is damaged, cut short, or of another format.
    """
    found = decode(blob, what)
    rows = {n.removeprefix(_TABLE): f for n, f in found.items() if n.startswith(_TABLE)}
    return Content({n: f for n, f in found.items() if not n.startswith(_TABLE)}, rows)


class Gathered:
    """Content that grows delta by delta; it is folded when somebody asks, or it becomes much."""

    def __init__(self, base: Content) -> None:
        """Begin with the content of a snapshot, or with nothing."""
        self._slots = {name: [slot] for name, slot in base.slots.items()}
        self._rows = {name: [rows] for name, rows in base.rows.items()}
        self._added = 0

    @property
    def slots(self) -> Slots:
        """The state."""
        self._fold()
        return {name: slot for name, (slot,) in self._slots.items()}

    def _fold(self) -> None:
        for name, frames in self._slots.items():
            frames[:] = [folded(name, frames)]
        self._added = 0

    def add(self, slots: Slots, rows: Mapping[str, pl.DataFrame]) -> None:
        """Put what one batch changed on top."""
        for name, frame in slots.items():
            self._slots.setdefault(name, []).append(frame)
            self._added += len(frame)
        if self._added > FOLD_ROWS:
            self._fold()
        for name, frame in rows.items():
            self._rows.setdefault(name, []).append(frame)

    def rows(self, keys: Mapping[str, Sequence[str]]) -> dict[str, pl.DataFrame]:
        """Return the last row of each key by table, without deleted keys.

        Args:
            keys: Key columns by physical table; other tables are left out.
        """
        found = {}
        for name, key in keys.items():
            if name in self._rows:
                frame = pl.concat(self._rows[name], how="diagonal")
                frame = frame.filter(is_last(key))
                if TOMBSTONE in frame.columns:
                    alive = ~pl.col(TOMBSTONE).fill_null(value=False)
                    frame = frame.filter(alive).drop(TOMBSTONE)
                found[name] = frame
        return found


def bases(saved: Sequence[Saved], history: Sequence[Generation], to: int) -> list[Saved]:
    """Return the snapshots that a restore to ``to`` can begin with, the nearest first."""
    fit = [
        s for s in saved if s.whole and s.next <= to and s.next <= limit(history, s.generation, to)
    ]
    return sorted(fit, key=lambda s: (s.next, s.generation, s.batch), reverse=True)


def due(deltas: tuple[int, int], size: int, last_size: int, snapshot_records: int) -> bool:
    """Say whether a snapshot is due, from what was written since the last one.

    Every ``snapshot_records`` records, or 250 deltas, for each is read in a restore; but where the
    last one took more than a megabyte, not before the deltas since then have taken as much: then
    snapshots at most double what is written.

    Args:
        deltas: How many there are, and of how many records.
        size: Their bytes.
        last_size: Bytes of the last snapshot.
        snapshot_records: From how many records on one is due.
    """
    count, records = deltas
    many = records >= snapshot_records or count >= DELTAS_MAX
    return many and (size >= last_size or last_size < 1_000_000)


def thinned(saved: Sequence[Saved], every: int) -> list[Saved]:
    """Return the snapshots that may go: near the newest all stay, further back one per doubling.

    Args:
        saved: All of a partition.
        every: Records between two snapshots.
    """
    whole = sorted((s for s in saved if s.whole), key=lambda s: (s.generation, s.batch))
    if not whole:
        return []
    newest = whole[-1]
    kept: dict[int, Saved] = {}
    for one in whole:
        distance = abs(newest.next - one.next) // max(1, every)
        kept.setdefault(distance.bit_length(), one)  # the oldest of its class stays the oldest
    keep = {*kept.values(), *whole[-NEWEST_KEPT:]}
    # A generation begins with a snapshot: its own deltas mean nothing without it.
    return [s for s in whole if s not in keep and s.batch > 0]


def expired(saved: Sequence[Saved], now_s: float, history_s: float, bytes_max: int) -> list[Saved]:
    """Return what lies beyond the horizon: all that was written before the snapshot that covers it.

    The horizon is ``history_s`` ago, or nearer where more than ``bytes_max`` bytes were written
    since. Nothing goes unless a snapshot takes its place.
    """
    in_order = sorted(saved, key=lambda s: (s.generation, s.batch, s.whole))
    by_age = by_size = 0
    size, since = sum(s.size for s in in_order), now_s - history_s
    fits = False
    for i, one in enumerate(in_order):
        if one.whole and one.at_s <= since:
            by_age = i
        if one.whole and not fits:
            by_size, fits = i, size <= bytes_max
        size -= one.size
    return in_order[: max(by_age, by_size)]
