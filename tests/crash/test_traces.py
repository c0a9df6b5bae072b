"""The model's counterexamples, replayed against the product.

The rules of the protocol were found by an explicit-state search (docs/DESIGN.md, "A session"): each
was switched off, and the search printed a trace that ends in wrong results. Here those traces are
played with the installed command as far as a crash point, a frozen worker or Kafka's own tool can
reach; the outcome has to be that of one pass. What each trace needs is in the test's docstring.

Not reachable, because the product cannot be brought there from outside:

==============================  ====================================================================
rule                            where it is tested instead
==============================  ====================================================================
subscribe, on Kafka             ``test_kafka.py``: Kafka's own tool is refused beside a member
witness + assign, oldgen        need a consumer that is assigned and not a member: there is none;
                                the rows are in ``tests/unit/test_restart.py``
order, stable (a second worker  ``test_fencing.py``: a second worker is refused, then takes over
reads while a transaction is    after ten seconds; ``test_kafka.py``: reading the offsets waits for
pending)                        a pending transaction
reinit (a commit times out)     ``test_away.py``: a connection that breaks inside a commit
latefix (a late EndTxn)         ``test_kafka.py``: a slow commit ends the session; the duplicate
                                itself is made by librdkafka and cannot be asked for
gapgen, casgen with a fenced    the search finds no counterexample to replay
rewind, oldgen with intent
==============================  ====================================================================
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import oracle
from forked import Command
from servers import KafkaServer
from story import Trip, headers, wait_for

MakeTrip = Callable[[str, int], Trip]
SMALL = {"PLAYHEAD_BATCH_RECORDS": "7"}
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
UNTIL = ("run", "--until-caught-up")


@dataclass
class Scene:
    """A project whose worker was killed or frozen where the trace says."""

    trip: Trip
    worker: Command

    def frozen(self) -> bool:
        asked = ["ps", "-o", "stat=", "-p", str(self.worker.pid)]
        assert self.worker.poll() is None, self.said()
        return subprocess.run(asked, capture_output=True, check=True).stdout.startswith(b"T")

    def said(self) -> str:
        return (self.trip.folder / "background.log").read_text()

    def wake(self) -> int:
        """Let a frozen worker go on; return how it ended."""
        self.worker.send_signal(signal.SIGCONT)
        return self.worker.wait(60)


# Where each worker stands: 14 records are stored, and with "after log commit" 21 are published.
CAST = {
    "last append wins": ("kafka", "before log commit:3:SIGSTOP"),
    "witness": ("kafka", "after log commit:3"),
    "none": ("kafka", "after log commit:3"),
    "session": ("local", "computed:3:SIGSTOP"),
    "compare-and-set": ("local", "before store commit:3:SIGSTOP"),
}


def staged(folder: Path, url: str | None) -> Iterator[Mapping[str, Scene]]:
    """Begin all scenes of one log that need a membership to lapse: they lapse together."""
    scenes: dict[str, Scene] = {}
    points = {name: point for name, (log, point) in CAST.items() if (log == "kafka") == bool(url)}
    try:
        for i, (name, point) in enumerate(points.items()):
            trip = Trip.make(folder / f"trip{i}", url)
            trip.ingest()
            scenes[name] = Scene(trip, trip.start(*UNTIL, **SMALL, PLAYHEAD_CRASH=point))
        for name, scene in scenes.items():
            if points[name].endswith("SIGSTOP"):
                wait_for(scene.frozen, f"{name} to freeze", timeout_s=90)
            else:
                assert scene.worker.wait(90) == -signal.SIGKILL, scene.said()
        yield scenes
    finally:
        for scene in scenes.values():
            scene.worker.kill()
            scene.worker.wait()


@pytest.fixture(scope="module")
def local_cast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Scene]]:
    yield from staged(tmp_path_factory.mktemp("local"), None)


@pytest.fixture(scope="module")
def kafka_cast(
    tmp_path_factory: pytest.TempPathFactory, kafka: KafkaServer
) -> Iterator[Mapping[str, Scene]]:
    yield from staged(tmp_path_factory.mktemp("kafka"), f"kafka://{kafka.bootstrap}")


def reset(trip: Trip, kafka: KafkaServer | None, to: int) -> None:
    """Move the group from outside: with Kafka's own tool there, as soon as it has no member."""

    def done() -> bool:
        if kafka is None:
            target = ("--to-offset", str(to), "--execute")
            return trip.cli("groups", "reset", "--group", trip.group, *target).code == 0
        told = kafka.tool(
            GROUPS, "--group", trip.group, "--topic", trip.topic, "--reset-offsets",
            "--to-offset", str(to), "--execute",
        )  # fmt: skip
        return "Error" not in told

    wait_for(done, "the group to be empty")


def killed(trip: Trip, point: str, *args: str) -> None:
    """Run a command to the crash point."""
    assert trip.cli(*args, PLAYHEAD_CRASH=point, **SMALL).code == -signal.SIGKILL


@cache
def by_id() -> dict[int, float]:
    """Return the miles so far at each point, by its id, from the oracle."""
    return {i: metres / oracle.MILES for i, _, metres in oracle.steps()}


def check(trip: Trip, generations: Mapping[int, range]) -> None:
    """Compare table and topic with the oracle: each generation holds its offsets once, in order."""
    assert {k: round(v, 6) for k, v in trip.totals().items()} == oracle.KNOWN_MILES
    found: dict[int, list[int]] = {}
    bits: dict[int, str] = {}
    for record in trip.records("distance_calcs.miles"):
        told = headers(record)
        offset = int(told["playhead-source"].rpartition("@")[2])
        found.setdefault(int(told["playhead-generation"]), []).append(offset)
        assert bits.setdefault(offset, record["payload"]) == record["payload"]
        values = trip_values(record["payload"])
        assert values["distance"] == pytest.approx(by_id()[int(values["id"])], rel=1e-9, abs=1e-9)
    assert found == {g: list(offsets) for g, offsets in generations.items()}
    assert trip.cursor() >= 681
    assert trip.run()["pipelines"][0]["records"] == 0


def trip_values(payload: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(payload)
    return found


def forget(trip: Trip, kafka: KafkaServer | None, *groups: str) -> None:
    """Delete groups, as an administrator or their expiry does."""
    if kafka is None:
        with closing(sqlite3.connect(trip.folder / ".playhead/log.db")) as log, log:
            for group in groups:
                log.execute("DELETE FROM committed WHERE grp = ?", (group,))
        return
    for group in groups:
        wait_for(
            lambda group=group: (
                "was successful" in kafka.tool(GROUPS, "--delete", "--group", group)
            ),
            f"{group} to be empty",
        )


def test_last_append_wins(kafka_cast: Mapping[str, Scene], kafka: KafkaServer) -> None:
    """A computes, produces and sends offsets; its session expires; an operator resets the group;
    A commits its transaction. Kafka keeps what was appended later, the reset: it must be followed,
    not overwritten by the K that A sent before.
    """
    scene = kafka_cast["last append wins"]
    reset(scene.trip, kafka, 7)
    scene.wake()
    scene.trip.run()
    # Where the broker has given the transaction up meanwhile, the third batch is not in it.
    published = sum(
        headers(r)["playhead-generation"] == "1" for r in scene.trip.records("distance_calcs.miles")
    )
    assert published in {14, 21}
    check(scene.trip, {1: range(published), 2: range(7, 681)})


def in_doubt(make_trip: MakeTrip) -> Trip:
    """Return a local project with [0, 14) stored and [14, 21) published: the worker was killed."""
    trip = make_trip("local", 1)
    killed(trip, "after log commit:3", *UNTIL)
    assert trip.cursor() == 14
    return trip


def witness(trip: Trip, kafka: KafkaServer | None) -> None:
    """A commits to the log and crashes before the store; an operator resets the group to where it
    is. Without the witness the batch in doubt would look like a skip, and be refused or lost.
    """
    reset(trip, kafka, 21)
    assert "was published but not stored: redo [14, 21)" in trip.ok(*UNTIL).err
    check(trip, {1: range(681)})


def test_witness(make_trip: MakeTrip) -> None:
    witness(in_doubt(make_trip), None)


def test_witness_on_kafka(kafka_cast: Mapping[str, Scene], kafka: KafkaServer) -> None:
    witness(kafka_cast["witness"].trip, kafka)


def none(trip: Trip, kafka: KafkaServer | None) -> None:
    """A commits to the log and crashes before the store; group and witness expire. Nothing can tell
    that the batch was published: going on would publish it twice in one generation. A new one.
    """
    forget(trip, kafka, trip.group, f"{trip.group}.witness")
    told = "group and witness are gone: a new generation at the cursor"
    assert told in trip.ok(*UNTIL).err
    check(trip, {1: range(21), 2: range(14, 681)})


def test_none(make_trip: MakeTrip) -> None:
    none(in_doubt(make_trip), None)


def test_none_on_kafka(kafka_cast: Mapping[str, Scene], kafka: KafkaServer) -> None:
    none(kafka_cast["none"].trip, kafka)


def test_none_while_the_witness_lives(make_trip: MakeTrip) -> None:
    """The same, but the group alone expires: the witness tells, and the batch is redone."""
    trip = in_doubt(make_trip)
    forget(trip, None, trip.group)
    assert "redo [14, 21)" in trip.ok(*UNTIL).err
    check(trip, {1: range(681)})


def test_subscribe(make_trip: MakeTrip) -> None:
    """A reads K; an operator resets the group; A commits where it stands: the reset is silently
    overwritten. A is a member from before it reads, so the reset is refused.
    """
    trip = make_trip("local", 1)
    scene = Scene(trip, trip.start(*UNTIL, **SMALL, PLAYHEAD_CRASH="computed:1:SIGSTOP"))
    try:
        wait_for(scene.frozen, "the worker to freeze")
        target = ("--to-offset", "100", "--execute")
        refused = trip.cli("groups", "reset", "--group", trip.group, *target)
        assert refused.code == 3, refused.out
        assert scene.wake() == 0, scene.said()
    finally:
        scene.worker.kill()
        scene.worker.wait()
    check(trip, {1: range(681)})


def test_session(local_cast: Mapping[str, Scene]) -> None:
    """The session of A expires while it is frozen with a batch computed; an operator resets the
    group; A wakes, rejoins, and commits its batch over the reset. The batch goes with the session.
    """
    scene = local_cast["session"]
    reset(scene.trip, None, 7)
    assert scene.wake() == 0, scene.said()
    assert "session over, starting again" in scene.said()
    assert "somebody moved the playhead back" in scene.said()
    check(scene.trip, {1: range(14), 2: range(7, 681)})


def test_compare_and_set(local_cast: Mapping[str, Scene]) -> None:
    """A has published a batch and is frozen before it stores it; its session expires; the version
    is rewound; A wakes and stores its batch on top of another generation. The epoch forbids it.
    """
    scene = local_cast["compare-and-set"]
    rewind = ("rewind", "distance", "--to-offset", "7", "--execute")
    wait_for(lambda: scene.trip.cli(*rewind).code == 0, "the leases to lapse")
    assert scene.trip.cursor() == 7
    scene.wake()
    scene.trip.run()
    check(scene.trip, {1: range(21), 2: range(7, 681)})


@pytest.mark.parametrize("step", ["rewind intent", "rewind stored"])
def test_intent(make_trip: MakeTrip, step: str) -> None:
    """An operator puts the group somewhere; the version is rewound below that, and crashes before
    the group follows. Without the intent K would lie ahead of the cursor: a skip that nobody made.
    """
    trip = make_trip("local", 1)
    trip.run()
    reset(trip, None, 681)
    killed(trip, step, "rewind", "distance", "--to-offset", "300", "--execute")
    trip.run()
    check(trip, {1: range(681), 2: range(300, 681)})


def standing(trip: Trip) -> dict[int, tuple[int, int, int]]:
    """Return (next, generation, batch) of each partition."""
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store:
        rows = store.execute(
            "SELECT partition, next, generation, batch FROM playhead__cursor WHERE version = ?",
            ("distance@miles",),
        ).fetchall()
    return {p: (at, generation, batch) for p, at, generation, batch in rows}


def check_partitions(trip: Trip, generations: Mapping[int, int]) -> None:
    """Compare with the oracle where there are several partitions."""
    assert {k: round(v, 6) for k, v in trip.totals().items()} == oracle.KNOWN_MILES
    sources = []
    for record in trip.records("distance_calcs.miles"):
        told, values = headers(record), trip_values(record["payload"])
        sources.append((told["playhead-generation"], told["playhead-source"]))
        assert values["distance"] == pytest.approx(by_id()[int(values["id"])], rel=1e-9, abs=1e-9)
    assert len(sources) == len(set(sources))
    assert len({source for _, source in sources}) == 681
    assert {p: g for p, (_, g, _) in standing(trip).items()} == generations
    assert trip.run()["pipelines"][0]["records"] == 0


def test_batch_per_partition(make_trip: MakeTrip) -> None:
    """A batch of one partition is stored, then one of another is published, and A crashes. With one
    batch number for both the witness would be two ahead of the cursor: refused without need.
    """
    trip = make_trip("local", 4)
    killed(trip, "after log commit:40", *UNTIL)
    before = standing(trip)
    assert len({batch for _, _, batch in before.values()}) > 1, "every partition in every batch"
    done = trip.ok(*UNTIL)
    assert done.err.count("was published but not stored: redo") >= 1
    check_partitions(trip, dict.fromkeys(before, 1))


def test_generation_per_partition(make_trip: MakeTrip) -> None:
    """A crashes with a batch in doubt; one partition is reset to where it is, and another one is
    rewound. With one generation number for both the doubt could no longer be told from a skip.
    """
    trip = make_trip("local", 4)
    killed(trip, "after log commit:20", *UNTIL)
    doubtful = {
        row["partition"]: row["current_offset"]
        for row in trip.json("groups", "describe", "--group", trip.group)["groups"][0]["partitions"]
        if row["current_offset"] is not None
    }
    before = standing(trip)
    p = next(p for p, at in doubtful.items() if at > before[p][0])
    other = next(q for q, (at, *_) in before.items() if q != p and at > 0)
    for partition, to in ((p, doubtful[p]), (other, 0)):
        place = ("--topic", f"{trip.topic}:{partition}", "--to-offset", str(to), "--execute")
        trip.ok("groups", "reset", "--group", trip.group, *place)
    trip.run()
    check_partitions(trip, {q: 2 if q == other else 1 for q in before})
