"""One session: the start sequence, and what it holds while batches run.

Every process that commits to a version's group goes through `Session.start`. Lost once, a
session stays lost: what was computed is dropped, and a new one starts from what log and ledger
say (docs/DESIGN.md, "A session").
"""

from __future__ import annotations

from dataclasses import replace

from playhead.core.checkpoint import Cursor
from playhead.core.offsets import TopicPartition
from playhead.engine.events import OnEvent, Step
from playhead.engine.preconditions import check_position, check_topics
from playhead.engine.resolve import Resolver
from playhead.engine.task import Seat, Task
from playhead.errors import CheckpointConflict
from playhead.ports import Log, Member, Orders, Store


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
        member.on_step = self.store.ledger.on_step = lambda name: self.tell(Step(name))
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
        ids = set() if self.task.anew else {s.topic_id for s in standings.values()}
        check_topics(self.log, self.task, ids)
        self._remember_outputs()
        retained = self.log.retained(topic)
        resolver = Resolver(self.task, self.log, self.store, member, self.tell, retained)
        for place in places:
            epoch = self._epochs[names[place.partition]]
            standing = standings.get(place.partition)
            if standing is not None and standing.epoch != epoch:
                raise CheckpointConflict(f"{self.name}: the lease was taken", where=str(place))
            # 7. The restart table. 8. Commit K again where it differs.
            seat = Seat(place, standing.cursor if standing else Cursor(0, 0, 0), epoch)
            if self.task.anew:
                resolver.begin_anew(seat, committed[place.partition])
            else:
                resolver.resolve(seat, *committed[place.partition])
            check_position(self.task, place, seat.cursor, retained.get(place.partition))
            self.seats[place.partition] = seat

    def _remember_outputs(self) -> None:
        """Record the ids of the output topics, where the catalog lacks one."""
        ids = {topic.name: topic.id for topic in self.task.outputs}
        row = next((r for r in self.store.catalog.versions() if r.name == self.name), None)
        if row is not None and dict(row.topic_ids) != ids:
            self.store.catalog.change(replace(row, topic_ids=ids))

    def orders(self) -> Orders:
        """Return what the store tells a worker of this version now."""
        return self.store.ledger.orders(self.name)

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
