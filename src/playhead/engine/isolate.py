"""Finding the bad records of a batch, so that the rest of it can go on.

The state before a batch is not changed by a call, so any part of the batch can be tried on it. A
part that fails is divided, at the record that its error names or else in the middle, and its parts
are tried on the state that the good records before them leave. A single record that fails is bad.
What comes of the good ones is what one call with exactly them gives: so a redo, a restore and any
other way of finding the same records give the same bits.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

from playhead.core.offsets import OffsetRange
from playhead.core.records import Records
from playhead.core.slots import Slots, merge
from playhead.engine.call import Outcome
from playhead.errors import BadRecord, FunctionFailed

DEAD_MAX = 20
Call = Callable[[Records, Slots], Outcome]
Failure = BadRecord | FunctionFailed
_SURROUNDINGS = (ImportError, MemoryError, OSError)  # no record's fault


def isolate(
    call: Call, records: Records, slots: Slots, *, keep_on: bool
) -> tuple[Outcome, dict[int, Failure]]:
    """Return what the good records give, and the error of each bad one by its offset.

    Args:
        call: Calls the function with records, from a state.
        records: Records of one partition.
        slots: State before them.
        keep_on: Whether bad records are set aside; else the first one is raised, with its offset.

    Raises:
        BadRecord, FunctionFailed: With ``offset``, the first bad record, where nothing is set
            aside or more than 20 would be; without, it is no single record's fault: the records
            fail only together, or the function fails without any, or for want of something else.
    """
    search = _Search(call, records, keep_on=keep_on)
    good = records
    while True:
        try:
            return call(good, slots), search.found
        except (BadRecord, FunctionFailed) as error:
            if good is records:
                call(records.slice(0, 0), slots)  # fails, too: then it is the function
            search.divide(good, slots, error)
        good = good.where([offset not in search.found for offset in good.offsets])


class _Search:
    """Looks for bad records, from the first on."""

    def __init__(self, call: Call, records: Records, *, keep_on: bool) -> None:
        self.found: dict[int, Failure] = {}
        self._call = call
        self._records = records
        self._keep_on = keep_on
        self._trust = True  # that errors name the record that they come from

    def divide(self, records: Records, slots: Slots, error: Failure) -> Slots:
        """Look into records that failed; return the state after the good ones of them."""
        if isinstance(error.__cause__, _SURROUNDINGS) or not len(records):
            raise error
        if len(records) == 1:
            self._note(records.offsets[0], error)
            return slots
        known = len(self.found)
        at = self._named_in(records, error)
        if at is None:
            middle = len(records) // 2
            slots = self._try(records.slice(0, middle), slots)
            slots = self._try(records.slice(middle, len(records)), slots)
        else:
            slots = self._try(records.slice(0, at), slots)
            before = len(self.found)
            slots = self._try(records.slice(at, at + 1), slots)
            self._trust = len(self.found) > before
            slots = self._try(records.slice(at + 1, len(records)), slots)
        if len(self.found) == known:
            raise _together(records, error)
        return slots

    def _try(self, records: Records, slots: Slots) -> Slots:
        if not len(records):
            return slots
        try:
            return merge(slots, self._call(records, slots).delta)
        except (BadRecord, FunctionFailed) as error:
            return self.divide(records, slots, error)

    def _named_in(self, records: Records, error: Failure) -> int | None:
        """Return the index of the record that the error names, if it names one."""
        head, _, offset = (error.where or "").rpartition("@")
        if not self._trust or head != str(records.source) or not offset.isdecimal():
            return None
        at = bisect_left(records.offsets, int(offset))
        return at if at < len(records) and records.offsets[at] == int(offset) else None

    def _note(self, offset: int, error: Failure) -> None:
        if not self._keep_on:
            raise _named(error, self._records, offset) from error
        self.found[offset] = error
        if len(self.found) > DEAD_MAX:
            first = min(self.found)
            preface = (
                f"more than {DEAD_MAX} records of one batch would be dead letters, from {first} "
                f"to {max(self.found)}: that is not one bad record. The first: "
            )
            raise _named(self.found[first], self._records, first, preface) from error


def _together(records: Records, error: Failure) -> FunctionFailed:
    return FunctionFailed(
        f"{error.message} — but only together in one call: none of these {len(records)} records "
        "fails alone",
        where=f"{records.source} {OffsetRange(records.offsets[0], records.offsets[-1] + 1)}",
        safe="Nothing of this batch was committed.",
        cure="The function depends on where batches end: playhead check shows how.",
    )


def _named(error: Failure, records: Records, offset: int, preface: str = "") -> Failure:
    """Return the error of one record: which one, what is safe, how to go on without it."""
    named = type(error)(
        f"{preface}{error.message}",
        where=records.source.at(offset),
        safe="What comes before it is committed; nothing at or after it was.",
        cure=error.cure,
    )
    named.offset = offset
    return named
