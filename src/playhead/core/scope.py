"""The part of history that a shadow makes anew, where it has the rest from another version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl

from playhead.core.codec import columns_schema
from playhead.core.records import Records
from playhead.core.schema import Schema
from playhead.core.slots import Slots, key_columns

BASE = "base/"
"""What the names of base's slots begin with, where a shadow carries them beside its own."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a shadow makes itself: rows of the records in ``[start, end)``, by partition.

    Its tables begin as base's are at ``start``. A partition that is not named is read whole.

    Attributes:
        base: The version that the rest comes from, as ``pipeline@label``.
        start: Where it begins to write.
        end: Where a repair ends; empty: it goes on to the end.
        from_ms: Records of earlier times are computed, and base's rows of them stay.
        to_ms: The same for records of this time or later.
        warm: Whether its state is what its own code makes of everything before ``start``; else it
            begins with base's.
        words: What the user asked for, in their words.
    """

    base: str
    start: Mapping[int, int]
    end: Mapping[int, int] = field(default_factory=dict)
    from_ms: int | None = None
    to_ms: int | None = None
    warm: bool = False
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether times decide which rows are its own, beside offsets."""
        return self.from_ms is not None or self.to_ms is not None

    def writes(self, partition: int, offset: int, time_ms: int) -> bool:
        """Say whether the rows of a record are its own."""
        if offset < self.start.get(partition, 0):
            return False
        if offset >= self.end.get(partition, offset + 1):
            return True
        after = self.from_ms is None or time_ms >= self.from_ms
        return after and (self.to_ms is None or time_ms < self.to_ms)

    def parts(self, records: Records) -> Iterator[tuple[Records, bool]]:
        """Yield runs of records, in order, each with whether the rows of all of them are its own.

        Each run's position is where it ends, the last one's that of all records.
        """
        partition = records.source.partition
        own = [
            self.writes(partition, offset, time_ms)
            for offset, time_ms in zip(records.offsets, records.timestamps_ms, strict=True)
        ]
        cuts = [i for i in range(1, len(own)) if own[i] != own[i - 1]]
        for begin, stop in zip([0, *cuts], [*cuts, len(own)], strict=True):
            run = records.slice(begin, stop)
            if stop < len(own):
                run = run.before(records.offsets[stop])
            yield run, own[begin] if own else True


def own(slots: Slots) -> Slots:
    """Return a shadow's own slots, without those of base that it carries."""
    return {name: slot for name, slot in slots.items() if not name.startswith(BASE)}


def of_base(slots: Slots) -> Slots:
    """Return base's slots that a shadow carries, under base's names."""
    found = {name: slot for name, slot in slots.items() if name.startswith(BASE)}
    return {name.removeprefix(BASE): slot for name, slot in found.items()}


def carried(slots: Slots) -> Slots:
    """Return base's slots under the names that a shadow carries them by."""
    return {BASE + name: slot for name, slot in slots.items()}


def same_state(one: Slots, other: Slots) -> bool:
    """Say whether two versions' slots hold the same for every key; the order of keys is nothing."""
    left, right = (
        {name: slot for name, slot in slots.items() if len(slot)} for slots in (one, other)
    )
    return left.keys() == right.keys() and all(
        _in_order(left[name]).equals(_in_order(right[name])) for name in left
    )


def _in_order(slot: pl.DataFrame) -> pl.DataFrame:
    return slot.sort(key_columns(slot))


def fitted(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return base's rows with the columns of head's table; what base lacks is null.

    Args:
        rows: Base's rows, with their origin, perhaps with ``_tombstone``.
        schema: The columns of head's table.
    """
    dtypes = columns_schema(schema)
    missing = [pl.lit(None, dtypes[n]).alias(n) for n in dtypes if n not in rows.columns]
    extra = [n for n in rows.columns if n.startswith("_")]
    return rows.with_columns(missing).select(*dtypes, *extra)
