"""How every Kafka client of Playhead is made, and how its errors become Playhead's.

librdkafka's own properties pass through verbatim; those that exactly-once rests on are forced.
"""

# ruff: noqa: SLF001 - librdkafka's own error codes begin with an underscore

from __future__ import annotations

import difflib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from playhead.errors import ConfigError, LogFailed, PlayheadError

LOGGER = logging.getLogger("playhead.kafka")
LOGGER.addHandler(logging.NullHandler())  # without it, Python prints warnings of silent programs
# librdkafka repeats in its own words what our errors say: a child, so that it can be told apart.
LIBRDKAFKA = LOGGER.getChild("librdkafka")

REQUEST_S = 30.0
ASK_S = 8.0  # for a question that a living broker answers in milliseconds
CONTACT_S = 5
SOCKET_TIMEOUT_MS = 10_000

# What no user's property may change: without these a read skips, repeats or invents records.
_CONSUMER_FORCED: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "check.crcs": True,
    "allow.auto.create.topics": False,
    "group.protocol": "classic",
    "partition.assignment.strategy": "range",  # eager: an assignment ends as a whole
}

UNREACHABLE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._MSG_TIMED_OUT,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
# What is over by itself once a broker is back, beside what librdkafka calls retriable.
_PASSING = UNREACHABLE - {
    KafkaError._SSL,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
} | {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError._WAIT_COORD,
    KafkaError._NOENT,  # "no leaders found": list_offsets, where no broker is left
}  # fmt: skip
UNAUTHORISED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
UNKNOWN_TOPIC = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
    }
)

# The properties that people set; the closest one is named for a misspelt one.
_KNOWN = tuple(
    """
    acks api.version.request auto.offset.reset batch.num.messages batch.size bootstrap.servers
    broker.address.family broker.address.ttl check.crcs client.dns.lookup client.id client.rack
    compression.codec compression.level compression.type connections.max.idle.ms debug
    delivery.timeout.ms enable.auto.commit enable.idempotence enable.ssl.certificate.verification
    fetch.error.backoff.ms fetch.max.bytes fetch.message.max.bytes fetch.min.bytes
    fetch.queue.backoff.ms fetch.wait.max.ms group.id group.instance.id heartbeat.interval.ms
    isolation.level linger.ms log_level log.connection.close max.in.flight
    max.in.flight.requests.per.connection max.partition.fetch.bytes max.poll.interval.ms
    message.max.bytes message.send.max.retries message.timeout.ms metadata.broker.list
    metadata.max.age.ms partition.assignment.strategy partitioner queue.buffering.max.kbytes
    queue.buffering.max.messages queue.buffering.max.ms queued.max.messages.kbytes
    queued.min.messages receive.message.max.bytes reconnect.backoff.max.ms reconnect.backoff.ms
    request.required.acks request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms
    sasl.kerberos.keytab sasl.kerberos.kinit.cmd sasl.kerberos.principal
    sasl.kerberos.service.name sasl.mechanism sasl.mechanisms sasl.oauthbearer.client.id
    sasl.oauthbearer.client.secret sasl.oauthbearer.config sasl.oauthbearer.extensions
    sasl.oauthbearer.method sasl.oauthbearer.scope sasl.oauthbearer.token.endpoint.url
    sasl.password sasl.username security.protocol session.timeout.ms
    socket.connection.setup.timeout.ms socket.keepalive.enable socket.max.fails socket.nagle.disable
    socket.receive.buffer.bytes socket.send.buffer.bytes socket.timeout.ms ssl.ca.location
    ssl.ca.pem ssl.certificate.location ssl.certificate.pem ssl.cipher.suites ssl.crl.location
    ssl.endpoint.identification.algorithm ssl.key.location ssl.key.password ssl.key.pem
    ssl.keystore.location ssl.keystore.password ssl.providers statistics.interval.ms
    sticky.partitioning.linger.ms topic.metadata.refresh.interval.ms transaction.timeout.ms
    transactional.id
    """.split()  # noqa: SIM905 - a hundred quoted strings would hide what is in the list
)
_NO_SUCH_PROPERTY = re.compile(r'No such configuration property: "([^"]*)"')
_BAD_VALUE = re.compile(r'for configuration property "([^"]*)"')


def error_of(raised: KafkaException) -> KafkaError:
    """Return the `KafkaError` that a `KafkaException` carries."""
    first = raised.args[0] if raised.args else None
    return first if isinstance(first, KafkaError) else KafkaError(KafkaError._FAIL, str(raised))


def property_error(text: str) -> ConfigError:
    """Return the error for a property that librdkafka did not take; never shows a value."""
    if unknown := _NO_SUCH_PROPERTY.search(text):
        name = unknown[1]
        close = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0.5)
        cure = f"Did you mean {close[0]}?" if close else "The names are librdkafka's."
        return ConfigError(f"Kafka has no property {name!r}.", cure=cure)
    if bad := _BAD_VALUE.search(text):
        return ConfigError(f"Kafka does not accept the value of the property {bad[1]!r}.")
    return ConfigError(f"Kafka does not accept these properties: {text}")


class Clients:
    """Makes consumers, producers and admin clients for one cluster."""

    def __init__(self, bootstrap_servers: str, properties: Mapping[str, str]) -> None:
        """Keep the address and the user's properties."""
        self.servers = bootstrap_servers
        self.trouble = ""  # what a client last complained about in the background
        self.brokers_down = False
        self._base: dict[str, Any] = {
            "client.id": f"playhead-{socket.gethostname()}-{os.getpid()}",
            "socket.timeout.ms": SOCKET_TIMEOUT_MS,
            "socket.connection.setup.timeout.ms": 5_000,
            "reconnect.backoff.max.ms": 1_000,
            "log.connection.close": False,
            **properties,
            "bootstrap.servers": bootstrap_servers,
        }

    @property
    def socket_timeout_s(self) -> float:
        """How long librdkafka waits for an answer before it asks again."""
        return float(self._base["socket.timeout.ms"]) / 1000

    def admin(self) -> AdminClient:
        """Return a new admin client."""
        with self._construction():
            return AdminClient(self._settings({}, {}, self.note))

    def consumer(
        self,
        group: str,
        defaults: Mapping[str, Any],
        on_error: Callable[[KafkaError], None] | None = None,
    ) -> Consumer:
        """Return a new consumer of ``group``; the user's properties win over ``defaults``."""
        forced = {**_CONSUMER_FORCED, "group.id": group}
        with self._construction():
            return Consumer(self._settings(defaults, forced, on_error or self.note))

    def producer(
        self,
        defaults: Mapping[str, Any],
        forced: Mapping[str, Any],
        on_error: Callable[[KafkaError], None],
    ) -> Producer:
        """Return a new producer; the user's properties win over ``defaults``."""
        with self._construction():
            return Producer(self._settings(defaults, forced, on_error))

    def note(self, error: KafkaError) -> None:
        """Remember what a client complained about: a later time-out is explained with it."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.brokers_down = True  # says less than the complaint before it
        if not self.trouble or not self.brokers_down:
            self.trouble = error.str()

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn what confluent-kafka raises inside into `PlayheadError`; ``doing`` says where."""
        try:
            yield
        except KafkaException as raised:
            raise self.translated(error_of(raised), doing) from raised

    def translated(self, error: KafkaError, doing: str) -> PlayheadError:
        """Return the Playhead error for what Kafka answered."""
        code = error.code()
        if code in UNREACHABLE:
            return LogFailed(
                f"Kafka at {self.servers} did not answer ({doing}): {self.trouble or error.str()}.",
                cure=(
                    f"Check that a broker listens at {self.servers}, that its advertised.listeners "
                    "can be reached from here, and security.protocol and sasl.* properties."
                ),
                exit_code=5,
                passing=code in _PASSING,
            )
        if code in UNAUTHORISED:
            return LogFailed(
                f"Kafka at {self.servers} does not allow it ({doing}): {error.str()}.",
                cure="Ask for the ACL that is missing, or use other credentials.",
                exit_code=5,
            )
        return LogFailed(
            f"Kafka answered with an error ({doing}): {error.name()}, {error.str()}.",
            passing=code in _PASSING or error.retriable(),
        )

    def _settings(
        self,
        defaults: Mapping[str, Any],
        forced: Mapping[str, Any],
        on_error: Callable[[KafkaError], None],
    ) -> dict[str, Any]:
        return {**defaults, **self._base, **forced, "error_cb": on_error, "logger": LIBRDKAFKA}

    @contextmanager
    def _construction(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as raised:
            raise property_error(error_of(raised).str()) from raised
        except (TypeError, ValueError) as raised:
            raise ConfigError(f"Kafka does not accept these properties: {raised}") from raised
