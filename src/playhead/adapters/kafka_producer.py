"""Transactions on Kafka: the producer behind a member's publishing, and the appender of ingest."""

# ruff: noqa: SLF001 - librdkafka's own error codes begin with an underscore

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import repeat
from operator import length_hint
from typing import Any

import msgspec
from confluent_kafka import (
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
    libversion,
)

from playhead.adapters.kafka_client import ASK_S, CONTACT_S, LOGGER, REQUEST_S, Clients, error_of
from playhead.core.checkpoint import Committed
from playhead.core.offsets import TopicPartition as Source
from playhead.core.records import Headers, Origins, Outgoing
from playhead.errors import LogFailed, PlayheadError

FENCED = frozenset(
    {
        KafkaError._FENCED,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.TRANSACTION_COORDINATOR_FENCED,
    }
)

# With librdkafka's 100 ms, a transaction costs 106 ms: the broker answers CONCURRENT_TRANSACTIONS
# while it writes the markers of the one before, and librdkafka waits before it asks again.
_DEFAULTS: Mapping[str, Any] = {
    "retry.backoff.ms": 5,
    "retry.backoff.max.ms": 20,
    "linger.ms": 20,  # for full batches; a commit does not wait for it
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 262_144,
}
# When no broker is left, librdkafka 2.10 begins with bootstrap.servers again, and forgets the
# broker that it takes for the group's coordinator: then `send_offsets_to_transaction` never comes
# back (confluentinc/librdkafka#5511, open). Ours begins anew anyway: a producer that fails is
# thrown away. Older ones know neither this nor the property.
if libversion()[1] >= 0x020A0000:
    _DEFAULTS = {**_DEFAULTS, "metadata.recovery.strategy": "none"}


# Often, for what they tell is late by up to this long. `txretries` is of no use: it counts answers
# of CONCURRENT_TRANSACTIONS, too (measured: 227 in 200 healthy transactions, EndTxn exactly 200).
_STATISTICS_MS = 50
_SLICE_S = 1.0
_GRACE_S = 2.0


class _Broker(msgspec.Struct):
    """What librdkafka counts of one broker."""

    req: dict[str, int] = {}
    req_timeouts: int = 0


class _Statistics(msgspec.Struct):
    """The part of librdkafka's statistics that tells of requests."""

    brokers: dict[str, _Broker] = {}


class TransactionalProducer:
    """One transactional id. Creating it fences older ones and aborts what they left open.

    Attributes:
        open: Whether a transaction is open.
        check_topic: Returns how many partitions a topic has; raises if there is no such topic.
        suspicion: Why this producer must not begin another transaction, or "". librdkafka may
            have sent an EndTxn twice, and the late one would end the wrong transaction.
    """

    def __init__(
        self,
        clients: Clients,
        transactional_id: str,
        timeout_ms: int,
        check_topic: Callable[[str], int],
    ) -> None:
        """Create the producer; ``check_topic`` returns how many partitions a topic has."""
        self.suspicion = ""
        self._clients = clients
        self.open = False
        self._topics: dict[str, int] = {}
        self._refused: tuple[KafkaError, str] | None = None
        self._ended = 0  # transactions that were told to commit or to abort
        self._timeouts = 0
        self._away = False  # whether no broker could be reached when librdkafka last told
        self.check_topic = check_topic
        forced = {
            "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms,
            "enable.idempotence": True,
            "acks": "all",
            # A failed record fails the commit; reports of good ones would only cost time.
            "delivery.report.only.error": True,
            "on_delivery": self._on_delivery,
            "statistics.interval.ms": _STATISTICS_MS,
            "stats_cb": self._on_statistics,
        }
        self._producer: Producer = clients.producer(_DEFAULTS, forced, self._on_error)
        with clients.errors(f"taking over the transactional id {transactional_id}"):
            self._producer.init_transactions(REQUEST_S)

    def serve(self) -> None:
        """Hear what librdkafka has to say; afterwards look at `suspicion`."""
        self._producer.poll(0)

    def begin(self) -> None:
        """Begin a transaction, where a broker can be reached.

        librdkafka tells once when no broker is left, and never of a return: so it is asked for.
        """
        self.serve()
        if self._away:
            self._producer.list_topics(timeout=CONTACT_S)
            self._away = False
        self.open = True
        self._producer.begin_transaction()

    def append(self, outgoing: Outgoing) -> None:
        """Add records to the open transaction."""
        self._check(outgoing)
        made, at, end = outgoing.headers, 0, len(outgoing)
        while at < end:
            lists = made.lists(at) if isinstance(made, Origins) else map(_list, made[at:])
            values = iter(outgoing.values[at:])
            # No bytecode per record, and by position: each was measured to be faster.
            produced = map(
                self._producer.produce,
                repeat(outgoing.topic),
                values,
                outgoing.keys[at:],
                outgoing.partitions[at:],
                repeat(None),
                repeat(None),
                outgoing.timestamps_ms[at:],
                lists,
            )
            try:
                deque(produced, maxlen=0)
                at = end
            except BufferError:
                # The queue is full: librdkafka's thread empties it, we serve its reports.
                at = end - length_hint(values) - 1
                self._producer.poll(0.01)

    def flush(self) -> None:
        """Wait until Kafka has what was appended, or does not answer; `commit` finds out which.

        A transaction is counted when it ends: what `_on_statistics` compares must not wait long.
        """
        begun = time.monotonic()
        with suppress(SystemError):  # confluent-kafka's answer when the producer was fenced
            while self._producer.flush(_SLICE_S) and not self._away:
                if time.monotonic() - begun > REQUEST_S:
                    return

    def send_offsets(
        self, topic: str, offsets: Mapping[int, Committed], group_metadata: object
    ) -> None:
        """Commit the offsets with the transaction, for the group of the metadata."""
        positions = [
            TopicPartition(topic, partition, at.offset, at.metadata)
            for partition, at in sorted(offsets.items())
        ]
        send = self._producer.send_offsets_to_transaction
        if not came_back(lambda: send(positions, group_metadata, ASK_S), ASK_S + _GRACE_S):
            # Nothing more is asked of this producer, which may still be in there. Its transaction
            # is aborted by who takes over its transactional id: the next session.
            self.open = False
            raise KafkaException(
                KafkaError(KafkaError._TIMED_OUT, "librdkafka did not come back from a call")
            )

    def commit(self) -> None:
        """Commit; fails if any record failed. Afterwards look at `suspicion`."""
        begun = time.monotonic()
        self._ended += 1
        self._commit(begun)
        self.serve()
        took_s = time.monotonic() - begun
        if took_s > self._clients.socket_timeout_s / 2:
            self.suspicion = self.suspicion or f"the last commit took {took_s:.1f} s"
        self.open = False

    def _commit(self, begun: float) -> None:
        """Wait for the commit as long as a broker is there; librdkafka takes the call up again."""
        while True:
            try:
                self._producer.commit_transaction(_SLICE_S)
            except KafkaException as raised:
                error, waited_s = error_of(raised), time.monotonic() - begun
                self.serve()
                slow = error.code() == KafkaError._TIMED_OUT and error.retriable()
                if not slow or waited_s > (CONTACT_S if self._away else REQUEST_S):
                    raise
            else:
                return

    def abort(self) -> None:
        """Abort the open transaction, if there is one and Kafka answers soon."""
        if self.open and self._away:
            self.open = False  # nobody hears it; who takes over the transactional id aborts it
        if self.open:
            self.open = False
            self._ended += 1
            with suppress(KafkaException):
                self._producer.abort_transaction(5)

    def reason(self, raised: KafkaException) -> tuple[KafkaError, str]:
        """Return why the transaction failed, and the place if it was one record."""
        with suppress(KafkaException):  # a fenced producer raises here, too
            self._producer.poll(0)  # serves _on_delivery
        return self._refused or (error_of(raised), "")

    def close(self) -> None:
        """Abort what is open and drop the producer."""
        self.abort()
        with suppress(KafkaException):
            self._producer.purge()

    def _check(self, outgoing: Outgoing) -> None:
        if not len(outgoing):
            return
        highest = max(outgoing.partitions)
        if highest >= self._topics.get(outgoing.topic, 0):  # a producer would create the topic
            self._topics[outgoing.topic] = self.check_topic(outgoing.topic)
        if highest >= self._topics[outgoing.topic]:
            where = Source(outgoing.topic, highest)
            raise LogFailed("The topic has no such partition.", where=str(where))
        if outgoing.timestamps_ms and min(outgoing.timestamps_ms) <= 0:
            raise LogFailed(
                "Kafka cannot take a record without a time after 1970-01-01T00:00:00Z: librdkafka "
                "would write the current time instead.",
                where=outgoing.topic,
            )

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        purged = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # by an abort: no reason
        if error is not None and self._refused is None and error.code() not in purged:
            self._refused = (error, str(Source(message.topic() or "", message.partition() or 0)))

    def _on_error(self, error: KafkaError) -> None:
        self._clients.note(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._away = True
        # A connection that was up broke inside a transaction: a request may be on its way still.
        # A broker that cannot be connected to says nothing of the kind.
        broke = error.code() in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT}
        if self.open and broke and "onnect to " not in error.str():
            self.suspicion = f"a connection broke during a transaction: {error.str()}"

    def _on_statistics(self, content: str) -> None:
        """Look for what librdkafka does silently: an EndTxn that it has sent once more."""
        brokers = msgspec.json.decode(content, type=_Statistics).brokers.values()
        sent = sum(broker.req.get("EndTxn", 0) for broker in brokers)
        timeouts = sum(broker.req_timeouts for broker in brokers)
        if sent > self._ended:
            self.suspicion = f"the end of a transaction was sent {sent} times for {self._ended}"
        elif timeouts > self._timeouts:
            self.suspicion = self.suspicion or "a request was not answered in time"
        self._timeouts = timeouts


def _list(headers: Headers) -> list[tuple[str, bytes]] | None:
    return list(headers) or None


def came_back(call: Callable[[], object], limit_s: float) -> bool:
    """Make a call that may never come back; say whether it did. Its errors are raised here.

    `rd_kafka_send_offsets_to_transaction` can block for ever, whatever time it is given, where the
    coordinator goes away meanwhile (confluentinc/librdkafka#5456, open). Its thread is left behind.
    """
    answer: Future[object] = Future()

    def make() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001  it is raised where the answer is waited for
            answer.set_exception(error)

    threading.Thread(target=make, name="kafka call", daemon=True).start()
    done, _ = wait([answer], limit_s)
    if done:
        answer.result()
    return bool(done)


class KafkaAppender:
    """`Appender` on Kafka: transactions under the id ``playhead.ingest.<name>``."""

    # Generous: a slow source (a person, a socket) may take minutes to fill a transaction.
    TIMEOUT_MS = 300_000

    def __init__(self, clients: Clients, name: str, check_topic: Callable[[str], int]) -> None:
        """Take over the transactional id: an older appender of this name is fenced."""
        self._clients = clients
        self._name = name
        self._producer: TransactionalProducer | None = TransactionalProducer(
            clients, f"playhead.ingest.{name}", self.TIMEOUT_MS, check_topic
        )

    def append(self, outgoing: Outgoing) -> None:
        """Append the records to the open transaction, beginning one if there is none."""
        producer = self._usable()
        try:
            if not producer.open:
                producer = self._unsuspected(producer)
                producer.begin()
            producer.append(outgoing)
        except KafkaException as raised:
            raise self._failed(raised, outgoing.topic) from raised

    def commit(self) -> None:
        """Make what was appended visible, all at once."""
        producer = self._usable()
        if not producer.open:
            return
        try:
            producer.commit()
        except KafkaException as raised:
            raise self._failed(raised, "commit") from raised
        self._unsuspected(producer)

    def close(self) -> None:
        """Abort what is uncommitted and let go of connections."""
        producer, self._producer = self._producer, None
        if producer:
            producer.close()

    def _usable(self) -> TransactionalProducer:
        if self._producer is None:
            raise LogFailed(
                f"The appender {self._name} is closed.", safe="Nothing uncommitted was kept."
            )
        return self._producer

    def _unsuspected(self, old: TransactionalProducer) -> TransactionalProducer:
        """Return a producer that may begin a transaction: this one, or a new one for it."""
        old.serve()
        if not old.suspicion:
            return old
        LOGGER.info("appender %s begins anew: %s", self._name, old.suspicion)
        old.close()
        self._producer = None
        self._producer = TransactionalProducer(
            self._clients, f"playhead.ingest.{self._name}", self.TIMEOUT_MS, old.check_topic
        )
        return self._producer

    def _failed(self, raised: KafkaException, where: str) -> PlayheadError:
        producer = self._usable()
        error, place = producer.reason(raised)
        self.close()
        if error.code() in FENCED:
            return LogFailed(
                f"Another appender named {self._name} took over.",
                safe="What this one had not committed was dropped.",
            )
        return self._clients.translated(error, f"appending, {place or where}")
