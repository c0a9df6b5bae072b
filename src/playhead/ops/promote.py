"""Make another version live, or the one before it: one atomic swap, while live is held."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import msgspec

from playhead.engine.events import OnEvent, Step, listener
from playhead.errors import ConfigError, PlayheadError, PromotionRefused, Unexplained
from playhead.ops import diff as diffing
from playhead.ops import versions
from playhead.ops.diff import Difference, Reviewed
from playhead.ops.handover import HOLD_TIMEOUT_S, Handover, Over, Pair, catch_up, hand_over
from playhead.ops.mirror import refresh
from playhead.ops.versions import Known
from playhead.ports import Store, VersionRow
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
        paused_s: From when live stood still to the swap.
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


def promote(
    project: Project,
    name: str,
    *,
    accept_diff: str | None = None,
    reason: str | None = None,
    hold_timeout_s: float = HOLD_TIMEOUT_S,
    tell: OnEvent | None = None,
) -> Promoted:
    """Make a shadow live, once its differences are explained or accepted; live may be running.

    Raises:
        PromotionRefused: The version is no shadow, its code has changed, another pipeline reads
            what it writes, live does not stand still in time, or it cannot reach live's cursor.
        Unexplained: Rows differ in ways that nobody declared and nobody has accepted.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        job = Handover(project, log, store, listener(tell), hold_timeout_s)
        known = Known.read(project, store)
        known.version(name)
        pipeline = name.partition("@")[0]
        pair = Pair(_live(known, pipeline), _shadow(known, name), "promote", reason)
        reviewed = _reviewed(store, pair, accept_diff)
        _check(known, project, pair)

        def difference() -> Difference:
            expect = reviewed.expect if reviewed else ()
            found = diffing.difference(known, store, pair.base, pair.head, expect)
            _judge(store, found, reviewed)
            return found

        return _done(job, pair, hand_over(job, pair, difference))


def rollback(
    project: Project,
    pipeline: str,
    *,
    now: bool = False,
    reason: str | None = None,
    hold_timeout_s: float = HOLD_TIMEOUT_S,
    tell: OnEvent | None = None,
) -> Promoted:
    """Make the version that was live before live again: it catches up, then the swap.

    With ``now`` the swap comes first, and then it catches up, unless a worker that runs does.

    Raises:
        PromotionRefused: There is none, its code is gone or has changed, or live does not stand
            still in time.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        job = Handover(project, log, store, listener(tell), hold_timeout_s)
        known = Known.read(project, store)
        known.pipeline(pipeline)
        live = _live(known, pipeline)
        pointer = store.catalog.pointer(pipeline)
        if pointer is None or pointer.previous is None:
            raise PromotionRefused(
                f"{pipeline} was never promoted: there is nothing to roll back to",
                safe="Nothing was changed.",
            )
        pair = Pair(
            live, known.rows[f"{pipeline}@{pointer.previous}"], "rollback", reason, behind=now
        )
        _check(known, project, pair)

        def difference() -> Difference:
            return diffing.difference(known, store, pair.base, pair.head)

        done = _done(job, pair, hand_over(job, pair, difference))
        if now:
            catch_up(job, pair)
        return done


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


def _check(known: Known, project: Project, pair: Pair) -> None:
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


def _reviewed(store: Store, pair: Pair, digest: str | None) -> Reviewed | None:
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


def _done(job: Handover, pair: Pair, over: Over) -> Promoted:
    """Keep the mirror fresh, and say what was done."""
    remark = None
    try:
        refresh(job.project, job.store)
    except PlayheadError as error:
        remark = f"{error.message}; playhead query builds it"
    job.tell(Step("mirror built"))
    return Promoted(
        pipeline=pair.head.pipeline,
        version=pair.head.name,
        previous=pair.base.name,
        topic=pair.head.source,
        cursor=[at for _, at in sorted(over.cursor.items())],
        epoch=over.epoch,
        paused_s=round(over.paused_s, 3),
        difference=over.difference,
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
