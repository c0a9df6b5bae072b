"""What is to be known before a replay: pure judgements of what a log and a store say.

Each takes facts and gives one finding a partition or a topic, or none. A ``warning`` is something
that makes the replay's result differ from what live made, or the replay fail; a ``note`` is good
to know. Nothing here refuses: that is the plan's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.schema import Schema

FOREVER = "-1"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be known.

    Attributes:
        kind: Which judgement.
        level: ``warning`` or ``note``.
        subject: A place, a topic, a group or a version.
        text: What, in one sentence.
        cure: What to do, or empty.
    """

    kind: str
    level: str
    subject: str
    text: str
    cure: str = ""

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{self.level}: {self.subject}: {self.text}" + (f". {self.cure}" * bool(self.cure))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What lies in one partition's range.

    Attributes:
        records: How many; transaction markers and compacted offsets are none.
        exact: Whether every record was looked at; else it is extrapolated from samples.
        size_bytes: Bytes of their keys and values.
        first_ms: Event time of the first record in log order, None without one.
        last_ms: Event time of the last one.
        backwards: Offset of a record that is older than one before it, and by how many
            milliseconds: the worst that was seen; None where time only goes forward.
    """

    records: int
    exact: bool
    size_bytes: int
    first_ms: int | None
    last_ms: int | None
    backwards: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How far a group has read one partition of a topic that a version writes."""

    group: str
    place: TopicPartition
    committed: int
    held: OffsetRange

    @property
    def read(self) -> int:
        """How many offsets of what will be corrected it has read."""
        return max(0, min(self.committed, self.held.end) - self.held.start)


def truncated(
    topic: str,
    ranges: Mapping[int, OffsetRange],
    seen: Mapping[int, int],
    retained: Mapping[int, OffsetRange],
) -> Iterator[Finding]:
    """Find partitions whose beginning live has read, and the log holds no more.

    Args:
        topic: The source.
        ranges: What is to be read.
        seen: Where live's first generation began.
        retained: What the log holds.
    """
    for partition, wanted in sorted(ranges.items()):
        held, began = retained.get(partition, wanted), seen.get(partition, wanted.start)
        if len(wanted) and began < wanted.start == held.start:
            lost = OffsetRange(began, held.start)
            yield Finding(
                "truncated",
                "warning",
                str(TopicPartition(topic, partition)),
                f"{lost} is no longer retained: live has read it, and this replay cannot",
                "What depends on it will differ: restore the topic from an archive, or repair "
                "only a later range.",
            )


def overtaken(
    topic: str,
    estimates: Mapping[int, Estimate],
    retention_ms: int,
    duration_s: float | None,
    now_ms: int,
) -> Iterator[Finding]:
    """Find partitions whose records expire before a replay would have come to them.

    Records are read in their order and at one speed; what is older than the retention may be
    deleted at any moment.

    Args:
        topic: The source.
        estimates: What lies in the ranges.
        retention_ms: How long the topic keeps records; below 0 for ever.
        duration_s: How long the replay is going to take; None where nothing was measured yet.
        now_ms: The time.
    """
    if retention_ms < 0:
        return
    for partition, found in sorted(estimates.items()):
        if found.first_ms is None or found.last_ms is None:
            continue
        place = str(TopicPartition(topic, partition))
        expires = found.first_ms + retention_ms
        ends_ms = now_ms + 1000 * (duration_s or 0.0)
        if expires <= now_ms:
            text = f"its oldest record expired {_time(expires)}: it may be deleted at any moment"
        elif duration_s is not None and found.last_ms + retention_ms <= ends_ms:
            text = (
                f"retention will overtake the replay: its oldest record expires {_time(expires)}, "
                f"and reading takes until about {_time(ends_ms)}"
            )
        elif duration_s is None and expires - now_ms < 86_400_000:
            text = (
                f"its oldest record expires {_time(expires)}, and how long a replay takes was "
                "never measured here"
            )
        else:
            continue
        cure = f"Raise retention.ms of {topic} for as long as it takes."
        yield Finding("retention", "warning", place, text, cure)


def compacted(topic: str, policy: str) -> Iterator[Finding]:
    """Find out whether the log has thinned the topic's history."""
    if "compact" in policy:
        yield Finding(
            "compacted",
            "warning",
            topic,
            "it is compacted: of each key only the newest records are there, so this history is "
            "not what live has seen",
            "Results that depend on every record (totals, counts, previous) will differ.",
        )


def append_time(topic: str, timestamp_type: str) -> Iterator[Finding]:
    """Find out whether times are those of arrival."""
    if timestamp_type == "LogAppendTime":
        yield Finding(
            "append_time",
            "note",
            topic,
            "its times are LogAppendTime: when the broker got a record, not when it happened; a "
            "time as a bound means arrival",
        )


def not_monotonic(topic: str, estimates: Mapping[int, Estimate]) -> Iterator[Finding]:
    """Find partitions in which time goes back."""
    for partition, found in sorted(estimates.items()):
        if found.backwards is not None:
            offset, by_ms = found.backwards
            yield Finding(
                "time",
                "note",
                str(TopicPartition(topic, partition)),
                f"time goes back, by {_span(by_ms)} at offset {offset}: a time as a bound means "
                "the first record at or after it, and older ones may lie behind that",
            )


def held_back(topic: str, behind: Mapping[int, int]) -> Iterator[Finding]:
    """Find partitions whose end an open transaction holds back; ``behind`` in offsets."""
    for partition, offsets in sorted(behind.items()):
        yield Finding(
            "open_transaction",
            "warning",
            str(TopicPartition(topic, partition)),
            f"an open transaction holds back the end: {offsets} offsets behind it cannot be read "
            "until its producer commits, or its transaction.timeout.ms ends it",
        )


def added_columns(version: str, table: str, live: Schema, head: Schema) -> Iterator[Finding]:
    """Find columns that a version adds to a public table."""
    known = {c.name for c in live}
    added = [c.name for c in head if c.name not in known]
    if added:
        yield Finding(
            "schema",
            "note",
            version,
            f"it adds {', '.join(added)} to {table}: appended to the public table when it is "
            "promoted, and null after a rollback",
        )


def short_of_disk(subject: str, needed: int, free: int | None) -> Iterator[Finding]:
    """Find out whether what a replay writes fits; bytes."""
    if free is not None and needed > free:
        yield Finding(
            "disk",
            "warning",
            subject,
            f"the replay needs about {size(needed)}, and {size(free)} are free",
            "Make room first.",
        )


def group_looks(
    group: str,
    recorded: bool,
    members: Sequence[str],
    looks: tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]],
    foreign: Sequence[TopicPartition],
) -> Iterator[Finding]:
    """Find out who else uses a group: members, and consumers that only assign and are none.

    Args:
        group: Its name.
        recorded: Whether a version of ours has ever committed to it.
        members: Its members.
        looks: Its offsets, looked at twice.
        foreign: Partitions whose offset something else than Playhead has committed.
    """
    first, second = looks
    moving = sorted(str(p) for p in second if first.get(p, second[p]) != second[p])
    invisible = "a consumer that only assigns partitions is no member, and cannot be seen"
    if members:
        yield Finding("group", "note", group, f"it is active: {', '.join(members)}")
    elif moving:
        text = f"its offsets move ({', '.join(moving)}), and it has no members: {invisible}"
        yield Finding("group", "warning", group, text, "Stop it, or give the version group=.")
    elif second and not recorded:
        text = f"it has offsets, and nothing of this store ever used it; {invisible}"
        yield Finding("group", "warning", group, text, "Give the version another group=.")
    elif foreign:
        places = ", ".join(map(str, foreign))
        text = f"something else has committed {places}: a reset by hand, or {invisible}"
        cure = "The next run follows it: playhead groups describe shows where it stands."
        yield Finding("group", "warning", group, text, cure)


def size(count: int) -> str:
    """Return bytes for people."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"


def _time(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")[:19] + "Z"


def _span(ms: int) -> str:
    seconds = ms / 1000
    for unit, many in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= many:
            return f"{seconds / many:.1f} {unit}"
    return f"{seconds:g} s"
