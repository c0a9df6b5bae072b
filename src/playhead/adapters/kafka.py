"""`Log` on Apache Kafka, through librdkafka (confluent-kafka 2.8 or newer)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from types import MappingProxyType

from playhead.adapters.kafka_admin import KafkaAdmin
from playhead.adapters.kafka_client import Clients
from playhead.adapters.kafka_producer import KafkaAppender
from playhead.adapters.kafka_reader import KafkaReader
from playhead.adapters.kafka_session import KafkaMember
from playhead.core.records import Records
from playhead.ports import BATCH_BYTES

_NONE: Mapping[str, str] = MappingProxyType({})


def first_at(batch: Records, timestamp_ms: int) -> int | None:
    """Return the offset of the first record at or after the time, or None."""
    times = zip(batch.offsets, batch.timestamps_ms, strict=True)
    return next((offset for offset, at in times if at >= timestamp_ms), None)


class KafkaLog(KafkaAdmin):
    """Topics and consumer groups of one Kafka cluster.

    Nothing is sent before the first question; a cluster that does not answer that one within
    5 seconds is `LogFailed` with exit code 5. Readers, members and appenders hold connections
    of their own and are closed by who opened them.
    """

    remote = True

    def __init__(self, bootstrap_servers: str, properties: Mapping[str, str] = _NONE) -> None:
        """Keep the address.

        Args:
            bootstrap_servers: ``host:port``, several separated by commas.
            properties: librdkafka's own, passed on verbatim to every client; those that
                exactly-once rests on (isolation level, automatic commits, …) stay as they are.

        Raises:
            ConfigError: A property does not exist, or its value is not accepted.
        """
        super().__init__(Clients(bootstrap_servers, properties))

    def offset_at(self, topic: str, timestamp_ms: int) -> dict[int, int | None]:
        """Return the first offset with a timestamp at or after the time; None: there is none.

        Kafka's own answer may be the marker of a transaction, so the records from there on are
        looked at; after 10 seconds of looking, the offset reached is returned: a safe start.
        """
        ends = {p: held.end for p, held in self.retained(topic).items()}
        found = self.indexed_at(topic, timestamp_ms)
        todo = {p: at for p, at in found.items() if at is not None and at < ends[p]}
        found = {p: todo.get(p) for p in ends}
        deadline = time.monotonic() + 10
        with closing(self.reader(topic, todo)) as reader:
            while todo and time.monotonic() < deadline:
                for batch in reader.read(10_000, 0.2):
                    partition = batch.source.partition
                    at = first_at(batch, timestamp_ms)
                    if partition in todo:
                        found[partition] = batch.next if at is None else at
                    if at is not None:
                        todo.pop(partition, None)
                    elif batch.next >= ends[partition] and todo.pop(partition, None) is not None:
                        found[partition] = None
        return found

    def reader(
        self, topic: str, positions: Mapping[int, int], max_bytes: int = BATCH_BYTES
    ) -> KafkaReader:
        """Return a reader of these partitions, at these positions."""
        self._contact()
        return KafkaReader(self._clients, topic, positions, max_bytes, self.retained)

    def join(self, group: str, topic: str) -> KafkaMember:
        """Join ``group`` for ``topic`` and wait for the assignment."""
        self.partitions_of(topic)
        member = KafkaMember(self._clients, group, topic, self.partitions_of)
        try:
            member.wait(lambda: self.describe_group(group).members)
        except BaseException:
            member.close()
            raise
        return member

    def appender(self, name: str) -> KafkaAppender:
        """Return an appender; ``name`` tells it from others that run at once."""
        self._contact()
        return KafkaAppender(self._clients, name, self.partitions_of)

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
        # librdkafka's admin client closes with the last reference; every call opens a new one.
        self._client = self._clients.admin()
        self._contacted = False
