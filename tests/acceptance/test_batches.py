"""Any batch size gives the same bits, computed while the log commits or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from story import Trip, in_full


def without_names(dump: dict[str, Any]) -> dict[str, Any]:
    """Leave out the source topic's name: each project on a shared broker has its own."""
    topic = {
        partition: [(key, payload, ts, headers[:-1], headers[-1].rpartition("[")[2])
                    for key, payload, ts, headers in records]
        for partition, records in dump["topic"].items()
    }  # fmt: skip
    return {"table": dump["table"], "topic": topic}


PLACES = [
    ("local", 1, (1, 7, 100, 681)),
    ("local", 4, (7, 681)),
    ("kafka", 1, (7, 681)),
    ("kafka", 4, (7, 681)),
]


@pytest.mark.parametrize(
    ("log", "partitions", "sizes"), in_full(PLACES, but=[*PLACES[:2], PLACES[3]], several=True)
)
def test_any_batch_size_gives_the_same_bits(
    make_trip: Callable[[str, int], Trip], log: str, partitions: int, sizes: tuple[int, ...]
) -> None:
    dumps = []
    for i, size in enumerate(sizes):
        trip = make_trip(log, partitions)
        trip.edit('"distance": float}\n)', '"distance": float}, public=False\n)')
        threads = ("true", "false")[i % 2]
        ran = trip.run(PLAYHEAD_BATCH_RECORDS=str(size), PLAYHEAD_THREADS=threads)
        assert ran["pipelines"][0]["records"] == 681
        dumps.append(without_names(trip.dump()))
    assert sum(len(records) for records in dumps[0]["topic"].values()) == 681
    for dump in dumps[1:]:
        assert dump == dumps[0]
