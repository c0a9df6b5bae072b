"""The rival: what a good engineer writes by hand with confluent-kafka, orjson and a dict.

One transaction for each 100,000 records, with the group's offsets and a changelog of the state:
exactly once in Kafka. With a table, the dict goes to SQLite for each 100,000 records, too. It has
no restart, no rewind and no diff.

``python handwritten.py BOOTSTRAP SOURCE RECORDS [--to TOPIC] [--table FILE] [--copy]``
"""

from __future__ import annotations

import argparse
import sqlite3
import uuid

import orjson
import pyproj
from confluent_kafka import Consumer, Producer, TopicPartition
from history import FAST, READ

BATCH = 100_000


def main(args: argparse.Namespace) -> None:
    """Run until all records were read."""
    consumer = Consumer(
        {"bootstrap.servers": args.bootstrap, "group.id": f"hand-{uuid.uuid4()}", **READ}
    )
    consumer.subscribe([args.source])
    producer = None
    if args.to:
        producer = Producer(
            {
                "bootstrap.servers": args.bootstrap,
                "transactional.id": f"hand-{args.to}",
                "retry.backoff.ms": 5,
                "retry.backoff.max.ms": 20,
                "delivery.report.only.error": True,
                **FAST,
                "linger.ms": 20,
            }
        )
        producer.init_transactions()
    store = sqlite3.connect(args.table, isolation_level=None) if args.table else None
    if store:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=FULL")
        store.execute("CREATE TABLE dist_calc (track_id INTEGER PRIMARY KEY, distance REAL)")
    state: dict[int, tuple[float, float, float]] = {}
    done = 0
    while done < args.records:
        messages = consumer.consume(min(BATCH, args.records - done), 1)
        if not messages:
            continue
        if producer:
            producer.begin_transaction()
        touched = (
            copy(messages, producer, args.to)
            if args.copy
            else job(messages, state, producer, args.to)
        )
        ends = {m.partition(): m.offset() + 1 for m in messages}
        if producer:
            for track in touched:
                changed = orjson.dumps(state[track])
                produce(producer, f"{args.to}-changelog", changed, str(track).encode())
            producer.send_offsets_to_transaction(
                [TopicPartition(args.source, p, at) for p, at in ends.items()],
                consumer.consumer_group_metadata(),
            )
            producer.commit_transaction()
        if store:
            store.execute("BEGIN IMMEDIATE")
            store.executemany(
                "INSERT OR REPLACE INTO dist_calc VALUES (?, ?)",
                [(track, state[track][2]) for track in touched],
            )
            store.execute("COMMIT")
        done += len(messages)
    consumer.close()


def job(messages, state, producer, topic):
    """Compute and publish; return the cars that moved."""
    inv, loads, dumps = pyproj.Geod(ellps="WGS84").inv, orjson.loads, orjson.dumps
    touched = set()
    for message in messages:
        point = loads(message.value())
        track, lat, lon = point["track_id"], point["latitude"], point["longitude"]
        before = state.get(track)
        total = 0.0
        if before is not None:
            total = before[2] + inv(before[1], before[0], lon, lat)[2] / 1000
        state[track] = (lat, lon, total)
        touched.add(track)
        if producer:
            out = dumps({"id": point["id"], "track_id": track, "distance": total})
            produce(producer, topic, out, message.key())
    return touched


def copy(messages, producer, topic):
    """Consume and produce, and nothing else."""
    for message in messages:
        produce(producer, topic, message.value(), message.key())
    return ()


def produce(producer, topic, value, key):
    """Produce one record; wait where the queue is full."""
    while True:
        try:
            producer.produce(topic, value, key)
            break
        except BufferError:
            producer.poll(0.01)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("source")
    parser.add_argument("records", type=int)
    parser.add_argument("--to")
    parser.add_argument("--table")
    parser.add_argument("--copy", action="store_true")
    main(parser.parse_args())
