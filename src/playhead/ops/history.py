"""What was done here, by whom and why: runs and decisions, newest first. Read-only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from playhead.core import ranges
from playhead.engine.leases import runner
from playhead.errors import ConfigError
from playhead.ops.versions import split
from playhead.ports import AuditRow, RunRow, Store
from playhead.project import Project

LIMIT = 50
KINDS = (
    "run", "replay", "rewind", "promote", "rollback", "clean", "adopt", "gap", "skip", "reset",
    "restart",
)  # fmt: skip
_AGO = re.compile(r"-?\d+(\.\d+)?[smhd]\Z")
_AUDIT = {"promoted": "promote", "adopted": "adopt", "skipped": "skip"}
_ACTS = {"accept gap": "gap", "rewind": "reset"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done.

    Attributes:
        kind: One of `KINDS`, or what another edition of Playhead called it.
        version: ``pipeline@label``.
        started_at: When, ISO-8601 UTC.
        finished_at: When it ended; None while it runs, and where it was killed.
        outcome: ``done``, ``failed``, ``running`` or ``unfinished``.
        person: Who; None where it was not written down.
        reason: Why, in that person's words.
        fingerprint: Of the code that ran, or that became live.
        begin: Offsets before it, by place.
        end: Offsets after it, by place.
        digest: Of the diff that was looked at.
        detail: All that was written down.
        id: Of the run; None for a decision.
    """

    kind: str
    version: str
    started_at: str
    finished_at: str | None
    outcome: str = "done"
    person: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    begin: Mapping[str, int] = field(default_factory=dict)
    end: Mapping[str, int] = field(default_factory=dict)
    digest: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        name: ``pipeline``, ``pipeline@label``, or None: everything.
        kinds: Only these; empty: all.
        since: ISO-8601, an epoch, or how long ago, ``48h``; None: from the beginning.
        limit: Most entries.
    """

    name: str | None = None
    kinds: Sequence[str] = ()
    since: str | None = None
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class Past:
    """Entries, newest first, and how many older ones were left out."""

    entries: Sequence[Entry]
    more: int


def history(project: Project, request: Request) -> Past:
    """Return what was done, newest first. It needs no module: what is recorded is enough.

    Raises:
        ConfigError: A kind, a time or a name that cannot be; nothing is recorded of the name.
        PlayheadError: Nothing has run here yet.
    """
    since = None if request.since is None else _since(request.since)
    with closing(project.open_store(must_exist=True)) as store:
        recorded = {row.name: row.source for row in store.catalog.versions()}
        entries = [_of_run(store, run, recorded) for run in store.journal.runs()]
        entries += [_of_audit(row, recorded) for row in store.journal.audit()]
    if request.name is not None:
        wanted = _wanted(request.name, [*recorded, *(e.version for e in entries)])
        entries = [e for e in entries if wanted(e.version)]
    kinds = set(request.kinds)
    unknown = kinds - {*KINDS, *(e.kind for e in entries)}
    if unknown:
        raise ConfigError(f"no kind {min(unknown)!r}", cure=f"Kinds are {', '.join(KINDS)}.")
    found = [
        e
        for e in sorted(entries, key=lambda e: e.started_at, reverse=True)
        if (not kinds or e.kind in kinds) and (since is None or e.started_at >= since)
    ]
    return Past(found[: request.limit], max(0, len(found) - request.limit))


def _wanted(name: str, recorded: Iterable[str]) -> Callable[[str], bool]:
    """Return which versions a name means.

    Raises:
        ConfigError: Nothing is recorded of it.
    """
    pipeline, label = split(name)
    known = [r for r in recorded if name in {r, r.partition("@")[0]}]
    if not known:
        raise ConfigError(f"nothing is recorded of {name}", cure="playhead status lists what is.")
    return lambda version: version == name if label else version.partition("@")[0] == pipeline


def _since(text: str) -> str:
    """Return a time as the journal writes it."""
    given = text.removeprefix("@")
    ago = given if given.startswith("-") else f"-{given}"
    place = ranges.parse(f"@{ago if _AGO.match(given) else given}", datetime.now(UTC))
    return ranges.written(datetime.fromtimestamp(place.number / 1000, UTC))


def _of_run(store: Store, run: RunRow, topics: Mapping[str, str]) -> Entry:
    intent, result = run.intent, run.result or {}
    topic = str(intent.get("topic") or topics.get(run.subject, ""))
    outcome = "failed" if "error" in result else "done"
    if run.finished_at is None:
        outcome = "running" if runner(store, run.subject) is not None else "unfinished"
    end = intent.get("to") or result.get("cursor") or intent.get("bound")
    return Entry(
        kind=run.kind,
        version=run.subject,
        started_at=run.started_at,
        finished_at=run.finished_at,
        outcome=outcome,
        person=run.person,
        reason=_text(intent.get("reason")),
        fingerprint=_text(intent.get("fingerprint")),
        begin=_places(topic, intent.get("cursor") or intent.get("from")),
        end=_places(topic, end),
        detail={"intent": intent, "result": run.result},
        id=run.id,
    )


def _of_audit(row: AuditRow, topics: Mapping[str, str]) -> Entry:
    detail = row.detail
    kind = _AUDIT.get(row.kind, row.kind)
    if row.kind == "promoted":
        kind = str(detail.get("kind") or kind)
    if row.kind == "restart":
        kind = _ACTS.get(str(detail.get("act")), kind)
    place = str(detail.get("place") or "")
    topic = topics.get(row.subject, "")
    end = _places(topic, detail.get("cursor")) or _places(place, detail.get("to"))
    return Entry(
        kind=kind,
        version=row.subject,
        started_at=_text(detail.get("begun_at")) or row.at,
        finished_at=row.at,
        person=row.person,
        reason=_text(detail.get("reason")) or _text(detail.get("why")),
        fingerprint=_text(detail.get("fingerprint")),
        begin=_places(place, detail.get("from")),
        end=end or _places(place, detail.get("offset")),
        digest=_text(detail.get("diff")),
        detail=detail,
    )


def _text(value: object) -> str | None:
    return str(value) if value else None


def _places(topic: str, value: object) -> dict[str, int]:
    """Return offsets by place: of a partition's number with its topic, of a place as it is.

    Editions of Playhead have written them by partition, by place, and in partition order.
    """
    if isinstance(value, int):
        return {topic: value}
    if isinstance(value, list):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {}
    named = {str(p): int(at) for p, at in value.items()}
    return {f"{topic}[{p}]" if p.isdigit() else p: at for p, at in named.items()}
