"""Consumer groups: what they have read, and moving them by hand."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from playhead.core.epochs import DIFFERENCE
from playhead.core.naming import WITNESS
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.targets import Target, resolve
from playhead.errors import ConfigError, LogFailed, OffsetOutOfRange, PartlyDone, Refused
from playhead.ports import GroupInfo, Log
from playhead.project import Project

LOOKS_APART_S = 0.2


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One line of kafka-consumer-groups: ``current`` is None where nothing was committed."""

    place: TopicPartition
    current: int | None
    end: int | None

    @property
    def lag(self) -> int | None:
        """Offsets that are still to be read."""
        if self.current is None or self.end is None:
            return None
        return max(0, self.end - self.current)


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group and its partitions."""

    info: GroupInfo
    partitions: Sequence[PartitionStatus]


@dataclass(frozen=True, slots=True)
class Reset:
    """What a reset moves.

    Attributes:
        group: The group.
        moves: Prior and new offset by partition; prior is None where there was none.
        executed: Whether it was done, or only shown.
        undo: File with the old offsets, once executed.
    """

    group: str
    moves: Mapping[TopicPartition, tuple[int | None, int]]
    executed: bool
    undo: Path | None = None


def describe(project: Project, group: str | None = None) -> list[GroupStatus]:
    """Return one group, or all.

    Raises:
        LogFailed: There is no such group.
    """
    with closing(project.open_log()) as log:
        names = log.groups() if group is None else [group]
        found = [_describe(log, name) for name in names]
    if group is not None and not found[0].partitions and not found[0].info.members:
        raise LogFailed(
            f"consumer group {group} does not exist", cure="playhead groups describe --all-groups"
        )
    return found


def _describe(log: Log, group: str) -> GroupStatus:
    committed = log.committed(group)
    ends: dict[str, Mapping[int, OffsetRange]] = {}
    for topic in {place.topic for place in committed}:
        ends[topic] = log.retained(topic) if log.topic(topic) else {}
    lines = []
    for place, at in sorted(committed.items()):
        held = ends[place.topic].get(place.partition)
        end = None if held is None or DIFFERENCE.match(group) else held.end
        lines.append(PartitionStatus(place, at.offset, end))
    return GroupStatus(log.describe_group(group), lines)


def reset(
    project: Project, group: str, wanted: Sequence[str], target: Target, *, execute: bool
) -> Reset:
    """Move a group, as kafka-consumer-groups does, and read back what came of it.

    Args:
        project: The project.
        group: The group; never a witness.
        wanted: ``topic`` or ``topic:0,1``; empty means every topic that it has read.
        target: Where to.
        execute: Do it; otherwise only say what would be done.

    Raises:
        Refused: The group is a witness, has members, is moving, or does not exist.
        OffsetOutOfRange: A target is outside what the log holds.
        PartlyDone: The log took some partitions and not others.
    """
    if group.endswith(WITNESS):
        raise Refused(
            f"group {group} is a witness: it records what was published",
            safe="No offset was changed.",
            cure=f"Reset {group.removesuffix(WITNESS)} instead.",
        )
    with closing(project.open_log()) as log:
        before = {place: c.offset for place, c in log.committed(group).items()}
        _check_movable(log, group, before)
        offsets = _targets(log, group, before, wanted, target)
        moves = {place: (before.get(place), at) for place, at in sorted(offsets.items())}
        if not execute:
            return Reset(group, moves, executed=False)
        undo = _save(project.root, group, before)
        log.reset(group, offsets)
        after = {place: c.offset for place, c in log.committed(group).items()}
        wrong = [place for place, at in offsets.items() if after.get(place) != at]
        if wrong:
            raise PartlyDone(
                f"group {group}: {', '.join(map(str, wrong))} did not move",
                cure="playhead groups describe shows where it stands; reset again.",
            )
    return Reset(group, moves, executed=True, undo=undo)


def _check_movable(log: Log, group: str, before: Mapping[TopicPartition, int]) -> None:
    info = log.describe_group(group)
    if info.members or info.state not in {"Empty", "Dead"}:
        raise Refused(
            f"group {group} is {info.state}, its members: {', '.join(info.members) or 'unknown'}",
            safe="No offset was changed.",
            cure="Stop them, then reset again.",
        )
    if not before and info.state == "Dead":
        raise Refused(
            f"consumer group {group} does not exist",
            safe="No offset was changed.",
            cure="playhead groups describe --all-groups",
        )
    time.sleep(LOOKS_APART_S)
    moved = {place: c.offset for place, c in log.committed(group).items()}
    if moved != dict(before):
        raise Refused(
            f"the offsets of group {group} are moving: somebody commits without being a member",
            safe="No offset was changed.",
            cure="Find the consumer that assigns its partitions itself, and stop it.",
        )


def _targets(
    log: Log,
    group: str,
    before: Mapping[TopicPartition, int],
    wanted: Sequence[str],
    target: Target,
) -> dict[TopicPartition, int]:
    if target.word == "file":
        offsets = from_file(target.file or Path())
    else:
        places = _places(log, before, wanted, group)
        offsets = resolved(log, places, before, target)
    for place, at in sorted(offsets.items()):
        ranges = log.retained(place.topic)
        if place.partition not in ranges:
            raise Refused(f"{place} does not exist", safe="No offset was changed.")
        held = ranges[place.partition]
        if not held.holds(at, at):
            raise OffsetOutOfRange(
                f"offset {at} is not retained (the topic holds {held})",
                where=str(place),
                safe="No offset was changed.",
                cure=f"Choose one in [{held.start}, {held.end}].",
            )
    return offsets


def _places(
    log: Log, before: Mapping[TopicPartition, int], wanted: Sequence[str], group: str
) -> list[TopicPartition]:
    if not wanted:
        return sorted(before)
    found: list[TopicPartition] = []
    for text in wanted:
        topic, _, some = text.partition(":")
        if log.topic(topic) is None:
            raise LogFailed(f"topic {topic} does not exist")
        partitions = sorted(log.retained(topic))
        if some:
            try:
                chosen = [int(p) for p in some.split(",")]
            except ValueError as error:
                raise ConfigError(f"--topic {text!r}: TOPIC or TOPIC:0,1") from error
            absent = [p for p in chosen if p not in partitions]
            if absent:
                raise ConfigError(f"{TopicPartition(topic, absent[0])} does not exist")
            partitions = chosen
        found += [TopicPartition(topic, p) for p in partitions]
    return found


def resolved(
    log: Log,
    places: Sequence[TopicPartition],
    prior: Mapping[TopicPartition, int],
    target: Target,
) -> dict[TopicPartition, int]:
    """Return the offset that a target means in each partition.

    Raises:
        ConfigError: It counts from a position that does not exist.
    """
    offsets = {}
    held = {topic: log.retained(topic) for topic in {place.topic for place in places}}
    times: dict[str, Mapping[int, int | None]] = {}
    if target.word == "time":
        times = {topic: log.offset_at(topic, target.number) for topic in held}
    for place in places:
        at = times.get(place.topic, {}).get(place.partition)
        kept = held[place.topic][place.partition]
        offsets[place] = resolve(target, prior.get(place), kept, at)
    return offsets


def from_file(path: Path) -> dict[TopicPartition, int]:
    """Return the offsets that a file of ``topic,partition,offset`` lines names.

    Raises:
        ConfigError: It cannot be read, or a line says something else.
    """
    offsets: dict[TopicPartition, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path)) from error
    for number, row in enumerate(csv.reader(lines), 1):
        if not row:
            continue
        try:
            topic, partition, offset = row
            offsets[TopicPartition(topic.strip(), int(partition))] = int(offset)
        except ValueError as error:
            raise ConfigError(
                f"{','.join(row)!r} is not topic,partition,offset", where=f"{path}:{number}"
            ) from error
    if not offsets:
        raise ConfigError("names no partition", where=str(path))
    return offsets


def _save(root: Path, group: str, before: Mapping[TopicPartition, int]) -> Path:
    """Write the old offsets down, in the form that --from-file reads."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = root / ".playhead"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"offsets-{group}-{stamp}.csv"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"offsets-{group}-{stamp}-{number}.csv"
    lines = [f"{p.topic},{p.partition},{at}\n" for p, at in sorted(before.items())]
    path.write_text("".join(lines), encoding="utf-8")
    return path
