"""How far a replay has come: redrawn on a terminal, else a JSON line now and then, on stderr."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from playhead.cli.options import Globals, say

if TYPE_CHECKING:
    from playhead.core.progress import Meter, Progress
    from playhead.engine.events import Event

EVERY_S = 2.0
REDRAWN_S = 0.25


class ProgressBoard:
    """Listens to events, hands them on, and shows how far each version has come."""

    def __init__(self, settings: Globals, tell: Callable[[Event], None]) -> None:
        """Show it as the settings and the terminal allow; quiet shows nothing."""
        dumb = os.environ.get("TERM") == "dumb"
        self._terminal = sys.stderr.isatty() and not dumb and not settings.json
        self._quiet = settings.verbosity < 0
        self._tell = tell
        self._meters: dict[str, Meter] = {}
        self._lock = threading.Lock()
        self._shown_s = time.monotonic()
        self._lines = 0

    def __call__(self, event: Event) -> None:
        """Take an event of any thread."""
        from playhead.core.progress import Meter
        from playhead.engine.events import BatchDone, Reading

        self._tell(event)
        now_s = time.monotonic()
        with self._lock:
            match event:
                case Reading(version, positions, bound) if bound:
                    if version not in self._meters:
                        self._meters[version] = Meter(version, now_s)
                        self._shown_s = now_s
                    self._meters[version].reads(positions, bound)
                    return
                case BatchDone(version, records, positions, times_ms) if version in self._meters:
                    self._meters[version].did(records, positions, times_ms)
                case _:
                    return
            every_s = REDRAWN_S if self._terminal else EVERY_S
            if not self._quiet and now_s - self._shown_s >= every_s:
                self._shown_s = now_s
                self._show([meter.look(now_s) for meter in self._meters.values()])

    def _show(self, found: list[Progress]) -> None:
        from playhead.render import as_json

        if not self._terminal:
            for progress in found:
                say(as_json(progress_content(progress)))
            return
        lines = [line for progress in found for line in progress_lines(progress)]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        click.echo(up + "".join(f"\x1b[2K{line}\n" for line in lines), err=True, nl=False)
        self._lines = len(lines)


def progress_content(found: Progress) -> dict[str, Any]:
    """Return progress as JSON has it."""
    from playhead.core.ranges import moment

    return {
        "event": "progress",
        "version": found.version,
        "records": found.records,
        "records_per_s": round(found.records_per_s, 1),
        "offsets_done": found.done,
        "offsets_total": found.total,
        "eta_s": None if found.eta_s is None else round(found.eta_s, 1),
        "event_time": moment(found.time_ms),
        "partitions": [
            {
                "partition": part.partition,
                "offset": part.offset,
                "end_offset": part.end,
                "offsets_done": part.done,
                "offsets_total": part.total,
                "eta_s": None if part.eta_s is None else round(part.eta_s, 1),
                "event_time": moment(part.time_ms),
            }
            for part in found.parts
        ],
    }


def progress_lines(found: Progress) -> list[str]:
    """Return progress as a terminal shows it: a line a partition, and one in total."""
    from playhead.core.ranges import moment

    def line(name: str, done: int, total: int, more: tuple[float | None, int | None]) -> str:
        eta_s, time_ms = more
        left = "-" if eta_s is None else f"{eta_s:.0f} s"
        share = 100 * done // total if total else 100
        return f"{name}  {done}/{total} ({share} %)  left {left}  at {moment(time_ms) or '-'}"

    lines = [
        line(f"  partition {p.partition}", p.done, p.total, (p.eta_s, p.time_ms))
        for p in found.parts
    ]
    whole = line(found.version, found.done, found.total, (found.eta_s, found.time_ms))
    return [f"{whole}  {found.records_per_s:.0f} records/s", *lines]
