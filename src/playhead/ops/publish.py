"""Running the publishers of public topics, one epoch after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from playhead.core.declare import App, Topic, Version
from playhead.core.epochs import ENDING, OVER, STOPPING, Epoch
from playhead.engine.events import OnEvent, Step
from playhead.engine.hold import settled
from playhead.engine.preconditions import check_output
from playhead.engine.publisher import Forwarder, difference, difference_log
from playhead.engine.task import Task
from playhead.engine.worker import Summary, Worker, ends
from playhead.errors import TopicGone
from playhead.ops.versions import topic_config
from playhead.ports import Log, Store, TopicInfo, positions
from playhead.project import Project

LOOK_S = 1.0


@dataclass(slots=True)
class Published:
    """What a run has forwarded in one epoch of one public topic.

    Attributes:
        topic: The public topic.
        pipeline: The pipeline.
        version: Label of the version that the epoch shows.
        epoch: The pointer's epoch.
        records: Records that were published; with ``changed``, those of the difference, too.
    """

    topic: str
    pipeline: str
    version: str
    epoch: int
    records: int = 0


@dataclass(slots=True)
class Publisher:
    """Runs the publisher of one public topic, for one pipeline.

    Attributes:
        project: The project.
        app: What is declared.
        topic: The public topic.
        pipeline: The pipeline.
        tell: Told every event.
        stop: Set from outside to end after the current batch.
        accept_gap: Accept that a group was moved forward.
        published: What was forwarded, epoch by epoch.
    """

    project: Project
    app: App
    topic: Topic
    pipeline: str
    tell: OnEvent
    stop: threading.Event
    accept_gap: bool = False
    published: dict[int, Published] = field(default_factory=dict)

    def run(self, *, until_caught_up: bool) -> None:
        """Run epoch after epoch, until stopped, or until everything there is was forwarded.

        Raises:
            Refused: A start sequence said no, or the public topic is not what it was.
        """
        while not self.stop.is_set():
            with closing(self.project.open_store()) as store:
                waiting = [
                    e
                    for e in store.publications.epochs()
                    if (e.of.topic, e.of.pipeline) == (self.topic.name, self.pipeline)
                    and e.stage != OVER
                ]
            if not waiting:
                if until_caught_up or self.stop.wait(LOOK_S):
                    return  # else a promotion may begin an epoch: of a topic that is new, say
            elif not self._turn(waiting[0], until_caught_up=until_caught_up):
                return

    def _turn(self, epoch: Epoch, *, until_caught_up: bool) -> bool:
        """Run one row as far as it goes; say whether there is something to do after it."""
        with closing(self.project.open_log()) as log, closing(self.project.open_store()) as store:
            task = self._task(log, store, epoch)
            if epoch.stage == STOPPING:
                self._end(log, store, epoch, task)
                return True
            if epoch.difference and epoch.sizes is None:
                epoch = self._take(log, store, epoch, task)
            bound: Mapping[int, int] | None = epoch.ends if epoch.stage == ENDING else epoch.sizes
            if epoch.shows and until_caught_up:
                bound = ends(log.retained(task.topic.name))
                if _idle(log, store, task, bound):
                    self._count(epoch, Summary())
                    return False
        summary = Worker(
            task, self._opens(epoch), self.project.open_store, self.tell, self.stop
        ).run(bound)
        self._count(epoch, summary)
        if self.stop.is_set() or summary.stage != epoch.stage:
            return True
        if epoch.shows:
            return False
        with closing(self.project.open_log()) as log, closing(self.project.open_store()) as store:
            self._end(log, store, epoch, task)
        return True

    def _count(self, epoch: Epoch, summary: Summary) -> None:
        of = epoch.of
        one = Published(of.topic, of.pipeline, of.version, of.number)
        self.published.setdefault(of.number, one).records += summary.records

    def _opens(self, epoch: Epoch) -> Callable[[], Log]:
        if not epoch.difference:
            return self.project.open_log
        return lambda: difference_log(self.project.open_log(), self.project.open_store(), epoch)

    def _end(self, log: Log, store: Store, epoch: Epoch, task: Task) -> None:
        """End a row: nothing of it is pending, and nobody who is frozen can go on with it."""
        seen = difference_log(log, store, epoch) if epoch.difference else log
        with settled(task, seen, self.project.open_store, self.tell) as session:
            self.tell(Step("before epoch over"))
            store.publications.over(epoch, session.epochs)
            self.tell(Step("after epoch over"))

    def _take(self, log: Log, store: Store, epoch: Epoch, task: Task) -> Epoch:
        """Take the difference, once: what is published of it does not change it any more."""
        seen = difference_log(log, store, epoch)
        with settled(task, seen, self.project.open_store, self.tell) as session:
            member = session.member
            counts = (task.topic.partitions, epoch.of.partitions)
            parts = difference(log, epoch, counts, member.ensure if member else lambda: None)
            self.tell(Step("before difference kept"))
            kept = store.publications.keep(epoch, parts, session.epochs)
            self.tell(Step("after difference kept"))
        return kept

    def _task(self, log: Log, store: Store, epoch: Epoch) -> Task:
        shown = self._public_topic(log, store, epoch)
        source = shown if epoch.difference else log.topic(epoch.of.source or "")
        if source is None:
            raise TopicGone(
                f"topic {epoch.of.source}, which {epoch.name} forwards, does not exist any more",
                safe=f"What {self.topic.name} holds is as it was.",
                cure="Restore it from an archive, with its offsets.",
            )
        forwarder = Forwarder(epoch, self.topic, shown.partitions)
        shape = replace(self.topic, name=source.name)
        return Task(
            app=self.app.name,
            version=Version(epoch.of.publisher, epoch.label, None, shape, (self.topic,), {}),
            caller=forwarder,
            topic=source,
            partitions=shown.partitions if epoch.difference else epoch.of.partitions,
            batch_records=self.project.settings.batch_records,
            batch_bytes=self.project.settings.batch_bytes,
            threads=self.project.settings.threads,
            accept_gap=self.accept_gap,
            first={} if epoch.difference else epoch.of.held,
            outputs=(shown,),
            writers=(epoch.writer,) if not epoch.difference else (),
            rules=self.project.settings.rules,
            takes=forwarder.takes,
            stage=epoch.stage,
        )

    def _public_topic(self, log: Log, store: Store, epoch: Epoch) -> TopicInfo:
        """Return the public topic; one that was never made is created."""
        name = self.topic.name
        info = log.topic(name)
        if epoch.topic_id:
            check_output(epoch.name, info, name, epoch.topic_id)
        if info is None:
            count = self.topic.partitions or epoch.of.partitions
            info = log.create_topic(name, count, topic_config(self.topic))
        if not epoch.topic_id:
            store.publications.made(name, info.id)
        return info


def _idle(log: Log, store: Store, task: Task, bound: Mapping[int, int]) -> bool:
    """Say whether cursor and group stand at the end already: no session is needed to say so."""
    at = positions(store.ledger.standings(task.version.name))
    group = {p.partition: c.offset for p, c in log.committed(task.version.group).items()}
    return at == bound == group


def publishers(
    app: App, store: Store, pipelines: Sequence[str], *, until_caught_up: bool
) -> list[tuple[Topic, str]]:
    """Return the public topics of these pipelines that have something to show, or to end.

    Without ``until_caught_up`` also those of versions that may be promoted meanwhile.
    """
    found = [(e.of.topic, e.of.pipeline) for e in store.publications.epochs() if e.stage != OVER]
    if not until_caught_up:
        found += [(t.name, v.pipeline) for v in app.versions() for t in v.topics]
    return [
        (app.topics[topic], pipeline)
        for topic, pipeline in dict.fromkeys(found)
        if topic in app.topics and app.topics[topic].public and pipeline in pipelines
    ]
