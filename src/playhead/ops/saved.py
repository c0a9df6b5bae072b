"""Doing a saved plan as it stands, or refusing it, saying what has moved since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from playhead.core import saved
from playhead.core.declare import Version
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.plan import Plan, Replay, Step, kind_of
from playhead.core.saved import Basis, Saved
from playhead.engine.sources import fingerprint_of
from playhead.errors import ConfigError, PlanOutdated
from playhead.ops.versions import Known
from playhead.ports import Log, Store
from playhead.project import Project

_CURE = "Plan anew: playhead plan {} -o json > plan.json"


def read(project: Project, file: Path) -> Saved:
    """Return a saved plan; the file is relative to the project.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    path = project.root / file
    try:
        return saved.parse(path.read_bytes(), str(file))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error


def basis_of(known: Known, project: Project, where: tuple[Log, Store], version: Version) -> Basis:
    """Return what a plan for a version rests on, as it is now.

    Raises:
        PlanOutdated: Nothing of its pipeline is live.
    """
    log, store = where
    live, row = known.live(version.pipeline), known.rows.get(version.name)
    if live is None:
        raise PlanOutdated(f"nothing of {version.pipeline} is live", cure="playhead run first.")
    pointer = store.catalog.pointer(version.pipeline)
    source = known.source(version)
    topic = log.topic(source)
    standings = store.ledger.standings(version.name)
    return Basis(
        version=version.name,
        ledger=store.ledger.id,
        fingerprint=fingerprint_of(version, project.root),
        stage=row.stage if row else None,
        live=live.label,
        live_fingerprint=live.fingerprint,
        epoch=pointer.epoch if pointer else 0,
        topic=source,
        topic_id=topic.id if topic else "",
        cursor={str(p): (s.cursor.next, s.cursor.generation) for p, s in standings.items()},
        live_generations={
            str(p): s.cursor.generation for p, s in store.ledger.standings(live.name).items()
        },
    )


def held_to(then: Saved, now: Basis, plan: Plan) -> Plan:
    """Return today's plan of a version, with the ends that the saved one has.

    Args:
        then: The saved plan.
        now: What a plan for the version rests on now.
        plan: Today's plan, to where live stands now.

    Raises:
        ConfigError: The saved plan says nothing of the version.
        PlanOutdated: It rests on what is not so any more, or would take other steps.
    """
    name = now.version
    basis = then.bases.get(name)
    if basis is None:
        told = ", ".join(then.bases) or "no version"
        raise ConfigError(f"the saved plan is for {told}, and not for {name}")
    phrases = saved.moved(basis, now)
    phrases += [p for step in plan.steps for p in _ranges(step, then.ranges)]
    steps = [(kind_of(step), step.version) for step in plan.steps]
    missing = [s for s in steps if s not in then.steps]
    phrases += [f"it does not {kind} {version}, which is needed now" for kind, version in missing]
    if phrases or not steps:
        raise PlanOutdated(
            f"the plan for {name} is outdated: "
            + ("; ".join(phrases) or "there is nothing left to do"),
            safe="Nothing was changed.",
            cure=_CURE.format(name.partition("@")[0]),
        )
    return ended(then, plan)


def ended(then: Saved, plan: Plan) -> Plan:
    """Return today's plan with the ends of the saved one, where it reads the same."""
    return replace(plan, steps=tuple(_ended(step, then.ranges) for step in plan.steps))


def _ranges(step: Step, then: Mapping[str, Mapping[int, OffsetRange]]) -> list[str]:
    """Say where today's ranges do not hold the saved ones."""
    if not isinstance(step, Replay):
        return []
    was = then.get(step.version, {})
    phrases = []
    for partition in sorted({*was, *step.ranges}):
        place = TopicPartition(step.topic, partition)
        old, new = was.get(partition), step.ranges.get(partition)
        if old is None or new is None:
            phrases.append(f"{place} is {'new' if old is None else 'gone'}")
        elif old.start != new.start:
            phrases.append(f"{place} would be read from {new.start} on, and not from {old.start}")
        elif new.end < old.end:
            phrases.append(f"live stands at {new.end} of {place}, before the end {old.end}")
    return phrases


def _ended(step: Step, then: Mapping[str, Mapping[int, OffsetRange]]) -> Step:
    if not isinstance(step, Replay) or step.version not in then:
        return step
    ends = {p: wanted.end for p, wanted in then[step.version].items()}
    ranges = {
        p: OffsetRange(wanted.start, max(wanted.start, ends.get(p, wanted.start)))
        for p, wanted in step.ranges.items()
    }
    return replace(step, ranges=ranges)
