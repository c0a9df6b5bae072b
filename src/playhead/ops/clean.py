"""Remove old versions: tables, topics, groups, and what the ledger holds of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from playhead.core.naming import witness_of
from playhead.engine.events import OnEvent, Step, listener
from playhead.engine.leases import LeaseKeeper, runner, worker_lease
from playhead.errors import ConfigError, Refused
from playhead.ops.mirror import refresh
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Removal:
    """An old version, and what goes with it.

    Attributes:
        version: ``pipeline@label``.
        stage: ``retired`` or ``shadow``.
        tables: Physical tables.
        topics: Physical topics that nobody else writes.
        groups: Its group and its witness, where nobody else has them.
    """

    version: str
    stage: str
    tables: tuple[str, ...]
    topics: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was removed, or would be.

    Attributes:
        executed: Whether it was done.
        removals: One a version.
        kept: Why each of the others stays, by ``pipeline@label``.
    """

    executed: bool
    removals: Sequence[Removal] = ()
    kept: Mapping[str, str] = field(default_factory=dict)


def clean(
    project: Project,
    names: Sequence[str] = (),
    *,
    execute: bool = False,
    reason: str | None = None,
    tell: OnEvent | None = None,
) -> Cleaned:
    """Remove versions that nothing needs any more; say what would be removed unless ``execute``.

    Without names these are the retired versions that no rollback needs, and the shadows that are
    declared no more. Killed in the midst, the same command does the rest.

    Raises:
        ConfigError: A name is not recorded.
        Refused: A version that is named is needed, or somebody runs it.
    """
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        unknown = [name for name in names if name not in known.rows]
        if unknown:
            raise ConfigError(
                f"no version {unknown[0]!r} is recorded", cure="playhead status lists what is."
            )
        kept = _kept(known, store, names)
        refused = [name for name in names if name in kept]
        if refused:
            raise Refused(f"{refused[0]} {kept[refused[0]]}", safe="Nothing was removed.")
        chosen = [row for name, row in known.rows.items() if name not in kept]
        removals = [_removal(row, known.rows.values()) for row in chosen]
        if execute:
            for row, removal in zip(chosen, removals, strict=True):
                _remove(project, log, store, (row, removal, reason, listener(tell)))
            refresh(project, store)
    return Cleaned(execute, removals, kept)


def _kept(known: Known, store: Store, names: Sequence[str]) -> dict[str, str]:
    """Return why versions stay."""
    kept: dict[str, str] = {}
    for name, row in known.rows.items():
        pointer = store.catalog.pointer(row.pipeline)
        worker = runner(store, name)
        if row.stage == "live":
            kept[name] = "is live"
        elif pointer is not None and row.label == pointer.previous:
            kept[name] = "is what a rollback goes back to"
        elif worker is not None:
            kept[name] = f"is run by {worker.owner}"
        elif names and name not in names:
            kept[name] = "was not named"
        elif not names and row.stage == "shadow" and known.declared(name) is not None:
            kept[name] = "is a shadow that is declared"
    while readers := _read_by(known, kept):
        kept |= readers
    return kept


def _read_by(known: Known, kept: Mapping[str, str]) -> dict[str, str]:
    """Return the versions whose topics are read by one that stays."""
    return {
        name: f"writes {topic}, which {reader} reads"
        for name, row in known.rows.items()
        if name not in kept
        for _, topic in row.topics
        for reader in kept
        if known.rows[reader].source == topic
    }


def _removal(row: VersionRow, rows: Iterable[VersionRow]) -> Removal:
    others = [other for other in rows if other.name != row.name]
    theirs = {topic for other in others for _, topic in other.topics}
    groups = {other.group for other in others}
    return Removal(
        version=row.name,
        stage=row.stage,
        tables=tuple(t.physical for t in row.tables),
        topics=tuple(topic for _, topic in row.topics if topic not in theirs),
        groups=() if row.group in groups else (row.group, witness_of(row.group)),
    )


_What = tuple[VersionRow, Removal, str | None, OnEvent]


def _remove(project: Project, log: Log, store: Store, what: _What) -> None:
    """Remove one version; what the store knows of it goes last, so that a second try finds it."""
    row, removal, reason, tell = what
    with LeaseKeeper(project.open_store) as keeper:
        name = worker_lease(row.name)
        keeper.keep({name: store.ledger.take_free(name, "removing")})
        for group in removal.groups:
            log.delete_group(group)
        tell(Step("groups removed"))
        for topic in removal.topics:
            log.delete_topic(topic)
        tell(Step("topics removed"))
        detail = {
            "tables": removal.tables,
            "topics": removal.topics,
            "groups": removal.groups,
            "fingerprint": row.fingerprint,
            "reason": reason,
        }
        store.catalog.forget(row, detail)
