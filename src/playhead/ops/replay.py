"""Read history into shadow versions, beside whatever is live."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations

from playhead.core.lineage import first_start
from playhead.core.plan import Anew, Behind, Plan, Record, Replay, Revive, Step, TakeOver
from playhead.core.ranges import Wanted
from playhead.core.saved import Saved
from playhead.engine.capped import Following
from playhead.engine.events import OnEvent, listener
from playhead.engine.hold import settled
from playhead.engine.sources import fingerprint_of
from playhead.engine.takeover import take_over
from playhead.engine.worker import Summary, Worker, ends
from playhead.errors import ConfigError, PlayheadError, Refused
from playhead.ops import bounds, chains, saved, versions
from playhead.ops import plan as planning
from playhead.ops.abreast import abreast
from playhead.ops.diff import Difference, diff
from playhead.ops.diff import Request as DiffRequest
from playhead.ops.mirror import MirrorThread
from playhead.ops.versions import Known
from playhead.ports import Log, RunRow, Store, positions
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
        state_equal: After a repair, whether state was equal to base's where the range ends, by
            partition: there everything later stands. None after any other replay.
    """

    version: str
    topic: str
    records: int
    cursor: list[int]
    elapsed_s: float
    resumed: bool
    dead_letters: int = 0
    state_equal: Mapping[int, bool] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        names: ``pipeline@label``, one or more.
        wanted: Which part of history.
        reason: For the audit.
        follow: Whether to go on behind live until stopped.
        max_rate: Most records a second, of each version; None: as fast as it goes.
        plan: A saved plan to do as it stands; then ``names`` may be empty: all that it is for.
    """

    names: Sequence[str]
    wanted: Wanted = field(default_factory=Wanted)
    reason: str | None = None
    follow: bool = False
    max_rate: float | None = None
    plan: Saved | None = None


@dataclass(frozen=True, slots=True)
class _Job:
    """A replay with everything open that it needs."""

    project: Project
    log: Log
    store: Store
    request: Request
    stop: threading.Event
    tell: OnEvent
    say: Callable[[str], None]

    def worker(self, name: str) -> Worker:
        """Return a worker of a recorded version."""
        known = Known.read(self.project, self.store)
        task = versions.task_of(known, self.project, self.log, known.rows[name])
        task = replace(task, cache=self.project.cache())
        project, rate = self.project, self.request.max_rate
        return Worker(
            task, project.open_log, project.open_store, self.tell, self.stop, max_rate=rate
        )


def replay(
    project: Project,
    request: Request,
    stop: threading.Event,
    tell: OnEvent | None = None,
    say: Callable[[str], None] = lambda _sentence: None,
) -> list[Replayed]:
    """Replay each version up to where live stood when it began; then follow live, if asked to.

    Killed at any point, the same command resumes: the shadow goes on from its own cursor, to the
    bound that the interrupted run wrote down.

    Raises:
        ConfigError: A place or a version is none, or what was asked for contradicts itself.
        Refused: Nothing is live, the version is live, or its plan refuses.
        PlanOutdated: The saved plan rests on what is not so any more.
    """
    if request.plan is not None and (request.follow or request.wanted.words):
        raise ConfigError(
            "a saved plan says where it begins and ends: leave --from, --to, --follow out"
        )
    if request.follow and request.wanted.to is not None:
        raise ConfigError("--follow goes on behind live, and --to ends before it: say one of them")
    done: list[Replayed] = []
    # Nobody reads a shadow's tables before they are whole; `query` builds the mirror by itself.
    pause_s = None if request.follow else threading.TIMEOUT_MAX
    with (
        closing(project.open_log()) as log,
        closing(project.open_store()) as store,
        MirrorThread(project, pause_s),
    ):
        job = _Job(project, log, store, request, stop, listener(tell), say)
        for name in dict.fromkeys(request.names or (request.plan.bases if request.plan else ())):
            if _done_already(job, name):
                say(f"{name}: this plan was done already")
                done.append(_result(job, name, (Summary(), time.monotonic())))
                continue
            done += _replay(job, name)
            if stop.is_set():
                return done
        if request.follow:
            done = _follow(job, done)
    return done


def compared(
    project: Project, names: Iterable[str], say: Callable[[str], None]
) -> list[Difference]:
    """Compare each pair of the versions that are of one pipeline, the first named as base.

    Two that cannot be compared are said: the replays are done all the same.
    """
    pairs = []
    for base, head in combinations(dict.fromkeys(names), 2):
        pipeline, _, label = base.partition("@")
        other, _, against = head.partition("@")
        if pipeline != other:
            continue
        try:
            pairs.append(diff(project, DiffRequest(pipeline, label, against)))
        except PlayheadError as error:
            say(f"{base} and {head} were not compared: {error.message}")
    return pairs


def _replay(job: _Job, name: str) -> list[Replayed]:
    planned = _planned(job, name)
    run, bound = _intent(job, name, planned)
    behind = [s.name for s in chains.chain(Known.read(job.project, job.store), name).links]
    results: dict[str, Replayed] = {}
    equal: dict[int, bool] | None = None
    begun = time.monotonic()
    for step in planned.steps:
        if job.stop.is_set():
            break
        begun = time.monotonic()
        if isinstance(step, TakeOver):
            equal = _take_over(job, step)
            continue
        summary = _execute(job, step, bound if step.version == name else None)
        if summary is not None:
            results[step.version] = _result(job, step.version, (summary, begun))
    done = {
        n: results.get(n) or _result(job, n, (Summary(), time.monotonic()))
        for n in _recorded(job, [name, *behind])
    }
    now = _result(job, name, (Summary(), begun)).cursor
    done[name] = replace(done[name], cursor=now, resumed=bound is not None, state_equal=equal)
    if not job.stop.is_set():
        whole = done[name]
        told = {"records": whole.records, "elapsed_s": whole.elapsed_s}
        job.store.journal.finish_run(run, {**told, "cursor": whole.cursor})
    return list(done.values())


def _recorded(job: _Job, names: Sequence[str]) -> list[str]:
    known = Known.read(job.project, job.store)
    return [name for name in names if name in known.rows]


def _planned(job: _Job, name: str) -> Plan:
    """Return the plan of a replay, with its remarks said.

    Raises:
        Refused: The version is live, or the plan refuses.
    """
    known = Known.read(job.project, job.store)
    version = known.version(name)
    row = known.rows.get(name)
    if row is not None and row.stage == "live":
        raise Refused(f"{name} is live: a replay fills a shadow", safe="Nothing was changed.")
    planned = planning.of_chain(
        known, job.project, (job.log, job.store), version, job.request.wanted
    )
    then = job.request.plan
    last = None if then is None else _last_with(job, name, then)
    if then is not None and last is not None and last.result is None:
        planned = saved.ended(then, planned)  # it was begun, and goes on
    elif then is not None:
        now = saved.basis_of(known, job.project, (job.log, job.store), version)
        planned = saved.held_to(then, now, planned)
    if planned.refused:
        raise planning.refuse(planned.refused)
    for remark in planned.remarks:
        job.say(remark)
    return planned


def _last_with(job: _Job, name: str, plan: Saved) -> RunRow | None:
    """Return the version's last replay, if that is one of this saved plan."""
    runs = [r for r in job.store.journal.runs() if r.kind == "replay" and r.subject == name]
    return runs[-1] if runs and runs[-1].intent.get("plan") == plan.id else None


def _done_already(job: _Job, name: str) -> bool:
    """Say whether a saved plan was done to its end, and the version stands there or beyond."""
    plan = job.request.plan
    last = None if plan is None else _last_with(job, name, plan)
    if plan is None or last is None or last.result is None:
        return False
    at = positions(job.store.ledger.standings(name))
    return all(at.get(p, 0) >= wanted.end for p, wanted in plan.ranges.get(name, {}).items())


def _execute(job: _Job, step: Step, bound: Mapping[int, int] | None) -> Summary | None:
    """Do one step of a plan; ``bound`` is that of the interrupted run that is resumed."""
    known = Known.read(job.project, job.store)
    match step:
        case Record(name, scope=scope):
            where = (job.log, job.store)
            versions.record_shadow(known, job.project, where, known.version(name), scope)
        case Revive(name):
            job.store.catalog.change(replace(known.rows[name], stage="shadow"))
        case Anew(name, why):
            _anew(job, name, why)
        case Replay(name):
            _told(job, step)
            return job.worker(name).run(bound or step.bound)
        case Behind(name, topic):
            return job.worker(name).run(ends(job.log.retained(topic)))
        case TakeOver():
            pass  # what it finds is part of the result
    return None


def _take_over(job: _Job, step: TakeOver) -> dict[int, bool]:
    """End a repair: take over what base made of all that follows, where the states are equal."""
    known = Known.read(job.project, job.store)
    row = known.rows[step.version]
    task = versions.task_of(known, job.project, job.log, row)
    with settled(task, job.log, job.project.open_store, job.tell) as session:
        equal = take_over(session, step.to)
    differ = [f"{row.source}[{p}]" for p, same in equal.items() if not same]
    if differ:
        job.say(
            f"state differs from {step.base}'s at the end of the range in {', '.join(differ)}: "
            f"the repair has to go on to the end; next: playhead replay {step.version}"
        )
    elif equal:
        job.say(f"state at the end of the range is {step.base}'s: everything later stands")
    return equal


def _told(job: _Job, step: Replay) -> None:
    if job.request.wanted.words:
        for sentence in bounds.told(job.log, step.topic, step.ranges):
            job.say(sentence)


def _result(job: _Job, name: str, ran: tuple[Summary, float]) -> Replayed:
    summary, begun = ran
    topic = Known.read(job.project, job.store).rows[name].source
    standings = job.store.ledger.standings(name)
    return Replayed(
        version=name,
        topic=topic,
        records=summary.records,
        cursor=[standings[p].cursor.next for p in sorted(standings)],
        elapsed_s=round(time.monotonic() - begun, 3),
        resumed=False,
        dead_letters=summary.dead,
    )


def _follow(job: _Job, caught_up: Sequence[Replayed]) -> list[Replayed]:
    """Go on behind live, all versions side by side, until stopped or no longer a shadow."""
    begun = time.monotonic()
    names = [done.version for done in caught_up]
    job.say(f"{', '.join(names)}: caught up, following; Ctrl-C stops after the current batch")

    def follow(name: str) -> Summary:
        heads = name in job.request.names  # what is behind one reads on to wherever that has come
        summary = job.worker(name).run(Following(name.partition("@")[0]) if heads else None)
        if not job.stop.is_set():
            job.say(f"{name} is {summary.stage} now: it follows no more")
        return summary

    summaries = abreast({name: partial(follow, name) for name in names}, job.stop)
    found = []
    for done in caught_up:
        more = _result(job, done.version, (summaries[done.version], begun))
        found.append(
            replace(
                more,
                records=done.records + more.records,
                elapsed_s=round(done.elapsed_s + more.elapsed_s, 3),
                dead_letters=done.dead_letters + more.dead_letters,
                resumed=done.resumed,
            )
        )
    return found


def _intent(job: _Job, name: str, planned: Plan) -> tuple[str, dict[int, int] | None]:
    """Write down what is about to happen; return the run, and an interrupted run's bound."""
    request = job.request
    anew = any(isinstance(step, Anew) for step in planned.steps)
    if not anew and not request.follow:
        last = _unfinished(job.store.journal.runs(), name)
        words, plan = request.wanted.words, request.plan
        same = last is not None and (plan is None or last.intent.get("plan") == plan.id)
        if last is not None and same and words in ({}, last.intent.get("words", {})):
            found = last.intent.get("bound")
            if isinstance(found, Mapping):
                return last.id, {int(p): int(at) for p, at in found.items()}
    wanted = [step.bound for step in planned.steps if isinstance(step, Replay)]
    bound = {str(p): at for p, at in wanted[0].items()} if wanted else {}
    version = Known.read(job.project, job.store).version(name)
    intent = {
        "bound": bound,
        "words": request.wanted.words,
        "fingerprint": fingerprint_of(version, job.project.root),
        "reason": request.reason,
        "plan": request.plan.id if request.plan else None,
    }
    return job.store.journal.begin_run("replay", name, intent), None


def _unfinished(runs: Sequence[RunRow], name: str) -> RunRow | None:
    """Return the version's last replay, if it was interrupted."""
    last = [r for r in runs if r.kind == "replay" and r.subject == name][-1:]
    return last[0] if last and last[0].result is None else None


def _anew(job: _Job, name: str, why: str) -> None:
    """Rewind a shadow to its start with its code as it is now, then record its fingerprint.

    In this order: a crash between the two rewinds once more, and never runs new code on old state.
    """
    project, log, store = job.project, job.log, job.store
    known = Known.read(project, store)
    row = known.rows[name]
    start = {p: first_start(h) for p, h in store.ledger.generations(name).items()}
    task = versions.task_of(known, project, log, row)
    task = replace(task, rewind=start, why=why)
    with settled(task, log, project.open_store, job.tell):
        described = versions.describe(known, project, log, known.version(name))
        row = replace(
            known.rows[name],
            fingerprint=described.fingerprint,
            environment=described.environment,
            tables=described.tables,
            stage="shadow",
        )
        store.catalog.change(row)
