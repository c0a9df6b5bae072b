"""The journal of a store: runs, the audit, diffs that were reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a command that writes.

    ``result`` and ``finished_at`` are None while it runs, and where it was killed. ``person`` is
    who began it; None where an older Playhead wrote it down.
    """

    id: str
    kind: str
    subject: str
    intent: Mapping[str, object]
    result: Mapping[str, object] | None
    started_at: str
    finished_at: str | None = None
    person: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit: what was decided, about what, and by whom."""

    at: str
    kind: str
    subject: str
    detail: Mapping[str, object]
    person: str | None = None


class Journal(Protocol):
    """What was done and reviewed: runs, the audit, diffs.

    With each run and each line of the audit it is written who did it.
    """

    def save_diff(self, digest: str, content: bytes) -> None:
        """Keep a reviewed diff under its digest."""

    def diff(self, digest: str) -> bytes | None:
        """Return a reviewed diff, or None."""

    def begin_run(self, kind: str, subject: str, intent: Mapping[str, object]) -> str:
        """Write the audit row of an intent; return the run's id."""

    def finish_run(self, run: str, result: Mapping[str, object]) -> None:
        """Write the result of a run."""

    def runs(self) -> list[RunRow]:
        """Return every run, oldest first."""

    def note(self, kind: str, subject: str, detail: Mapping[str, object]) -> None:
        """Write one line of the audit."""

    def audit(self) -> list[AuditRow]:
        """Return every line of the audit, oldest first."""
