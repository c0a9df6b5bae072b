"""Consumer groups of a Kafka cluster, asked and reset from outside."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from playhead.adapters.kafka_client import ASK_S, CONTACT_S, UNREACHABLE, Clients, error_of
from playhead.adapters.process import ended
from playhead.core.checkpoint import Committed
from playhead.core.offsets import TopicPartition as Source
from playhead.errors import LogFailed, Refused
from playhead.ports import GroupInfo

_COORDINATOR_S = 10.0
# librdkafka's names of the states, and the words of Kafka's own tools.
_STATES = {
    "PREPARING_REBALANCING": "PreparingRebalance",
    "COMPLETING_REBALANCING": "CompletingRebalance",
    "STABLE": "Stable",
    "DEAD": "Dead",
    "EMPTY": "Empty",
    "ASSIGNING": "Assigning",
    "RECONCILING": "Reconciling",
}


class KafkaGroups:
    """What `Log` asks about consumer groups; the first question finds out who answers."""

    def __init__(self, clients: Clients) -> None:
        """Check the properties; nothing is sent before the first question."""
        self._clients = clients
        self._client = clients.admin()
        self._contacted = False

    def groups(self) -> list[str]:
        """Return the names of all groups, sorted."""
        with self._clients.errors("listing groups"):
            asked = self._contact().list_consumer_groups(request_timeout=ASK_S)
            listed = asked.result()
            if listed.errors and not listed.valid:
                raise listed.errors[0]
        return sorted(one.group_id for one in listed.valid)

    def describe_group(self, group: str) -> GroupInfo:
        """Return state and members; an unknown group is ``Dead`` without members."""
        with self._clients.errors(f"describing group {group}"):
            asked = self._contact().describe_consumer_groups([group], request_timeout=ASK_S)
            try:
                found = asked[group].result()
            except KafkaException as raised:
                if error_of(raised).code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                return GroupInfo(group, "Dead", ())
        members = sorted(f"{m.client_id} ({m.host.lstrip('/')})" for m in found.members)
        state = _STATES.get(found.state.name, "Unknown")
        return GroupInfo(group, state, tuple(members), tuple(filter(_died, members)))

    def committed(self, group: str) -> dict[Source, Committed]:
        """Return every offset that the group has committed."""
        self._await_coordinator(group)
        with self._clients.errors(f"reading the offsets of group {group}"):
            asked = self._contact().list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ASK_S
            )
            try:
                places = asked[group].result().topic_partitions
            except KafkaException as raised:
                if error_of(raised).code() != KafkaError.GROUP_ID_NOT_FOUND:
                    raise
                return {}
        return {
            Source(place.topic, place.partition): Committed(place.offset, place.metadata or "")
            for place in sorted(places, key=lambda place: (place.topic, place.partition))
            if place.offset >= 0 and not place.error
        }

    def reset(self, group: str, offsets: Mapping[Source, int]) -> None:
        """Set the group's offsets, with no metadata, as Kafka's own tool does."""
        if not offsets:
            return
        self._refuse_members(group)
        places = [TopicPartition(at.topic, at.partition, to) for at, to in sorted(offsets.items())]
        request = ConsumerGroupTopicPartitions(group, places)
        with self._clients.errors(f"resetting group {group}"):
            asked = self._contact().alter_consumer_group_offsets([request], request_timeout=ASK_S)
            results = asked[group].result().topic_partitions
        refused = [place for place in results if place.error]
        if refused:
            self._refuse_members(group)  # somebody joined in between: better named
            raise Refused(
                f"Kafka refused to reset group {group}: {refused[0].error.str()}.",
                where=", ".join(str(Source(place.topic, place.partition)) for place in refused),
                safe=None if len(refused) == len(places) else "The other partitions were reset.",
            )

    def delete_group(self, group: str) -> None:
        """Delete a group with its offsets, unless it has members."""
        self._await_coordinator(group)
        with self._clients.errors(f"deleting group {group}"):
            asked = self._contact().delete_consumer_groups([group], request_timeout=ASK_S)
            try:
                asked[group].result()
            except KafkaException as raised:
                code = error_of(raised).code()
                if code == KafkaError.NON_EMPTY_GROUP:
                    self._refuse_members(group)
                if code != KafkaError.GROUP_ID_NOT_FOUND:
                    raise

    def _await_coordinator(self, group: str) -> None:
        """Wait until the group's coordinator answers: a new cluster makes it when asked.

        Asked for offsets before that, librdkafka crashes (its issue 5040); describing is safe.
        """
        deadline = time.monotonic() + _COORDINATOR_S
        while True:
            try:
                self.describe_group(group)
            except LogFailed as error:
                if not error.passing or error.exit_code == 5 or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _refuse_members(self, group: str) -> None:
        info = self.describe_group(group)
        if info.members or info.state not in {"Empty", "Dead"}:
            raise Refused(
                f"Group {group} has members ({info.state}): {', '.join(info.members)}.",
                safe="Nothing was changed.",
                cure="Stop them, then try again.",
            )

    def _contact(self) -> AdminClient:
        """Return the client; the first time, find out soon whether anybody is there."""
        if not self._contacted:
            with self._clients.errors("first contact"):
                self._call()
            self._contacted = True
        return self._client

    def _call(self) -> None:
        for attempt in range(1, CONTACT_S + 1):
            try:
                self._client.list_topics(timeout=1)
            except KafkaException as raised:
                self._client.poll(0)  # what went wrong comes as an event
                code = error_of(raised).code()
                if code not in UNREACHABLE or attempt == CONTACT_S:
                    raise
                if attempt > 1 and self._clients.brokers_down:
                    raise  # refused, not slow: nothing to wait for
            else:
                return


def _died(member: str) -> bool:
    """Say whether a member was a process of this machine, and is none any more."""
    ours = re.match(rf"playhead-{re.escape(socket.gethostname())}-(\d+) ", member)
    return ours is not None and ended(int(ours[1]))
