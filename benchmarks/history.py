"""The input of every benchmark: GPS points of many cars, as JSON in Kafka; and what is right.

A point is what the tutorial's `raw_trackpoints` holds: id, latitude, longitude, track_id, time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyproj
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

EARTH = pyproj.Geod(ellps="WGS84")
PARTITIONS = 4
CHUNK = 1_000_000
STEP = 0.0005  # degrees, about 50 m
TIME = "11/30/2026 12:%02d"
FAST = {
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 524_288,
    "linger.ms": 50,
    "batch.size": 1_000_000,
    "partitioner": "murmur2_random",
}
READ = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 1,
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 1_048_576,
    "fetch.max.bytes": 16_000_000,
}


@dataclass(frozen=True, slots=True)
class History:
    """How many points of how many cars; the same numbers give the same points."""

    records: int
    keys: int

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return track, latitude and longitude of the points, some at a time, in order."""
        random = np.random.default_rng(1)
        at = np.stack([random.uniform(-60, 60, self.keys), random.uniform(-170, 170, self.keys)])
        for begin in range(0, self.records, CHUNK):
            n = min(CHUNK, self.records - begin)
            tracks = random.integers(0, self.keys, n)
            moves = np.round(random.normal(0, STEP, (2, n)), 6)
            order = np.argsort(tracks, kind="stable")
            ordered = tracks[order]
            first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
            lengths = np.diff(np.r_[first, n])
            sums = np.cumsum(moves[:, order], axis=1)
            before = np.where(first > 0, sums[:, first - 1], 0.0)
            walked = sums - np.repeat(before, lengths, axis=1) + at[:, ordered]
            at[:, ordered[first + lengths - 1]] = walked[:, first + lengths - 1]
            points = np.empty_like(walked)
            points[:, order] = np.round(walked, 6)
            yield tracks, points[0], points[1]

    def totals(self) -> dict[int, np.ndarray]:
        """Return the kilometres of each car up to each of its points: what every job must give."""
        parts = list(self.chunks())
        tracks, lats, lons = (np.concatenate([p[i] for p in parts]) for i in range(3))
        order = np.argsort(tracks, kind="stable")
        tracks, lats, lons = tracks[order], lats[order], lons[order]
        _, _, metres = EARTH.inv(lons[:-1], lats[:-1], lons[1:], lats[1:])
        begins = np.flatnonzero(np.r_[True, tracks[1:] != tracks[:-1]])
        steps = np.r_[0.0, metres / 1000]
        steps[begins] = 0.0
        ends = np.r_[begins[1:], len(tracks)]
        return {int(tracks[a]): np.cumsum(steps[a:b]) for a, b in zip(begins, ends, strict=True)}


def create(bootstrap: str, *topics: str, partitions: int = PARTITIONS) -> None:
    """Create topics that keep what they are given."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [NewTopic(t, partitions, 1, config={"retention.ms": "-1"}) for t in topics]
    for future in admin.create_topics(new).values():
        future.result()


def delete(bootstrap: str, *topics: str) -> None:
    """Delete topics."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.delete_topics([*topics]).values():
        future.result()


def write(bootstrap: str, topic: str, history: History) -> None:
    """Create a topic and put a history into it."""
    create(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", **FAST})
    number = 0
    for tracks, lats, lons in history.chunks():
        for track, lat, lon in zip(tracks.tolist(), lats.tolist(), lons.tolist(), strict=True):
            number += 1
            value = (
                f'{{"id":{number},"latitude":{lat!r},"longitude":{lon!r},"track_id":{track},'
                f'"time":"{TIME % (number % 60)}"}}'
            )
            while True:
                try:
                    producer.produce(topic, value, str(track))
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit("not all of the input was written")


def check(bootstrap: str, topic: str, history: History, field: str = "distance") -> None:
    """Check an output topic, every record: how many, the order within a key, and the value.

    Raises:
        SystemExit: One is wrong.
    """
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "check", **READ})
    reader.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    found: dict[int, list[float]] = {}
    count = 0
    while count < history.records:
        messages = reader.consume(100_000, 5)
        if not messages:
            raise SystemExit(f"{topic} has {count} records, and not {history.records}")
        for message in messages:
            if message.error() is None:
                row = json.loads(message.value() or b"")
                found.setdefault(row["track_id"], []).append(row[field])
                count += 1
    if reader.consume(1, 2):
        raise SystemExit(f"{topic} has more than {history.records} records")
    reader.close()
    right = history.totals()
    same_keys = found.keys() == right.keys()
    if not same_keys or any(
        len(found[k]) != len(v) or not np.allclose(found[k], v, rtol=0, atol=1e-6)
        for k, v in right.items()
    ):
        raise SystemExit(f"{topic} is not what the points give")


def check_table(rows: list[tuple[int, float]], history: History) -> None:
    """Check a table: each car's total.

    Raises:
        SystemExit: One is wrong.
    """
    right = {k: v[-1] for k, v in history.totals().items()}
    found = dict(rows)
    if found.keys() != right.keys() or any(
        not math.isclose(found[k], v, rel_tol=0, abs_tol=1e-6) for k, v in right.items()
    ):
        raise SystemExit("the table is not what the points give")
