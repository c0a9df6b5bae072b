"""Runs of live versions, written down: what was to be done, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime

from playhead.core.ranges import written
from playhead.engine.capped import Bound
from playhead.engine.worker import Summary, Worker
from playhead.errors import PlayheadError
from playhead.ports import Store


def now() -> str:
    """Return the time as the audit has it."""
    return written(datetime.now(UTC))


@contextmanager
def recording(
    store: Store, kind: str, subject: str, intent: Mapping[str, object]
) -> Iterator[dict[str, object]]:
    """Write down an intent, and after the block the result that it put into the dict.

    A block that fails leaves its error as the result; one that is killed leaves none.
    """
    run = store.journal.begin_run(kind, subject, intent)
    result: dict[str, object] = {}
    try:
        yield result
    except PlayheadError as error:
        with suppress(PlayheadError):  # the store may be what failed; the error says so
            store.journal.finish_run(run, {**result, "error": error.message})
        raise
    store.journal.finish_run(run, result)


class Recorded(Worker):
    """A worker whose run is in the journal: the intent before, the result after."""

    def run(self, bound: Mapping[int, int] | Bound | None = None) -> Summary:
        """Run as a `Worker` does; a run that fails is written down as one."""
        name = self.task.version.name
        with closing(self._open_store()) as store:
            rows = {row.name: row for row in store.catalog.versions()}
            intent = {
                "fingerprint": rows[name].fingerprint if name in rows else None,
                "topic": self.task.topic.name,
                "cursor": cursor_of(store, name),
                "accept_gap": self.task.accept_gap,
                "reason": self.task.why or None,
            }
            run = store.journal.begin_run("run", name, intent)
        try:
            summary = super().run(bound)
        except PlayheadError as error:
            with suppress(PlayheadError):  # the store may be what failed; the error says so
                self._finish(run, {"error": error.message})
            raise
        told = {"records": summary.records, "dead_letters": summary.dead, "stage": summary.stage}
        self._finish(run, told)
        return summary

    def _finish(self, run: str, result: Mapping[str, object]) -> None:
        with closing(self._open_store()) as store:
            cursor = cursor_of(store, self.task.version.name)
            store.journal.finish_run(run, {**result, "cursor": cursor})


def cursor_of(store: Store, version: str) -> dict[str, int]:
    """Return the next offset to read by partition, as JSON has it."""
    standings = store.ledger.standings(version)
    return {str(p): standing.cursor.next for p, standing in sorted(standings.items())}
