"""What surrounds a diff: which code ran over which part of the log, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from playhead.core.lineage import first_start
from playhead.core.offsets import OffsetRange
from playhead.errors import LogFailed
from playhead.ops import bounds
from playhead.ops.diff import Difference, Stood
from playhead.ops.history import Entry, history
from playhead.ops.history import Request as HistoryRequest
from playhead.ports import Log, Store
from playhead.project import Project

ENTRIES = 12


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a version has read of one partition.

    Attributes:
        partition: Its number.
        read: From its first offset to its cursor.
        generation: The newest.
        retained: What the log holds; None: it did not say.
        from_ms: Time of the first record that was read, milliseconds since 1970; None: unknown.
        to_ms: Time of the last one.
    """

    partition: int
    read: OffsetRange
    generation: int
    retained: OffsetRange | None
    from_ms: int | None
    to_ms: int | None


@dataclass(frozen=True, slots=True)
class Ran:
    """One version that was compared.

    Attributes:
        stood: Where it stood.
        stage: live, shadow or retired.
        environment: Versions of Python and libraries, as recorded.
        stretches: By partition, what it has read.
    """

    stood: Stood
    stage: str
    environment: Mapping[str, str]
    stretches: Sequence[Stretch]


@dataclass(frozen=True, slots=True)
class Report:
    """A diff with all that is needed to judge it.

    Attributes:
        found: The diff.
        ran: The versions that were compared, base first.
        entries: What was done with the pipeline last, newest first.
        made_at: When.
        playhead: Version of Playhead.
    """

    found: Difference
    ran: Sequence[Ran]
    entries: Sequence[Entry]
    made_at: datetime
    playhead: str


def report(project: Project, found: Difference) -> Report:
    """Gather what surrounds a diff; a log that does not answer leaves times open."""
    with closing(project.open_store(must_exist=True)) as store:
        rows = {row.name: row for row in store.catalog.versions()}
        try:
            with closing(project.open_log()) as log:
                stretches = {s.name: _stretches(store, log, s) for s in found.stood}
        except LogFailed:
            stretches = {s.name: _stretches(store, None, s) for s in found.stood}
    ran = [
        Ran(s, rows[s.name].stage, rows[s.name].environment, stretches[s.name]) for s in found.stood
    ]
    pipeline = found.head.partition("@")[0]
    past = history(project, HistoryRequest(pipeline, limit=ENTRIES))
    return Report(found, ran, past.entries, datetime.now(UTC), version("playhead"))


def _stretches(store: Store, log: Log | None, stood: Stood) -> list[Stretch]:
    starts = {p: first_start(gs) for p, gs in store.ledger.generations(stood.name).items()}
    read = {
        p: OffsetRange(min(starts.get(p, 0), c.next), c.next)
        for p, c in sorted(stood.cursors.items())
    }
    retained: Mapping[int, OffsetRange] = {}
    first: Mapping[int, int | None] = {}
    last: Mapping[int, int | None] = {}
    if log is not None and log.topic(stood.source) is not None:
        retained = log.retained(stood.source)
        some = {p: r for p, r in read.items() if len(r)}
        ends = {p: r.end for p, r in some.items()}
        first = bounds.times(log, stood.source, {p: r.start for p, r in some.items()}, ends)
        last = bounds.times(log, stood.source, {p: r.end - 1 for p, r in some.items()}, ends)
    return [
        Stretch(p, r, stood.cursors[p].generation, retained.get(p), first.get(p), last.get(p))
        for p, r in read.items()
    ]
