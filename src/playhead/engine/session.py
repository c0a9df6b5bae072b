"""One session: the start sequence, and what it holds while batches run.

Every process that commits to a version's group goes through `Session.start`. Lost once, a
session stays lost: what was computed is dropped, and a new one starts from what log and ledger
say (docs/DESIGN.md, "A session").
"""

from __future__ import annotations

from dataclasses import dataclass, field

from playhead.core import outputs
from playhead.core.checkpoint import Checkpoint, Committed, Cursor
from playhead.core.declare import Version
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.restart import Act, Decision, Situation, decide
from playhead.core.slots import Slots, decode, encode, merge
from playhead.engine.call import Caller
from playhead.engine.events import OnEvent, Restarted, Step
from playhead.engine.restore import Restored, read_one, recompute, segments
from playhead.errors import CheckpointConflict, OffsetOutOfRange, Refused
from playhead.ports import Log, Member, Move, Store, TopicInfo


@dataclass(frozen=True, slots=True)
class Task:
    """A version to run, with everything about it that is known before the session.

    Attributes:
        app: Name of the app; part of transactional ids.
        version: What was declared; its source carries the physical topic's name.
        caller: Its function, ready to be called.
        topic: Its source topic, as the log knows it now.
        partitions: Partition count of the source when the version was recorded.
        batch_records: Most records of one batch.
        accept_gap: Whether the user accepted a skip in so many words.
        anew: Whether to rewind to the version's start: its code has changed.
    """

    app: str
    version: Version
    caller: Caller
    topic: TopicInfo
    partitions: int
    batch_records: int
    accept_gap: bool = False
    anew: bool = False

    @property
    def transactional_id(self) -> str:
        """The stable id that fences older producers of this version."""
        return f"playhead.{self.app}.{self.version.pipeline}.{self.version.label}.0"


@dataclass(slots=True)
class Seat:
    """One assigned partition: its cursor, the epoch that guards it, its state."""

    place: TopicPartition
    cursor: Cursor
    epoch: int
    slots: Slots = field(default_factory=dict)

    def checkpoint(self, ledger: str, version: str) -> Checkpoint:
        """Return the checkpoint that says: the group stands where the cursor stands."""
        c = self.cursor
        return Checkpoint(ledger, version, c.generation, c.batch, c.next)


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
        self._retained: dict[int, OffsetRange] = {}

    @property
    def publishes(self) -> bool:
        """Whether the version has topic outputs, and with them a witness."""
        return bool(self.task.version.topics)

    def start(self) -> None:
        """Run the start sequence.

        Raises:
            Refused: The restart table or a precondition says no; nothing was changed.
            SessionLost: The assignment ended meanwhile.
        """
        topic = self.task.topic
        # 1. Join the group and be assigned.
        self.member = member = self.log.join(self.task.version.group, topic.name)
        member.on_step = lambda name: self.tell(Step(name))
        # 2. Take the partitions' leases: what an older process computes can no longer be stored.
        places = [TopicPartition(topic.name, p) for p in member.partitions]
        names = {p.partition: f"part/{self.name}/{p.topic}/{p.partition}" for p in places}
        self._epochs = self.store.ledger.take(list(names.values()), "session")
        # 3. Fence older producers; an open transaction of theirs is aborted.
        if self.publishes:
            member.begin_publishing(self.task.transactional_id)
        # 4. Read W and K; this waits for a pending transaction.
        committed = member.committed()
        # 5. Read the cursors. 6. Check what must not have changed.
        standings = self.store.ledger.standings(self.name)
        self._check_topic({s.topic_id for s in standings.values()})
        self._retained = self.log.retained(topic.name)
        for place in places:
            group, witness = committed[place.partition]
            epoch = self._epochs[names[place.partition]]
            standing = standings.get(place.partition)
            if standing is not None and standing.epoch != epoch:
                raise CheckpointConflict(f"{self.name}: the lease was taken", where=str(place))
            # 7. The restart table. 8. Commit K again where it differs.
            cursor = standing.cursor if standing else None
            seat = self._resolve(place, epoch, cursor, (group, witness))
            self._check_retained(seat)
            self.seats[place.partition] = seat

    def _check_topic(self, ids: set[str]) -> None:
        topic = self.task.topic
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

    def _check_retained(self, seat: Seat) -> None:
        retained = self._retained.get(seat.place.partition, OffsetRange(0, 0))
        if retained.holds(seat.cursor.next, seat.cursor.next):
            return
        lost = seat.cursor.next < retained.start
        raise OffsetOutOfRange(
            f"{self.name} stands at {seat.cursor.next}, and the topic holds {retained}",
            where=str(seat.place),
            safe="Nothing was changed.",
            cure=(
                f"Restore the topic, or give up {OffsetRange(seat.cursor.next, retained.start)}: "
                f"reset group {self.task.version.group} to {retained.start}, then run with "
                "--accept-gap."
                if lost
                else "The log has lost its end: restore it."
            ),
        )

    def _resolve(
        self,
        place: TopicPartition,
        epoch: int,
        cursor: Cursor | None,
        committed: tuple[Committed | None, Committed | None],
    ) -> Seat:
        """Follow the restart table for one partition until it says how to go on."""
        group, witness = committed
        seat = Seat(place, cursor or Cursor(0, 0, 0), epoch)
        if cursor is not None:
            seat.slots = self._stored_slots(place.partition)
        while True:
            decision = decide(self._situation(seat, group, witness))
            if decision.noteworthy:
                self._note(place, decision)
            match decision.act:
                case Act.REFUSE:
                    raise Refused(decision.why, safe="Nothing was changed.", cure=decision.cure)
                case Act.FIRST_START:
                    self._first_start(seat, decision.to)
                case Act.REDO:
                    self._redo(seat, decision)
                    continue
                case Act.REWIND:
                    group = self._rewind(seat, decision)
                case Act.ACCEPT_GAP:
                    self._accept_gap(seat, decision)
                case Act.GO_ON:
                    group = self._anew(seat) or group
            self._advise(seat, group)
            return seat

    def _anew(self, seat: Seat) -> Committed | None:
        """Rewind to the version's start, where the task asks for it."""
        if not self.task.anew:
            return None
        history = self.store.ledger.generations(self.name)[seat.place.partition]
        start = min(g.start for g in history if g.gap_from is None)
        return self._rewind(seat, Decision(Act.REWIND, start, "its code has changed"))

    def _stored_slots(self, partition: int) -> Slots:
        slots: Slots = {}
        for content in self.store.ledger.state(self.name, partition):
            slots = merge(slots, decode(content))
        return slots

    def _situation(
        self, seat: Seat, group: Committed | None, witness: Committed | None
    ) -> Situation:
        retained = self._retained.get(seat.place.partition, OffsetRange(0, 0))
        latest = self.task.version.options.get("start") == "latest"
        return Situation(
            place=seat.place,
            ledger=self.store.ledger.id,
            version=self.name,
            cursor=seat.cursor if seat.cursor.generation else None,
            group=group,
            witness=witness,
            retained=retained,
            first=retained.end if latest else retained.start,
            topic_outputs=self.publishes,
            accept_gap=self.task.accept_gap,
        )

    def _note(self, place: TopicPartition, decision: Decision) -> None:
        self.tell(Restarted(self.name, str(place), decision.why))
        self.store.catalog.note(
            "restart",
            self.name,
            {"place": str(place), "act": decision.act.value, "why": decision.why},
        )

    def _first_start(self, seat: Seat, at: int) -> None:
        after = Cursor(at, 1, 0)
        move = Move(seat.place, seat.cursor, after, seat.epoch, 0, encode({}), why="first start")
        self.store.ledger.begin(self.name, seat.place, self.task.topic.id, move)
        seat.cursor = after

    def _redo(self, seat: Seat, decision: Decision) -> None:
        """Compute the published batch again, publish nothing, and store it.

        The digest of what it would publish must be the one that the log's commit carries.
        """
        wanted = OffsetRange(seat.cursor.next, decision.to)
        records = read_one(self.log, seat.place, wanted)
        outcome = self.task.caller.call(records, seat.slots, seat.cursor.generation)
        digest = outputs.digest(outcome.outgoing) if self.publishes else "-"
        expected = decision.expected
        if expected is None or (digest, wanted.start) != (expected.digest, expected.begin):
            raise Refused(
                f"{seat.place}: batch {wanted} was published, but computing it again gives other "
                f"records (digest {digest}, published {expected and expected.digest})",
                safe="Nothing was changed.",
                cure="Restore the code and library versions that published it, then run again; "
                "playhead check finds what is not deterministic.",
            )
        after = Cursor(decision.to, seat.cursor.generation, seat.cursor.batch + 1)
        self._store(seat, after, Restored(outcome.delta, outcome.rows), len(records))
        seat.slots = merge(seat.slots, outcome.delta)

    def _rewind(self, seat: Seat, decision: Decision) -> Committed:
        """Begin a new generation at an offset, with state and table rows as of it."""
        generation = seat.cursor.generation + 1
        checkpoint = Checkpoint(self.store.ledger.id, self.name, generation, 0, decision.to)
        intent = Committed(decision.to, str(checkpoint))
        self._joined().commit({seat.place.partition: intent})
        self.tell(Step("rewind intent"))
        restored = Restored(seat.slots)
        if decision.to != seat.cursor.next:
            history = self.store.ledger.generations(self.name)[seat.place.partition]
            restored = recompute(
                self.log,
                self.task.caller,
                seat.place,
                segments(history, decision.to),
                self.task.batch_records,
                keep_alive=self._joined().ensure,
            )
        self._store(seat, Cursor(decision.to, generation, 0), restored, 0, why=decision.why)
        seat.slots = restored.slots
        self.tell(Step("rewind stored"))
        return intent

    def _accept_gap(self, seat: Seat, decision: Decision) -> None:
        gap_from = seat.cursor.next
        after = Cursor(decision.to, seat.cursor.generation + 1, 0)
        self._store(seat, after, Restored(seat.slots), 0, gap_from=gap_from, why=decision.why)

    def _store(
        self,
        seat: Seat,
        after: Cursor,
        content: Restored,
        records: int,
        **said: object,
    ) -> None:
        move = Move(
            seat.place,
            seat.cursor,
            after,
            seat.epoch,
            records,
            encode(content.slots),
            content.rows,
            **said,  # type: ignore[arg-type]
        )
        self.store.ledger.commit(self.name, [move])
        seat.cursor = after

    def _advise(self, seat: Seat, group: Committed | None) -> None:
        """Commit K again where it is not what the cursor says."""
        checkpoint = seat.checkpoint(self.store.ledger.id, self.name)
        seen = group.checkpoint if group else None
        if (
            group is not None
            and group.offset == seat.cursor.next
            and seen is not None
            and (seen.generation, seen.batch) == (checkpoint.generation, checkpoint.batch)
        ):
            return
        self._joined().commit({seat.place.partition: Committed(seat.cursor.next, str(checkpoint))})

    def _joined(self) -> Member:
        if self.member is None:
            raise CheckpointConflict(f"{self.name}: the session has not started")
        return self.member

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
