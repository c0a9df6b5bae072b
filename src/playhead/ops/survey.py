"""Looks before a replay: what lies in a range, who reads the output, what stands in the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from playhead.core import verdicts
from playhead.core.naming import witness_of
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.plan import Plan, Replay, Survey
from playhead.core.records import Records
from playhead.core.verdicts import Estimate, Finding, Reading
from playhead.errors import LogFailed, PlayheadError
from playhead.ops import versions
from playhead.ops.versions import Known
from playhead.ports import Log, RunRow, Store, VersionRow
from playhead.project import Project

EXACT_OFFSETS = 5_000
PROBES = 5
PROBE_OFFSETS = 1_000
GROUPS_MAX = 500
_READ_S = 0.2
_EMPTY_READS_MAX = 25
_Spans = Mapping[int, OffsetRange]


class Surveyor:
    """Looks at what the replays of a plan would read and write. Changes nothing."""

    def __init__(self, known: Known, project: Project, log: Log, store: Store) -> None:
        """Keep what is open."""
        self._known, self._project = known, project
        self._log, self._store = log, store

    def survey(self, plan: Plan) -> Plan:
        """Return the plan with what was found out for each of its replays."""
        surveys: dict[str, Survey] = {}
        for step in plan.steps:
            if isinstance(step, Replay) and any(len(r) for r in step.ranges.values()):
                surveys[step.version] = self._of(step)
        return replace(plan, surveys=surveys)

    def _of(self, step: Replay) -> Survey:
        before = self._offsets(step.version)
        spans = self._readable(step)
        estimates = sample(self._log, step.topic, spans)
        records = sum(e.records for e in estimates.values())
        rate = self._rate(step.version.partition("@")[0])
        duration_s = None if rate is None else records / rate
        needed = self._needed(step.version, records)
        free = self._free()
        findings = [
            *self._of_source(step, estimates, duration_s),
            *self._of_groups(step.version, before),
            *self._of_tables(step.version),
            *verdicts.short_of_disk(step.version, needed, free),
        ]
        readers = self._readers(step.version.partition("@")[0])
        return Survey(estimates, tuple(findings), readers, duration_s, needed, free)

    def _readable(self, step: Replay) -> _Spans:
        held = self._log.retained(step.topic)
        return {
            p: OffsetRange(max(r.start, held[p].start), min(r.end, held[p].end))
            for p, r in step.ranges.items()
            if p in held
        }

    # ----------------------------------------------------------------------- the source

    def _of_source(
        self, step: Replay, estimates: Mapping[int, Estimate], duration_s: float | None
    ) -> Iterator[Finding]:
        topic, live = step.topic, self._known.live(step.version.partition("@")[0])
        retained = self._log.retained(topic)
        if live is not None and live.source == topic:
            generations = self._store.ledger.generations(live.name)
            seen = {p: min(g.start for g in gs) for p, gs in generations.items()}
            yield from verdicts.truncated(topic, step.ranges, seen, retained)
        info = self._log.topic(topic)
        config = {} if info is None else info.config
        if not self._project.settings.log.startswith("local:"):  # there nothing expires
            keeps = int(config.get(versions.RETENTION, verdicts.FOREVER))
            if "delete" in config.get("cleanup.policy", "delete"):
                now_ms = int(time.time() * 1000)
                yield from verdicts.overtaken(topic, estimates, keeps, duration_s, now_ms)
            yield from verdicts.compacted(topic, config.get("cleanup.policy", ""))
        yield from verdicts.append_time(topic, config.get("message.timestamp.type", ""))
        yield from verdicts.not_monotonic(topic, estimates)
        yield from verdicts.held_back(topic, self._log.held_back(topic))

    # ----------------------------------------------------------------------- groups

    def _groups(self, name: str) -> dict[str, bool]:
        """Return the groups of live and head, and whether each was ever used by the version."""
        version, live = self._known.declared(name), self._known.live(name.partition("@")[0])
        found = {} if live is None else {live.group: True}
        row = self._known.rows.get(name)
        group = row.group if row else version.group if version else None
        if group is not None:
            found[group] = row is not None
        return found

    def _offsets(self, name: str) -> dict[str, dict[TopicPartition, int]]:
        return {
            group: {p: c.offset for p, c in self._log.committed(group).items()}
            for group in self._groups(name)
        }

    def _of_groups(
        self, name: str, before: Mapping[str, Mapping[TopicPartition, int]]
    ) -> Iterator[Finding]:
        for group, recorded in self._groups(name).items():
            now = self._log.committed(group)
            foreign = sorted(p for p, c in now.items() if c.checkpoint is None)
            looks = (before.get(group, {}), {p: c.offset for p, c in now.items()})
            members = self._log.describe_group(group).members
            yield from verdicts.group_looks(group, recorded, members, looks, foreign)

    def _readers(self, pipeline: str) -> tuple[Reading, ...]:
        """Return who else reads what the live version publishes, and how far each has come."""
        live = self._known.live(pipeline)
        topics = {name for pair in (live.topics if live else ()) for name in pair}
        ours = {row.group for row in self._known.rows.values()}
        ours |= {witness_of(group) for group in ours}
        held = {t: self._held(t) for t in topics}
        found = []
        for group in [g for g in self._log.groups() if g not in ours][:GROUPS_MAX]:
            for place, at in sorted(self._log.committed(group).items()):
                span = held.get(place.topic, {}).get(place.partition)
                if span is not None and at.checkpoint is None:
                    found.append(Reading(group, place, at.offset, span))
        return tuple(found)

    def _held(self, topic: str) -> _Spans:
        try:
            return self._log.retained(topic)
        except LogFailed as error:
            if error.exit_code == 5:
                raise
            return {}

    # ----------------------------------------------------------------------- the outputs

    def _of_tables(self, name: str) -> Iterator[Finding]:
        version, live = self._known.declared(name), self._known.live(name.partition("@")[0])
        if version is None or live is None:
            return
        try:
            head = versions.describe(self._known, self._project, self._log, version)
        except PlayheadError:
            return  # the plan says so, and refuses
        known = {t.name: t.schema for t in live.tables}
        for table in head.tables:
            if table.name in known:
                yield from verdicts.added_columns(name, table.name, known[table.name], table.schema)

    def _rate(self, pipeline: str) -> float | None:
        """Return how many records a second the pipeline's newest measured replay or run made."""
        rates: dict[str, float] = {}
        for run in self._store.journal.runs():
            if run.subject.partition("@")[0] == pipeline:
                rate = _measured(run)
                if rate is not None:
                    rates[run.kind] = rate
        return rates.get("replay", rates.get("run"))

    def _needed(self, name: str, records: int) -> int:
        """Return about how many bytes a replay writes: as many as live has, a record."""
        live = self._known.live(name.partition("@")[0])
        if live is None:
            return 0
        standings = self._store.ledger.standings(live.name)
        processed = sum(s.counts.records for s in standings.values())
        written = sum(s.size for p in standings for s in self._store.history.saved(live.name, p))
        written += self._published(live)
        return round(written * records / processed) if processed else 0

    def _published(self, live: VersionRow) -> int:
        found = [sample(self._log, topic, self._held(topic)) for _, topic in live.topics]
        return sum(e.size_bytes for estimates in found for e in estimates.values())

    def _free(self) -> int | None:
        """Return the free bytes where the store's file lies; None where it is a server."""
        scheme, _, rest = self._project.settings.store.partition(":")
        if scheme != "sqlite":
            return None
        folder: Path = self._project.settings.path(rest).parent
        return shutil.disk_usage(folder).free


def _measured(run: RunRow) -> float | None:
    result = run.result or {}
    records, elapsed = result.get("records"), result.get("elapsed_s")
    if not isinstance(records, int) or not records or run.finished_at is None:
        return None
    if not isinstance(elapsed, (int, float)):
        begun, ended = (datetime.fromisoformat(t) for t in (run.started_at, run.finished_at))
        elapsed = (ended - begun).total_seconds()
    return records / max(float(elapsed), 0.001)


def sample(log: Log, topic: str, spans: _Spans) -> dict[int, Estimate]:
    """Return what lies in ranges that are retained: looked at whole where short, else sampled.

    Args:
        log: The log.
        topic: The topic.
        spans: Ranges by partition.
    """
    some = {p: span for p, span in spans.items() if len(span)}
    windows = {p: _windows(span) for p, span in some.items()}
    read: dict[int, list[Records]] = {p: [] for p in some}
    for i in range(max(map(len, windows.values()), default=0)):
        for partition, records in _read(
            log, topic, {p: w[i] for p, w in windows.items() if i < len(w)}
        ).items():
            read[partition].append(records)
    nothing = Estimate(0, exact=True, size_bytes=0, first_ms=None, last_ms=None)
    return {p: _estimate(some[p], read[p]) if p in some else nothing for p in sorted(spans)}


def _windows(span: OffsetRange) -> list[OffsetRange]:
    """Return what is looked at: all of it, or evenly spread pieces, the ends included."""
    if len(span) <= EXACT_OFFSETS:
        return [span]
    room = len(span) - PROBE_OFFSETS
    starts = [span.start + room * i // (PROBES - 1) for i in range(PROBES)]
    return [OffsetRange(at, at + PROBE_OFFSETS) for at in starts]


def _read(log: Log, topic: str, spans: _Spans) -> dict[int, Records]:
    """Return the records of short ranges, all partitions at once."""
    found = {
        p: Records(TopicPartition(topic, p), [], [], [], [], span.start)
        for p, span in spans.items()
    }
    empty = 0
    with closing(log.reader(topic, {p: span.start for p, span in spans.items()})) as reader:
        while empty < _EMPTY_READS_MAX and any(found[p].next < s.end for p, s in spans.items()):
            batch = reader.read(EXACT_OFFSETS, _READ_S)
            empty = 0 if batch else empty + 1
            for records in batch:
                partition = records.source.partition
                if found[partition].next < spans[partition].end:
                    found[partition] = found[partition].followed_by(
                        records.before(spans[partition].end)
                    )
    return found


def _estimate(span: OffsetRange, read: Sequence[Records]) -> Estimate:
    offsets = len(span) if len(read) == 1 else len(read) * PROBE_OFFSETS
    count = sum(map(len, read))
    sizes = sum(
        len(k or b"") + len(v or b"") for r in read for k, v in zip(r.keys, r.values, strict=True)
    )
    scale = len(span) / offsets
    times = [t for r in read for t in r.timestamps_ms]
    places = [o for r in read for o in r.offsets]
    return Estimate(
        records=round(count * scale),
        exact=len(read) == 1,
        size_bytes=round(sizes * scale),
        first_ms=times[0] if times else None,
        last_ms=times[-1] if times else None,
        backwards=_backwards(places, times),
    )


def _backwards(places: Sequence[int], times: Sequence[int]) -> tuple[int, int] | None:
    newest, worst = times[0] if times else 0, None
    for offset, at in zip(places, times, strict=True):
        newest = max(newest, at)
        if newest - at > (worst[1] if worst else 0):
            worst = (offset, newest - at)
    return worst
