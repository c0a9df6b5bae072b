"""Where the publishers of public topics stand."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from playhead.core.epochs import OVER, Epoch
from playhead.core.offsets import OffsetRange
from playhead.engine.leases import runner
from playhead.ports import Log, Store, positions
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Shown:
    """One epoch of one public topic, or the difference that comes before it.

    Attributes:
        topic: The public topic.
        pipeline: The pipeline whose pointer has this epoch.
        epoch: Its number.
        version: Label of the version that it shows.
        part: ``records``, or ``changed`` for the difference.
        stage: ``live``, ``ending``, ``stopping`` or ``over``.
        group: Its consumer group.
        source: The physical topic that it forwards.
        records: How many it has published.
        cursor: The next offset of ``source`` to be forwarded, in partition order.
        lag: Offsets that are still to be forwarded; None once it is over.
        running: Who runs it.
    """

    topic: str
    pipeline: str
    epoch: int
    version: str
    part: str
    stage: str
    group: str
    source: str
    records: int
    cursor: tuple[int, ...]
    lag: int | None
    running: str | None


def shown(project: Project) -> list[Shown]:
    """Return every epoch of every public topic, in the order in which they began.

    Raises:
        PlayheadError: Nothing has run here yet.
    """
    with closing(project.open_store(must_exist=True)) as store, closing(project.open_log()) as log:
        return [_shown(log, store, e) for e in store.publications.epochs() if e.of.source]


def _shown(log: Log, store: Store, epoch: Epoch) -> Shown:
    of, standings = epoch.of, store.ledger.standings(epoch.name)
    at = positions(standings)
    worker = runner(store, epoch.name)
    return Shown(
        topic=of.topic,
        pipeline=of.pipeline,
        epoch=of.number,
        version=of.version,
        part="changed" if epoch.difference else "records",
        stage=epoch.stage,
        group=epoch.group,
        source=of.source or "",
        records=sum(s.counts.records for s in standings.values()),
        cursor=tuple(at[p] for p in sorted(at)),
        lag=_lag(log, epoch, at),
        running=worker.owner if worker is not None else None,
    )


def _lag(log: Log, epoch: Epoch, at: Mapping[int, int]) -> int | None:
    """Return how many offsets it has before it; None where that cannot be said."""
    if epoch.stage == OVER:
        return None
    if epoch.difference:
        sizes = epoch.sizes
        return None if sizes is None else sum(n - at.get(p, 0) for p, n in sizes.items())
    if log.topic(epoch.of.source or "") is None:
        return None
    held = log.retained(epoch.of.source or "")
    ends: Mapping[int, int] = epoch.ends or {p: h.end for p, h in held.items()}
    start = {p: held.get(p, OffsetRange(0, 0)).start for p in ends}
    return sum(max(0, end - at.get(p, start[p])) for p, end in ends.items())
