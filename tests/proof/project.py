"""A small project for the proofs, what it was given, and what is found of it afterwards.

`Site.found` has the shape of what ``oracle.py`` answers: the two are compared with ``==``.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from playhead.config import load
from playhead.core.checkpoint import Cursor
from playhead.core.past import unpack
from playhead.core.records import Outgoing, partition_of
from playhead.core.slots import Slots, merge
from playhead.ports import Store
from playhead.project import Project
from proof import oracle
from story import LOCAL_STORE, Done, Trip

MODULE = '''\
"""Sums per key, to a topic and a table; the same again to a table alone."""

import polars as pl

import playhead as ph

app = ph.App("{app}")
points = app.topic("{prefix}points", key="key", value={{"key": int, "x": float | None}})
COLUMNS = {{"key": int, "total": float, "before": float | None, "n": int}}
sums = app.topic("{prefix}sums", key="key", value=COLUMNS, public=False)
totals = app.table("totals", key="key", columns=COLUMNS)
kept = app.table("kept", key="key", columns=COLUMNS)


def summed(rows, state):
    rows = state.previous(rows, before="x")
    rows = state.running_sum(rows, total="x")
    return state.running_count(rows, n="x")


@app.pipeline(
    points, to=[sums, totals], version="one", group="{prefix}total.one", on_error="dead_letter"
)
def total(rows, state):
    return summed(rows, state)


@total.version("two", group="{prefix}total.two", expect="total = base.total * 2.0")
def total_two(rows, state):
    return summed(rows, state).with_columns(pl.col("total") * 2.0)


@total.version("same", group="{prefix}total.same")
def total_same(rows, state):
    return summed(rows, state)


@app.pipeline(
    points, to=[kept], version="one", group="{prefix}quiet.one", on_error="dead_letter"
)
def quiet(rows, state):
    return summed(rows, state)


@quiet.version("two", group="{prefix}quiet.two", expect="total = base.total * 2.0")
def quiet_two(rows, state):
    return summed(rows, state).with_columns(pl.col("total") * 2.0)


@quiet.version("same", group="{prefix}quiet.same")
def quiet_same(rows, state):
    return summed(rows, state)
'''
FACTORS = {"one": 1.0, "same": 1.0, "two": 2.0}
TABLES = {"total": "totals", "quiet": "kept"}
BATCH = 20
# Key, x, timestamp in ms; an x that is text makes a record that cannot be processed: `bad`.
Given = tuple[int, float | str | None, int]
BAD = ("no number", "no json", "no value")


def points(count: int, seed: int = 0, keys: int = 12) -> list[Given]:
    """Return made-up points: sums that round, nulls, bad records, times out of order."""
    chance = random.Random(seed)
    return [
        (
            chance.randrange(keys),
            chance.choice(BAD)
            if chance.random() < 0.04
            else None
            if chance.random() < 0.1
            else chance.choice([0.1, 1 / 3, -0.7, 1e9, 0.0])
            if chance.random() < 0.3
            else chance.uniform(-1e6, 1e6),
            1_700_000_000_000 + chance.randrange(-(10**12), 10**10),
        )
        for _ in range(count)
    ]


class Site(Trip):
    """The small project, in a folder of its own."""

    @classmethod
    def build(
        cls,
        folder: Path,
        log: str | None = None,
        store: str = LOCAL_STORE,
        snapshot_records: int = 50,
    ) -> Site:
        """Write the project; on a log that others use, its names get a prefix."""
        folder.mkdir(parents=True)
        process = os.environ.get("PYTEST_XDIST_WORKER", "")  # they share a broker
        prefix = f"{process}{folder.parent.name[-24:]}.{folder.name}." if log else ""
        app = prefix.strip(".").replace(".", "_") or "proof"
        module = MODULE.format(app=app, prefix=prefix)
        (folder / "sums_app.py").write_text(module)
        lines = ['app = "sums_app:app"', f'log = "{log or "local:.playhead/log.db"}"']
        lines += ["[store]", f'url = "{store}"']
        lines += [f"snapshot_records = {snapshot_records}"]
        lines += ["[run]", f"batch_records = {BATCH}"]
        if log:  # a member that was killed is waited for: 1.5 s instead of 10
            lines += ["[kafka]", "session.timeout.ms = 1500", "heartbeat.interval.ms = 300"]
        (folder / "playhead.toml").write_text("\n".join(lines) + "\n")
        return cls(folder, log or "local:.playhead/log.db", f"{prefix}points", store=store)

    @property
    def prefix(self) -> str:
        """What topics and groups of this project begin with."""
        return self.topic.removesuffix("points")

    @property
    def project(self) -> Project:
        """The project, opened in this process."""
        return Project(load(self.folder, {}))

    def _inside(self, args: tuple[str, ...], stdin: bytes | None, env: dict[str, str]) -> Done:
        sys.modules.pop("sums_app", None)
        return super()._inside(args, stdin, env)

    def edit(self, old: str, new: str) -> None:
        """Change the user's module."""
        module = self.folder / "sums_app.py"
        text = module.read_text()
        assert old in text, old
        module.write_text(text.replace(old, new))

    def produce(self, given: Sequence[Given], partitions: int = 2) -> None:
        """Append points to the source topic, creating it when it is missing."""
        with closing(self.project.open_log()) as log:
            info = log.topic(self.topic)
            info = info or log.create_topic(self.topic, partitions, {"retention.ms": "-1"})
            outgoing = Outgoing(self.topic)
            for key, x, ts in given:
                text = str(key).encode()
                outgoing.add(partition_of(text, info.partitions), text, _value(key, x), ts)
            appender = log.appender(self.topic)
            appender.append(outgoing)
            appender.commit()
            appender.close()

    def topic_dump(self, topic: str) -> list[dict[str, Any]]:
        """Return a topic as a ``read_committed`` reader sees it, by partition and offset."""
        if self.log.startswith("kafka:"):
            return _kafka_dump(self.log.removeprefix("kafka://"), topic)
        return _local_dump(self.folder / ".playhead/log.db", topic)

    def given(self) -> list[dict[str, Any]]:
        """Return the dump of the input."""
        return self.topic_dump(self.topic)

    def expected(self, label: str = "one") -> dict[str, Any]:
        """Return what must be there once everything was processed, once."""
        expected = oracle.expected(self.given(), FACTORS[label])
        if self.log.startswith("kafka:"):  # where the last transaction's marker is an offset, too
            expected["cursor"] = _kafka_ends(self.log.removeprefix("kafka://"), self.topic)
        return expected

    def found(self, pipeline: str = "total", label: str = "one") -> dict[str, Any]:
        """Return what is there: table, state, dead letters, cursor, and the topic if there is one.

        The records of the topic carry their generation, which the oracle knows nothing of.
        """
        with closing(self.project.open_store()) as store:
            result = stored(store, pipeline, label)
        if pipeline == "total":
            published = [as_published(r) for r in self.topic_dump(f"{self.prefix}sums.{label}")]
            partitions = {r["partition"] for r in published}
            result["topic"] = {
                str(p): [r for r in published if r["partition"] == p] for p in sorted(partitions)
            }
        return result


def _value(key: int, x: float | str | None) -> bytes | None:
    match x:
        case "no value":
            return None
        case "no json":
            return b'{"key": 1, "x": 2.0'
        case _:
            return json.dumps({"key": key, "x": x}).encode()


def stored(store: Store, pipeline: str, label: str) -> dict[str, Any]:
    """Return what the store holds of a version, in the oracle's shape."""
    name = f"{pipeline}@{label}"
    row = next((r for r in store.catalog.versions() if r.name == name), None)
    standings = store.ledger.standings(name)
    rows: list[list[Any]] = []
    for table in row.tables if row else ():
        for r in store.catalog.rows(table).iter_rows(named=True):
            written = (oracle.bits(r["total"]), oracle.bits(r["before"]), r["n"])
            rows.append([r["key"], *written, r["_partition"], r["_offset"]])
    return {
        "table": sorted(rows),
        "state": {
            str(p): carried(slots_of(store, name, p, standings[p].cursor))
            for p in sorted(standings)
        },
        "dead": dead_of(store, name),
        "cursor": {str(p): s.cursor.next for p, s in sorted(standings.items())},
    }


def slots_of(store: Store, name: str, partition: int, cursor: Cursor) -> Slots:
    """Return the state that the store holds: the newest snapshot of the generation, and deltas."""
    saved = [
        s
        for s in store.history.saved(name, partition)
        if s.generation == cursor.generation and s.batch <= cursor.batch
    ]
    base = max((s for s in saved if s.whole), key=lambda s: s.batch)
    deltas = sorted(
        (s for s in saved if not s.whole and s.batch > base.batch), key=lambda s: s.batch
    )
    assert [s.batch for s in deltas] == list(range(base.batch + 1, cursor.batch + 1))
    slots: Slots = {}
    for one in (base, *deltas):
        content = unpack(store.history.content(name, partition, one), "what a proof reads")
        slots = merge(slots, content.slots)
    return slots


def dead_of(store: Store, name: str) -> list[list[Any]]:
    """Return the dead letters that count: of the newest generation that began at or before each."""
    generations = store.ledger.generations(name)
    found = []
    for letter in store.history.dead_letters(name):
        begun = [g.number for g in generations[letter.place.partition] if g.start <= letter.offset]
        if letter.generation == max(begun):
            value = None if letter.value is None else letter.value.decode()
            found.append([letter.place.partition, letter.offset, value])
    return sorted(found)


def carried(slots: Slots) -> dict[str, dict[str, Any]]:
    """Return slots in the oracle's shape: by operator and key."""
    found: dict[str, dict[str, Any]] = {"before": {}, "total": {}, "n": {}}
    for slot, frame in slots.items():
        column = slot.partition(".")[2]
        for key, value in sorted(frame.rows()):
            shown = value if column == "n" else oracle.bits(value)
            found[column][str(key)] = shown
    return found


def as_published(record: dict[str, Any]) -> dict[str, Any]:
    """Return an output record in the oracle's shape, and its generation."""
    value = json.loads(record["value"])
    value["total"], value["before"] = oracle.bits(value["total"]), oracle.bits(value["before"])
    source = record["headers"]["playhead-source"]
    return {
        "partition": record["partition"],
        "source": int(source.partition("]@")[2]),
        "key": record["key"],
        "value": value,
        "ts": record["ts"],
        "generation": int(record["headers"]["playhead-generation"]),
    }


def once(topic: dict[str, list[dict[str, Any]]], generation: int = 1) -> dict[str, Any]:
    """Return the oracle's topic with a generation in each record, as `Site.found` has it."""
    return {p: [{**r, "generation": generation} for r in records] for p, records in topic.items()}


def _local_dump(path: Path, topic: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        rows = connection.execute(
            "SELECT partition, first, content FROM record_batch WHERE topic = ? ORDER BY 1, 2",
            (topic,),
        ).fetchall()
    return [
        {
            "partition": p,
            "offset": first + i,
            "key": _text(key),
            "value": _text(value),
            "ts": ts,
            "headers": {n: v.decode() for n, v in headers},
        }
        for p, first, content in rows
        for i, (ts, key, value, headers) in enumerate(_local_rows(content))
    ]


def _local_rows(content: bytes) -> Iterator[tuple[Any, ...]]:
    times, keys, values, headers = msgspec.msgpack.decode(content)
    return zip(times, keys, values, headers or [()] * len(times), strict=True)


@contextmanager
def _kafka_reader(bootstrap: str) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "nobody",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def _kafka_held(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    return {
        p: consumer.get_watermark_offsets(TopicPartition(topic, p), 10) for p in sorted(partitions)
    }


def _kafka_ends(bootstrap: str, topic: str) -> dict[str, int]:
    with _kafka_reader(bootstrap) as consumer:
        return {str(p): end for p, (_, end) in _kafka_held(consumer, topic).items()}


def _kafka_dump(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with _kafka_reader(bootstrap) as consumer:
        held = _kafka_held(consumer, topic)
        consumer.assign([TopicPartition(topic, p, start) for p, (start, _) in held.items()])
        waiting = set(held)
        while waiting:
            message = consumer.poll(10)
            assert message is not None, f"{topic} did not come to its end"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                waiting.discard(message.partition())
                continue
            found.append(
                {
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "key": _text(message.key()),
                    "value": _text(message.value()),
                    "ts": message.timestamp()[1],
                    "headers": {n: v.decode() for n, v in message.headers() or ()},
                }
            )
    return sorted(found, key=lambda r: (r["partition"], r["offset"]))


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="surrogateescape")
