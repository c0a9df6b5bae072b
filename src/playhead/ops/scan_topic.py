"""Say of each record of a topic, made by anything, which version made it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress

import polars as pl

from playhead.core.codec import TOMBSTONE, Decoder
from playhead.core.declare import Topic
from playhead.core.records import Records
from playhead.core.scan import Look, Scanning
from playhead.core.schema import Schema
from playhead.engine.reading import whole_topic
from playhead.errors import BadRecord, ConfigError, Refused
from playhead.ops.scan import Answer, chosen, tolerance
from playhead.ops.spool import BUCKET, Spool
from playhead.ops.topic_rows import columns_of
from playhead.ops.versions import Known, existing_topic
from playhead.ports import Log
from playhead.project import Project

BUCKETS = 64
SUBJECT = "subject"


def scan_topic(
    project: Project, known: Known, asked: tuple[str, tuple[str, ...], float | None]
) -> Answer:
    """Hold the records of a topic against those that versions published.

    Records belong together when all their columns but the floats are equal.

    Raises:
        ConfigError: There is no such topic, or a version publishes several.
        Refused: A version publishes none, or is not declared here.
    """
    topic, labels, rtol = asked
    with closing(project.open_log()) as log, Spool() as spool:
        rivals = {label: _published(known, label, topic) for label in labels}
        schema = rivals[labels[0]][1]
        if any(s != schema for _, s in rivals.values()):
            raise Refused("the versions publish different columns: scan against one at a time")
        plain = tuple(c for c in schema if c.kind.name not in {"list", "dict"})
        key = tuple(c.name for c in plain if c.kind.name != "float")
        if not key:
            raise Refused(f"{topic} has floats only: nothing says which records belong together")
        existing_topic(log, topic)
        unreadable = _put(log, spool, (SUBJECT, topic), schema, key)
        for label, (physical, _) in rivals.items():
            _put(log, spool, (label, physical), schema, key)
        tolerances = {c.name: tolerance(c, "", rtol) for c in plain if c.name not in key}
        scanning = Scanning(Look(key, tolerances, labels))
        scanning.odd(unreadable)
        for bucket in spool.buckets():
            versions = [spool.read(label, bucket) for label in labels]
            scanning.add(spool.read(SUBJECT, bucket), versions)
    left_out = tuple(c.name for c in schema if c not in plain)
    return Answer(topic, labels, key, tolerances, left_out, scanning.found(), unreadable)


def _published(known: Known, label: str, topic: str) -> tuple[str, Schema]:
    """Return the physical topic of a version, and its columns."""
    found = [
        (row, public, physical) for row in chosen(known, label) for public, physical in row.topics
    ]
    same = [f for f in found if topic in f[1:]] or found
    if not same:
        raise Refused(f"{label} publishes no topic")
    if len(same) > 1:
        names = ", ".join(physical for _, _, physical in same)
        raise ConfigError(f"{label} may mean {names}", cure="Say --against PIPELINE@VERSION.")
    ((row, public, physical),) = same
    return physical, columns_of(known, row)[public]


def _put(log: Log, spool: Spool, named: tuple[str, str], schema: Schema, key: Sequence[str]) -> int:
    """Put a topic's records aside by their key; return how many cannot be read."""
    side, topic = named
    decoder = Decoder(Topic(topic, schema=schema, tombstones=True))
    unreadable = 0
    for records in whole_topic(log, topic):
        frame, bad = _decoded(decoder, records)
        unreadable += bad
        rows = frame.filter(~pl.col(TOMBSTONE)).select(c.name for c in schema)
        bucket = (pl.struct(list(key)).hash(seed=0) % BUCKETS).cast(pl.Int64)
        spool.add(side, rows.with_columns(bucket.alias(BUCKET)))
    return unreadable


def _decoded(decoder: Decoder, records: Records) -> tuple[pl.DataFrame, int]:
    """Return the records that can be read, and how many cannot."""
    try:
        return decoder.frame(records), 0
    except BadRecord:
        frames = [decoder.empty()]
        for i in range(len(records)):
            with suppress(BadRecord):
                frames.append(decoder.frame(records.slice(i, i + 1)))
        return pl.concat(frames), len(records) - len(frames) + 1
