"""Quix Streams: the job with its state store, exactly once.

``python quix.py BOOTSTRAP SOURCE RECORDS TARGET STATE_DIR``
"""

from __future__ import annotations

import sys
import uuid

import pyproj
from quixstreams import Application

EARTH = pyproj.Geod(ellps="WGS84")


def total(point: dict, state: object) -> dict:
    """Return what is published for a point."""
    lat, lon = point["latitude"], point["longitude"]
    before = state.get("at")
    so_far = 0.0
    if before is not None:
        so_far = before[2] + EARTH.inv(before[1], before[0], lon, lat)[2] / 1000
    state.set("at", [lat, lon, so_far])
    return {"id": point["id"], "track_id": point["track_id"], "distance": so_far}


def main(bootstrap: str, source: str, records: str, target: str, state_dir: str) -> None:
    """Run until all records were read."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid.uuid4()}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=60,
        commit_every=100_000,
        state_dir=state_dir,
        loglevel="WARNING",
        consumer_extra_config={
            "fetch.queue.backoff.ms": 1,
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 1_048_576,
            "fetch.max.bytes": 16_000_000,
        },
        producer_extra_config={
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 524_288,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "retry.backoff.ms": 5,
            "retry.backoff.max.ms": 20,
        },
    )
    points = app.dataframe(app.topic(source, key_deserializer="str", value_deserializer="json"))
    points = points.apply(total, stateful=True)
    points.to_topic(app.topic(target, key_serializer="str", value_serializer="json"))
    app.run(count=int(records))


if __name__ == "__main__":
    main(*sys.argv[1:])
