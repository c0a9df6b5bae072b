"""Servers that tests share: each is started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import KafkaServer


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A real Kafka broker of its own for the whole test session."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()
