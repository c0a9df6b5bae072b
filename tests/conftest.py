"""Servers that tests share: each is started when the first test asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import browser
from proof import figures
from servers import KafkaServer, PostgresServer
from story import LOCAL_STORE, Trip

# A machine that does something else meanwhile is slow, not wrong.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep how long the tests of each file took, once: the workers' reports come here, too."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        figures.count("seconds", report.location[0], report.duration)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what could not be looked at here: it is not skipped in silence."""
    if browser.CHROMIUM is None:
        terminalreporter.write_line(f"NOT CHECKED: {browser.MISSING}", yellow=True)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A real Kafka broker of its own for the whole test session."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server of its own for the whole test session."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_trip(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Trip]:
    """Make example projects with their points ingested, on ``local`` or ``kafka``.

    The store is ``sqlite``, or ``postgres``: a fresh database.
    """
    made: list[Trip] = []

    def make(log: str, partitions: int = 1, store: str = "sqlite") -> Trip:
        url = None
        if log == "kafka":
            url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
        kept = LOCAL_STORE
        if store == "postgres":
            kept = request.getfixturevalue("postgres").database()
        trip = Trip.make(tmp_path / f"trip{len(made)}", url, kept)
        trip.ingest(partitions)
        made.append(trip)
        return trip

    return make
