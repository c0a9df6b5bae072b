"""The journal over a SQL database: runs, the audit, diffs that were reviewed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from playhead.adapters.process import person
from playhead.adapters.sql_database import Sql
from playhead.core.ranges import written
from playhead.ports import AuditRow, RunRow


def now() -> str:
    """Return the time as the store writes it."""
    return written(datetime.now(UTC))


def write_note(sql: Sql, kind: str, subject: str, detail: Mapping[str, object]) -> None:
    """Write one line of the audit, inside the caller's transaction if there is one."""
    sql.run("journal.note", at=now(), kind=kind, subject=subject, detail=_signed(detail))


def _signed(content: Mapping[str, object]) -> bytes:
    """Return what is written down, and who did it."""
    return msgspec.json.encode({**content, _PERSON: person()})


def _read(content: bytes) -> tuple[dict[str, object], str | None]:
    """Return what was written down, and who did it, where that is known."""
    found = msgspec.json.decode(content, type=dict[str, object])
    by = found.pop(_PERSON, None)
    return found, by if isinstance(by, str) else None


_PERSON = "person"


class SqlJournal:
    """The `Journal` port."""

    def __init__(self, sql: Sql) -> None:
        """Keep the connection."""
        self._sql = sql

    def save_diff(self, digest: str, content: bytes) -> None:
        """Keep a reviewed diff under its digest."""
        self._sql.run("journal.put_diff", digest=digest, content=content)

    def diff(self, digest: str) -> bytes | None:
        """Return a reviewed diff, or None."""
        row = self._sql.one("journal.diff", digest=digest)
        return row[0] if row else None

    def begin_run(self, kind: str, subject: str, intent: Mapping[str, object]) -> str:
        """Write the audit row of an intent; return the run's id."""
        run = uuid.uuid4().hex[:12]
        self._sql.run(
            "journal.insert_run",
            id=run,
            kind=kind,
            subject=subject,
            intent=_signed(intent),
            started_at=now(),
        )
        return run

    def finish_run(self, run: str, result: Mapping[str, object]) -> None:
        """Write the result of a run."""
        content = msgspec.json.encode(result)
        self._sql.run("journal.finish_run", id=run, result=content, finished_at=now())

    def runs(self) -> list[RunRow]:
        """Return every run, oldest first."""
        found = []
        for run, kind, subject, intent, result, begun, ended in self._sql.all("journal.runs"):
            wanted, by = _read(intent)
            done = msgspec.json.decode(result) if result else None
            found.append(RunRow(run, kind, subject, wanted, done, begun, ended, by))
        return found

    def audit(self) -> list[AuditRow]:
        """Return every line of the audit, oldest first."""
        rows = self._sql.all("journal.audit")
        return [AuditRow(at, kind, subject, *_read(detail)) for at, kind, subject, detail in rows]

    def note(self, kind: str, subject: str, detail: Mapping[str, object]) -> None:
        """Write one line of the audit."""
        write_note(self._sql, kind, subject, detail)
