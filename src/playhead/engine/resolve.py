"""Following the restart table for one partition: redo, rewind, accept, or go on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from playhead.core import outputs
from playhead.core.checkpoint import Checkpoint, Committed, Cursor
from playhead.core.lineage import Generation
from playhead.core.offsets import OffsetRange
from playhead.core.past import Content, pack
from playhead.core.restart import Act, Decision, Situation, decide
from playhead.core.slots import merge
from playhead.engine.events import OnEvent, Restarted, Step
from playhead.engine.process import process
from playhead.engine.reading import check_retained, read_one
from playhead.engine.restore import Restored, Restorer, no_rows
from playhead.engine.seed import seeded
from playhead.engine.snapshots import whole
from playhead.engine.task import Seat, Task
from playhead.engine.upstream import known_now
from playhead.errors import Refused
from playhead.ports import SKIPPED, Log, Member, Move, Store


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
        skips = self.store.history.skips(self._name).get(seat.place.partition, {})
        seat.aside = {offset: SKIPPED + reason for offset, reason in skips.items()}
        if seat.cursor.generation:
            self._load(seat)
        while True:
            decision = decide(self._situation(seat, group, witness))
            if decision.noteworthy:
                self._note(seat, decision)
            match decision.act:
                case Act.REFUSE:
                    raise Refused(decision.why, safe="Nothing was changed.", cure=decision.cure)
                case Act.FIRST_START:
                    first = (seat.place, decision.to)
                    at, seed = seeded(self.task, self.log, self.store, first, self.tell)
                    self._insert(seat, Cursor(at, 1, 0), "first start", seed)
                case Act.REDO:
                    self._redo(seat, decision)
                    continue
                case Act.REWIND:  # what the task asks for now takes the place of what was wanted
                    group = self._asked(seat) or self._rewind(seat, decision)
                case Act.ACCEPT_GAP:
                    self._accept_gap(seat, decision)
                case Act.GO_ON:
                    group = self._asked(seat) or group
            self._advise(seat, group)
            return

    def _load(self, seat: Seat) -> None:
        """Load the partition's generations, and its state as of the cursor."""
        partition = seat.place.partition
        seat.history = self.store.ledger.generations(self._name)[partition]
        restored = self._restorer(seat).as_of(seat.cursor.next)
        seat.slots = restored.slots
        saved = self.store.history.saved(self._name, partition)
        last = max((i for i, s in enumerate(saved) if s.whole), default=-1)
        seat.since.last_size = saved[last].size if last >= 0 else 0
        for one in saved[last + 1 :]:
            seat.since.add(one.counts.records, one.size)
        seat.since.damaged = restored.healed

    def _restorer(self, seat: Seat) -> Restorer:
        return Restorer(
            self.task,
            self.log,
            self.store,
            seat.place,
            seat.history,
            self.tell,
            self.member.ensure,
        )

    def _situation(
        self, seat: Seat, group: Committed | None, witness: Committed | None
    ) -> Situation:
        retained = self.retained.get(seat.place.partition, OffsetRange(0, 0))
        latest = self.task.version.options.get("start") == "latest"
        first = max(retained.start, self.task.first.get(seat.place.partition, 0))
        return Situation(
            place=seat.place,
            ledger=self.store.ledger.id,
            version=self._name,
            cursor=seat.cursor if seat.cursor.generation else None,
            group=group,
            witness=witness,
            retained=retained,
            first=retained.end if latest else first,
            topic_outputs=self.task.publishes,
            accept_gap=self.task.accept_gap,
        )

    def _note(self, seat: Seat, decision: Decision) -> None:
        self.tell(Restarted(self._name, str(seat.place), decision.why))
        content = {
            "place": str(seat.place),
            "act": decision.act.value,
            "why": decision.why,
            "from": seat.cursor.next,
            "to": decision.to,
            "reason": self.task.why or None,
        }
        self.store.journal.note("restart", self._name, content)

    def _insert(self, seat: Seat, after: Cursor, why: str, seed: Restored | None = None) -> None:
        """Insert the cursor row of a partition that has none, with what it begins with."""
        seed = seed or Restored()
        move = Move(
            place=seat.place,
            before=seat.cursor,
            after=after,
            epoch=seat.epoch,
            content=pack(Content(seed.slots, seed.rows)),
            rows=seed.rows,
            upstream=known_now(self.store.ledger, self.task.writers),
            why=why,
        )
        self.store.ledger.begin(self._name, seat.place, self.task.topic.id, move)
        seat.cursor, seat.slots = after, seed.slots
        seat.history = [Generation(after.generation, after.next, None, move.upstream)]

    def _redo(self, seat: Seat, decision: Decision) -> None:
        """Compute the published batch again, publish nothing, and store it.

        Bad records were set aside when it was published, whatever ``on_error`` says today.
        The digest of what it would publish must be the one that the log's commit carries.
        """
        wanted = OffsetRange(seat.cursor.next, decision.to)
        records = read_one(self.log, seat.place, wanted)
        outcome = process(self.task, records, seat.slots, seat.generation, seat.aside, keep_on=True)
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
        move = Move(
            place=seat.place,
            before=seat.cursor,
            after=Cursor(decision.to, seat.cursor.generation, seat.cursor.batch + 1),
            epoch=seat.epoch,
            content=pack(Content(outcome.delta, outcome.rows)),
            counts=outcome.counts,
            rows=outcome.rows,
            dead=outcome.dead,
        )
        self.store.ledger.commit(self._name, [move])
        seat.cursor = move.after
        seat.slots = merge(seat.slots, outcome.delta)
        seat.since.add(move.counts.records, len(move.content))

    def _asked(self, seat: Seat) -> Committed | None:
        """Rewind to where the task asks for, once nothing is pending."""
        to = self.task.rewind.get(seat.place.partition)
        if to is None:
            return None
        if to > seat.cursor.next:
            raise Refused(
                f"{self._name} stands at {seat.cursor.next}: a rewind goes back, not to {to}",
                where=str(seat.place),
                safe="Nothing was changed.",
            )
        return self._rewind(seat, Decision(Act.REWIND, to, self.task.why))

    def begin_anew(self, seat: Seat, found: Iterable[Committed | None]) -> None:
        """Begin at the earliest with nothing, where topic or store is not the one it was.

        Of a topic that was made again nothing counts that was made of the old one. A store that
        was lost has no cursor: its row comes behind every generation that the log has seen.
        """
        to = self.task.rewind[seat.place.partition]
        seen = [c.checkpoint for c in found if c is not None and c.checkpoint is not None]
        newest = max((c.generation for c in seen if c.version == self._name), default=0)
        generation = (seat.cursor.generation or newest) + 1
        checkpoint = Checkpoint(self.store.ledger.id, self._name, generation, 0, to)
        intent = {seat.place.partition: Committed(to, str(checkpoint))}
        if self.task.publishes and not seat.cursor.generation:
            self.member.publish([], intent)  # the witness, too, still names the store that is gone
        else:
            self.member.commit(intent)
        self.tell(Step("rewind intent"))
        if seat.cursor.generation:
            seat.history = self.store.ledger.generations(self._name)[seat.place.partition]
            self._begin(seat, to, Restored(rows=no_rows(self.task)), why=self.task.why)
        else:
            self._insert(seat, Cursor(to, generation, 0), self.task.why)
        self.tell(Step("rewind stored"))

    def _rewind(self, seat: Seat, decision: Decision) -> Committed:
        """Begin a new generation at an offset, with state and table rows as of it."""
        generation, to = seat.cursor.generation + 1, decision.to
        wanted = OffsetRange(to, to)
        check_retained(self.retained.get(seat.place.partition), seat.place, wanted)
        restored = None if to == seat.cursor.next else self._restorer(seat).as_of(to)
        # First the intent, where others can see it; a crash after it is finished at this offset.
        checkpoint = Checkpoint(self.store.ledger.id, self._name, generation, 0, to)
        intent = Committed(to, str(checkpoint))
        self.member.commit({seat.place.partition: intent})
        self.tell(Step("rewind intent"))
        self._begin(seat, to, restored, why=decision.why)
        self.tell(Step("rewind stored"))
        return intent

    def _accept_gap(self, seat: Seat, decision: Decision) -> None:
        wanted = OffsetRange(decision.to, decision.to)
        check_retained(self.retained.get(seat.place.partition), seat.place, wanted)
        self._begin(seat, decision.to, None, why=decision.why, gap_from=seat.cursor.next)

    def take_over(self, seat: Seat, at: int, restored: Restored, *, why: str) -> None:
        """Begin a generation further on, with what another version made of all that lies between.

        The store comes first, as with a gap that was accepted: the group's offset then lags.
        """
        self._begin(seat, at, restored, why=why, gap_from=seat.cursor.next)
        self.tell(Step("rewind stored"))
        self._advise(seat, None)

    def _begin(
        self,
        seat: Seat,
        at: int,
        restored: Restored | None,
        *,
        why: str,
        gap_from: int | None = None,
    ) -> None:
        """Begin a generation, with what was restored, or with everything as it stands."""
        if restored is None:
            standing = self.store.ledger.standings(self._name)[seat.place.partition]
            restored = Restored(seat.slots, {}, standing.counts)
            content = whole(self.store, self.task, seat)
        else:
            content = pack(Content(restored.slots, restored.rows))
        move = Move(
            place=seat.place,
            before=seat.cursor,
            after=Cursor(at, seat.cursor.generation + 1, 0),
            epoch=seat.epoch,
            content=content,
            counts=restored.counts,
            rows=restored.rows,
            gap_from=gap_from,
            upstream=known_now(self.store.ledger, self.task.writers),
            topic_id=self.task.topic.id if self.task.anew else "",
            why=why,
        )
        self.store.ledger.commit(self._name, [move])
        seat.cursor, seat.slots = move.after, restored.slots
        begun = Generation(move.after.generation, at, gap_from, move.upstream)
        seat.history = [*seat.history, begun]
        seat.since.begin(len(content))

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
        self.tell(Step("group advised"))
