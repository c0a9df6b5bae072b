"""``replay``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.progress import ProgressBoard
from playhead.cli.stop import until_stopped
from playhead.cli.stream import teller

if TYPE_CHECKING:
    from playhead.ops.replay import Replayed

_PLACES = "start, end, live, N, +N, -N, @TIME, @-48h"


@click.command(epilog="Example: playhead replay distance@km")
@click.argument("versions", nargs=-1, metavar="[PIPELINE@VERSION]...")
@click.option("--from", "start", help=f"Begin to write later: {_PLACES} [start].")
@click.option("--to", help=f"End before the live cursor: {_PLACES} [live].")
@click.option(
    "--state-from",
    type=click.Choice(["base"]),
    help="Begin with live's state at --from [what its own code makes of all before].",
)
@click.option("--follow", is_flag=True, help="Go on behind live until stopped.")
@click.option("--clamp", is_flag=True, help="Move a place that is not retained to what is.")
@click.option(
    "--max-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Most records a second, of each version.",
)
@click.option("--plan", metavar="FILE", help="Do what playhead plan -o json wrote; else refuse.")
@click.option("--reason", help="For the audit.")
@shared
def replay(settings: Globals, versions: tuple[str, ...], **options: Any) -> None:  # noqa: ANN401
    """Read history into shadow versions, up to where live stands; live goes on.

    With --from the tables begin with live's rows as of there; with --to as well, they also end
    with them, as far as live's state is the same at the end (exit 6: it is not, go on to the end).
    Killed at any point, the same command resumes. A shadow whose code has changed is rewound to
    its start and replayed anew. Of several versions of one pipeline each pair is compared.

    With --plan FILE exactly what was saved is done, to the ends that it names; where the world has
    moved since, it is refused, saying what has.
    """
    from playhead.core.ranges import Wanted
    from playhead.ops.replay import Request, compared
    from playhead.ops.replay import replay as op
    from playhead.ops.saved import read
    from playhead.render import as_json, difference_counts
    from playhead.render_diff import difference_content

    file = options["plan"]
    if not versions and file is None:
        raise click.UsageError("name a version, PIPELINE@VERSION, or a saved plan with --plan FILE")
    project = settings.project()
    then = None if file is None else read(project, Path(file))
    from_base = options["state_from"] == "base"
    wanted = Wanted(options["start"], options["to"], options["clamp"], from_base)
    request = Request(
        versions, wanted, options["reason"], options["follow"], options["max_rate"], then
    )
    tell = ProgressBoard(settings, teller(settings))
    done, stopped = until_stopped(lambda stop: op(project, request, stop, tell, say))
    pairs = [] if stopped else compared(project, versions or (then.bases if then else ()), say)
    if settings.json:
        content: dict[str, Any] = {"replays": [replayed_content(r) for r in done]}
        if pairs:
            content["diffs"] = [difference_content(found) for found in pairs]
        out(as_json(content))
    else:
        _show(done)
        for found in pairs:
            out(f"{found.head} against {found.base}:")
            out(difference_counts(found))
        for r in [] if pairs else done:
            say(f"next: playhead diff {r.version.partition('@')[0]}")
    if stopped:
        sys.exit(130)
    if any(False in (r.state_equal or {}).values() for r in done):
        sys.exit(6)


def replayed_content(done: Replayed) -> dict[str, Any]:
    """Return what a replay did, as JSON has it."""
    return {
        "pipeline": done.version.partition("@")[0],
        "version": done.version.partition("@")[2],
        "records": done.records,
        "dead_letters": done.dead_letters,
        "cursor": {done.topic: done.cursor},
        "elapsed_s": done.elapsed_s,
        "records_per_s": round(done.records / done.elapsed_s) if done.elapsed_s else None,
        "resumed": done.resumed,
        "state_equal": None
        if done.state_equal is None
        else {f"{done.topic}[{p}]": same for p, same in sorted(done.state_equal.items())},
    }


def _show(done: list[Replayed]) -> None:
    from playhead.render import table

    rows = [
        (*r.version.split("@"), r.records, r.topic, r.cursor, f"{r.elapsed_s:.1f} s") for r in done
    ]
    out(table(("PIPELINE", "VERSION", "RECORDS", "TOPIC", "CURSOR", "ELAPSED"), rows))
