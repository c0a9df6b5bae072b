"""Who ran what was live runs what is live now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace

from playhead.engine.events import OnEvent
from playhead.engine.hold import LIVE
from playhead.engine.task import Task
from playhead.engine.worker import Summary, Worker
from playhead.errors import Refused
from playhead.ops import versions
from playhead.ops.journal import Recorded
from playhead.ops.versions import Known
from playhead.project import Project

Say = Callable[[str], None]
Bound = Mapping[int, int]


class Succession:
    """Runs whatever is live of one pipeline, one version after another, until told to stop."""

    def __init__(self, project: Project, worker: Worker, tell: OnEvent, say: Say) -> None:
        """Begin with a worker of what is live now."""
        self._project = project
        self._worker = worker
        self._tell = tell
        self._say = say

    @property
    def task(self) -> Task:
        """What is run now."""
        return self._worker.task

    @property
    def stop(self) -> threading.Event:
        """Ends the work after the current batch."""
        return self._worker.stop

    def run(
        self, ran: Callable[[Task, Summary], None], bound: Callable[[Task], Bound] | None = None
    ) -> None:
        """Run until stopped, or until a version that is live has reached its bound.

        Args:
            ran: Told of each version that ended.
            bound: Returns the position to stop at, by partition; None runs on.

        Raises:
            Refused: What is live now is not declared here, or its code has changed.
        """
        while True:
            summary = self._worker.run(bound(self.task) if bound else None)
            ran(self.task, summary)
            if self.stop.is_set() or summary.stage == LIVE:
                return
            self._worker = self._next()

    def _next(self) -> Worker:
        """Return a worker of what is live now: it stands by while another process runs it."""
        before = self._worker.task.version
        pipeline = before.pipeline
        with (
            closing(self._project.open_log()) as log,
            closing(self._project.open_store()) as store,
        ):
            known = Known.read(self._project, store)
            live = known.live(pipeline)
            if live is not None and known.declared(live.name) is None:
                # Its code came after this process had begun: what is on the disk counts now.
                self._project = self._project.reloaded()
                known = Known.read(self._project, store)
            pointer = store.catalog.pointer(pipeline)
            if live is None or pointer is None:
                raise Refused(f"nothing of {pipeline} is live any more", safe="Nothing was lost.")
            self._say(
                f"{before.name} was retired by the promotion of {live.name} (epoch "
                f"{pointer.epoch}); {live.name} is run from here on"
            )
            version = known.declared(live.name)
            if version is not None:
                versions.refuse_changed(live, version, self._project)
            task = replace(versions.task_of(known, self._project, log, live), stage=LIVE)
        project, stop = self._project, self.stop
        worker = Recorded(task, project.open_log, project.open_store, self._tell, stop)
        worker.patient = True
        return worker
