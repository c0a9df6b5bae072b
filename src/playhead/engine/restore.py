"""State and table rows as of an offset, from the nearest snapshot on, with nothing published.

From a snapshot the deltas lead on, batch by batch. Where one is missing, is damaged, or reaches
beyond the offset, the log is read and the function runs instead. Where the log does not reach,
an older snapshot is tried, and at last nothing but the log. What cannot be had so is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from playhead.core.codec import columns_schema
from playhead.core.declare import Table
from playhead.core.lineage import Generation, Span, spans
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.past import Content, Counts, Gathered, Saved, bases, unpack
from playhead.core.records import Records
from playhead.core.slots import Slots
from playhead.engine.call import Outcome
from playhead.engine.events import OnEvent, Step, Warned
from playhead.engine.process import process
from playhead.engine.reading import read_all
from playhead.engine.task import Task
from playhead.errors import BadRecord, FunctionFailed, OffsetOutOfRange, Refused, StoreFailed
from playhead.ports import Log, Store


@dataclass(slots=True)
class Restored:
    """State, folded table rows and counters of one partition as of an offset.

    ``healed`` says that something damaged was met, so that a new snapshot is worth its while.
    """

    slots: Slots = field(default_factory=dict)
    rows: dict[str, pl.DataFrame] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    healed: bool = False


@dataclass(frozen=True, slots=True)
class Restorer:
    """Restores one partition of a version.

    Attributes:
        task: The version.
        log: Where records are read again.
        store: Where snapshots and deltas are.
        place: The partition.
        history: Its generations, oldest first.
        tell: Told what was damaged.
        keep_alive: Called between batches.
    """

    task: Task
    log: Log
    store: Store
    place: TopicPartition
    history: Sequence[Generation]
    tell: OnEvent
    keep_alive: Callable[[], None] = lambda: None

    def as_of(self, to: int) -> Restored:
        """Return everything as of ``to``, as one pass over what was processed would give it.

        Raises:
            OffsetOutOfRange: Neither snapshots nor the log reach; the missing range is named.
        """
        self.tell(Step("before restore"))
        saved = self.store.history.saved(self.task.version.name, self.place.partition)
        walk = _Walk(self, saved, to)
        missing: OffsetOutOfRange | None = None
        for base in (*bases(saved, self.history, to), None):
            try:
                restored = walk.run(base)
            except OffsetOutOfRange as error:
                missing = missing or error
            except StoreFailed as error:
                if error.passing:
                    raise
                walk.damaged(error)
            else:
                self.tell(Step("after restore"))
                return restored
        if missing is None:
            raise StoreFailed(f"{self.task.version.name}: nothing to restore {self.place} from")
        raise OffsetOutOfRange(
            f"state as of {to} cannot be had: {missing.message}, and no snapshot lies nearer",
            where=str(self.place),
            safe="Nothing was changed.",
            cure="Choose an offset that the history reaches, restore the topic from an archive, "
            "or replay under a new label.",
        )

    def onto(self, content: Content, begin: int, to: int) -> Restored:
        """Return what processing ``[begin, to)`` made of it, on top of other content.

        Args:
            content: The state at ``begin``, and rows that what was processed then replaces.
            begin: Where it starts.
            to: Where it ends.

        Raises:
            OffsetOutOfRange: Neither deltas nor the log reach; the missing range is named.
        """
        saved = self.store.history.saved(self.task.version.name, self.place.partition)
        return _Walk(self, saved, to).on(Gathered(content), Counts(), begin)


class _Walk:
    """One restore: from a base over deltas, and over the log where they do not lead on."""

    def __init__(self, of: Restorer, saved: Sequence[Saved], to: int) -> None:
        self._of = of
        self._spans = spans(of.history, to)
        self._deltas = {(s.generation, s.begin): s for s in saved if not s.whole}
        self._healed = False

    def damaged(self, error: StoreFailed) -> None:
        """Note that something stored is not what was written; it is not used."""
        self._healed = True
        self._of.tell(Warned(self._of.task.version.name, f"{error.message}: it is not used"))

    def run(self, base: Saved | None) -> Restored:
        gathered = Gathered(Content() if base is None else self._content(base))
        counts = Counts() if base is None else base.counts
        return self.on(gathered, counts, 0 if base is None else base.next)

    def on(self, gathered: Gathered, counts: Counts, at: int) -> Restored:
        """Go on from what was gathered up to ``at``."""
        for span in self._spans:
            at = max(at, span.offsets.start)
            while at < span.offsets.end:
                at, more = self._advance(gathered, span, at)
                counts += more
        rows = gathered.rows(_keys(self._of.task))
        return Restored(gathered.slots, no_rows(self._of.task) | rows, counts, self._healed)

    def _advance(self, gathered: Gathered, span: Span, at: int) -> tuple[int, Counts]:
        """Take the delta that begins here, or compute up to where one begins."""
        delta = self._deltas.get((span.generation.number, at))
        end = span.offsets.end
        if delta is not None and delta.next <= end:
            try:
                content = self._content(delta)
            except StoreFailed as error:
                if error.passing:
                    raise
                self.damaged(error)
                end = delta.next
            else:
                gathered.add(content.slots, content.rows)
                return delta.next, delta.counts
        else:
            later = [b for g, b in self._deltas if g == span.generation.number and at < b < end]
            end = min(later, default=end)
        return end, self._compute(gathered, span.generation, OffsetRange(at, end))

    def _compute(self, gathered: Gathered, generation: Generation, wanted: OffsetRange) -> Counts:
        of, counts = self._of, Counts()
        for records in read_all(of.log, of.place, wanted, of.task.batch_records):
            of.keep_alive()
            outcome = self._again(records, gathered.slots, generation)
            gathered.add(outcome.delta, outcome.rows)
            counts += outcome.counts
        return counts

    def _again(self, records: Records, slots: Slots, generation: Generation) -> Outcome:
        """Process records as they were: what was a dead letter is one, and nothing else is."""
        of = self._of
        aside = self._dead.get(generation.number, {})
        try:
            return process(of.task, records, slots, generation, aside, keep_on=False)
        except (BadRecord, FunctionFailed) as error:
            raise Refused(
                f"{of.task.version.name} has processed this before, and now cannot: "
                f"{error.message}",
                where=error.where,
                safe="Nothing was changed.",
                cure="Restore the code and the library versions that it ran with; if the "
                "function depends on a clock, on chance or on the batch, correct that under a "
                "new label.",
            ) from error

    @cached_property
    def _dead(self) -> dict[int, dict[int, str]]:
        """The dead letters of the partition: errors by generation and offset."""
        of = self._of
        found: dict[int, dict[int, str]] = {}
        for letter in of.store.history.dead_letters(of.task.version.name):
            if letter.place.partition == of.place.partition:
                found.setdefault(letter.generation, {})[letter.offset] = letter.error
        return found

    def _content(self, saved: Saved) -> Content:
        of, name = self._of, self._of.task.version.name
        kind = "snapshot" if saved.whole else "delta"
        what = f"the {kind} of {name} in {of.place} up to {saved.next}"
        return unpack(of.store.history.content(name, of.place.partition, saved), what)


def _keys(task: Task) -> dict[str, tuple[str, ...]]:
    return {t.physical: t.output.key for t in task.caller.targets if isinstance(t.output, Table)}


def no_rows(task: Task) -> dict[str, pl.DataFrame]:
    """Return each table without a row: a table that is named is replaced, even by nothing."""
    origin = {"_partition": pl.Int32(), "_offset": pl.Int64()}
    return {
        t.physical: pl.DataFrame(schema={**columns_schema(t.schema), **origin})
        for t in task.caller.targets
        if isinstance(t.output, Table)
    }
