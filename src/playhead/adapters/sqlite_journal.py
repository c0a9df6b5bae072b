"""The journal over a SQLite file: runs, the audit, diffs that were reviewed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from playhead.adapters.sqlite_file import SqliteFile
from playhead.ports import RunRow


def now() -> str:
    """Return the time as the store writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_note(db: SqliteFile, kind: str, subject: str, detail: Mapping[str, object]) -> None:
    """Write one line of the audit, inside the caller's transaction if there is one."""
    db.run(
        "INSERT INTO playhead__audit (at, kind, subject, detail) VALUES (?, ?, ?, ?)",
        now(),
        kind,
        subject,
        msgspec.json.encode(detail),
    )


class SqliteJournal:
    """The `Journal` port over one SQLite file."""

    def __init__(self, db: SqliteFile) -> None:
        """Keep the connection."""
        self._db = db

    def save_diff(self, digest: str, content: bytes) -> None:
        """Keep a reviewed diff under its digest."""
        self._db.run("INSERT OR REPLACE INTO playhead__diff VALUES (?, ?)", digest, content)

    def diff(self, digest: str) -> bytes | None:
        """Return a reviewed diff, or None."""
        row = self._db.one("SELECT content FROM playhead__diff WHERE digest = ?", digest)
        return row[0] if row else None

    def begin_run(self, kind: str, subject: str, intent: Mapping[str, object]) -> str:
        """Write the audit row of an intent; return the run's id."""
        run = uuid.uuid4().hex[:12]
        self._db.run(
            "INSERT INTO playhead__run VALUES (?, ?, ?, ?, NULL, ?, NULL)",
            run,
            kind,
            subject,
            msgspec.json.encode(intent),
            now(),
        )
        return run

    def finish_run(self, run: str, result: Mapping[str, object]) -> None:
        """Write the result of a run."""
        self._db.run(
            "UPDATE playhead__run SET result = ?, finished_at = ? WHERE id = ?",
            msgspec.json.encode(result),
            now(),
            run,
        )

    def runs(self) -> list[RunRow]:
        """Return every run, oldest first."""
        rows = self._db.all(
            "SELECT id, kind, subject, intent, result, started_at FROM playhead__run "
            "ORDER BY started_at, rowid"
        )
        decode = msgspec.json.decode
        return [
            RunRow(i, k, s, decode(intent), decode(result) if result else None, at)
            for i, k, s, intent, result, at in rows
        ]

    def note(self, kind: str, subject: str, detail: Mapping[str, object]) -> None:
        """Write one line of the audit."""
        write_note(self._db, kind, subject, detail)
