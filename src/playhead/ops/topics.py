"""Topics: list, describe, create, tail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Records
from playhead.errors import ConfigError
from playhead.ops.bounds import places
from playhead.ops.versions import existing_topic, topic_config
from playhead.ports import Log, TopicInfo
from playhead.project import Project

TAIL_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class TopicStatus:
    """A topic and what it holds."""

    topic: TopicInfo
    retained: Mapping[int, OffsetRange]


def topics(project: Project, name: str | None = None) -> list[TopicStatus]:
    """Return every topic, or the one that is named.

    Raises:
        LogFailed: There is no such topic.
    """
    with closing(project.open_log()) as log:
        found = log.topics() if name is None else [existing_topic(log, name)]
        return [TopicStatus(info, log.retained(info.name)) for info in found]


def create(
    project: Project, name: str, partitions: int | None, config: Mapping[str, str]
) -> TopicInfo:
    """Create a topic: declared settings where it is declared, ``retention.ms=-1`` unless given.

    Raises:
        Refused: It exists.
    """
    declared = None
    if project.settings.app:
        declared = project.app.topics.get(name)
    count = partitions or (declared.partitions if declared else None) or 1
    with closing(project.open_log()) as log:
        return log.create_topic(name, count, {**topic_config(declared), **config})


def tail(project: Project, name: str, since: str, until: str) -> Iterator[Records]:
    """Yield the records between two places, partition by partition.

    Args:
        project: The project.
        name: The topic.
        since: A place, for example ``start`` or ``-10``.
        until: A place, for example ``end``.

    Raises:
        ConfigError: A place cannot be read.
        OffsetOutOfRange: A place is not retained.
    """
    with closing(project.open_log()) as log:
        existing_topic(log, name)
        retained = log.retained(name)
        begin = places(log, name, retained, {}, since)
        end = places(log, name, retained, {}, until)
        for partition in sorted(retained):
            wanted = OffsetRange(begin[partition], end[partition])
            if begin[partition] > end[partition]:
                raise ConfigError(f"{TopicPartition(name, partition)}: {wanted} runs backwards")
            yield from _read(log, TopicPartition(name, partition), wanted)


def _read(log: Log, place: TopicPartition, wanted: OffsetRange) -> Iterator[Records]:
    from playhead.engine.reading import read_all

    yield from read_all(log, place, wanted, TAIL_RECORDS)
