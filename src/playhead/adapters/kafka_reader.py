"""Reading partitions of Kafka from given positions, without being a member of any group."""

# ruff: noqa: SLF001 - librdkafka's own error codes begin with an underscore

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from playhead.adapters.kafka_client import CONTACT_S, UNKNOWN_TOPIC, Clients
from playhead.core.offsets import OffsetRange
from playhead.core.offsets import TopicPartition as Source
from playhead.core.records import Headers, Records, joined
from playhead.errors import LogFailed, OffsetOutOfRange

# With librdkafka's defaults a full queue stops a partition for a second (facts: 214 k records/s
# instead of 1.9 M). Memory follows the queue, so it is capped in bytes.
_DEFAULTS: Mapping[str, Any] = {
    "fetch.queue.backoff.ms": 1,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.max.bytes": 16_000_000,
    # The end of a partition is only seen when a fetch comes back empty: this long after it.
    "fetch.wait.max.ms": 100,
}
_FILL_S = 0.25
_NAP_S = 0.01
_PIECE = 8_000
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


class KafkaReader:
    """`Reader` on Kafka: a consumer with partitions of its own choice and a private group id."""

    def __init__(
        self,
        clients: Clients,
        topic: str,
        positions: Mapping[int, int],
        max_bytes: int,
        retained: Callable[[str], dict[int, OffsetRange]],
    ) -> None:
        """Read ``topic`` from ``positions``; ``retained`` is asked when one is out of range."""
        self._clients = clients
        self._topic = topic
        self._max_bytes = max_bytes
        self._retained = retained
        self._positions = dict(positions)
        self._ends: dict[int, int] = {}  # where the end of each partition was last seen
        self._assigned = False
        self._brokers_down = False
        self._consumer: Consumer | None = clients.consumer(
            f"playhead.reader.{uuid.uuid4().hex}", _DEFAULTS, self._on_error
        )

    def read(self, max_records: int, timeout_s: float) -> list[Records]:
        """Return what follows the positions: at most one `Records` a partition, in log order."""
        deadline = time.monotonic() + timeout_s
        consumer = self._assignment()
        with self._clients.errors(f"reading {self._topic}"):
            while True:
                silent = True
                pieces: dict[int, list[Records]] = {}
                for messages in self._fetch(consumer, max_records, deadline):
                    silent = False
                    for records in self._columns(messages):
                        pieces.setdefault(records.source.partition, []).append(records)
                if pieces:
                    return [joined(pieces[partition]) for partition in sorted(pieces)]
                if time.monotonic() >= deadline:
                    if self._brokers_down and timeout_s and silent:
                        self._probe(consumer)
                    return []

    def close(self) -> None:
        """Let go of connections; safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer:
            consumer.close()

    def _assignment(self) -> Consumer:
        if self._consumer is None:
            raise LogFailed("This reader is closed.", where=self._topic)
        if self._assigned:
            return self._consumer
        for partition, offset in self._positions.items():
            if offset < 0:  # librdkafka would take it for "the beginning" or "the end"
                raise self._out_of_range(partition, offset)
        # All anew, also after an error: an assignment drops what was fetched ahead.
        self._ends.clear()
        with self._clients.errors(f"assigning {self._topic}"):
            self._consumer.assign(
                [TopicPartition(self._topic, p, at) for p, at in self._positions.items()]
            )
        self._assigned = True
        return self._consumer

    def _fetch(self, consumer: Consumer, most: int, deadline: float) -> Iterator[list[Message]]:
        """Wait for a first message; then yield what is there, and what is about to be.

        In pieces that fit into the processor's cache: a message is looked at soon after it was
        made, and its memory is used again for another one (measured: half the time per record).
        """
        messages = consumer.consume(1, max(0.0, deadline - time.monotonic()))
        if not messages:
            return
        self._brokers_down = False
        yield messages
        got, size = 1, len(messages[0])
        full = time.monotonic() + _FILL_S
        while got < most and size < self._max_bytes:
            fit = (self._max_bytes - size) * got // max(1, size)  # if they are as large as so far
            piece = max(1, min(most - got, _PIECE, fit))
            # consume() waits out its time unless it is filled: so first without any.
            more = consumer.consume(piece, 0)
            if not more:
                if time.monotonic() > full or self._caught_up(consumer):
                    break
                more = consumer.consume(min(piece, 1000), _NAP_S)
            if more:
                got, size = got + len(more), size + sum(map(len, more))
                yield more

    def _caught_up(self, consumer: Consumer) -> bool:
        """Say whether nothing follows, as far as the last answers of the brokers tell."""
        asked = [TopicPartition(self._topic, p) for p in self._positions]
        for place in consumer.position(asked):
            position = max(place.offset, self._ends.get(place.partition, 0))
            _low, high = consumer.get_watermark_offsets(place, cached=True)
            # After the last record there usually is the marker of its transaction.
            if 0 <= position < high - 1 and self._ends.get(place.partition) != position:
                return False
        return True

    def _columns(self, messages: list[Message]) -> list[Records]:
        records: dict[int, list[Message]] = {}
        ends: dict[int, int] = {}
        if any(map(Message.error, messages)):
            for message in messages:
                if message.error() is not None:
                    self._on_event(message, ends)
            messages = [message for message in messages if message.error() is None]
        for partition, some in groupby(messages, Message.partition):
            records.setdefault(cast("int", partition), []).extend(some)
        found = [
            self._batch(partition, of, ends.get(partition, 0)) for partition, of in records.items()
        ]
        for partition, end in ends.items():
            self._ends[partition] = end
            if partition not in records and end > self._positions[partition]:
                found.append(Records(Source(self._topic, partition), (), (), (), (), end))
        for batch in found:
            self._positions[batch.source.partition] = batch.next
        return found

    def _batch(self, partition: int, messages: list[Message], end: int) -> Records:
        # By map, and not by a loop: each record is looked at five times.
        offsets = cast("list[int]", list(map(Message.offset, messages)))
        headers: list[Headers] = []
        raw = list(map(Message.headers, messages))
        if any(raw):
            headers = [tuple((k, v or b"") for k, v in _pairs(h)) for h in raw]
        return Records(
            source=Source(self._topic, partition),
            offsets=offsets,
            timestamps_ms=list(map(itemgetter(1), map(Message.timestamp, messages))),
            keys=cast("list[bytes | None]", list(map(Message.key, messages))),
            values=cast("list[bytes | None]", list(map(Message.value, messages))),
            next=max(offsets[-1] + 1, end),
            headers=headers or (),
        )

    def _on_event(self, message: Message, ends: dict[int, int]) -> None:
        error, partition, offset = message.error(), message.partition(), message.offset()
        code = error.code() if error else KafkaError.NO_ERROR
        if code == KafkaError._PARTITION_EOF and partition is not None and offset is not None:
            ends[partition] = offset  # past markers, up to the last stable offset
            return
        if error is None or error.retriable() or code == KafkaError._TRANSPORT:
            return
        self._assigned = False  # what else was in these messages is read again
        if code in _OUT_OF_RANGE and partition is not None:
            raise self._out_of_range(partition, self._positions[partition])
        if code in UNKNOWN_TOPIC:
            raise LogFailed("No such topic or partition.", where=f"{self._topic}[{partition}]")
        raise self._clients.translated(error, f"reading {self._topic}[{partition}]")

    def _out_of_range(self, partition: int, offset: int) -> OffsetOutOfRange:
        source = Source(self._topic, partition)
        held = self._retained(self._topic).get(partition)
        if held is None:
            return OffsetOutOfRange("The topic has no such partition.", where=source.at(offset))
        if offset < held.start:
            cure = f"Replay from {held.start}, or restore the topic from an archive."
            word = "no longer"
        else:
            cure = "Was the topic cut or created anew? Compare its id and its end."
            word = "not"
        return OffsetOutOfRange(
            f"offset {offset} is {word} retained (the topic holds {held}).",
            where=source.at(offset),
            cure=cure,
        )

    def _on_error(self, error: KafkaError) -> None:
        self._clients.note(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._brokers_down = True

    def _probe(self, consumer: Consumer) -> None:
        """Wait for the brokers to come back, for a while; librdkafka itself waits for ever."""
        deadline = time.monotonic() + CONTACT_S
        while True:
            try:
                with self._clients.errors(f"reading {self._topic}"):
                    consumer.list_topics(timeout=1)  # short: Ctrl-C has to get through
            except LogFailed:
                if time.monotonic() > deadline:
                    raise
            else:
                self._brokers_down = False
                return


def _pairs(headers: object) -> list[tuple[str, bytes | None]]:
    # The stub also allows what only a producer may be given: a dict, and text.
    return cast("list[tuple[str, bytes | None]]", headers or [])
