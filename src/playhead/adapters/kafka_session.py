"""One assignment of one group on Kafka: membership, commits, transactions.

The member subscribes but fetches nothing: reading is a `KafkaReader`'s. What counts is that the
broker knows it as a member: then a reset by others is refused, and our commits can be refused.
"""

# ruff: noqa: SLF001 - librdkafka's own error codes begin with an underscore

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from playhead.adapters.kafka_client import LOGGER, UNAUTHORISED, UNKNOWN_TOPIC, Clients, error_of
from playhead.adapters.kafka_producer import FENCED, TransactionalProducer
from playhead.core.checkpoint import Committed
from playhead.core.naming import witness_of
from playhead.core.records import Outgoing
from playhead.errors import LogFailed, PlayheadError, SessionLost

_JOIN_S = 60.0
_PENDING_S = 60.0
_ASK_S = 2.0  # short, for the membership is to be seen to in between
_TRANSACTION_TIMEOUT_MS = 30_000
_DEFAULTS: Mapping[str, Any] = {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 3_000}

# What comes again with the same records: a new session would only meet it again.
_LASTING = UNKNOWN_TOPIC | UNAUTHORISED | {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.OFFSET_METADATA_TOO_LARGE,
    KafkaError.POLICY_VIOLATION,
    KafkaError.INVALID_TRANSACTION_TIMEOUT,
}  # fmt: skip


class Membership:
    """A subscription to one topic, for one assignment: knows when it is over."""

    def __init__(self, clients: Clients, group: str, topic: str) -> None:
        """Subscribe; `wait` then waits for the assignment."""
        self._clients = clients
        self._group = group
        self._topic = topic
        self._partitions: tuple[int, ...] | None = None
        self._metadata: object = None  # captured with the assignment, used unchanged
        self._over = ""  # why the session ended
        self._consumer = clients.consumer(group, _DEFAULTS)
        with clients.errors(f"joining group {group}"):
            self._consumer.subscribe(
                [topic],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )

    @property
    def partitions(self) -> tuple[int, ...]:
        """The assigned partitions of the topic, sorted."""
        return self._partitions or ()

    def wait(self, others: Callable[[], Sequence[str]]) -> None:
        """Wait for the assignment; ``others`` names who is in the group, for the log line."""
        begun = time.monotonic()
        told = False
        while self._partitions is None:
            self._serve(0.1)
            waited = time.monotonic() - begun
            if waited > _JOIN_S:
                raise LogFailed(
                    f"Group {self._group} gave no assignment within {_JOIN_S:.0f} s.",
                    cure=f"See who holds it: playhead groups describe {self._group}",
                )
            if waited > 1 and not told:
                told = True
                LOGGER.warning(
                    "waiting for group %s: %s; a member that died is dropped after 10 s",
                    self._group,
                    ", ".join(others()) or "no member yet",
                )

    def ensure(self) -> None:
        """Keep the membership alive; raises `SessionLost` when the assignment ended."""
        if not self._over:
            self._serve(0)
        if self._over:
            self._leave()  # at once: who takes over then gets everything in one assignment
            raise SessionLost(
                f"The session of group {self._group} on {self._topic} ended: {self._over}.",
                safe="What was not committed is dropped; nothing is repeated from memory.",
            )

    def _serve(self, timeout_s: float) -> None:
        """Serve rebalances and errors; the heartbeat itself is librdkafka's own thread."""
        while not self._over and (message := self._consumer.poll(timeout_s)) is not None:
            error = message.error()
            if error is None:
                continue
            code = error.code()
            if code == KafkaError._MAX_POLL_EXCEEDED or error.fatal():
                self._over = error.str()
            elif code in UNKNOWN_TOPIC:
                raise LogFailed("No such topic.", where=self._topic)
            elif code in UNAUTHORISED:
                raise self._clients.translated(error, f"in group {self._group}")
            timeout_s = 0

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])  # a member of the group, but nothing is fetched here
        if self._partitions is not None:
            self._end("the partitions were assigned anew")
            return
        self._partitions = tuple(sorted(place.partition for place in partitions))
        self._metadata = consumer.consumer_group_metadata()

    def _on_revoke(self, _consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._end("the partitions were revoked")

    def _end(self, why: str) -> None:
        self._over = self._over or why

    def _leave(self) -> None:
        with suppress(KafkaException, RuntimeError):  # RuntimeError: it was closed before
            self._consumer.close()


class KafkaMember(Membership):
    """`Member` on Kafka.

    Attributes:
        on_step: Called inside `publish` with the name of each step; for crash tests.
    """

    def __init__(
        self,
        clients: Clients,
        group: str,
        topic: str,
        check_topic: Callable[[str], int],
    ) -> None:
        """Subscribe; `wait` then waits for the assignment."""
        super().__init__(clients, group, topic)
        self.on_step: Callable[[str], None] | None = None
        self._check_topic = check_topic
        self._producer: TransactionalProducer | None = None
        self._witness: Consumer | None = None

    def ensure(self) -> None:
        """Keep the membership alive; raises `SessionLost` when the assignment ended.

        A producer that came under suspicion after its last transaction ends the session, too.
        """
        if self._producer is not None and not self._over:
            self._producer.serve()
            self._over = self._producer.suspicion
        super().ensure()

    def begin_publishing(self, transactional_id: str) -> None:
        """Fence every older producer of this id; an open transaction of its is aborted."""
        self.ensure()
        if self._producer:
            self._producer.close()
        self._producer = TransactionalProducer(
            self._clients, transactional_id, _TRANSACTION_TIMEOUT_MS, self._check_topic
        )

    def committed(self) -> dict[int, tuple[Committed | None, Committed | None]]:
        """Return (K, W) of each assigned partition; waits for a pending transaction to end."""
        self.ensure()
        own = self._offsets_of(self._consumer)
        witness = self._offsets_of(self._witness_consumer())
        return {partition: (own[partition], witness[partition]) for partition in self.partitions}

    def publish(self, outgoing: Sequence[Outgoing], offsets: Mapping[int, Committed]) -> None:
        """Append the records and commit the offsets for group and witness: all or nothing."""
        self.append(outgoing)
        self.finish(offsets)

    def append(self, outgoing: Sequence[Outgoing]) -> None:
        """Begin a transaction with these records."""
        self.ensure()
        if self._producer is None:
            raise LogFailed("publish needs begin_publishing first.", where=self._group)
        self._over = "a transaction did not finish"  # until it has
        with self._ending(self._producer) as producer:
            self._witness_consumer()
            producer.begin()
            self._step("begin")
            for records in outgoing:
                producer.append(records)
            self._step("produced")

    def finish(self, offsets: Mapping[int, Committed]) -> None:
        """Commit the offsets for group and witness, and with them what was appended."""
        if self._producer is None:
            raise LogFailed("publish needs begin_publishing first.", where=self._group)
        with self._ending(self._producer) as producer:
            witness = self._witness_consumer().consumer_group_metadata()
            producer.flush()
            producer.send_offsets(self._topic, offsets, self._metadata)
            self._step("group offsets sent")
            producer.send_offsets(self._topic, offsets, witness)
            self._step("witness offsets sent")
            self._step("before log commit")
            producer.commit()
        # A suspicious producer must not begin another transaction: `init_transactions`, and with
        # it a new session, comes first. This transaction itself is known to be committed.
        self._over = self._producer.suspicion
        self._step("after log commit")

    @contextmanager
    def _ending(self, producer: TransactionalProducer) -> Iterator[TransactionalProducer]:
        """End the open transaction where the block fails, and say why it did."""
        try:
            yield producer
        except KafkaException as raised:
            error, place = producer.reason(raised)
            producer.abort()
            raise self._unpublished(error, place) from raised
        except PlayheadError:
            producer.abort()
            raise

    def commit(self, offsets: Mapping[int, Committed]) -> None:
        """Commit the group's own offsets (K), as a member."""
        self.ensure()
        if not offsets:
            return
        places = [
            TopicPartition(self._topic, partition, at.offset, at.metadata)
            for partition, at in sorted(offsets.items())
        ]
        try:
            results = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as raised:
            raise self._uncommitted(error_of(raised)) from raised
        for result in results:
            if result.error:
                raise self._uncommitted(result.error)

    def close(self) -> None:
        """Leave the group; safe to call twice."""
        self._over = self._over or "it was closed"
        self._leave()
        producer, self._producer = self._producer, None
        if producer:
            producer.close()
        witness, self._witness = self._witness, None
        if witness:
            witness.close()

    # ------------------------------------------------------------------------------- inside

    def _step(self, name: str) -> None:
        if self.on_step:
            self.on_step(name)

    def _witness_consumer(self) -> Consumer:
        if self._witness is None:
            self._witness = self._clients.consumer(witness_of(self._group), {})
        return self._witness

    def _offsets_of(self, consumer: Consumer) -> dict[int, Committed | None]:
        if not self.partitions:
            return {}
        deadline = time.monotonic() + _PENDING_S
        places = [TopicPartition(self._topic, partition) for partition in self.partitions]
        while True:
            try:
                found = consumer.committed(places, timeout=_ASK_S)
                break
            except KafkaException as raised:
                # Under read_committed this waits for pending transactions, and times out.
                error = error_of(raised)
                if error.code() != KafkaError._TIMED_OUT or time.monotonic() > deadline:
                    raise self._clients.translated(error, f"offsets of {self._group}") from raised
            self.ensure()
        for place in found:
            if place.error:
                raise self._clients.translated(place.error, f"offsets of {self._group}")
        return {
            place.partition: None
            if place.offset < 0
            else Committed(place.offset, place.metadata or "")
            for place in found
        }

    def _unpublished(self, error: KafkaError, place: str) -> PlayheadError:
        if error.code() in FENCED:
            self._over = "another process took over its transactional id"
            return SessionLost(
                f"Another process took over publishing for group {self._group}.",
                safe="Nothing of this transaction is visible.",
            )
        if error.code() in _LASTING:
            return LogFailed(
                f"Kafka does not take what {self._group} publishes: {error.str()}.",
                where=place or None,
                safe="Nothing of this transaction is visible.",
            )
        return SessionLost(
            f"A transaction of group {self._group} ended in {error.name()}: {error.str()}.",
            safe="Whether it was committed is unknown here; the start sequence finds out.",
        )

    def _uncommitted(self, error: KafkaError) -> PlayheadError:
        if error.code() in UNAUTHORISED | {KafkaError.OFFSET_METADATA_TOO_LARGE}:
            return self._clients.translated(error, f"committing for group {self._group}")
        self._end(f"a commit was refused ({error.name()}, {error.str()})")
        return SessionLost(f"The session of group {self._group} ended: {self._over}.")
