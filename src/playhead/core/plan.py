"""What a replay would do, as data. Building a plan touches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from playhead.core.offsets import OffsetRange
from playhead.core.saved import Basis
from playhead.core.scope import Scope
from playhead.core.verdicts import Estimate, Finding, Reading


@dataclass(frozen=True, slots=True)
class Record:
    """Record a shadow version: its group, its physical tables and topics."""

    version: str
    group: str
    tables: tuple[str, ...]
    topics: tuple[str, ...]
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class Revive:
    """Make a retired version a shadow again; it goes on from its own cursor."""

    version: str


@dataclass(frozen=True, slots=True)
class Anew:
    """Rewind a shadow to its start; a new generation."""

    version: str
    why: str = "its code has changed"


@dataclass(frozen=True, slots=True)
class Replay:
    """Read ranges into a shadow; by partition, never beyond the live cursor.

    Attributes:
        version: The shadow.
        topic: The physical topic.
        ranges: What is to be read, by partition.
        from_time_ms: Time of the first record to be read, by partition; None where unknown.
    """

    version: str
    topic: str
    ranges: Mapping[int, OffsetRange]
    from_times_ms: Mapping[int, int | None]

    @property
    def bound(self) -> dict[int, int]:
        """Where each partition ends."""
        return {partition: wanted.end for partition, wanted in self.ranges.items()}

    @property
    def records_at_most(self) -> int:
        """Offsets in the ranges; transaction markers and compaction make the records fewer."""
        return sum(len(wanted) for wanted in self.ranges.values())


@dataclass(frozen=True, slots=True)
class Behind:
    """Read into a shadow what another one has written, once that one has come to its end.

    Where it ends is known then: at the end of the topic.

    Attributes:
        version: The shadow of a reader.
        topic: The physical topic.
        after: The version that writes it.
    """

    version: str
    topic: str
    after: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Compare the states where a repair ends; where they are equal, what base made later stands.

    Attributes:
        version: The shadow.
        base: The version whose results it takes over.
        at: Where the repair ends, by partition.
        to: Where base stands, by partition.
    """

    version: str
    base: str
    at: Mapping[int, int]
    to: Mapping[int, int]


Step = Record | Revive | Anew | Replay | Behind | TakeOver


def kind_of(step: Step) -> str:
    """Return the word for a step, as JSON has it."""
    match step:
        case Record():
            return "record"
        case Revive():
            return "revive"
        case Anew():
            return "rewind"
        case Replay() | Behind():
            return "replay"
        case TakeOver():
            return "take over"
        case _:
            assert_never(step)


@dataclass(frozen=True, slots=True)
class Promotion:
    """Hand over in one transaction: what `promote` does once the differences are explained.

    Attributes:
        version: What becomes live.
        base: What it takes the place of.
        behind: What is handed over with it, in order: each version, and whose place it takes.
    """

    version: str
    base: str
    behind: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What will be refused, and why."""

    subject: str
    reason: str
    cure: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found out about one replay.

    Attributes:
        estimates: What lies in its ranges, by partition.
        findings: What is to be known before.
        readers: Who else reads what will be corrected.
        duration_s: About how long it takes; None where nothing was measured yet.
        needed_bytes: About how much it writes.
        free_bytes: How much room there is; None where the store is a server.
    """

    estimates: Mapping[int, Estimate]
    findings: tuple[Finding, ...] = ()
    readers: tuple[Reading, ...] = ()
    duration_s: float | None = None
    needed_bytes: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, what will be refused, and sentences for the user.

    ``steps`` is what `replay` does, ``promotions`` what `promote` does afterwards. ``surveys`` has
    what was found out about the replays, by version; it decides nothing. ``bases`` says what the
    plan rests on, a version each, for a plan that is saved.
    """

    steps: tuple[Step, ...] = ()
    refused: tuple[Refusal, ...] = ()
    remarks: tuple[str, ...] = ()
    surveys: Mapping[str, Survey] = field(default_factory=dict)
    bases: tuple[Basis, ...] = ()
    promotions: tuple[Promotion, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan for one version is made from.

    Attributes:
        version: ``pipeline@label``.
        stage: Stage in the catalog, or None when it is not recorded.
        record: The recording step it would take, when not recorded.
        changed: Whether its code has changed since it was recorded.
        topic: Its physical source topic.
        cursor: Its cursor, by partition.
        start: Where its first generation starts, by partition.
        bound: Where the replay ends: live's cursor, or less where the user said so.
        retained: What the log still holds.
        from_times_ms: Time of the first record of each partition.
    """

    version: str
    stage: str | None
    record: Record | None
    changed: bool
    topic: str
    cursor: Mapping[int, int]
    start: Mapping[int, int]
    bound: Mapping[int, int]
    retained: Mapping[int, OffsetRange]
    from_times_ms: Mapping[int, int | None]


def plan_version(facts: Facts) -> Plan:
    """Return what a replay of one version would do."""
    steps: list[Step] = []
    if facts.record is not None:
        steps.append(facts.record)
    elif facts.stage == "retired":
        steps.append(Revive(facts.version))
    anew = facts.changed and facts.stage in {"shadow", "retired"}
    if anew:
        steps.append(Anew(facts.version))
    at = facts.start if anew else facts.cursor
    ranges = {}
    for partition, held in sorted(facts.retained.items()):
        begin = at.get(partition, held.start)
        ranges[partition] = OffsetRange(begin, max(begin, facts.bound.get(partition, begin)))
    refused = tuple(
        Refusal(
            facts.version,
            f"{facts.topic}[{partition}]: {wanted} is needed, and the topic holds "
            f"{facts.retained[partition]}",
            "Restore the topic from an archive.",
        )
        for partition, wanted in ranges.items()
        if len(wanted) and not facts.retained[partition].holds(wanted.start, wanted.end)
    )
    if steps or any(len(wanted) for wanted in ranges.values()):
        steps.append(Replay(facts.version, facts.topic, ranges, facts.from_times_ms))
    return Plan(tuple(steps), refused)
