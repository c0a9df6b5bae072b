"""The whole story in a project of its own: what ``playhead demo`` tells."""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playhead import render, render_diff
from playhead.errors import PlayheadError
from playhead.ops.diff import Request as DiffRequest
from playhead.ops.diff import diff
from playhead.ops.groups import describe
from playhead.ops.ingest import Request as IngestRequest
from playhead.ops.ingest import ingest
from playhead.ops.init import init
from playhead.ops.promote import promote, rollback
from playhead.ops.query import query
from playhead.ops.replay import Request as ReplayRequest
from playhead.ops.replay import replay
from playhead.ops.run import Request as RunRequest
from playhead.ops.run import run
from playhead.project import Project

TIME_FORMAT = "%m/%d/%Y %H:%M"
# What the tutorial that this follows published, in kilometres.
PUBLISHED = {
    1: 7.61726,
    2: 15.0078335,
    3: 2.3353236,
    4: 20.608536,
    8: 1.2215759,
    11: 7.716604,
    12: 1.6517822,
    13: 22.812874,
}
Tell = Callable[[str], None]


def prepare(directory: Path, *, shared_log: bool) -> str:
    """Make the demo's project; on a log that others use, give all in it names of its own.

    Returns:
        The name of the source topic.
    """
    init(directory)
    if not shared_log:
        return "raw_trackpoints"
    run_id = f"demo_{uuid.uuid4().hex[:6]}"
    module = directory / "vehicles.py"
    text = module.read_text(encoding="utf-8")
    for name in ("raw_trackpoints", "distance_calcs"):
        text = text.replace(f'"{name}"', f'"{run_id}.{name}"')
    text = text.replace('App("vehicles")', f'App("{run_id}")')  # transactional ids begin with it
    text = text.replace('version="miles"', f'version="miles", group="{run_id}.distance.miles"')
    text = text.replace('("km", ', f'("km", group="{run_id}.distance.km", ')
    module.write_text(text, encoding="utf-8")
    return f"{run_id}.raw_trackpoints"


def demo(open_project: Callable[[Path], Project], keep: Path | None, tell: Tell) -> dict[str, Any]:
    """Tell the story: ingest, run, query, replay, diff, promote, query, roll back.

    Args:
        open_project: Opens a project in a folder.
        keep: Folder for the project; None: a temporary one.
        tell: Told each paragraph.

    Returns:
        The tables by version and what readers saw after the promotion, as ``-o json`` shows it.

    Raises:
        PlayheadError: A step failed, or a result is not what it must be.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="playhead-demo-") as scratch:
        directory = keep or Path(scratch) / "trips"
        project = open_project(directory)
        shared_log = project.settings.log.startswith("kafka:")
        topic = prepare(directory, shared_log=shared_log)
        content = _tell_story(open_project(directory), topic, tell)
    content["elapsed_s"] = round(time.monotonic() - begun, 3)
    where = f"; the project is in {keep}" if keep else ""
    tell(f"Done in {content['elapsed_s']:.1f} s{where}.")
    return content


def _tell_story(project: Project, topic: str, tell: Tell) -> dict[str, Any]:
    request = IngestRequest(
        "trackpoints.csv", topic, timestamp="time", timestamp_format=TIME_FORMAT
    )
    taken = ingest(project, request)
    tell(f"1. {taken.records} GPS points of ten cars → {taken.topic} ({project.settings.log})\n")
    run(project, RunRequest(until_caught_up=True), threading.Event())
    miles = _totals(project)
    tell("2. distance@miles runs, exactly once, into the table dist_calc:\n" + _table(miles))
    tell("   its group, as kafka-consumer-groups shows it:\n" + _groups(project))
    tell("3. It should have been kilometres. Read history again, into a shadow version:")
    done = replay(project, ReplayRequest(("distance@km",)), threading.Event())
    tell(f"   {done[0].records} records → dist_calc__km; dist_calc is as it was\n")
    found = diff(project, DiffRequest("distance"))
    tell("4. Compare what changed with what was declared to change:")
    tell(render_diff.difference(found) + "\n")
    promoted = promote(project, "distance@km")
    public = _totals(project)
    tell(f"5. {promoted.version} is live, in one transaction; readers of dist_calc see:")
    tell(_table(public))
    back = rollback(project, "distance")
    tell(f"6. And there is a way back: {back.version} is live again, {len(miles)} rows as before.")
    _prove(_totals(project) == miles, "the rollback did not restore the miles")
    again = run(project, RunRequest(until_caught_up=True), threading.Event())
    _prove(again.pipelines[0].records == 0, "a second run found something to do")
    replay(project, ReplayRequest(("distance@km",)), threading.Event())
    promote(project, "distance@km")
    km = _totals(project)
    _prove(km == public, "the second promotion gives another result")
    tell(f"   Promoted once more: {promoted.version}.\n")
    tell("7. What the tutorial published, beside what is true (kilometres):")
    tell(_published(public) + "\n")
    return {
        "tables": {"miles": _keyed(miles), "km": _keyed(km), "public": _keyed(public)},
        "records": taken.records,
        "diff": render_diff.difference_content(found),
    }


def _totals(project: Project) -> dict[int, float]:
    answered = query(project, "SELECT track_id, distance FROM dist_calc ORDER BY track_id")
    return {int(track): float(total) for track, total in answered.rows}


def _keyed(totals: dict[int, float]) -> dict[str, float]:
    return {str(track): total for track, total in totals.items()}


def _table(totals: dict[int, float]) -> str:
    return render.table(("TRACK", "DISTANCE"), list(totals.items())) + "\n"


def _groups(project: Project) -> str:
    rows = [
        (g.info.group, p.place.topic, p.place.partition, p.current, p.end, p.lag)
        for g in describe(project)
        for p in g.partitions
        if g.info.group.endswith("distance.miles")
    ]
    headings = ("GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")
    return render.table(headings, rows) + "\n"


def _published(true: dict[int, float]) -> str:
    rows = [
        (
            track,
            PUBLISHED.get(track, "absent"),
            round(total, 6),
            f"{PUBLISHED[track] / total:.2f} × the truth" if track in PUBLISHED else "was lost",
        )
        for track, total in true.items()
    ]
    return render.table(("TRACK", "PUBLISHED", "TRUE", ""), rows)


def _prove(holds: bool, what: str) -> None:
    if not holds:
        raise PlayheadError(f"the demo went wrong: {what}")
