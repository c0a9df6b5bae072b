"""Which part of history a shadow makes anew: the user's words, resolved once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from playhead.core import ranges
from playhead.core.declare import Version
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.plan import TakeOver
from playhead.core.ranges import Wanted
from playhead.core.scope import Scope
from playhead.engine.call import Caller
from playhead.engine.reading import CHUNK_RECORDS, read_all
from playhead.errors import ConfigError, Refused
from playhead.ops import bounds
from playhead.ops.versions import Known
from playhead.ports import Log, VersionRow


@dataclass(frozen=True, slots=True)
class Stands:
    """Where base stands, and what the log holds.

    Attributes:
        base: The live version.
        retained: What the topic holds.
        at: Base's cursors, by partition.
    """

    base: VersionRow
    retained: Mapping[int, OffsetRange]
    at: Mapping[int, int]


def scope_of(
    known: Known, log: Log, version: Version, wanted: Wanted, stands: Stands
) -> tuple[Scope | None, tuple[str, ...]]:
    """Return the scope that was asked for, None where all of history was; and what to say of it.

    A version that is recorded keeps the scope that it was recorded with, resolved then.

    Raises:
        ConfigError: A place is none, or ``--state-from base`` has no ``--from``.
        OffsetOutOfRange: A place is not retained.
        Refused: The version was recorded with another scope, or readers would miss the rest.
    """
    if wanted.start is None:
        if wanted.state_from_base:
            raise ConfigError("--state-from base says with what to begin: say where, with --from")
        return None, ()
    row = known.rows.get(version.name)
    if row is not None:
        _refuse_another(row, wanted)
        return row.scope, ()
    readers = known.readers(version.pipeline) if version.topics else []
    if readers:
        raise Refused(
            f"{', '.join(readers)} reads what {version.name} writes, and would get a part of it",
            safe="Nothing was changed.",
            cure="Replay all of it, without --from.",
        )
    topic = known.source(version)
    start, said = bounds.start(log, topic, stands.retained, stands.at, wanted)
    end: dict[int, int] = {}
    times = (_time(wanted.start), _time(wanted.to))
    if wanted.to is not None:
        end, more = bounds.end(log, topic, stands.retained, stands.at, wanted)
        said = (*said, *more)
        if times[1] is not None:
            end = _last_before(log, topic, end, (stands.at, times[1]))
        end = {p: max(at, start.get(p, at)) for p, at in end.items()}
    warm, why = _warm(known, version, wanted, stands.base)
    scope = Scope(
        base=stands.base.name,
        start={p: at for p, at in start.items() if p in stands.at},
        end={p: at for p, at in end.items() if p in stands.at},
        from_ms=times[0],
        to_ms=times[1],
        warm=warm,
        words=wanted.words,
    )
    if version.topics:
        names = ", ".join(t.physical(version.label) for t in version.topics)
        said = (*said, f"{names} will hold what it makes itself, not what {scope.base} made")
    return scope, (*said, *why)


def bound_of(scope: Scope, stands: Stands) -> dict[int, int]:
    """Return where a replay of the scope ends, by partition: never beyond live."""
    live = {p: stands.at.get(p, held.start) for p, held in stands.retained.items()}
    return {p: min(at, scope.end.get(p, at)) for p, at in live.items()}


def begun(scope: Scope | None) -> dict[int, int]:
    """Return where a shadow that has committed nothing yet begins to read; where it says so."""
    return {} if scope is None or scope.warm else dict(scope.start)


def taken_over(
    name: str, scope: Scope | None, stands: Stands, at: Mapping[int, int]
) -> tuple[TakeOver, ...]:
    """Return the step that ends a repair, unless the shadow has left the end of it behind."""
    if scope is None or all(at.get(p, end) > end for p, end in scope.end.items()):
        return ()
    return (TakeOver(name, scope.base, scope.end, stands.at),)


def _refuse_another(row: VersionRow, wanted: Wanted) -> None:
    if row.scope is None or dict(row.scope.words) != wanted.words:
        was = row.scope.words if row.scope else {}
        words = " ".join(f"--{n.replace('_', '-')} {t}" for n, t in was.items()) or "all of history"
        raise Refused(
            f"{row.name} was begun with {words}: a shadow keeps what it was begun with",
            safe="Nothing was changed.",
            cure="Say the same again, or give the code another label.",
        )


def _time(text: str | None) -> int | None:
    place = ranges.parse(text, datetime.now(UTC)) if text else None
    return place.number if place and place.kind == "time" else None


def _last_before(
    log: Log,
    topic: str,
    end: Mapping[int, int],
    until: tuple[Mapping[int, int], int],
) -> dict[int, int]:
    """Return where the last record before a time ends, for records are not in order of time.

    The log's index knows the first record at or after a time; earlier ones may follow it.
    """
    live_at, time_ms = until
    last = dict(end)
    behind = {p: OffsetRange(at, live_at[p]) for p, at in end.items() if at < live_at.get(p, at)}
    for partition, wanted in behind.items():
        for records in read_all(log, TopicPartition(topic, partition), wanted, CHUNK_RECORDS):
            for offset, ms in zip(records.offsets, records.timestamps_ms, strict=True):
                if ms < time_ms:
                    last[partition] = offset + 1
    return last


def _warm(
    known: Known, version: Version, wanted: Wanted, base: VersionRow
) -> tuple[bool, tuple[str, ...]]:
    """Say whether the state has to be built by reading everything before, and why.

    Base's state will do where both keep slots of the same names and types.
    """
    head = Caller(known.bound(version), {})
    if not head.shapes and not version.per_row:
        return False, ()
    if not wanted.state_from_base:
        return True, ()
    declared = known.declared(base.name)
    other = Caller(known.bound(declared), {}) if declared else None
    alike = other is not None and (_shapes(other), version.per_row) == (
        _shapes(head), other.version.per_row,
    )  # fmt: skip
    if alike and (not version.per_row or other is None or _key(other) == _key(head)):
        return False, ()
    why = f"{version.name} keeps other state than {base.name}: it reads from the start, to build it"
    return True, (why,)


def _shapes(caller: Caller) -> dict[str, dict[str, object]]:
    return {slot: dict(shape) for slot, shape in caller.shapes.items()}


def _key(caller: Caller) -> tuple[str, ...]:
    return caller.version.source.key
