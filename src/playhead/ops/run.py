"""Run whatever is live."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from playhead.core.declare import Pipeline
from playhead.engine.events import OnEvent, listener
from playhead.engine.hold import LIVE
from playhead.engine.task import Task
from playhead.engine.worker import Summary, ends
from playhead.errors import Refused
from playhead.ops import epochs, publish, versions
from playhead.ops.abreast import abreast
from playhead.ops.journal import Recorded
from playhead.ops.mirror import MirrorThread
from playhead.ops.publish import Published, Publisher
from playhead.ops.succession import Succession
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Ran:
    """What one pipeline did.

    Attributes:
        version: ``pipeline@label`` that ran.
        topic: The physical topic that it read.
        records: Records that it processed.
        dead_letters: Records that it set aside.
        cursor: The next offset to read, in partition order.
    """

    version: str
    topic: str
    records: int
    cursor: list[int]
    dead_letters: int = 0


@dataclass(slots=True)
class Outcome:
    """What a run did, and what it says.

    Attributes:
        pipelines: One a version that ran, in the order in which they ended.
        published: One an epoch of a public topic that was looked after.
        remarks: Sentences for the user, for example which version is declared and not replayed.
    """

    pipelines: list[Ran] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, task: Task, summary: Summary) -> None:
        """Add what one version did."""
        cursor = [summary.cursor[p] for p in sorted(summary.cursor)]
        topic = task.topic.name
        ran = Ran(task.version.name, topic, summary.records, cursor, summary.dead)
        self.pipelines.append(ran)


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        pipelines: Names; empty means all.
        until_caught_up: Stop at what was in the log at the start, pipeline after pipeline.
        accept_gap: Accept that a group was moved forward.
        reason: For the audit.
    """

    pipelines: Sequence[str] = ()
    until_caught_up: bool = False
    accept_gap: bool = False
    reason: str | None = None


def run(
    project: Project,
    request: Request,
    stop: threading.Event,
    tell: OnEvent | None = None,
    say: Callable[[str], None] = lambda _sentence: None,
) -> Outcome:
    """Run the live version of each pipeline; the first start makes the first version live.

    Args:
        project: The project.
        request: What to run, and how far.
        stop: Set from outside to end after the current batch.
        tell: Told every event.
        say: Told each remark when it is known.

    Raises:
        Refused: Nothing remains to run, or a start sequence said no.
        PlayheadError: A pipeline stopped on an error; what it had committed stays.
    """
    outcome = Outcome()
    tell = listener(tell)
    with closing(project.open_log()) as log, closing(project.open_store()) as store:
        tasks = _tasks(project, log, store, request, outcome)
        if not tasks:
            raise Refused("nothing remains to run", cure="\n".join(outcome.remarks) or None)
        for remark in outcome.remarks:
            say(remark)
        workers = [Recorded(t, project.open_log, project.open_store, tell, stop) for t in tasks]
        jobs = [Succession(project, worker, tell, say) for worker in workers]
        publishers = [
            Publisher(project, project.app, topic, name, tell, stop, request.accept_gap)
            for topic, name in publish.publishers(
                project.app,
                store,
                [t.version.pipeline for t in tasks],
                until_caught_up=request.until_caught_up,
            )
        ]
        with MirrorThread(project) as mirror:
            if request.until_caught_up:
                _one_after_another(log, jobs, publishers, outcome)
            else:
                works: dict[str, Callable[[], object]] = {
                    j.task.version.name: partial(j.run, outcome.add) for j in jobs
                }
                works |= {
                    f"{p.topic.name}.public.{p.pipeline}": partial(p.run, until_caught_up=False)
                    for p in publishers
                }
                abreast(works, stop)
        outcome.published += [one for p in publishers for one in p.published.values()]
        if mirror.failed is not None:
            say(str(mirror.failed))
    return outcome


def _tasks(
    project: Project, log: Log, store: Store, request: Request, outcome: Outcome
) -> list[Task]:
    known = Known.read(project, store)
    for name in request.pipelines:
        known.pipeline(name)
    tasks = []
    for pipeline in versions.in_order(known.app):
        if request.pipelines and pipeline.name not in request.pipelines:
            continue
        row = known.live(pipeline.name)
        if row is None:
            row = _first(known, project, log, store, pipeline)
            known = Known.read(project, store)
        if known.declared(row.name) is None:
            outcome.remarks.append(
                f"{row.name} is live but not declared here: keep it, and add "
                f"{pipeline.first} with @{pipeline.name}.version"
            )
            continue
        row = _current(known, project, log, store, row)
        outcome.remarks += _remarks(known, pipeline, row)
        epochs.begin(known, log, store, row)
        task = versions.task_of(known, project, log, row, accept_gap=request.accept_gap)
        cache = project.cache() if request.until_caught_up else None
        tasks.append(replace(task, why=request.reason or "", stage=LIVE, cache=cache))
    return tasks


def _current(known: Known, project: Project, log: Log, store: Store, row: VersionRow) -> VersionRow:
    """Return the live row; a version that has committed nothing yet may still be corrected."""
    version = known.version(row.name)
    begun = [s.cursor for s in store.ledger.standings(row.name).values()]
    untouched = all((c.generation, c.batch) == (1, 0) for c in begun)
    if untouched and versions.changed_code(row, version, project):
        described = versions.describe(known, project, log, version)
        row = replace(
            described,
            stage="live",
            source=row.source,
            partitions=row.partitions,
            topic_ids=row.topic_ids,
        )
        store.catalog.change(row)
    versions.refuse_changed(row, version, project)
    return row


def _first(
    known: Known, project: Project, log: Log, store: Store, pipeline: Pipeline
) -> VersionRow:
    """Record the pipeline's first version as live: nothing is live yet."""
    others = [r.name for r in known.rows.values() if r.pipeline == pipeline.name]
    if others:
        raise Refused(f"{pipeline.name}: {', '.join(others)} are recorded, but none is live")
    first = pipeline.versions[pipeline.first]
    return versions.record(known, project, log, store, first, stage="live")


def _remarks(known: Known, pipeline: Pipeline, live: VersionRow) -> list[str]:
    return [
        f"{version.name}: declared, not replayed; next: playhead plan {pipeline.name}"
        for version in pipeline.versions.values()
        if version.name != live.name and version.name not in known.rows
    ]


def _one_after_another(
    log: Log, jobs: Sequence[Succession], publishers: Sequence[Publisher], outcome: Outcome
) -> None:
    for job in jobs:
        job.run(outcome.add, lambda task: ends(log.retained(task.topic.name)))
        for publisher in publishers:
            if publisher.pipeline == job.task.version.pipeline:
                publisher.run(until_caught_up=True)
        if job.stop.is_set():
            return
