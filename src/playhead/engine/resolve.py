"""Following the restart table for one partition: redo, rewind, accept, or go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from playhead.core import outputs
from playhead.core.checkpoint import Checkpoint, Committed, Cursor
from playhead.core.offsets import OffsetRange
from playhead.core.restart import Act, Decision, Situation, decide
from playhead.core.slots import Slots, decode, encode, merge
from playhead.engine.events import OnEvent, Restarted, Step
from playhead.engine.restore import (
    Restored,
    check_retained,
    read_one,
    recompute,
    segments,
)
from playhead.engine.task import Seat, Task
from playhead.errors import Refused
from playhead.ports import Log, Member, Move, Store


@dataclass(frozen=True, slots=True)
class Resolver:
    """Brings the partitions of one session to where batches can go on.

    Attributes:
        task: The version.
        log: The log.
        store: The store.
        member: The session's membership.
        tell: Told every step and every decision that is not the normal one.
        retained: What the log holds, by partition.
    """

    task: Task
    log: Log
    store: Store
    member: Member
    tell: OnEvent
    retained: Mapping[int, OffsetRange]

    @property
    def _name(self) -> str:
        return self.task.version.name

    def resolve(self, seat: Seat, group: Committed | None, witness: Committed | None) -> None:
        """Follow the table until it says how to go on, then commit K again where it differs.

        Raises:
            Refused: The table says no.
            OffsetOutOfRange: What a rewind needs is not retained; nothing was changed.
        """
        if seat.cursor.generation:
            seat.slots = self._stored_slots(seat)
        while True:
            decision = decide(self._situation(seat, group, witness))
            if decision.noteworthy:
                self._note(seat, decision)
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
            return

    def _stored_slots(self, seat: Seat) -> Slots:
        slots: Slots = {}
        for content in self.store.ledger.state(self._name, seat.place.partition):
            slots = merge(slots, decode(content, f"the state of {self._name} in {seat.place}"))
        return slots

    def _situation(
        self, seat: Seat, group: Committed | None, witness: Committed | None
    ) -> Situation:
        retained = self.retained.get(seat.place.partition, OffsetRange(0, 0))
        latest = self.task.version.options.get("start") == "latest"
        return Situation(
            place=seat.place,
            ledger=self.store.ledger.id,
            version=self._name,
            cursor=seat.cursor if seat.cursor.generation else None,
            group=group,
            witness=witness,
            retained=retained,
            first=retained.end if latest else retained.start,
            topic_outputs=self.task.publishes,
            accept_gap=self.task.accept_gap,
        )

    def _note(self, seat: Seat, decision: Decision) -> None:
        self.tell(Restarted(self._name, str(seat.place), decision.why))
        content = {"place": str(seat.place), "act": decision.act.value, "why": decision.why}
        self.store.journal.note("restart", self._name, content)

    def _first_start(self, seat: Seat, at: int) -> None:
        after = Cursor(at, 1, 0)
        move = Move(seat.place, seat.cursor, after, seat.epoch, 0, encode({}), why="first start")
        self.store.ledger.begin(self._name, seat.place, self.task.topic.id, move)
        seat.cursor = after

    def _redo(self, seat: Seat, decision: Decision) -> None:
        """Compute the published batch again, publish nothing, and store it.

        The digest of what it would publish must be the one that the log's commit carries.
        """
        wanted = OffsetRange(seat.cursor.next, decision.to)
        records = read_one(self.log, seat.place, wanted)
        outcome = self.task.caller.call(records, seat.slots, seat.cursor.generation)
        digest = outputs.digest(outcome.outgoing) if self.task.publishes else "-"
        expected = decision.expected
        if expected is None or (digest, wanted.start) != (expected.digest, expected.begin):
            raise Refused(
                f"{seat.place}: batch {wanted} was published, but computing it again gives other "
                f"records (digest {digest}, published {expected and expected.digest})",
                safe="Nothing was changed.",
                cure="Restore the code and the library versions that published it; if the "
                "function depends on a clock, on chance or on the batch, correct that first.",
            )
        after = Cursor(decision.to, seat.cursor.generation, seat.cursor.batch + 1)
        self._store(seat, after, Restored(outcome.delta, outcome.rows), len(records))
        seat.slots = merge(seat.slots, outcome.delta)

    def _anew(self, seat: Seat) -> Committed | None:
        """Rewind to the version's start, where the task asks for it."""
        if not self.task.anew:
            return None
        history = self.store.ledger.generations(self._name)[seat.place.partition]
        start = min(g.start for g in history if g.gap_from is None)
        return self._rewind(seat, Decision(Act.REWIND, start, "its code has changed"))

    def _rewind(self, seat: Seat, decision: Decision) -> Committed:
        """Begin a new generation at an offset, with state and table rows as of it."""
        generation, to = seat.cursor.generation + 1, decision.to
        needed: list[OffsetRange] = []
        if to != seat.cursor.next:
            history = self.store.ledger.generations(self._name)[seat.place.partition]
            needed = segments(history, to)
        for wanted in (*needed, OffsetRange(to, to)):
            check_retained(self.retained.get(seat.place.partition), seat.place, wanted)
        # First the intent, where others can see it; a crash after it is finished at this offset.
        checkpoint = Checkpoint(self.store.ledger.id, self._name, generation, 0, to)
        intent = Committed(to, str(checkpoint))
        self.member.commit({seat.place.partition: intent})
        self.tell(Step("rewind intent"))
        restored = Restored(seat.slots)
        if to != seat.cursor.next:
            restored = recompute(
                self.log,
                self.task.caller,
                seat.place,
                needed,
                self.task.batch_records,
                keep_alive=self.member.ensure,
            )
        self._store(seat, Cursor(to, generation, 0), restored, 0, why=decision.why)
        seat.slots = restored.slots
        self.tell(Step("rewind stored"))
        return intent

    def _accept_gap(self, seat: Seat, decision: Decision) -> None:
        gap_from = seat.cursor.next
        wanted = OffsetRange(decision.to, decision.to)
        check_retained(self.retained.get(seat.place.partition), seat.place, wanted)
        after = Cursor(decision.to, seat.cursor.generation + 1, 0)
        self._store(seat, after, Restored(seat.slots), 0, gap_from=gap_from, why=decision.why)

    def _store(
        self, seat: Seat, after: Cursor, content: Restored, records: int, **said: object
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
        self.store.ledger.commit(self._name, [move])
        seat.cursor = after

    def _advise(self, seat: Seat, group: Committed | None) -> None:
        """Commit K again where it is not what the cursor says."""
        checkpoint = seat.checkpoint(self.store.ledger.id, self._name)
        seen = group.checkpoint if group else None
        if (
            group is not None
            and group.offset == seat.cursor.next
            and seen is not None
            and (seen.generation, seen.batch) == (checkpoint.generation, checkpoint.batch)
        ):
            return
        self.member.commit({seat.place.partition: Committed(seat.cursor.next, str(checkpoint))})
