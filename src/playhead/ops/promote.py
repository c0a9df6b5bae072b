"""Make another version live, or the one before it: one atomic swap, while live is held."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import msgspec

from playhead.engine.events import OnEvent, Step, listener
from playhead.errors import ConfigError, PlayheadError, PromotionRefused, Unexplained
from playhead.ops import chains, pairing, versions
from playhead.ops import diff as diffing
from playhead.ops.ahead import Ahead
from playhead.ops.diff import Difference, Reviewed
from playhead.ops.handover import HOLD_TIMEOUT_S, Handover, Over, Pair, catch_up, hand_over
from playhead.ops.mirror import refresh
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow
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
        difference: What the diff at the swap said, of the whole chain; None: in ``behind``.
        behind: What was handed over with it: the pipelines that read what it writes, in order.
        remark: What could not be done afterwards, if anything.
    """

    pipeline: str
    version: str
    previous: str
    topic: str
    cursor: list[int]
    epoch: int
    paused_s: float
    difference: Difference | None = None
    behind: tuple[Promoted, ...] = ()
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

    What reads its topics is promoted with it, in the same transaction.

    Args:
        project: The project.
        name: ``pipeline@label``.
        accept_diff: Digest of a diff that was reviewed.
        reason: For the audit.
        hold_timeout_s: How long a worker may take until it stands still.
        tell: Told every event.

    Raises:
        PromotionRefused: The version is no shadow, its code has changed, what reads its topics was
            not replayed, live does not stand still in time, or it cannot reach live's cursor.
        Unexplained: Rows differ in ways that nobody declared and nobody has accepted.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        job = Handover(project, log, store, listener(tell), hold_timeout_s)
        known = Known.read(project, store)
        known.version(name)
        first = Pair(_live(known, name.partition("@")[0]), _shadow(known, name), "promote", reason)
        pairs = _chain(known, project, first)
        reviewed = _reviewed(store, first, accept_diff)

        comparing = _Comparing(known, log, store, first, reviewed)
        over, found = hand_over(job, pairs, comparing)
        return _done(job, over, found)


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

    What reads its topics is rolled back with it. With ``now`` the swap comes first, and then they
    catch up, unless a worker that runs does that.

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
        head = known.rows[f"{pipeline}@{pointer.previous}"]
        pairs = _chain(known, project, Pair(live, head, "rollback", reason, behind=now))
        over, found = hand_over(job, pairs, _Comparing(known, log, store, pairs[0]))
        done = _done(job, over, found)
        if now:
            catch_up(job, over)
        return done


@dataclass(slots=True)
class _Comparing:
    """Takes the difference of a hand-over, and judges it where it is to be one."""

    known: Known
    log: Log
    store: Store
    pair: Pair
    reviewed: Reviewed | None = None
    ahead: Ahead = field(default_factory=Ahead)

    def read_ahead(self) -> None:
        """Read the tables while live goes on: then it stands still for what changes meanwhile."""
        stages = pairing.stages(self.known, self.pair.base, self.pair.head)
        with self.store.catalog.moment() as moment:
            self.ahead.read(moment, pairing.tables(stages))

    def difference(self) -> Difference:
        """Return it; in a promotion it has to be explained, or accepted."""
        pair = self.pair.base, self.pair.head
        expect = self.reviewed.expect if self.reviewed else ()
        where = self.log, self.store
        found = diffing.difference(self.known, where, pair, expect, ahead=self.ahead)
        if self.pair.kind == "promote":
            _judge(self.store, found, self.reviewed)
        return found


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


def _chain(known: Known, project: Project, first: Pair) -> list[Pair]:
    """Return the pair and what reads the topics of its head, in order; each may be handed over.

    Raises:
        PromotionRefused: One of them cannot be.
    """
    pairs = [first]
    _check_fed(known, first.head)
    _check_code(known, project, first)
    step, refused = chains.promotion(known, first.base, first.head.name)
    if refused:
        one = refused[0]
        raise PromotionRefused(
            f"{one.subject}: {one.reason}", safe="Nothing was changed.", cure=one.cure
        )
    for name, base in step.behind:
        row = known.rows.get(name)
        if row is None or (row.stage == "retired" and first.kind == "promote"):
            raise PromotionRefused(
                f"{base.partition('@')[0]} reads what {first.head.pipeline} writes, and has no "
                f"shadow behind {first.head.name}",
                safe="Nothing was changed.",
                cure=f"playhead replay {first.head.name}",
            )
        pair = replace(first, base=known.rows[base], head=row)
        _check_code(known, project, pair)
        pairs.append(pair)
    return pairs


def _check_fed(known: Known, head: VersionRow) -> None:
    """Refuse what reads the topic of a version that is not live: nothing new would come."""
    writers = [known.rows[name] for name in known.writers(head)]
    if writers and all(w.stage != "live" for w in writers):
        first = writers[0]
        raise PromotionRefused(
            f"{head.name} reads what {first.name} writes, which is {first.stage}: it is handed "
            "over together with that",
            safe="Nothing was changed.",
            cure=f"playhead promote {first.name}, or playhead rollback {first.pipeline}",
        )


def _check_code(known: Known, project: Project, pair: Pair) -> None:
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


def _done(job: Handover, over: Sequence[Over], found: Difference) -> Promoted:
    """Keep the mirror fresh, and say what was done."""
    remark = None
    try:
        refresh(job.project, job.store)
    except PlayheadError as error:
        remark = f"{error.message}; playhead query builds it"
    job.tell(Step("mirror built"))
    first, *behind = map(_promoted, over)
    return replace(first, difference=found, behind=tuple(behind), remark=remark)


def _promoted(over: Over) -> Promoted:
    return Promoted(
        pipeline=over.pair.head.pipeline,
        version=over.pair.head.name,
        previous=over.pair.base.name,
        topic=over.pair.head.source,
        cursor=[at for _, at in sorted(over.cursor.items())],
        epoch=over.epoch,
        paused_s=round(over.paused_s, 3),
    )


def _judge(store: Store, found: Difference, reviewed: Reviewed | None) -> None:
    if not found.unexplained:
        return
    diffing.keep(store, found)
    seen = reviewed.unexplained if reviewed else {}
    fresh = found.beyond(seen)
    if fresh:
        was = "were not in the diff that was accepted" if reviewed else "are unexplained"
        where = ", ".join(name for name, c in found.tables.items() if c.unexplained)
        raise Unexplained(
            f"{fresh} rows differ between {found.base} and {found.head} and {was} ({where})",
            safe=f"Nothing was changed: {found.base} is live.",
            cure=f"Look: playhead diff {found.head.partition('@')[0]}. Then correct the version, "
            f"declare what changes with expect=, or accept it: --accept-diff {found.digest}.",
        )
