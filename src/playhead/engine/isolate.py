"""Finding the one bad record, so that the rest of its batch can go on.

The state before a batch is not changed by a call, so any part of the batch can be tried on it. The
first prefix that fails, where the prefix one shorter passes, ends with the bad record, if it fails
alone, too. What comes of the good records is what one call with exactly them gives: so a redo, a
restore and any other way of finding the same records give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

from playhead.core.records import Records
from playhead.core.slots import Slots, merge
from playhead.engine.call import Outcome
from playhead.errors import BadRecord, FunctionFailed

DEAD_MAX = 20
Call = Callable[[Records, Slots], Outcome]
Failure = BadRecord | FunctionFailed


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
            aside or more than 20 would be; without, the records fail only as a whole.
    """
    found: dict[int, Failure] = {}
    good = records
    while True:
        try:
            return call(good, slots), found
        except (BadRecord, FunctionFailed) as error:
            at, reason = _first_bad(call, good, slots, error)
        offset = good.offsets[at]
        if not keep_on:
            raise _named(reason, records, offset) from reason
        found[offset] = reason
        if len(found) > DEAD_MAX:
            first = min(found)
            raise _named(found[first], records, first, _too_many(found)) from reason
        good = good.where([i != at for i in range(len(good))])


def _first_bad(call: Call, records: Records, slots: Slots, error: Failure) -> tuple[int, Failure]:
    """Return the index of the first bad record and its own error, by bisection."""
    passes, fails = -1, len(records)  # lengths of prefixes
    reason = error
    while fails - passes > 1:
        middle = (passes + fails) // 2
        try:
            call(_prefix(records, middle), slots)
            passes = middle
        except (BadRecord, FunctionFailed) as raised:
            fails, reason = middle, raised
    if fails == 0:
        raise reason  # not even no record passes: it is the function, or what it needs
    before = merge(slots, call(_prefix(records, fails - 1), slots).delta)
    alone = records.where([i == fails - 1 for i in range(len(records))])
    try:
        call(alone, before)
    except (BadRecord, FunctionFailed) as raised:
        return fails - 1, raised
    raise FunctionFailed(
        f"{reason.message} — but only together with the records before it in one call: none of "
        "them fails alone",
        where=f"{records.source} up to {records.offsets[fails - 1]}",
        safe="Nothing of this batch was committed.",
        cure="The function depends on where batches end: playhead check shows how.",
    ) from reason


def _prefix(records: Records, length: int) -> Records:
    return records.where([i < length for i in range(len(records))])


def _too_many(found: dict[int, Failure]) -> str:
    return (
        f"more than {DEAD_MAX} records of one batch would be dead letters, from {min(found)} to "
        f"{max(found)}: that is not one bad record. The first: "
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
