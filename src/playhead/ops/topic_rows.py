"""What versions published, record by record, by the input that each was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import polars as pl

from playhead.core.codec import Decoder
from playhead.core.declare import Topic
from playhead.core.lineage import owner
from playhead.core.records import GENERATION, PIPELINE, SOURCE, VERSION, Headers
from playhead.core.schema import Column, Kind, Schema
from playhead.engine.call import Caller
from playhead.engine.reading import whole_topic
from playhead.errors import Refused
from playhead.ops.spool import BUCKET, Spool
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow

BUCKET_OFFSETS = 50_000
KEY = ("_source_partition", "_source_offset", "_record_key", "_nth")
_KEY_COLUMNS: Schema = tuple(
    Column(name, Kind("str" if name == "_record_key" else "int")) for name in KEY
)
_GONE = Column("_tombstone", Kind("bool"))
_SOURCE = re.compile(rb"\[(\d+)\]@(\d+)\Z")
Starts = Mapping[int, Sequence[tuple[int, int]]]


def columns_of(known: Known, row: VersionRow) -> dict[str, Schema]:
    """Return the columns of a version's topics, by their public names.

    Raises:
        Refused: It is not declared here.
    """
    version = known.declared(row.name)
    if version is None:
        raise Refused(
            f"{row.name} is recorded but not declared here, and only its declaration says what "
            "its records hold",
            cure=f"Declare it again with @{row.pipeline}.version.",
        )
    targets = Caller(known.bound(version), {}).targets
    return {t.output.name: t.schema for t in targets if isinstance(t.output, Topic)}


class Writer:
    """Tells which records of a topic a version wrote that still count."""

    def __init__(self, store: Store, row: VersionRow) -> None:
        """Read the version's generations: what an older one made of an offset is superseded."""
        self._pipeline, self._label = row.pipeline.encode(), row.label.encode()
        self._starts: Starts = {
            p: tuple((g.number, g.start) for g in history)
            for p, history in store.ledger.generations(row.name).items()
        }

    def source(self, headers: Headers) -> tuple[int, int] | None:
        """Return partition and offset of the input; None: not its record, or superseded."""
        named = dict(headers)
        if named.get(PIPELINE) != self._pipeline:
            return None
        if named.get(VERSION) != self._label:
            return None
        found = _SOURCE.search(named.get(SOURCE, b""))
        if found is None:
            return None
        partition, offset = int(found[1]), int(found[2])
        generation = int(named.get(GENERATION, b"0"))
        if generation < owner(self._starts.get(partition, ()), offset):
            return None
        return partition, offset


def schema_of_records(schema: Schema) -> Schema:
    """Return the columns of records as they are compared: the key, those declared, a tombstone."""
    return (*_KEY_COLUMNS, *schema, _GONE)


def put_aside(log: Log, spool: Spool, side: str, topic: Topic, writer: Writer) -> None:
    """Put a version's records aside, those of the same inputs together.

    Args:
        log: The log.
        spool: Where to.
        side: What they are called there.
        topic: The physical topic, with the columns of its values.
        writer: The version.
    """
    decoder = Decoder(topic)
    for records in whole_topic(log, topic.name):
        sources = [writer.source(headers) for headers in records.headers]
        kept = records.where([source is not None for source in sources])
        if not len(kept):
            continue
        given = [source for source in sources if source is not None]
        keys = [(k or b"").decode("utf-8", "backslashreplace") for k in kept.keys]
        rows = decoder.frame(kept).with_columns(
            pl.Series("_source_partition", [p for p, _ in given], dtype=pl.Int64),
            pl.Series("_source_offset", [o for _, o in given], dtype=pl.Int64),
            pl.Series("_record_key", keys, dtype=pl.String),
        )
        bucket = pl.col("_source_partition") * 10**12 + pl.col("_source_offset") // BUCKET_OFFSETS
        spool.add(side, rows.with_columns(bucket.alias(BUCKET)))


def taken(spool: Spool, side: str, bucket: int, schema: Schema) -> pl.DataFrame | None:
    """Return the records of a bucket with their key, and their input as their origin.

    The n-th of one input and message key is the n-th as they lie in their partition.
    """
    rows = spool.read(side, bucket)
    if rows is None:
        return None
    nth = pl.int_range(pl.len(), dtype=pl.Int64).over(KEY[:3])
    return rows.with_columns(
        nth.alias("_nth"),
        pl.col("_source_partition").cast(pl.Int32).alias("_partition"),
        pl.col("_source_offset").alias("_offset"),
    ).select(*(c.name for c in schema_of_records(schema)), "_partition", "_offset")
