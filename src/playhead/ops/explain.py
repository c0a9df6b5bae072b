"""What one record did: its key's state before and after, the rows it gave. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from playhead.core.codec import TOMBSTONE, Decoder
from playhead.core.declare import Table
from playhead.core.lineage import Generation, Span, spans
from playhead.core.offsets import OffsetRange, TopicPartition, record_place
from playhead.core.records import PIPELINE, SOURCE, VERSION, Records
from playhead.core.slots import Slots, key_columns, unpack_row
from playhead.engine.call import Outcome
from playhead.engine.events import OnEvent, listener
from playhead.engine.preconditions import check_topics
from playhead.engine.process import process
from playhead.engine.reading import next_record, read_all
from playhead.engine.restore import Restorer
from playhead.engine.task import Task
from playhead.engine.upstream import SLOT
from playhead.errors import (
    BadRecord,
    ConfigError,
    FunctionFailed,
    OffsetOutOfRange,
    PlayheadError,
    Refused,
)
from playhead.ops import versions
from playhead.ops.versions import Known
from playhead.ports import SKIPPED, Log, Standing, Store, VersionRow
from playhead.project import Project

Rows = list[dict[str, Any]]
STATE_ROWS_MAX = 20
UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Written:
    """One row that a version makes of the record.

    Attributes:
        output: Public name of the table or topic.
        physical: The version's own; a topic with the partition, ``distance_calcs.km[0]``.
        table: Whether it is a table.
        row: The declared columns; of a deleted key, the key's.
        key: Message key, of a topic's record.
        deletes: Whether it deletes the key's row, or is published with a null value.
    """

    output: str
    physical: str
    table: bool
    row: Mapping[str, Any]
    key: bytes | None = None
    deletes: bool = False


@dataclass(slots=True)
class Account:
    """What one version made of the record.

    Attributes:
        version: ``pipeline@label``.
        stage: Its stage, or ``declared`` where it was never recorded.
        fate: ``processed``, ``dead_letter``, ``superseded`` (by a rewind of what writes the
            topic), ``skipped`` (in a gap that was accepted), ``next`` (it is the record that comes
            next), or ``unavailable``.
        generation: The generation that owns the offset; None where none does.
        before: State of the record's key before it, rows by slot.
        after: State after it.
        output: What is written, in the order of the declared outputs.
        error: Why it is a dead letter, stops the version, or cannot be told.
    """

    version: str
    stage: str
    fate: str = UNAVAILABLE
    generation: int | None = None
    before: dict[str, Rows] = field(default_factory=dict)
    after: dict[str, Rows] = field(default_factory=dict)
    output: list[Written] = field(default_factory=list)
    error: PlayheadError | None = None


@dataclass(frozen=True, slots=True)
class Explained:
    """A record, and what each version made of it; ``remarks`` are sentences for the user."""

    pipeline: str
    record: Records
    accounts: Sequence[Account]
    remarks: Sequence[str] = ()


def explain(project: Project, name: str, where: str, tell: OnEvent | None = None) -> Explained:
    """Say what every version of a pipeline, or the one that is named, made of one record.

    State as of the record comes from snapshots, deltas and the log; the function is called with
    this record alone. No group is joined, and nothing is written.

    Args:
        project: The project.
        name: ``pipeline`` or ``pipeline@label``.
        where: ``topic[partition]@offset``.
        tell: Told what was damaged.

    Raises:
        ConfigError: No such pipeline, version, topic or record, or the place cannot be read.
        OffsetOutOfRange: The record is not retained, or not there yet.
        Refused: No version can tell; the first one's reason.
    """
    found = record_place(where)
    if found is None:
        raise ConfigError(f"{where!r} is not a place: topic[partition]@offset, as errors name it")
    place, offset = found
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        rows, remarks = _chosen(known, name, place.topic)
        record = _record(log, place, offset)
        teller = _Teller(known, project, log, store, listener(tell))
        accounts = [teller.account(row, record) for row in rows]
        remarks += [*_not_recorded(known, name), *_made_by(record)]
    failed = [a.error for a in accounts if a.fate == UNAVAILABLE and a.error is not None]
    if len(failed) == len(accounts):
        raise failed[0]
    return Explained(name.partition("@")[0], record, accounts, remarks)


def _chosen(known: Known, name: str, topic: str) -> tuple[list[VersionRow], list[str]]:
    """Return the recorded versions that read the topic, and what is to be said of the others."""
    pipeline, label = versions.split(name)
    known.pipeline(pipeline)
    if label:
        known.version(name)
    recorded = [r for r in known.rows.values() if r.pipeline == pipeline and label in {"", r.label}]
    if not recorded:
        raise ConfigError(f"{name} has not run yet", cure=f"playhead plan {pipeline}")
    reading = [r for r in recorded if r.source == topic]
    if not reading:
        told = " and ".join(sorted({f"{r.source} ({r.name})" for r in recorded}))
        raise ConfigError(f"{name} does not read {topic}", cure=f"It reads {told}.")
    others = [f"{r.name} reads {r.source}" for r in recorded if r.source != topic]
    return reading, others


def _not_recorded(known: Known, name: str) -> list[str]:
    pipeline, _, label = name.partition("@")
    return [
        f"{v.name}: declared, not replayed; next: playhead plan {pipeline}"
        for v in known.pipeline(pipeline).versions.values()
        if not label and v.name not in known.rows
    ]


def _made_by(record: Records) -> Iterator[str]:
    """Say where a record that a pipeline of the app wrote comes from."""
    headers = dict(record.headers[0]) if record.headers else {}
    names = (PIPELINE, VERSION, SOURCE)
    pipeline, label, source = (headers.get(n, b"").decode("utf-8", "replace") for n in names)
    if pipeline and label and source:
        yield (
            f"{pipeline}@{label} made it from {source}; next: "
            f'playhead explain {pipeline}@{label} "{source}"'
        )


def _record(log: Log, place: TopicPartition, offset: int) -> Records:
    """Return the one record.

    Raises:
        OffsetOutOfRange: It is not retained, or not there yet.
        ConfigError: There is no such topic, partition or record.
    """
    versions.existing_topic(log, place.topic)
    held = log.retained(place.topic).get(place.partition)
    if held is None:
        count = len(log.retained(place.topic))
        raise ConfigError(f"topic {place.topic} has partitions 0 to {count - 1}", where=str(place))
    if not held.holds(offset, offset + 1):
        gone = offset < held.start
        what = "is no longer retained" if gone else "is not in the log yet"
        raise OffsetOutOfRange(
            f"offset {offset} {what} (the topic holds {held})",
            where=str(place),
            safe="Nothing was changed.",
            cure="Restore the topic from an archive." if gone else None,
        )
    for records in read_all(log, place, OffsetRange(offset, offset + 1), 1):
        if len(records):
            return records
    after = next_record(log, place, offset, held.end)
    raise ConfigError(
        "there is no record at this offset: it is a transaction's marker, or was compacted away",
        where=place.at(offset),
        cure=None if after is None else f"The next record is {place.at(after)}.",
    )


@dataclass(frozen=True, slots=True)
class _Teller:
    """Asks one version after the other."""

    known: Known
    project: Project
    log: Log
    store: Store
    tell: OnEvent

    def account(self, row: VersionRow, record: Records) -> Account:
        """Return what one version made of the record; what stands in the way is its error."""
        found = Account(row.name, row.stage)
        try:
            self._tell(found, row, record)
        except PlayheadError as error:
            if error.passing or error.exit_code == 5:
                raise
            found.fate, found.error = UNAVAILABLE, error
        return found

    def _tell(self, found: Account, row: VersionRow, record: Records) -> None:
        task = versions.looking(self.known, self.project, self.log, row)
        place, offset = record.source, record.offsets[0]
        history = self.store.ledger.generations(row.name).get(place.partition, [])
        standing = self.store.ledger.standings(row.name).get(place.partition)
        if standing is None or not history:
            raise Refused(f"{row.name} has not begun to read {place}", where=place.at(offset))
        check_topics(self.log, task, {standing.topic_id})
        coming = offset >= standing.cursor.next
        if coming:
            self._check_next(row, place, offset, standing)
        span = _owning(history, offset, coming=coming)
        if span is None:
            self._outside(found, history, place, offset)
            return
        found.generation = span.number
        restorer = Restorer(task, self.log, self.store, place, history, self.tell)
        before = restorer.as_of(offset).slots
        self._made(found, task, record, (before, span), coming=coming)

    def _check_next(
        self, row: VersionRow, place: TopicPartition, offset: int, at: Standing
    ) -> None:
        """Refuse a record that is not the very next one: what lies between is not known yet."""
        begin = at.cursor.next
        if offset != begin and next_record(self.log, place, begin, offset + 1) != offset:
            raise Refused(
                f"{row.name} has not processed it: it stands at {begin}, and "
                f"{OffsetRange(begin, offset)} comes before it",
                where=place.at(offset),
                safe="Nothing was changed.",
                cure="playhead run first."
                if row.stage == "live"
                else f"playhead replay {row.name} first.",
            )

    def _outside(
        self, found: Account, history: Sequence[Generation], place: TopicPartition, offset: int
    ) -> None:
        gap = next(
            (g for g in history if g.gap_from is not None and g.gap_from <= offset < g.start), None
        )
        if gap is None or gap.gap_from is None:
            start = min(g.start for g in history)
            raise Refused(f"{found.version} began at {start}", where=place.at(offset))
        found.fate = "skipped"
        found.error = Refused(f"a gap was accepted there: {OffsetRange(gap.gap_from, gap.start)}")

    def _made(
        self,
        found: Account,
        task: Task,
        record: Records,
        of: tuple[Slots, Generation],
        *,
        coming: bool,
    ) -> None:
        """Process the record from the state before it, and note what changed."""
        before, generation = of
        aside = self._aside(task, record, generation, coming=coming)
        keep_on = task.version.sets_aside if coming else False
        found.fate = "next" if coming else "processed"
        outcome: Outcome | None = None
        try:
            outcome = process(task, record, before, generation, aside, keep_on=keep_on)
        except (BadRecord, FunctionFailed, Refused) as error:
            found.error = error
        delta = {} if outcome is None else outcome.delta
        key = _key_of(task, record)
        names = sorted({*before, *delta} - {SLOT})
        found.before = {n: _rows(_touched(before.get(n), delta.get(n), key)) for n in names}
        found.after = {n: _rows(delta[n]) if n in delta else found.before[n] for n in names}
        if outcome is None:
            return
        if outcome.dead:
            found.fate = "dead_letter"
            found.error = BadRecord(outcome.dead[0].error)
        elif not outcome.counts.records:
            found.fate = "superseded"
        found.output = list(_written(task, outcome))

    def _aside(
        self, task: Task, record: Records, generation: Generation, *, coming: bool
    ) -> dict[int, str]:
        """Return why the record is a dead letter by what is stored, if it is one."""
        name, place, offset = task.version.name, record.source, record.offsets[0]
        if coming:
            skips = self.store.history.skips(name).get(place.partition, {})
            return {offset: SKIPPED + skips[offset]} if offset in skips else {}
        return {
            letter.offset: letter.error
            for letter in self.store.history.dead_letters(name)
            if (letter.place.partition, letter.offset, letter.generation)
            == (place.partition, offset, generation.number)
        }


def _owning(history: Sequence[Generation], offset: int, *, coming: bool) -> Generation | None:
    """Return the generation that processed an offset, or will."""
    if coming:
        return history[-1]
    owned: list[Span] = spans(history, offset + 1)
    return next((s.generation for s in owned if s.offsets.start <= offset < s.offsets.end), None)


def _key_of(task: Task, record: Records) -> dict[str, Any]:
    """Return the key's columns of the record; empty where it cannot be decoded, or has none."""
    try:
        frame = Decoder(task.version.source).frame(record)
    except BadRecord:
        return {}
    return {name: frame[name][0] for name in task.version.source.key if name in frame.columns}


def _touched(
    slot: pl.DataFrame | None, delta: pl.DataFrame | None, key: Mapping[str, Any]
) -> pl.DataFrame | None:
    """Return the rows of a slot that the record changes; if it changes none, its key's newest."""
    if slot is None:
        return None
    if delta is not None:
        return slot.join(delta, on=key_columns(slot), how="semi", maintain_order="left")
    if not key or not set(key) <= set(slot.columns):
        return None
    own = slot.filter(*(pl.col(name) == value for name, value in key.items()))
    return own.tail(STATE_ROWS_MAX)


def _rows(slot: pl.DataFrame | None) -> Rows:
    """Return a slot's rows; the state of a ``per="row"`` function as the dict that it is."""
    if slot is None:
        return []
    rows = slot.to_dicts()
    for row in rows:
        packed = row.get("_state")
        if isinstance(packed, bytes) and set(row) - set(key_columns(slot)) == {"_state"}:
            row["_state"] = unpack_row(packed)
    return rows


def _written(task: Task, outcome: Outcome) -> Iterator[Written]:
    """Yield what is written, output by output."""
    published = iter(outcome.outgoing)
    for target in task.caller.targets:
        columns = [c.name for c in target.schema]
        if isinstance(target.output, Table):
            for row in outcome.rows[target.physical].to_dicts():
                gone = bool(row.get(TOMBSTONE))
                shown = target.output.key if gone else columns
                yield Written(
                    target.output.name,
                    target.physical,
                    table=True,
                    row={c: row[c] for c in shown},
                    deletes=gone,
                )
            continue
        out = next(published)
        for i, value in enumerate(out.values):
            yield Written(
                target.output.name,
                f"{target.physical}[{out.partitions[i]}]",
                table=False,
                row={} if value is None else _decoded(value),
                key=out.keys[i],
                deletes=value is None,
            )


def _decoded(value: bytes) -> dict[str, Any]:
    import msgspec

    return msgspec.json.decode(value, type=dict[str, Any])
