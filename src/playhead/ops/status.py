"""Where every version of every pipeline stands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from playhead.core import behind
from playhead.core.declare import App
from playhead.core.offsets import OffsetRange
from playhead.engine.leases import runner
from playhead.errors import ConfigError, LogFailed
from playhead.ops.catching_up import catching_up
from playhead.ports import Log, Store, VersionRow, positions
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version; ``stage`` is live, shadow, retired, or ``declared`` when not recorded yet.

    ``lag`` is in offsets, summed over the partitions; None where the topic is gone.
    ``declared`` says whether the user's module declares it here; ``behind``, how many offsets a
    live version has to read until it is where the one before it was.
    """

    pipeline: str
    version: str
    stage: str
    declared: bool
    generation: int | None = None
    fingerprint: str | None = None
    group: str | None = None
    topic: str | None = None
    cursor: tuple[int, ...] = ()
    lag: int | None = None
    running: str | None = None
    dead_letters: int = 0
    behind: int = 0


def status(project: Project) -> list[VersionStatus]:
    """Return every version that is recorded or declared, pipeline by pipeline.

    Raises:
        PlayheadError: Nothing has run here yet.
    """
    with closing(project.open_store(must_exist=True)) as store, closing(project.open_log()) as log:
        late = catching_up(store)
        found = [
            replace(_recorded(log, store, row), behind=late.get(row.name, 0))
            for row in store.catalog.versions()
        ]
    try:
        declared = {v.name: v for v in project.app.versions()}
    except ConfigError:
        return found  # no module is named here: what is recorded is still worth showing
    known = {f"{f.pipeline}@{f.version}" for f in found}
    marked = [_marked(f, project.app) for f in found]
    return marked + [
        VersionStatus(v.pipeline, v.label, "declared", declared=True, group=v.group)
        for name, v in declared.items()
        if name not in known
    ]


def _marked(found: VersionStatus, app: App) -> VersionStatus:
    here = behind.declared(app, f"{found.pipeline}@{found.version}")
    return replace(found, declared=here is not None)


def _recorded(log: Log, store: Store, row: VersionRow) -> VersionStatus:
    standings = store.ledger.standings(row.name)
    worker = runner(store, row.name)
    try:
        retained: Mapping[int, OffsetRange] | None = log.retained(row.source)
    except LogFailed as error:
        if error.exit_code == 5:
            raise
        retained = None
    lag = None
    if retained is not None:
        at = positions(standings)
        lag = sum(max(0, held.end - at.get(p, held.start)) for p, held in retained.items())
    return VersionStatus(
        pipeline=row.pipeline,
        version=row.label,
        stage=row.stage,
        declared=False,
        generation=max((s.cursor.generation for s in standings.values()), default=None),
        fingerprint=row.fingerprint,
        group=row.group,
        topic=row.source,
        cursor=tuple(standings[p].cursor.next for p in sorted(standings)),
        lag=lag,
        running=worker.owner if worker is not None else None,
        dead_letters=sum(s.counts.dead for s in standings.values()),
    )
