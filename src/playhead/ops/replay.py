"""Read history into shadow versions, beside whatever is live."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from playhead.core.lineage import first_start
from playhead.core.plan import Anew, Plan, Record, Replay, Revive
from playhead.engine.events import OnEvent, listener
from playhead.engine.worker import Summary, Worker, settled
from playhead.errors import Refused
from playhead.ops import plan as planning
from playhead.ops import versions
from playhead.ops.mirror import MirrorThread
from playhead.ops.versions import Known
from playhead.ports import Log, Store
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one replay did.

    Attributes:
        version: ``pipeline@label``.
        topic: The physical topic.
        records: Records that this run processed.
        dead_letters: Records that it set aside.
        cursor: The next offset to read, in partition order.
        elapsed_s: How long it took.
        resumed: Whether it went on with a replay that was interrupted.
    """

    version: str
    topic: str
    records: int
    cursor: list[int]
    elapsed_s: float
    resumed: bool
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        names: ``pipeline@label``, one or more.
        to: Where to end, if before the live cursor.
        reason: For the audit.
    """

    names: Sequence[str]
    to: str | None = None
    reason: str | None = None


def replay(
    project: Project,
    request: Request,
    stop: threading.Event,
    tell: OnEvent | None = None,
    say: Callable[[str], None] = lambda _sentence: None,
) -> list[Replayed]:
    """Replay each version up to where live stood when it began.

    Killed at any point, the same command resumes: the shadow goes on from its own cursor, to the
    bound that the interrupted run wrote down.

    Raises:
        Refused: Nothing is live, the version is live, or its plan refuses.
    """
    done: list[Replayed] = []
    tell = listener(tell)
    with (
        closing(project.open_log()) as log,
        closing(project.open_store()) as store,
        MirrorThread(project),
    ):
        for name in request.names:
            done.append(_replay(project, log, store, (name, request, stop, tell, say)))
            if stop.is_set():
                break
    return done


_Call = tuple[str, Request, threading.Event, OnEvent, Callable[[str], None]]


def _replay(project: Project, log: Log, store: Store, call: _Call) -> Replayed:
    name, request, stop, tell, say = call
    known = Known.read(project, store)
    version = known.version(name)
    row = known.rows.get(name)
    if row is not None and row.stage == "live":
        raise Refused(f"{name} is live: a replay fills a shadow", safe="Nothing was changed.")
    planned = planning.of_version(known, project, log, store, version, to=request.to)
    if planned.refused:
        raise planning.refuse(planned.refused)
    for remark in planned.remarks:
        say(remark)
    begun = time.monotonic()
    run, bound = _intent(store, name, planned, request)
    summary = Summary()
    for step in planned.steps:
        match step:
            case Record():
                versions.record(known, project, log, store, version, stage="shadow")
            case Revive():
                store.catalog.change(replace(known.rows[name], stage="shadow"))
            case Anew():
                _anew(project, log, store, name, tell)
            case Replay():
                known = Known.read(project, store)
                task = versions.task_of(known, project, log, known.rows[name])
                worker = Worker(task, project.open_log, project.open_store, tell, stop)
                summary = worker.run(bound or step.bound)
        known = Known.read(project, store)
    standings = store.ledger.standings(name)
    cursor = [standings[p].cursor.next for p in sorted(standings)]
    if not stop.is_set():
        store.journal.finish_run(run, {"records": summary.records, "cursor": cursor})
    elapsed_s = time.monotonic() - begun
    topic = known.source(version)
    return Replayed(
        version=name,
        topic=topic,
        records=summary.records,
        cursor=cursor,
        elapsed_s=round(elapsed_s, 3),
        resumed=bound is not None,
        dead_letters=summary.dead,
    )


def _intent(
    store: Store, name: str, planned: Plan, request: Request
) -> tuple[str, dict[int, int] | None]:
    """Write down what is about to happen; return the run, and an interrupted run's bound."""
    unfinished = [
        r
        for r in store.journal.runs()
        if r.kind == "replay" and r.subject == name and r.result is None
    ]
    anew = any(isinstance(step, Anew) for step in planned.steps)
    if unfinished and request.to is None and not anew:
        found = unfinished[-1].intent.get("bound")
        if isinstance(found, dict):
            return unfinished[-1].id, {int(p): int(at) for p, at in found.items()}
    wanted = [step.bound for step in planned.steps if isinstance(step, Replay)]
    bound = {str(p): at for p, at in wanted[0].items()} if wanted else {}
    intent = {"bound": bound, "reason": request.reason}
    return store.journal.begin_run("replay", name, intent), None


def _anew(project: Project, log: Log, store: Store, name: str, tell: OnEvent) -> None:
    """Rewind a shadow to its start with its new code, then record the code's fingerprint.

    In this order: a crash between the two rewinds once more, and never runs new code on old state.
    """
    known = Known.read(project, store)
    row = known.rows[name]
    start = {p: first_start(h) for p, h in store.ledger.generations(name).items()}
    task = versions.task_of(known, project, log, row)
    task = replace(task, rewind=start, why="its code has changed")
    with settled(task, log, project.open_store, tell):
        described = versions.describe(known, project, log, known.version(name))
        row = replace(
            known.rows[name],
            fingerprint=described.fingerprint,
            environment=described.environment,
            tables=described.tables,
            stage="shadow",
        )
        store.catalog.change(row)
