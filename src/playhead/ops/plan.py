"""What would happen, and why. Read-only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

from playhead.core.declare import Version
from playhead.core.plan import Facts, Plan, Promotion, Record, Refusal, Step, plan_version
from playhead.core.ranges import Wanted
from playhead.engine.sources import environment
from playhead.errors import PlayheadError, Refused
from playhead.ops import bounds, chains, epochs, scopes, versions
from playhead.ops.saved import basis_of
from playhead.ops.scopes import Stands
from playhead.ops.survey import Surveyor
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow, positions, shown_columns
from playhead.project import Project


def plan(project: Project, name: str | None = None) -> Plan:
    """Return what replays would do for every declared version that is not live.

    Args:
        project: The project.
        name: One pipeline, or one version as ``pipeline@label``; else all there are.

    Raises:
        ConfigError: No such pipeline or version is declared.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        names = [name] if name else list(known.app.pipelines)
        parts = [_of_pipeline(known, project, log, store, one) for one in names]
        found = Plan(
            tuple(step for part in parts for step in part.steps),
            tuple(refusal for part in parts for refusal in part.refused),
            tuple(remark for part in parts for remark in part.remarks),
            promotions=tuple(one for part in parts for one in part.promotions),
        )
        touched = dict.fromkeys(s.version for s in found.steps if "+" not in s.version)
        declared = [v for v in map(known.declared, touched) if v is not None]
        bases = tuple(basis_of(known, project, (log, store), v) for v in declared)
        return Surveyor(known, project, log, store).survey(replace(found, bases=bases))


def _of_pipeline(known: Known, project: Project, log: Log, store: Store, name: str) -> Plan:
    only = known.version(name) if "@" in name else None
    pipeline = known.pipeline(name.partition("@")[0])
    live = known.live(pipeline.name)
    if live is None:
        return Plan(refused=(Refusal(pipeline.name, "nothing is live", "playhead run first."),))
    declared = known.declared(live.name)
    refused: list[Refusal] = []
    if declared is None:
        cure = f"Keep it, and add the new one with @{pipeline.name}.version."
        refused.append(Refusal(live.name, "is live but not declared here", cure))
    elif versions.changed_code(live, declared, project):
        cure = f"Restore it, or give it a new label with @{pipeline.name}.version."
        refused.append(Refusal(live.name, "its code has changed under the live label", cure))
    steps: list[Step] = []
    remarks: list[str] = []
    promotions: list[Promotion] = []
    for version in pipeline.versions.values() if only is None else (only,):
        row = known.rows.get(version.name)
        if row is not None:
            remarks += _other_libraries(row, environment(version, project.root))
        if version.name == live.name and only is not None:
            remarks.append(f"{live.name} is live: there is nothing to replay")
        retired = row is not None and row.stage == "retired"
        if version.name == live.name or (retired and only is None):
            continue  # a retired one comes back by rollback, or by a replay that names it
        part = of_chain(known, project, (log, store), version)
        remarks += epochs.remarks(version)
        steps += part.steps
        refused += part.refused
        if part.refused:
            continue
        handed_over, _ = chains.promotion(known, live, version.name)
        promotions.append(handed_over)
    return Plan(tuple(steps), tuple(refused), tuple(remarks), promotions=tuple(promotions))


def of_chain(
    known: Known,
    project: Project,
    where: tuple[Log, Store],
    version: Version,
    wanted: Wanted | None = None,
) -> Plan:
    """Return what a replay of one version would do, to it and to the readers of what it writes.

    Raises:
        ConfigError: What is wanted is not a place.
        OffsetOutOfRange: It is not retained.
    """
    first = of_version(known, project, where, version, wanted)
    return chains.planned(known, project, where, version.name, first)


def of_version(
    known: Known,
    project: Project,
    where: tuple[Log, Store],
    version: Version,
    wanted: Wanted | None = None,
) -> Plan:
    """Return what a replay of one version would do, to the live cursor or as ``wanted``.

    Raises:
        ConfigError: What is wanted is not a place.
        OffsetOutOfRange: It is not retained.
    """
    log, store = where
    live = known.live(version.pipeline)
    if live is None:
        reason = f"nothing of {version.pipeline} is live"
        return Plan(refused=(Refusal(version.name, reason, "playhead run first."),))
    row = known.rows.get(version.name)
    try:
        described = versions.describe(known, project, log, version)
    except PlayheadError as error:
        return Plan(refused=(Refusal(version.name, error.message, error.cure or ""),))
    refusal = _schema_change(known, live, described)
    if refusal is not None:
        return Plan(refused=(refusal,))
    topic = row.source if row else described.source
    retained = log.retained(topic)
    live_at = positions(store.ledger.standings(live.name))
    wanted = wanted or Wanted()
    stands = Stands(live, retained, live_at)
    scope, said = scopes.scope_of(known, log, version, wanted, stands)
    if scope is None:
        bound, remarks = bounds.end(log, topic, retained, live_at, wanted)
    else:
        bound, remarks = scopes.bound_of(scope, stands), said
    generations = store.ledger.generations(version.name)
    at = positions(store.ledger.standings(version.name))
    facts = Facts(
        version=version.name,
        stage=row.stage if row else None,
        record=None
        if row
        else Record(
            version.name,
            version.group,
            tuple(t.physical for t in described.tables),
            tuple(physical for _, physical in described.topics),
            scope,
        ),
        changed=row is not None and versions.changed_code(row, version, project),
        topic=topic,
        cursor=scopes.begun(scope or (row.scope if row else None)) | at,
        start={p: min(g.start for g in gs) for p, gs in generations.items()},
        bound=bound,
        retained=retained,
        from_times_ms=bounds.times(log, topic, {p: held.start for p, held in retained.items()}),
    )
    planned = plan_version(facts)
    refused = planned.refused
    if facts.changed and row is not None and row.scope is not None:
        why = "its code has changed, and it began with what another version made"
        refused = (*refused, Refusal(version.name, why, "Give the code another label."))
    steps = (*planned.steps, *scopes.taken_over(version.name, scope, stands, at))
    return Plan(steps, refused, remarks)


def _other_libraries(row: VersionRow, here: Mapping[str, str]) -> Iterator[str]:
    """Say which libraries are of another version than the one that was recorded."""
    for library, was in sorted(row.environment.items()):
        if here.get(library, was) != was:
            yield (
                f"warning: {row.name} was recorded with {library} {was}, here is "
                f"{here[library]}: its results may differ"
            )


def _schema_change(known: Known, live: VersionRow, head: VersionRow) -> Refusal | None:
    """Refuse a removed column or a changed type: readers of the view would break.

    A column that the view shows, null, of a version that was live before may be left out again.
    """
    tables = {t.name: t for t in head.tables}
    for table in live.tables:
        other = tables.get(table.name)
        if other is None:
            continue
        new = {c.name: c for c in other.schema}
        own = {c.name for c in table.schema}
        for column in shown_columns(known.rows.values(), live.pipeline, table.name):
            kept = new.get(column.name)
            if kept is None and column.name not in own:
                continue
            if kept is None or kept.kind != column.kind or other.key != table.key:
                what = "removes" if kept is None else "changes the type or the key of"
                return Refusal(
                    head.name,
                    f"it {what} {table.name}.{column.name}",
                    "Write the new shape into another table, or keep the column.",
                )
    return None


def refuse(refused: Sequence[Refusal]) -> PlayheadError:
    """Return the refusals of a plan as one error."""
    first = refused[0]
    return Refused(
        "; ".join(f"{r.subject}: {r.reason}" for r in refused),
        safe="Nothing was changed.",
        cure=first.cure or None,
    )
