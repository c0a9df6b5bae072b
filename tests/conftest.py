"""Servers that tests share: each is started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from servers import KafkaServer
from story import Trip


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A real Kafka broker of its own for the whole test session."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_trip(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str, int], Trip]:
    """Make example projects with their points ingested, on ``local`` or ``kafka``."""
    made: list[Trip] = []

    def make(log: str, partitions: int = 1) -> Trip:
        url = None
        if log == "kafka":
            url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
        trip = Trip.make(tmp_path / f"trip{len(made)}", url)
        trip.ingest(partitions)
        made.append(trip)
        return trip

    return make
