"""Dead letters: what a version could not process, and setting one record aside by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from playhead.core.lineage import owner
from playhead.core.offsets import OffsetRange, TopicPartition, record_place
from playhead.engine.events import OnEvent, Step, listener
from playhead.engine.hold import settled
from playhead.engine.leases import runner
from playhead.engine.reading import read_all
from playhead.engine.worker import Worker
from playhead.errors import ConfigError, OffsetOutOfRange, Refused
from playhead.ops import versions
from playhead.ops.rewind import recorded
from playhead.ops.versions import Known
from playhead.ports import DeadLetter, Log, Store, VersionRow, positions
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Found:
    """The dead letters of a version that count: those of the generation that owns their offset."""

    version: str
    letters: Sequence[DeadLetter]


@dataclass(frozen=True, slots=True)
class Skip:
    """A record to be set aside: ``topic[partition]@offset``, and why."""

    place: str
    reason: str


def dead_letters(project: Project, name: str) -> Found:
    """Return the dead letters of a version; of a pipeline alone, those of the live one.

    Raises:
        ConfigError: No such version, or it has not run.
    """
    with closing(project.open_store(must_exist=True)) as store:
        row = recorded(Known.read(project, store), name)
        return _found(store, row)


def _found(store: Store, row: VersionRow) -> Found:
    history = store.ledger.generations(row.name)
    starts = {p: [(g.number, g.start) for g in generations] for p, generations in history.items()}
    letters = [
        letter
        for letter in store.history.dead_letters(row.name)
        if owner(starts.get(letter.place.partition, ()), letter.offset) == letter.generation
    ]
    return Found(row.name, letters)


def skip(project: Project, name: str, wanted: Skip, tell: OnEvent | None = None) -> Found:
    """Make the record that stopped a version a dead letter, and go on past it.

    What is pending is finished first: a batch that was published is not changed any more. Then the
    decision is written down: whenever the record is read again, it is set aside again. What lies
    between the cursor and the record is processed on the way.

    Raises:
        ConfigError: No such record, or no reason.
        Refused: It runs or is retired, the record was processed already, or a shadow would pass
            live.
        BadRecord, FunctionFailed: A record before it fails, too.
    """
    record = record_place(wanted.place)
    if record is None:
        raise ConfigError(f"--skip {wanted.place!r}: topic[partition]@offset, as errors name it")
    if not wanted.reason.strip():
        raise ConfigError("--skip wants --reason: the audit keeps why the record was set aside")
    place, offset = record
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        row = recorded(known, name)
        versions.refuse_changed(row, known.version(row.name), project)
        _check_stage(known, store, row, place.at(offset), (place.partition, offset))
        standings = store.ledger.standings(row.name)
        _check_ahead(row, place, offset, positions(standings))
        _check_record(log, place, offset)
        task, tell = versions.task_of(known, project, log, row), listener(tell)
        with settled(task, log, project.open_store, tell) as session:
            bound = session.positions
            _check_ahead(row, place, offset, bound)
            store.history.skip(row.name, place, offset, " ".join(wanted.reason.split()))
            tell(Step("skip intent"))
        bound[place.partition] = offset + 1
        Worker(task, project.open_log, project.open_store, tell).run(bound)
        return _found(store, row)


def _check_stage(
    known: Known, store: Store, row: VersionRow, where: str, record: tuple[int, int]
) -> None:
    partition, offset = record
    other = runner(store, row.name)
    if other is not None:
        raise Refused(f"{row.name} is run by {other.owner}", cure="Stop it, then skip.")
    if row.stage == "retired":
        raise Refused(
            f"{row.name} is retired: nothing stopped it",
            where=where,
            safe="Nothing was changed.",
            cure="playhead rollback makes it a version that runs; skip then.",
        )
    live = known.live(row.pipeline)
    if row.stage != "shadow" or live is None or live.source != row.source:
        return
    at = store.ledger.standings(live.name)
    if partition not in at or offset >= at[partition].cursor.next:
        raise Refused(
            f"{live.name} has not come to it yet, and a shadow never passes live",
            where=where,
            safe="Nothing was changed.",
            cure="playhead run first.",
        )


def _check_ahead(
    row: VersionRow, place: TopicPartition, offset: int, at: Mapping[int, int]
) -> None:
    if place.topic != row.source or place.partition not in at:
        raise ConfigError(f"{row.name} reads {row.source}, and not {place}")
    if offset < at[place.partition]:
        raise Refused(
            f"{row.name} has processed it already: it stands at {at[place.partition]}",
            where=place.at(offset),
            safe="Nothing was changed.",
            cure=f"playhead rewind {row.name} --to-offset {offset} --topic {place.topic}:"
            f"{place.partition} --execute first, then skip it.",
        )


def _check_record(log: Log, place: TopicPartition, offset: int) -> None:
    try:
        found = [o for r in read_all(log, place, OffsetRange(offset, offset + 1), 1)
                 for o in r.offsets]  # fmt: skip
    except OffsetOutOfRange as error:
        raise ConfigError(f"there is no such record: {error.message}", where=str(place)) from error
    if found != [offset]:
        raise ConfigError("there is no record at this offset", where=place.at(offset))
