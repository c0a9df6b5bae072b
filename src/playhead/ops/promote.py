"""Make another version live, or the one before it: one atomic swap, with live stopped."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import msgspec

from playhead.engine.events import OnEvent, Step, listener
from playhead.engine.session import Session
from playhead.engine.worker import Worker, settled
from playhead.errors import ConfigError, PlayheadError, PromotionRefused, Unexplained
from playhead.ops import diff as diffing
from playhead.ops import versions
from playhead.ops.diff import Difference, Reviewed
from playhead.ops.journal import now
from playhead.ops.mirror import refresh
from playhead.ops.versions import Known
from playhead.ports import Log, Store, Swap, VersionRow
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a promotion or a rollback did.

    Attributes:
        pipeline: Its name.
        version: The version that is live now.
        previous: The version that was live before.
        topic: The physical source topic.
        cursor: Where both stood at the swap, in partition order.
        epoch: Epoch of the pointer.
        paused_s: From taking live's leases to the swap.
        difference: What the diff at the swap said.
        remark: What could not be done afterwards, if anything.
    """

    pipeline: str
    version: str
    previous: str
    topic: str
    cursor: list[int]
    epoch: int
    paused_s: float
    difference: Difference
    remark: str | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    base: VersionRow
    head: VersionRow
    kind: str
    reason: str | None = None
    begun_at: str = field(default_factory=now)


def promote(
    project: Project,
    name: str,
    *,
    accept_diff: str | None = None,
    reason: str | None = None,
    tell: OnEvent | None = None,
) -> Promoted:
    """Make a shadow live, once its differences are explained or accepted.

    Raises:
        PromotionRefused: Something runs, the version is no shadow, its code has changed, another
            pipeline reads what it writes, or it cannot reach live's cursor.
        Unexplained: Rows differ in ways that nobody declared and nobody has accepted.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        known.version(name)
        pipeline = name.partition("@")[0]
        pair = _Pair(_live(known, pipeline), _shadow(known, name), "promote", reason)
        reviewed = _reviewed(store, pair, accept_diff)
        return _swap(project, log, store, pair, (reviewed, listener(tell)))


def rollback(
    project: Project, pipeline: str, *, reason: str | None = None, tell: OnEvent | None = None
) -> Promoted:
    """Make the version that was live before live again: it catches up, then the swap.

    Raises:
        PromotionRefused: There is none, its code is gone or has changed, or something runs.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        known.pipeline(pipeline)
        live = _live(known, pipeline)
        pointer = store.catalog.pointer(pipeline)
        if pointer is None or pointer.previous is None:
            raise PromotionRefused(
                f"{pipeline} was never promoted: there is nothing to roll back to",
                safe="Nothing was changed.",
            )
        name = f"{pipeline}@{pointer.previous}"
        pair = _Pair(live, known.rows[name], "rollback", reason)
        return _swap(project, log, store, pair, (None, listener(tell)))


def _live(known: Known, pipeline: str) -> VersionRow:
    live = known.live(pipeline)
    if live is None:
        raise PromotionRefused(f"nothing of {pipeline} is live", cure="playhead run first.")
    return live


def _shadow(known: Known, name: str) -> VersionRow:
    row = known.rows.get(name)
    if row is not None and row.stage == "shadow":
        return row
    stage = row.stage if row else "not replayed"
    cure = None if stage == "live" else f"playhead replay {name}"
    raise PromotionRefused(f"{name} is {stage}, not a shadow", safe="Nothing changed.", cure=cure)


def _check(known: Known, project: Project, pair: _Pair) -> None:
    readers = known.readers(pair.head.pipeline)
    if readers:
        raise PromotionRefused(
            f"{', '.join(readers)} reads what {pair.head.pipeline} writes: a chain has to be "
            "promoted as a whole, which is not possible yet",
            safe="Nothing was changed.",
        )
    for row in (pair.base, pair.head):
        version = known.declared(row.name)
        if version is None:
            raise PromotionRefused(
                f"{row.name} is not declared here, and its code is needed",
                safe="Nothing was changed.",
                cure=f"Declare it again with @{row.pipeline}.version.",
            )
        versions.refuse_changed(row, version, project)


def _reviewed(store: Store, pair: _Pair, digest: str | None) -> Reviewed | None:
    if digest is None:
        return None
    content = store.journal.diff(digest)
    if content is None:
        raise ConfigError(
            f"no diff {digest!r} was taken here", cure=f"playhead diff {pair.head.pipeline}"
        )
    reviewed = msgspec.json.decode(content, type=Reviewed)
    if (reviewed.base, reviewed.head) != (pair.base.name, pair.head.name):
        raise PromotionRefused(
            f"diff {digest} compares {reviewed.base} with {reviewed.head}",
            safe="Nothing was changed.",
        )
    if not reviewed.acceptable:
        raise PromotionRefused(f"diff {digest} has too many unexplained rows to be accepted")
    return reviewed


def _swap(
    project: Project,
    log: Log,
    store: Store,
    pair: _Pair,
    how: tuple[Reviewed | None, OnEvent],
) -> Promoted:
    """Hold live, bring head to exactly where it stands, compare, and swap.

    1. Take live's leases and run its start sequence: nothing of it is pending, it stands at C.
    2. Run head to exactly C, and hold it there.
    3. Take the diff at C; go on only if it is explained or was accepted.
    4. One store transaction: pointer, stages, views, audit, under all the leases and cursors.
    """
    reviewed, tell = how
    known = Known.read(project, store)
    _check(known, project, pair)
    begun = time.monotonic()
    with ExitStack() as held:
        base_task = versions.task_of(known, project, log, pair.base)
        base = held.enter_context(settled(base_task, log, project.open_store, tell))
        if pair.head.stage == "retired":
            store.catalog.change(replace(pair.head, stage="shadow"))
        head_task = versions.task_of(known, project, log, pair.head)
        Worker(head_task, project.open_log, project.open_store, tell).run(base.positions)
        head = held.enter_context(settled(head_task, log, project.open_store, tell))
        if head.positions != base.positions:
            raise PromotionRefused(
                f"{pair.head.name} stands at {head.positions}, live at {base.positions}",
                safe="Nothing was changed.",
                cure=f"playhead replay {pair.head.name}",
            )
        expect = reviewed.expect if reviewed else ()
        found = diffing.difference(known, store, pair.base, pair.head, expect)
        if pair.kind == "promote":
            _judge(store, found, reviewed)
        tell(Step("before swap"))
        epoch = store.catalog.swap(_ready(store, pair, (base, head), found))
        tell(Step("after swap"))
        paused_s = time.monotonic() - begun
    cursor = [base.positions[p] for p in sorted(base.positions)]
    remark = None
    try:
        refresh(project, store)
    except PlayheadError as error:
        remark = f"{error.message}; playhead query builds it"
    return Promoted(
        pipeline=pair.head.pipeline,
        version=pair.head.name,
        previous=pair.base.name,
        topic=pair.head.source,
        cursor=cursor,
        epoch=epoch,
        paused_s=round(paused_s, 3),
        difference=found,
        remark=remark,
    )


def _judge(store: Store, found: Difference, reviewed: Reviewed | None) -> None:
    if not found.unexplained:
        return
    diffing.keep(store, found)
    seen = reviewed.unexplained if reviewed else {}
    fresh = found.beyond(seen)
    if fresh:
        was = "were not in the diff that was accepted" if reviewed else "are unexplained"
        raise Unexplained(
            f"{fresh} rows differ between {found.base} and {found.head} and {was}",
            safe=f"Nothing was changed: {found.base} is live.",
            cure=f"Look: playhead diff {found.head.partition('@')[0]}. Then correct the version, "
            f"declare what changes with expect=, or accept it: --accept-diff {found.digest}.",
        )


def _ready(store: Store, pair: _Pair, sessions: tuple[Session, Session], found: Difference) -> Swap:
    base, head = sessions
    pointer = store.catalog.pointer(pair.head.pipeline)
    return Swap(
        base=pair.base,
        head=pair.head,
        epoch=pointer.epoch if pointer else 0,
        leases={**base.epochs, **head.epochs},
        cursors={
            base.name: {p: seat.cursor for p, seat in base.seats.items()},
            head.name: {p: seat.cursor for p, seat in head.seats.items()},
        },
        detail={
            "kind": pair.kind,
            "previous": pair.base.name,
            "reason": pair.reason,
            "begun_at": pair.begun_at,
            "fingerprint": pair.head.fingerprint,
            "previous_fingerprint": pair.base.fingerprint,
            "cursor": {str(p): at for p, at in sorted(base.positions.items())},
            "diff": found.digest,
            "unexplained": found.unexplained,
        },
    )
