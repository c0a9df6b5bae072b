"""kill −9 at any moment, then the same command again: nothing is lost, doubled, or a mixture.

A kill counts only between first and last commit. Whether it interrupted an open batch is read from
what it left: a witness ahead of the cursor (published, not stored), or a batch that was begun and
not committed, as the worker's function wrote down.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from forked import Command
from proof import figures
from proof.project import Site, once, points
from servers import KafkaServer
from story import LOCAL_STORE, Trip, wait_for

MakeTrip = Callable[[str, int], Trip]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "7"}
RUN = ("run", "total", "--until-caught-up")
# Each call of the function says in a file that it begins, and takes a while: as real ones do.
SLOW = """
import pathlib, time
begun = pathlib.Path(__file__).with_name("begun")


def summed(rows, state):
    if len(rows):
        place = (rows["_partition"][0], rows["_offset"][0])
        begun.write_text("%d %d" % place)
        time.sleep(PAUSE)
"""


class Victim:
    """A project whose worker is killed again and again."""

    def __init__(self, site: Site, kills: int, pause_s: float = 0.05) -> None:
        self.site = site
        self.kills = kills
        self.interrupted = 0
        self.lost = 0  # published and not stored
        site.produce(points(80 * (kills + 2)))
        site.edit("\ndef summed(rows, state):\n", SLOW.replace("PAUSE", str(pause_s)))

    def kill(self, chance: random.Random) -> None:
        """Start the worker, and kill it some batches after its first commit."""
        before = self.cursor()
        worker = self.site.start("run", "total", PLAYHEAD_BATCH_RECORDS="8")
        try:
            least = before + chance.randrange(40)  # at its start, it builds the mirror as well
            wait_for(lambda: self.cursor() > least or worker.poll() is not None, "its commits")
            time.sleep(chance.uniform(0, 0.2))
        finally:
            _kill(worker)
        at = self.cursor()
        assert before < at < self.end(), "the kill did not hit between first and last commit"
        self._judge()

    def _judge(self) -> None:
        with closing(self.site.project.open_log()) as log:
            witness = log.committed(f"{self.site.prefix}total.one.witness")
        at = self.cursors()
        ahead = any(c.offset > at[p.partition] for p, c in witness.items())
        partition, offset = map(int, (self.site.folder / "begun").read_text().split() or (0, -1))
        self.lost += ahead
        self.interrupted += ahead or offset >= at.get(partition, 0)

    def cursors(self) -> dict[int, int]:
        """Return how far the worker has come; nothing before it began."""
        with closing(self.site.project.open_store()) as store:
            return {p: s.cursor.next for p, s in store.ledger.standings("total@one").items()}

    def cursor(self) -> int:
        """Return how far the worker has come, over all partitions."""
        return sum(self.cursors().values())

    def end(self) -> int:
        """Return where it will have come at the end."""
        with closing(self.site.project.open_log()) as log:
            return sum(held.end for held in log.retained(self.site.topic).values())

    def finish(self, what: str) -> None:
        """Run to the end and ask the oracle: 0 lost, 0 duplicated, 0 reordered."""
        self.site.ok(*RUN)
        expected = self.site.expected()
        expected["topic"] = once(expected["topic"])
        assert self.site.found() == expected
        figures.count("random kills", f"{what}: kills", self.kills)

    def judged(self, what: str) -> None:
        """Tell how many kills interrupted an open batch: at least a third."""
        share = f"{self.interrupted} of {self.kills} kills interrupted an open batch"
        print(f"{what}: {share}, {self.lost} after it was published")
        figures.count("random kills", f"{what}: interrupted an open batch", self.interrupted)
        figures.count("random kills", f"{what}: published and not stored", self.lost)
        assert self.interrupted * 3 >= self.kills


def _kill(worker: Command) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert worker.poll() == -signal.SIGKILL


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["sqlite", "postgres"] if figures.LONG else ["sqlite"])
def test_kills_leave_no_trace_on_the_local_log(
    tmp_path: Path, request: pytest.FixtureRequest, store: str
) -> None:
    address = request.getfixturevalue("postgres").database() if store == "postgres" else LOCAL_STORE
    victim = Victim(Site.build(tmp_path / "site", None, address), 100 if figures.LONG else 10)
    chance = random.Random(2014)
    for _ in range(victim.kills):
        victim.kill(chance)
    victim.finish(f"local log, {store}")
    victim.judged(f"local log, {store}")


@pytest.mark.timeout(1200)
def test_kills_leave_no_trace_on_kafka(tmp_path: Path, kafka: KafkaServer) -> None:
    site = Site.build(tmp_path / "site", f"kafka://{kafka.bootstrap}")
    victim = Victim(site, 30 if figures.LONG else 3, pause_s=0.08)
    chance = random.Random(2015)
    for _ in range(victim.kills):
        victim.kill(chance)
    victim.finish("kafka, sqlite")
    victim.judged("kafka, sqlite")


if figures.LONG:  # in `make test` one kill is enough: tests/crash/test_away.py

    @pytest.mark.timeout(600)
    def test_kills_of_the_broker_leave_no_trace(tmp_path: Path) -> None:
        (folder := tmp_path / "kafka").mkdir()
        server = KafkaServer(folder)
        server.start()
        try:
            victim = Victim(Site.build(tmp_path / "site", f"kafka://{server.bootstrap}"), 30)
            worker = victim.site.start("run", "total", PLAYHEAD_BATCH_RECORDS="8")
            for _ in range(3):
                before = victim.cursor()
                wait_for(lambda seen=before: victim.cursor() > seen, "a commit")
                server.kill()
                assert worker.poll() is None
                server.start()
                assert victim.cursor() < victim.end()
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 130
            victim.kills = 3
            victim.finish("broker killed, sqlite")
        finally:
            server.stop()


def test_a_replay_killed_resumes_to_the_bound_it_had(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    crashed = trip.cli("replay", "distance@km", PLAYHEAD_CRASH="after store commit:9", **SMALL)
    assert crashed.code == -signal.SIGKILL
    assert trip.cursor("km") == 63
    resumed = trip.json("replay", "distance@km")["replays"][0]
    assert (resumed["resumed"], resumed["records"]) == (True, 618)
    assert trip.json("diff", "distance")["unexplained"] == 0
