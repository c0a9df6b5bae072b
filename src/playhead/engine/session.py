"""One session: the start sequence, and what it holds while batches run.

Every process that commits to a version's group goes through `Session.start`. Lost once, a
session stays lost: what was computed is dropped, and a new one starts from what log and ledger
say (docs/DESIGN.md, "A session").
"""

from __future__ import annotations

from playhead.core.checkpoint import Cursor
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.engine.events import OnEvent, Step
from playhead.engine.resolve import Resolver
from playhead.engine.task import Seat, Task
from playhead.errors import CheckpointConflict, LogFailed, OffsetOutOfRange, Refused
from playhead.ports import Log, Member, Store


class Session:
    """One assignment of one version, from joining to the first batch."""

    def __init__(self, task: Task, log: Log, store: Store, tell: OnEvent) -> None:
        """Prepare; `start` does the work."""
        self.task = task
        self.name = task.version.name
        self.log = log
        self.store = store
        self.tell = tell
        self.seats: dict[int, Seat] = {}
        self.member: Member | None = None
        self._epochs: dict[str, int] = {}

    def start(self) -> None:
        """Run the start sequence.

        Raises:
            Refused: The restart table or a precondition says no; nothing was changed.
            SessionLost: The assignment ended meanwhile.
        """
        topic = self.task.topic.name
        # 1. Join the group and be assigned.
        self.member = member = self.log.join(self.task.version.group, topic)
        member.on_step = lambda name: self.tell(Step(name))
        # 2. Take the partitions' leases: what an older process computes can no longer be stored.
        places = [TopicPartition(topic, p) for p in member.partitions]
        names = {p.partition: f"part/{self.name}/{p.topic}/{p.partition}" for p in places}
        self._epochs = self.store.ledger.take(list(names.values()), "session")
        # 3. Fence older producers; an open transaction of theirs is aborted.
        if self.task.publishes:
            member.begin_publishing(self.task.transactional_id)
        # 4. Read W and K; this waits for a pending transaction.
        committed = member.committed()
        # 5. Read the cursors, and check the lease.
        standings = self.store.ledger.standings(self.name)
        # 6. Check what must not have changed.
        self._check_topic({s.topic_id for s in standings.values()})
        retained = self.log.retained(topic)
        resolver = Resolver(self.task, self.log, self.store, member, self.tell, retained)
        for place in places:
            epoch = self._epochs[names[place.partition]]
            standing = standings.get(place.partition)
            if standing is not None and standing.epoch != epoch:
                raise CheckpointConflict(f"{self.name}: the lease was taken", where=str(place))
            # 7. The restart table. 8. Commit K again where it differs.
            seat = Seat(place, standing.cursor if standing else Cursor(0, 0, 0), epoch)
            resolver.resolve(seat, *committed[place.partition])
            self._check_position(seat, retained.get(place.partition, OffsetRange(0, 0)))
            self.seats[place.partition] = seat

    def _check_topic(self, ids: set[str]) -> None:
        topic = self.log.topic(self.task.topic.name)
        if topic is None:
            raise LogFailed(f"topic {self.task.topic.name} does not exist any more")
        if ids - {topic.id}:
            raise Refused(
                f"topic {topic.name} was deleted and created again: its offsets mean other records",
                safe=f"{self.name} and its results are unchanged.",
                cure="Replay the new topic under a new label.",
            )
        if topic.partitions != self.task.partitions:
            raise Refused(
                f"topic {topic.name} has {topic.partitions} partitions, and had "
                f"{self.task.partitions} when {self.name} was recorded: keys have moved",
                safe=f"{self.name} and its results are unchanged.",
                cure="Forward it into a topic with a fixed count, and read that.",
            )

    def _check_position(self, seat: Seat, retained: OffsetRange) -> None:
        at = seat.cursor.next
        if retained.holds(at, at):
            return
        lost = OffsetRange(at, retained.start)
        raise OffsetOutOfRange(
            f"{self.name} stands at {at}, and the topic holds {retained}",
            where=str(seat.place),
            safe="Its results are unchanged.",
            cure=f"Restore the topic, or give up {lost}: reset group {self.task.version.group} "
            f"to {retained.start}, then run with --accept-gap."
            if len(lost)
            else "The log has lost its end: restore it.",
        )

    def stage(self) -> str:
        """Return the version's stage, as the catalog has it now."""
        rows = self.store.catalog.versions()
        return next((row.stage for row in rows if row.name == self.name), "")

    @property
    def positions(self) -> dict[int, int]:
        """The next offset to read, by partition."""
        return {p: seat.cursor.next for p, seat in self.seats.items()}

    @property
    def epochs(self) -> dict[str, int]:
        """Epochs of the leases that this session took."""
        return dict(self._epochs)

    def close(self) -> None:
        """Leave the group."""
        if self.member is not None:
            self.member.close()
