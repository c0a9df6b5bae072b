"""Servers that tests share: each is started when the first test asks for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

import browser
from proof import figures
from servers import KafkaServer, PostgresServer, SharedKafka
from story import LOCAL_STORE, Trip

BROKER = pytest.StashKey[Path]()
# What is killed here are processes, never the machine: no test has to wait for a disk.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 2**30:
    os.environ.setdefault("TMPDIR", str(MEMORY))
    tempfile.tempdir = None  # it is asked for again
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave what is marked ``long`` to ``make test-long``; pytest says how many it left out."""
    left_out = [] if figures.LONG else [i for i in items if i.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_configure(config: pytest.Config) -> None:
    """Choose where the broker is that all processes of the session share."""
    of_a_worker = getattr(config, "workerinput", None)
    scratch = of_a_worker["broker"] if of_a_worker else tempfile.mkdtemp(prefix="playhead-kafka-")
    config.stash[BROKER] = Path(scratch)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where that is."""
    node.workerinput["broker"] = str(node.config.stash[BROKER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker with the process that began the session."""
    if not hasattr(config, "workerinput") and BROKER in config.stash:
        SharedKafka.end(config.stash[BROKER])


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> KafkaServer:
    """A real Kafka broker, one for the whole test session."""
    return SharedKafka(pytestconfig.stash[BROKER])


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server of its own for the whole test session."""
    server = PostgresServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Trip:
    """Give a trip that has run to its end; to be copied."""
    trip = Trip.make(tmp_path_factory.mktemp("ran") / "trip")
    trip.ingest()
    trip.run()
    return trip


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
