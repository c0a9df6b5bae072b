"""What is asked of a Kafka cluster from outside: topics, retained ranges, consumer groups."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public by its documentation
    ConfigResource,
    ConfigSource,
    NewTopic,
    OffsetSpec,
)

from playhead.adapters.kafka_client import ASK_S, REQUEST_S, UNKNOWN_TOPIC, Clients, error_of
from playhead.adapters.kafka_groups import KafkaGroups
from playhead.core.offsets import OffsetRange
from playhead.core.offsets import TopicPartition as Source
from playhead.errors import ConfigError, LogFailed, OffsetOutOfRange, Refused
from playhead.ports import TopicInfo

_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_MARKERS_S = 1.0
_ALWAYS_SHOWN = frozenset({"retention.ms", "cleanup.policy"})
_BAD_TOPIC = frozenset(
    {KafkaError.TOPIC_EXCEPTION, KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS}
)


class KafkaAdmin(KafkaGroups):
    """The questions and orders of `Log` that need no consumer."""

    def __init__(self, clients: Clients) -> None:
        """Check the properties; nothing is sent before the first question."""
        super().__init__(clients)
        self._open_at: dict[tuple[str, int], int] = {}  # where an open transaction begins

    def topics(self) -> list[TopicInfo]:
        """Return every topic that is not internal, sorted by name."""
        with self._clients.errors("listing topics"):
            names = self._contact().list_topics(timeout=ASK_S).topics
            return self._described([name for name in names if not name.startswith("__")])

    def topic(self, name: str) -> TopicInfo | None:
        """Return one topic, or None."""
        with self._clients.errors(f"describing topic {name}"):
            found = self._described([name])
        return found[0] if found else None

    def create_topic(self, name: str, partitions: int, config: Mapping[str, str]) -> TopicInfo:
        """Create a topic and wait until it can be used; `Refused` if it exists."""
        wanted = NewTopic(name, partitions, replication_factor=-1, config=dict(config))
        with self._clients.errors(f"creating topic {name}"):
            created = self._contact().create_topics([wanted], request_timeout=REQUEST_S)[name]
            try:
                created.result()
            except KafkaException as raised:
                error = error_of(raised)
                if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    raise Refused("The topic exists.", where=name) from raised
                if error.code() in _BAD_TOPIC:
                    raise ConfigError(f"Kafka refuses it: {error.str()}", where=name) from raised
                raise
        deadline = time.monotonic() + REQUEST_S
        while (info := self.topic(name)) is None or info.partitions < partitions:
            if time.monotonic() > deadline:
                raise LogFailed(f"Created, but not to be seen after {REQUEST_S:.0f} s.", where=name)
            time.sleep(0.02)
        return info

    def delete_topic(self, name: str) -> None:
        """Delete a topic with its records, and wait until it is gone."""
        with self._clients.errors(f"deleting topic {name}"):
            asked = self._contact().delete_topics([name], request_timeout=REQUEST_S)[name]
            try:
                asked.result()
            except KafkaException as raised:
                if error_of(raised).code() not in UNKNOWN_TOPIC:
                    raise
        deadline = time.monotonic() + REQUEST_S
        while self.topic(name) is not None:
            if time.monotonic() > deadline:
                raise LogFailed(f"Deleted, but still there after {REQUEST_S:.0f} s.", where=name)
            time.sleep(0.02)

    def retained(self, topic: str) -> dict[int, OffsetRange]:
        """Return for each partition what can be read: up to the last stable offset."""
        with self._clients.errors(f"reading the offsets of {topic}"):
            partitions = self.partitions_of(topic)
            starts = self._offsets(topic, partitions, _EARLIEST)
            ends = self._stable_ends(topic, partitions)
        return {p: OffsetRange(starts[p], ends[p]) for p in range(partitions)}

    def held_back(self, topic: str) -> dict[int, int]:
        """Return how many offsets lie behind the last stable one."""
        with self._clients.errors(f"reading the offsets of {topic}"):
            partitions = self.partitions_of(topic)
            stable = self._stable_ends(topic, partitions)
            ends = self._offsets(topic, partitions, _LATEST, IsolationLevel.READ_UNCOMMITTED)
        return {p: ends[p] - at for p, at in sorted(stable.items()) if ends[p] > at}

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Delete each partition's records before an offset."""
        count = self.partitions_of(topic)
        held = self.retained(topic) if before else {}
        for partition, offset in sorted(before.items()):
            place = Source(topic, partition)
            if partition >= count:
                raise LogFailed("No such partition.", where=str(place), safe="Nothing was deleted.")
            if not 0 <= offset <= held[partition].end:  # -1 would mean all to Kafka
                raise OffsetOutOfRange(
                    f"nothing can be deleted before {offset}: the topic holds {held[partition]}",
                    where=str(place),
                    safe="Nothing was deleted.",
                )
        places = [
            TopicPartition(topic, p, max(at, held[p].start)) for p, at in sorted(before.items())
        ]
        with self._clients.errors(f"deleting records of {topic}"):
            asked = self._contact().delete_records(places, request_timeout=REQUEST_S)
            for answer in asked.values():
                answer.result()

    def indexed_at(self, topic: str, timestamp_ms: int) -> dict[int, int | None]:
        """Return Kafka's answer for a time: no record before it is at or after the time.

        The marker of a transaction counts with the time of its writing: there may be no such
        record at that offset, or at all.
        """
        with self._clients.errors(f"looking up a time in {topic}"):
            partitions = self.partitions_of(topic)
            at = OffsetSpec.for_timestamp(max(0, timestamp_ms))  # below 0 Kafka has other meanings
            found = self._offsets(topic, partitions, at)
        return {p: offset if offset >= 0 else None for p, offset in sorted(found.items())}

    def partitions_of(self, topic: str) -> int:
        """Return the number of partitions.

        Raises:
            LogFailed: No such topic.
        """
        with self._clients.errors(f"describing topic {topic}"):
            found = self._descriptions([topic])
        if not found:
            raise LogFailed("No such topic.", where=topic, cure="See: playhead topics list")
        return len(found[0].partitions)

    # ------------------------------------------------------------------------------- inside

    def _descriptions(self, names: list[str]) -> list[Any]:
        if not names:
            return []
        asked = self._contact().describe_topics(TopicCollection(names), request_timeout=ASK_S)
        found = []
        for answer in asked.values():
            try:
                found.append(answer.result())
            except KafkaException as raised:
                code = error_of(raised).code()
                if code not in UNKNOWN_TOPIC and code != KafkaError.TOPIC_EXCEPTION:
                    raise
        return sorted(found, key=lambda one: str(one.name))

    def _described(self, names: list[str]) -> list[TopicInfo]:
        found = self._descriptions(names)
        configs = self._configs([one.name for one in found])
        return [
            TopicInfo(one.name, str(one.topic_id), len(one.partitions), configs.get(one.name, {}))
            for one in found
        ]

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        """Return what was set on each topic, and retention and cleanup in any case."""
        if not names:
            return {}
        resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        asked = self._contact().describe_configs(resources, request_timeout=ASK_S)
        return {resource.name: _shown(answer) for resource, answer in asked.items()}

    def _stable_ends(self, topic: str, partitions: int) -> dict[int, int]:
        """Return the last stable offsets, and let commits that were answered to arrive first.

        Kafka answers a commit before it has written the markers: for some milliseconds the last
        stable offset lies before records that their writer knows to be committed.
        """
        ends = self._offsets(topic, partitions, _LATEST, IsolationLevel.READ_UNCOMMITTED)
        begun = time.monotonic()
        while True:
            stable = self._offsets(topic, partitions, _LATEST)
            behind = {p: at for p, at in stable.items() if at < ends[p]}
            # Still there after a first wait: an open transaction, probably: then wait less.
            known = all(self._open_at.get((topic, p)) == at for p, at in behind.items())
            if not behind or time.monotonic() - begun > (_MARKERS_S / 10 if known else _MARKERS_S):
                self._open_at.update({(topic, p): at for p, at in behind.items()})
                return stable
            time.sleep(0.005)

    def _offsets(
        self,
        topic: str,
        partitions: int,
        which: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
    ) -> dict[int, int]:
        asked = self._contact().list_offsets(
            {TopicPartition(topic, p): which for p in range(partitions)},
            isolation_level=isolation,
            request_timeout=ASK_S,
        )
        return {place.partition: answer.result().offset for place, answer in asked.items()}


def _shown(answer: Future[Any]) -> dict[str, str]:
    try:
        entries: Iterable[Any] = answer.result().values()
    except KafkaException:  # deleted meanwhile, or no right to see it: the topic itself is known
        return {}
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    return {
        entry.name: entry.value or ""
        for entry in sorted(entries, key=lambda entry: str(entry.name))
        if entry.source == own or entry.name in _ALWAYS_SHOWN or entry.value == "LogAppendTime"
    }
