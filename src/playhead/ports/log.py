"""The log: topics, consumer groups, reading, publishing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from playhead.core.checkpoint import Committed
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Outgoing, Records


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic as the log knows it; a deleted and recreated topic has another ``id``."""

    name: str
    id: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """A consumer group.

    Attributes:
        group: Its name.
        state: Kafka's word: ``Empty``, ``Stable``, ``Dead``…
        members: Who is in it.
        died: Those of them whose process is known to be gone; the log will drop them.
    """

    group: str
    state: str
    members: tuple[str, ...]
    died: tuple[str, ...] = ()


BATCH_BYTES = 16 << 20


class Reader(Protocol):
    """Reads partitions from given positions. Not a member of any group; commits nothing."""

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows the positions: at most one `Records` a partition, in log order.

        Waits up to ``timeout_s`` for the first record. Returns committed records only. A
        partition whose position moved past a gap (a transaction marker) without a record
        comes with zero records and its new ``next``. ``max_records`` bounds the sum; it ends
        earlier where values take as much as the reader was told.

        Raises:
            OffsetOutOfRange: A position is not retained.
            LogFailed: The log did not answer.
        """

    def close(self) -> None:
        """Let go of connections; safe to call twice."""


class Member(Protocol):
    """One assignment of one group: a session. Lost once, it stays lost.

    Membership is what makes a reset by others impossible while we work, and what makes our
    commits refusable. Group metadata is captured when the partitions are assigned and used
    unchanged; when the assignment ends, every call raises `SessionLost`.

    ``on_step`` is told the name of each point between two durable effects of `publish`.
    """

    on_step: Callable[[str], None] | None

    @property
    def partitions(self) -> tuple[int, ...]:
        """The assigned partitions of the topic, sorted."""

    def ensure(self) -> None:
        """Keep the membership alive; to be called at least every few seconds.

        Raises:
            SessionLost: The assignment ended.
        """

    def begin_publishing(self, transactional_id: str) -> None:
        """Fence every older producer of this id; an open transaction of its is aborted."""

    def committed(self) -> dict[int, tuple[Committed | None, Committed | None]]:
        """Return (K, W) of each assigned partition; waits for a pending transaction to end."""

    def publish(self, outgoing: Sequence[Outgoing], offsets: Mapping[int, Committed]) -> None:
        """Append the records and commit the offsets for group and witness: all or nothing.

        That is `append`, and then `finish`. Needs `begin_publishing`. After an exception the
        outcome is unknown: the session is over, and only the start sequence may find out.

        Raises:
            SessionLost: Fenced, or the assignment ended, or the outcome is unknown.
            LogFailed: The log did not answer.
        """

    def append(self, outgoing: Sequence[Outgoing]) -> None:
        """Begin a transaction with these records; raises as `publish` does."""

    def finish(self, offsets: Mapping[int, Committed]) -> None:
        """Commit the transaction with these offsets; raises as `publish` does.

        Another thread may wait in it, as long as nothing else is asked of this member.
        """

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Commit the group's own offsets (K), as a member.

        Raises:
            SessionLost: The assignment ended.
        """

    def close(self) -> None:
        """Leave the group; safe to call twice."""


class Appender(Protocol):
    """Appends records in transactions of its own, for ingest."""

    def append(self, outgoing: Outgoing) -> None:
        """Append the records to the open transaction, beginning one if there is none."""

    def commit(self) -> None:
        """Make what was appended visible, all at once."""

    def close(self) -> None:
        """Abort what is uncommitted and let go of connections."""


class Groups(Protocol):
    """Consumer groups, asked, reset and deleted from outside."""

    def groups(self) -> list[str]:
        """Return the names of all groups, sorted."""

    def describe_group(self, group: str) -> GroupInfo:
        """Return state and members; an unknown group is ``Dead`` without members."""

    def committed(self, group: str) -> dict[TopicPartition, Committed]:
        """Return every offset that the group has committed."""

    def reset(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the group's offsets, with no metadata, as Kafka's own tool does.

        Raises:
            Refused: The group has members, or the log refused a partition.
        """

    def delete_group(self, group: str) -> None:
        """Delete a group with its offsets; nothing if there is none.

        Raises:
            Refused: The group has members.
        """


class Log(Groups, Protocol):
    """Topics and consumer groups: Apache Kafka, or the local log.

    ``remote`` says that it is another process: while it commits, one waits.
    """

    remote: bool

    def topics(self) -> list[TopicInfo]:
        """Return every topic that is not internal, sorted by name."""

    def topic(self, name: str) -> TopicInfo | None:
        """Return one topic, or None."""

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create a topic and wait until it can be used; `Refused` if it exists."""

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records, and wait until it is gone; nothing if there is none."""

    def retained(self, topic: str) -> dict[int, OffsetRange]:
        """Return for each partition what can be read: up to the last stable offset.

        Raises:
            LogFailed: No such topic, or no answer.
        """

    def held_back(self, topic: str) -> dict[int, int]:
        """Return how many offsets lie behind the last stable one, for partitions where some do.

        There a transaction is open: nobody reads them before it ends.

        Raises:
            LogFailed: No such topic, or no answer.
        """

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete each partition's records before an offset: what is retained begins there.

        Offsets stay: no other record gets a deleted one. An offset before the start changes
        nothing.

        Raises:
            OffsetOutOfRange: An offset lies beyond the end, or below 0; nothing was deleted of
                that partition.
            LogFailed: No such topic or partition, or no answer.
        """

    def offset_at(self, topic: str, timestamp_ms: int) -> dict[int, int | None]:
        """Return the first offset with a timestamp at or after the time; None: there is none."""

    def reader(
        self, topic: str, positions: Mapping[int, int], max_bytes: int = BATCH_BYTES
    ) -> Reader:
        """Return a reader of these partitions, at these positions.

        Once it has values of ``max_bytes``, it returns them: what it has fetched by then may be
        somewhat more.
        """

    def join(self, group: str, topic: str) -> Member:
        """Join ``group`` for ``topic`` and wait for the assignment.

        Raises:
            LogFailed: No assignment came within a minute, or no answer.
        """

    def appender(self, name: str) -> Appender:
        """Return an appender; ``name`` tells it from others that run at once."""

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
