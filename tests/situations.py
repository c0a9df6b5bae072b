"""Small projects brought into a situation of the restart table, for real.

A situation is what a session finds: the cursor in the store, the group's own offset K and the
witness W in the log. It is made with the installed command, kills, backups of the store, and from
outside: Kafka's own tool there, SQL on the file of the local log.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient
from geographiclib.geodesic import Geodesic

import oracle
from playhead.adapters.kafka import KafkaLog
from playhead.adapters.local_log import LocalLog
from playhead.core.checkpoint import Committed
from playhead.ports import Log
from servers import KafkaServer
from story import TIME, Trip, headers, wait_for

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
UNTIL = ("run", "--until-caught-up")
GONE = "gone"
# What the producer says, in this order: 12 points, then twice 4 more.
PARTS = {"first": (0, 12), "second": (12, 16), "third": (16, 20)}
SETTINGS = """
[run]
batch_records = 5

[kafka]
"session.timeout.ms" = 3000
"heartbeat.interval.ms" = 500
"""


def points() -> list[dict[str, str]]:
    """Return twenty points: the first five of four cars, in turn."""
    rows = oracle.rows()
    cars = [[r for r in rows if r["track_id"] == car][:5] for car in ("1", "2", "4", "13")]
    return [car[i] for i in range(5) for car in cars]


def totals(some: Iterable[dict[str, str]]) -> dict[int, float]:
    """Return the miles of each car over these points, in plain Python."""
    last: dict[int, tuple[float, float]] = {}
    metres: dict[int, float] = {}
    for row in some:
        car, here = int(row["track_id"]), (float(row["latitude"]), float(row["longitude"]))
        step = Geodesic.WGS84.Inverse(*last.get(car, here), *here, Geodesic.DISTANCE)["s12"]
        metres[car] = metres.get(car, 0.0) + step
        last[car] = here
    return {car: m / oracle.MILES for car, m in metres.items()}


@dataclass
class Scene:
    """A project on the way into a situation; ``outputs``: whether it publishes to a topic."""

    trip: Trip
    outputs: bool = True
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, url: str | None, *, outputs: bool = True) -> Scene:
        """Make a project with the first points in its topic; nothing has run."""
        scene = cls(Trip.make(folder, url), outputs)
        if not outputs:
            scene.trip.edit("to=[distances, dist_calc]", "to=[dist_calc]")
        with (folder / "playhead.toml").open("a") as file:
            file.write(SETTINGS)
        scene.ingest("first")
        return scene

    # --- what the project does

    def ingest(self, *parts: str) -> None:
        """Append points to the topic."""
        rows = [row for part in parts for row in points()[slice(*PARTS[part])]]
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        (self.trip.folder / "part.csv").write_text("\n".join(lines) + "\n")
        count = () if "first" not in parts else ("--partitions", "1")
        self.trip.ok("ingest", "part.csv", "--topic", self.trip.topic, *TIME, *count)

    def settle(self) -> None:
        """Run until everything is processed."""
        self.trip.ok(*UNTIL)

    def begin_to_die(self, point: str, *args: str) -> Callable[[], None]:
        """Start a command that kills itself at a crash point; return what waits for that."""
        process = self.trip.start(*(args or UNTIL), PLAYHEAD_CRASH=point)

        def wait() -> None:
            said = (self.trip.folder / "background.log").read_text
            assert process.wait(120) == -signal.SIGKILL, said()

        return wait

    def back_up(self) -> None:
        """Copy the store, as its own backup would."""
        copy = self.trip.folder / "backup.db"
        with (
            closing(sqlite3.connect(self._store)) as store,
            closing(sqlite3.connect(copy)) as backup,
        ):
            store.backup(backup)

    def restore(self) -> None:
        """Put the copy where the store is."""
        self.lose_store()
        (self.trip.folder / "backup.db").rename(self._store)

    def lose_store(self) -> None:
        """Delete the store, with everything beside it."""
        for file in self._store.parent.glob("store.db*"):
            file.unlink()

    @property
    def _store(self) -> Path:
        return self.trip.folder / ".playhead/store.db"

    # --- what is done to its groups from outside

    @property
    def bootstrap(self) -> str | None:
        """Return the broker's address; None on the local log."""
        prefix = "kafka://"
        return self.trip.log.removeprefix(prefix) if self.trip.log.startswith(prefix) else None

    def put(self, group: str, to: Committed | int | None) -> None:
        """Set, or with None delete, what a group of this topic has committed.

        On Kafka by a client that keeps metadata; the tool comes in with `touch`.
        """
        at = Committed(to) if isinstance(to, int) else to
        topic = self.trip.topic
        if self.bootstrap is None:
            path = self.trip.folder / self.trip.log.removeprefix("local:")
            with closing(sqlite3.connect(path)) as log, log:
                log.execute("DELETE FROM committed WHERE grp = ?", (group,))
                if at is not None:
                    row = (group, topic, 0, at.offset, at.metadata)
                    log.execute("INSERT INTO committed VALUES (?, ?, ?, ?, ?)", row)
            return
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        if at is None:
            admin.delete_consumer_groups([group])[group].result(30)
            return
        wanted = TopicPartition(topic, 0, at.offset, metadata=at.metadata)

        def done() -> bool:
            places = ConsumerGroupTopicPartitions(group, [wanted])
            (answer,) = admin.alter_consumer_group_offsets([places]).values()
            return not answer.result(30).topic_partitions[0].error  # while it is looked for

        wait_for(done, "the group's coordinator")

    # --- what is seen

    def open_log(self) -> Log:
        """Open the project's log."""
        if self.bootstrap is not None:
            return KafkaLog(self.bootstrap)
        return LocalLog(self.trip.folder / self.trip.log.removeprefix("local:"))

    @property
    def group(self) -> str:
        return self.trip.group

    @property
    def witness(self) -> str:
        return f"{self.trip.group}.witness"

    def committed(self) -> tuple[Committed | None, Committed | None]:
        """Return K and W."""
        with closing(self.open_log()) as log:
            found = [list(log.committed(g).values()) for g in (self.group, self.witness)]
        k, w = (one[0] if one else None for one in found)
        return k, w

    def cursor(self) -> tuple[int, int, int] | None:
        """Return (next, generation, batch) of distance@miles, or None."""
        try:
            rows = self.trip.sql(
                "SELECT next, generation, batch FROM playhead__cursor "
                "WHERE version = 'distance@miles'"
            )
        except sqlite3.OperationalError:
            return None
        return rows[0] if rows else None

    def told(self) -> str:
        """Return the situation in the words of the table."""
        cursor = self.cursor()
        k, w = (self._mark(one, cursor) for one in self.committed())
        return f"{'C' if cursor else 'C none'}, K {k}, W {w}"

    def _mark(self, one: Committed | None, cursor: tuple[int, int, int] | None) -> str:
        if one is None:
            return "none"
        c, g, b = cursor or (0, 0, 0)
        where = ""
        if cursor:
            where = "<C " if one.offset < c else "=C " if one.offset == c else ">C "
        said = one.checkpoint
        if said is None:
            return f"{where}foreign"
        if (said.ledger, said.version) != (self.ledger(), "distance@miles"):
            return f"{where}another's"
        if not cursor:
            return "ours"
        if said.generation == g:
            more = said.batch - b
            batch = {0: "b", 1: "b+1"}.get(more, "more" if more > 0 else "less")
            return f"{where}ours (g, {batch})"
        zero = "0" if said.batch == 0 else "n"
        return f"{where}ours (g{said.generation - g:+d}, {zero})"

    def ledger(self) -> str:
        """Return the id of the store."""
        try:
            rows = self.trip.sql("SELECT value FROM playhead__meta WHERE key = 'ledger'")
        except sqlite3.OperationalError:
            return "none"
        return str(rows[0][0])

    def source(self) -> list[int]:
        """Return the offsets of the points in the topic: a transaction's marker takes one, too."""
        return [r["offset"] for r in self.trip.records("raw_trackpoints")]

    def published(self) -> dict[int, list[tuple[int, str]]]:
        """Return (source offset, payload) by generation, as a committed reader sees them."""
        found: dict[int, list[tuple[int, str]]] = {}
        with closing(self.open_log()) as log:
            if log.topic(f"{self.trip.prefix}distance_calcs.miles") is None:
                return found
        for record in self.trip.records("distance_calcs.miles"):
            told = headers(record)
            offset = int(told["playhead-source"].rpartition("@")[2])
            generation = int(told["playhead-generation"])
            found.setdefault(generation, []).append((offset, record["payload"]))
        return found

    def table(self) -> list[tuple[Any, ...]]:
        """Return the rows of dist_calc__miles with their origin; none before there is a table."""
        try:
            return self.trip.sql(
                "SELECT track_id, distance, _partition, _offset FROM dist_calc__miles ORDER BY 1"
            )
        except sqlite3.OperationalError:
            return []

    def everything(self) -> tuple[Any, ...]:
        """Return all that a refusal must leave as it is."""
        return self.cursor(), self.committed(), self.table(), self.published()


def touch(
    kafka: KafkaServer | None, scenes: Sequence[tuple[Scene, Mapping[str, int | str]]]
) -> None:
    """Reset and delete groups from outside, on Kafka with its own tool, once for all scenes."""
    deleted = [(s, g) for s, targets in scenes for g, to in targets.items() if to == GONE]
    reset = [(s, g, int(to)) for s, targets in scenes for g, to in targets.items() if to != GONE]
    if kafka is None:
        for scene, group in deleted:
            scene.put(group, None)
        for scene, group, to in reset:
            scene.put(group, to)
        return
    _wait_until_empty(kafka, {group for _, group in deleted} | {group for _, group, _ in reset})
    if deleted:
        told = kafka.tool(GROUPS, "--delete", *_named(group for _, group in deleted))
        assert "Error" not in told, told
    if reset:
        file = kafka.folder / f"reset-{time.monotonic_ns()}.csv"
        file.write_text("".join(f"{g},{s.trip.topic},0,{to}\n" for s, g, to in reset))
        groups = _named(dict.fromkeys(group for _, group, _ in reset))
        told = kafka.tool(GROUPS, *groups, "--reset-offsets", "--from-file", str(file), "--execute")
        assert "Error" not in told, told


def _named(groups: Iterable[str]) -> list[str]:
    return [word for group in groups for word in ("--group", group)]


def _wait_until_empty(kafka: KafkaServer, groups: set[str]) -> None:
    """Wait until the members of killed processes have lapsed."""
    with closing(KafkaLog(kafka.bootstrap)) as log:
        for group in sorted(groups):
            wait_for(lambda group=group: not log.describe_group(group).members, f"{group} to empty")
