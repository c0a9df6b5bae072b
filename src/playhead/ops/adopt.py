"""Accept refactored code under a label that has run already, from where it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from playhead.engine.events import OnEvent, listener
from playhead.engine.hold import settled
from playhead.engine.session import Session
from playhead.errors import ConfigError, Refused
from playhead.ops import versions
from playhead.ops.rewind import recorded
from playhead.ops.versions import Known
from playhead.ports import VersionRow
from playhead.project import Project

ROW = "row"
UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was accepted.

    Attributes:
        version: ``pipeline@label``.
        fingerprint: Of the code that runs from now on.
        previous: Of the code before.
        cursor: The offset from which on it counts, by partition.
    """

    version: str
    fingerprint: str
    previous: str
    cursor: dict[int, int]


def adopt(project: Project, name: str, reason: str, tell: OnEvent | None = None) -> Adopted:
    """Record the code as it is now under its label: same slots, same outputs, from here on.

    What was made before stays as the code before made it; nothing is computed again.

    Raises:
        ConfigError: No such version, no reason, or the code is the recorded one.
        Refused: It runs, or slots or outputs are not what they were.
    """
    if not reason.strip():
        raise ConfigError("--reason is empty: the audit keeps why the code was accepted")
    with closing(project.open_log()) as log, closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        row = recorded(known, name)
        version = known.version(row.name)
        if not versions.changed_code(row, version, project):
            raise ConfigError(f"{row.name}: its code is what is recorded ({row.fingerprint})")
        described = versions.describe(known, project, log, version)
        _check_outputs(row, described)
        task = versions.task_of(known, project, log, row)
        with settled(task, log, project.open_store, listener(tell)) as session:
            _check_slots(session)
            after = replace(
                row, fingerprint=described.fingerprint, environment=described.environment
            )
            store.catalog.change(replace(after, topic_ids={t.name: t.id for t in task.outputs}))
            cursor = session.positions
            detail = {
                "previous": row.fingerprint,
                "fingerprint": after.fingerprint,
                "cursor": {str(p): at for p, at in sorted(cursor.items())},
                "reason": reason,
            }
            store.journal.note("adopted", row.name, detail)
    return Adopted(row.name, after.fingerprint, row.fingerprint, cursor)


def _check_outputs(row: VersionRow, described: VersionRow) -> None:
    for what, was, now in (
        ("tables", row.tables, described.tables),
        ("topics", row.topics, described.topics),
        ("group", row.group, described.group),
        ("source", row.source, described.source),
    ):
        if was != now:
            raise Refused(
                f"{row.name}: its {what} are not what they were; that is more than a refactoring",
                safe="Nothing was changed.",
                cure=f"Give the code a new label with @{row.pipeline}.version, and replay it.",
            )


def _check_slots(session: Session) -> None:
    """Refuse code that keeps other state: it would go on with what it cannot read, or from none."""
    shapes = session.task.caller.shapes
    for seat in session.seats.values():
        kept = {n: dict(f.schema) for n, f in seat.slots.items() if n not in {ROW, UPSTREAM}}
        if seat.cursor.batch == 0 and not kept:
            continue
        for slot in sorted({*kept, *shapes}):
            was, now = kept.get(slot), shapes.get(slot)
            if was is None or now is None or was != dict(now):
                raise Refused(
                    f"{session.name}: slot {slot} was {_spelled(was)}, and is {_spelled(now)} now",
                    where=str(seat.place),
                    safe="Nothing was changed.",
                    cure=f"Keep the slots as they are, or give the code a new label with "
                    f"@{session.task.version.pipeline}.version, and replay it.",
                )


def _spelled(shape: Mapping[str, object] | None) -> str:
    if shape is None:
        return "absent"
    return ", ".join(f"{name} {dtype}" for name, dtype in shape.items())
