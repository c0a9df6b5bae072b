"""Move a version's own playhead back; state and table go with it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from playhead.core.naming import witness_of
from playhead.core.offsets import TopicPartition
from playhead.core.targets import Target
from playhead.engine.events import OnEvent, listener
from playhead.engine.hold import settled
from playhead.errors import ConfigError, OffsetOutOfRange, PlayheadError, Refused
from playhead.ops import versions
from playhead.ops.groups import from_file, resolved
from playhead.ops.journal import recording
from playhead.ops.mirror import refresh
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow
from playhead.project import Project

DROPPED_S = 15.0  # a session of ten seconds, and some


@dataclass(frozen=True, slots=True)
class Rewound:
    """What a rewind moves.

    Attributes:
        version: ``pipeline@label``.
        group: Its consumer group.
        moves: Prior and new offset of each partition that is moved.
        generation: Generation after it; before it, where it was only shown.
        cursor: The next offset to read after it, in partition order.
        topic: The physical topic.
        executed: Whether it was done, or only shown.
        remark: What could not be done afterwards, if anything.
    """

    version: str
    group: str
    moves: Mapping[TopicPartition, tuple[int, int]]
    generation: int
    cursor: list[int]
    topic: str
    executed: bool
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        name: ``pipeline`` (its live version) or ``pipeline@label``.
        target: Where to.
        partitions: ``topic`` or ``topic:0,1``; empty means every partition.
        execute: Do it; otherwise only say what would be done.
        reason: For the audit.
    """

    name: str
    target: Target
    partitions: Sequence[str] = ()
    execute: bool = False
    reason: str | None = None


def _members(log: Log, group: str, *, wait: bool) -> tuple[str, ...]:
    """Return who is in a group; members that have died are waited for until the log drops them."""
    deadline = time.monotonic() + DROPPED_S
    info = log.describe_group(group)
    while wait and info.members and info.members == info.died and time.monotonic() < deadline:
        time.sleep(0.2)
        info = log.describe_group(group)
    return info.members


def rewind(project: Project, request: Request, tell: OnEvent | None = None) -> Rewound:
    """Rewind a version: a new generation begins at the offsets, with state and rows as of them.

    Other versions are not touched. What the version published stays in its topic, under its older
    generation.

    Raises:
        ConfigError: No such version, partition or offset.
        Refused: Something runs, the code has changed, or a target lies ahead of the cursor.
        OffsetOutOfRange: A target is not retained, or the state as of it cannot be had.
    """
    must_exist = request.target.word != "earliest"  # that one makes good for a store that is gone
    with (
        closing(project.open_log()) as log,
        closing(project.open_store(must_exist=must_exist)) as store,
    ):
        known = Known.read(project, store)
        row = _lost_with_the_store(known, project, log, request) or recorded(known, request.name)
        versions.refuse_changed(row, known.version(row.name), project)
        anew = _from_nothing(log, store, row)
        moves = _moves(log, store, row, request, anew=anew)
        members = _members(log, row.group, wait=request.execute)
        if members:
            raise Refused(
                f"group {row.group} has members: {', '.join(members)}",
                safe="Nothing was changed.",
                cure="Stop them, then rewind again.",
            )
        if not request.execute:
            return _result(store, row, moves, executed=False)
        if request.target.word == "earliest":
            row = _whole_again(known, log, store, row)
            known = Known.read(project, store)
        task = replace(
            versions.task_of(known, project, log, row),
            rewind={p.partition: to for p, (_, to) in moves.items()},
            why=request.reason or "playhead rewind",
            anew=anew,
        )
        to = {str(place): at for place, (_, at) in moves.items()}
        prior = {str(place): at for place, (at, _) in moves.items()}
        intent = {"from": prior, "to": to, "fingerprint": row.fingerprint, "reason": request.reason}
        with (
            recording(store, "rewind", row.name, intent) as result,
            settled(task, log, project.open_store, listener(tell)) as session,
        ):
            result["cursor"] = session.positions
        remark = None
        try:
            refresh(project, store)
        except PlayheadError as error:
            remark = f"{error.message}; playhead query builds it"
        return replace(_result(store, row, moves, executed=True), remark=remark)


def recorded(known: Known, name: str) -> VersionRow:
    """Return the version that is named; of a pipeline alone, the live one.

    Raises:
        ConfigError: There is no such version here, or it was never run.
    """
    pipeline, label = versions.split(name)
    known.pipeline(pipeline)
    row = known.rows.get(known.version(name).name) if label else known.live(pipeline)
    if row is None:
        raise ConfigError(
            f"{name} has not run yet",
            cure=f"playhead replay {name}" if label else "playhead run",
        )
    known.version(row.name)
    return row


def _moves(
    log: Log, store: Store, row: VersionRow, request: Request, *, anew: bool
) -> dict[TopicPartition, tuple[int, int]]:
    standings = store.ledger.standings(row.name)
    prior = {TopicPartition(row.source, p): s.cursor.next for p, s in standings.items()}
    if anew and (request.target.word != "earliest" or request.partitions):
        raise Refused(
            f"the source or the store of {row.name} is not the one that it ran on: nothing that "
            "it has made counts any more",
            safe="Nothing was changed.",
            cure=f"playhead rewind {row.name} --to-earliest --execute begins anew, in every "
            "partition; or restore what was there.",
        )
    if anew:
        prior |= {place: at for place, at in _committed(log, row).items() if place not in prior}
    if not prior:
        raise ConfigError(f"{row.name} has not run yet", cure="playhead run")
    if request.target.word == "file":
        offsets = from_file(request.target.file) if request.target.file else {}
        _check_read(row, prior, offsets)
    else:
        places = _places(row, prior, request.partitions)
        offsets = resolved(log, places, prior, request.target)
    held = log.retained(row.source)
    for place, to in sorted(offsets.items()):
        kept = held[place.partition]
        if not kept.holds(to, to):
            raise OffsetOutOfRange(
                f"offset {to} is not retained (the topic holds {kept})",
                where=str(place),
                safe="Nothing was changed.",
                cure=f"Choose one in [{kept.start}, {min(kept.end, prior[place])}].",
            )
        if to > prior[place] and not anew:
            raise Refused(
                f"{row.name} stands at {prior[place]}: a rewind goes back, and {to} lies ahead",
                where=str(place),
                safe="Nothing was changed.",
                cure=f"Choose one in [{kept.start}, {prior[place]}].",
            )
    return {place: (prior[place], to) for place, to in sorted(offsets.items())}


def _places(
    row: VersionRow, prior: Mapping[TopicPartition, int], wanted: Sequence[str]
) -> list[TopicPartition]:
    if not wanted:
        return sorted(prior)
    found = []
    for text in wanted:
        topic, _, some = text.partition(":")
        if topic != row.source:
            raise ConfigError(f"{row.name} reads {row.source}, not {topic}")
        try:
            found += [TopicPartition(topic, int(p)) for p in some.split(",") if some]
        except ValueError as error:
            raise ConfigError(f"--topic {text!r}: TOPIC or TOPIC:0,1") from error
        found += [] if some else sorted(prior)
    _check_read(row, prior, found)
    return found


def _check_read(
    row: VersionRow,
    prior: Mapping[TopicPartition, int],
    places: Iterable[TopicPartition],
) -> None:
    for place in places:
        if place not in prior:
            raise ConfigError(f"{place} is not a partition that {row.name} reads")


def _from_nothing(log: Log, store: Store, row: VersionRow) -> bool:
    """Say whether the source was made again, or the store has lost cursors that the log knows."""
    topic = log.topic(row.source)
    standings = store.ledger.standings(row.name)
    ids = {s.topic_id for s in standings.values()}
    lost = {place.partition for place in _committed(log, row)} - set(standings)
    return topic is not None and bool(ids - {topic.id} or lost)


def _committed(log: Log, row: VersionRow) -> dict[TopicPartition, int]:
    """Return where the log has the version, in every partition, if it has it in any.

    Only what the version itself committed counts, for this store or for another one.
    """
    found = [log.committed(group) for group in (witness_of(row.group), row.group)]
    seen = [c.checkpoint for group in found for c in group.values() if c.checkpoint is not None]
    if not any(checkpoint.version == row.name for checkpoint in seen):
        return {}
    places = [TopicPartition(row.source, p) for p in range(row.partitions)]
    at = {place: committed.offset for group in found for place, committed in group.items()}
    return {place: at.get(place, 0) for place in places}


def _lost_with_the_store(
    known: Known, project: Project, log: Log, request: Request
) -> VersionRow | None:
    """Return the row that a version had in a store that is gone, if the log knows the version."""
    pipeline, label = versions.split(request.name)
    declared = known.pipeline(pipeline)
    version = known.version(f"{pipeline}@{label or declared.first}")
    if version.name in known.rows or (not label and known.live(pipeline) is not None):
        return None
    row = versions.describe(known, project, log, version)
    return row if _committed(log, row) else None


def _whole_again(known: Known, log: Log, store: Store, row: VersionRow) -> VersionRow:
    """Record what the store has lost; forget output topics that are gone."""
    if row.name in known.rows:
        return _outputs_anew(log, store, row)
    stage = "shadow" if known.live(row.pipeline) else "live"
    return versions.keep(log, store, replace(row, stage=stage), known.version(row.name))


def _outputs_anew(log: Log, store: Store, row: VersionRow) -> VersionRow:
    """Forget output topics that are gone: everything is about to be published again."""
    ids = {
        name: known
        for name, known in row.topic_ids.items()
        if (found := log.topic(name)) is not None and found.id == known
    }
    if ids == dict(row.topic_ids):
        return row
    row = replace(row, topic_ids=ids)
    store.catalog.change(row)
    return row


def _result(
    store: Store,
    row: VersionRow,
    moves: Mapping[TopicPartition, tuple[int, int]],
    *,
    executed: bool,
) -> Rewound:
    standings = store.ledger.standings(row.name)
    cursors = [standings[p].cursor for p in sorted(standings)]
    generation = max((c.generation for c in cursors), default=0)
    at = [c.next for c in cursors]
    return Rewound(row.name, row.group, moves, generation, at, row.source, executed)
