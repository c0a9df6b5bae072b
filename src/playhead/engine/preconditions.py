"""What must not change under a version: its topics, their partitions, what they retain.

Checked before each start, every few seconds while batches run, and when a reader meets something
odd. Each says what happened, and nothing is written.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from playhead.core.checkpoint import Cursor
from playhead.core.naming import NAME
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.engine.task import Task
from playhead.errors import (
    LogFailed,
    OffsetOutOfRange,
    PartitionsChanged,
    Refused,
    TopicGone,
    TopicRecreated,
)
from playhead.ports import Log, TopicInfo

CHECK_S = 3.0
_LOOK_AGAIN_S = 1.0


def check_topics(log: Log, task: Task, source_ids: Collection[str]) -> None:
    """Check the source and the outputs of a version, as the log has them now.

    Args:
        log: The log.
        task: The version.
        source_ids: Ids of the source that the version's cursors belong to; none before the first.

    Raises:
        TopicGone, TopicRecreated, PartitionsChanged: Nothing was changed.
    """
    name = task.version.name
    topic = find(log, task.topic.name)
    safe = f"{name} and its results are unchanged."
    if topic is None:
        raise TopicGone(
            f"topic {task.topic.name} does not exist any more: it was deleted",
            safe=safe,
            cure="Restore it from an archive, with its offsets and its id.",
        )
    if set(source_ids) - {topic.id}:
        raise TopicRecreated(
            f"topic {topic.name} was deleted and created again: its offsets mean other records",
            safe=safe,
            cure=f"If the new topic is meant: playhead rewind {name} --to-earliest --execute "
            "begins on it, from nothing.",
        )
    if topic.partitions != task.partitions:
        raise PartitionsChanged(
            f"topic {topic.name} has {topic.partitions} partitions, and had "
            f"{task.partitions} when {name} was recorded: keys have moved",
            safe=safe,
            cure="Forward it into a topic with a fixed count, and read that.",
        )
    for output in task.outputs:
        check_output(name, find(log, output.name), output.name, output.id)


def check_output(version: str, found: TopicInfo | None, physical: str, known_id: str) -> None:
    """Check a physical output topic against the id that the catalog has of it.

    Raises:
        TopicGone, TopicRecreated: What the version published is not there any more.
    """
    safe = f"Nothing was written; the table and the cursors of {version} are unchanged."
    cure = (
        f"playhead rewind {version} --to-earliest --execute publishes everything again; or give "
        "the code a new label, and replay that."
        if NAME.match(version.partition("@")[0])
        else "Restore it from an archive; or publish under another name, or not (public=False)."
    )
    if found is None:
        raise TopicGone(
            f"topic {physical}, with what {version} has published, was deleted",
            safe=safe,
            cure=cure,
        )
    if found.id != known_id:
        raise TopicRecreated(
            f"topic {physical} was deleted and created again: what {version} has published is gone",
            safe=safe,
            cure=cure,
        )


def check_position(
    task: Task, place: TopicPartition, cursor: Cursor, retained: OffsetRange | None
) -> None:
    """Check that the log holds what comes next for a partition.

    Raises:
        OffsetOutOfRange: Retention or somebody has deleted it, or the log has lost its end.
    """
    at, held = cursor.next, retained if retained is not None else OffsetRange(0, 0)
    if held.holds(at, at):
        return
    lost = OffsetRange(at, held.start)
    raise OffsetOutOfRange(
        f"{task.version.name} stands at {at}, and the topic holds {held}",
        where=str(place),
        safe="Its results are unchanged.",
        cure=f"Restore the topic, or give up {lost}: playhead groups reset --group "
        f"{task.version.group} --topic {place.topic}:{place.partition} --to-offset {held.start} "
        "--execute, then playhead run --accept-gap."
        if len(lost)
        else "The log has lost its end: restore it.",
    )


def find(log: Log, name: str) -> TopicInfo | None:
    """Return a topic that was there before; only a second look says that it is gone.

    A broker that has just started may not know its topics yet.
    """
    found = log.topic(name)
    if found is None:
        time.sleep(_LOOK_AGAIN_S)
        found = log.topic(name)
    return found


class Watch:
    """Checks while batches run: every few seconds, and when something odd is met."""

    def __init__(self, log: Log, task: Task) -> None:
        """Watch over the topics of a version whose session has just checked them."""
        self._log = log
        self._task = task
        self._checked = time.monotonic()

    def look(self) -> None:
        """Check the topics, if that was a few seconds ago.

        Raises:
            TopicGone, TopicRecreated, PartitionsChanged: One is not what it was.
        """
        if time.monotonic() - self._checked > CHECK_S:
            check_topics(self._log, self._task, {self._task.topic.id})
            self._checked = time.monotonic()

    @contextmanager
    def named(self, cursors: dict[int, Cursor]) -> Iterator[None]:
        """Find out what is behind an odd answer of the log, and raise that.

        Args:
            cursors: Where the version stands, by partition.

        Raises:
            Refused: A topic is not what it was, or does not hold what comes next.
        """
        try:
            yield
        except (OffsetOutOfRange, LogFailed) as error:
            if error.passing:
                raise
            try:
                self._explain(cursors)
            except Refused as reason:
                raise reason from error
            raise

    def _explain(self, cursors: dict[int, Cursor]) -> None:
        topic = self._task.topic
        check_topics(self._log, self._task, {topic.id})
        retained = self._log.retained(topic.name)
        for partition, cursor in sorted(cursors.items()):
            place = TopicPartition(topic.name, partition)
            check_position(self._task, place, cursor, retained.get(partition))
