"""``explain history``: what happened, and why. These commands change nothing."""

from __future__ import annotations

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stream import teller


@click.command(epilog='Example: playhead explain distance "raw_trackpoints[0]@12"')
@click.argument("pipeline", metavar="PIPELINE[@VERSION]")
@click.argument("record", metavar="T[2]@1200")
@shared
def explain(settings: Globals, pipeline: str, record: str) -> None:
    """Say what each version made of one record: state before and after, and the rows it gave.

    The state as of the record is restored from the store's history, the function runs on the one
    record, and nothing is written. Versions that are live, shadows, or retired are told, as far as
    they are declared here.
    """
    from playhead.ops.explain import explain as op
    from playhead.render import as_json
    from playhead.render_look import explained, explained_content

    found = op(settings.project(), pipeline, record, teller(settings))
    out(as_json(explained_content(found)) if settings.json else explained(found))
    if not settings.json:
        for remark in found.remarks:
            say(remark)


@click.command(epilog="Example: playhead history distance --kind promote --kind rollback")
@click.argument("pipeline", required=False, metavar="[PIPELINE[@VERSION]]")
@click.option("--kind", "kinds", multiple=True, help="Only this: run, replay, promote… [all].")
@click.option("--since", metavar="TIME", help="2026-11-01, an epoch, or how long ago: 48h, 7d.")
@click.option("--limit", type=click.IntRange(min=1), default=50, help="Most entries [50].")
@shared
def history(
    settings: Globals,
    pipeline: str | None,
    kinds: tuple[str, ...],
    since: str | None,
    limit: int,
) -> None:
    """Show what was done here, newest first: by whom, why, from which offsets to which.

    Runs, replays, rewinds, promotions, rollbacks, adopted code, accepted gaps, skipped records, and
    groups that were moved from outside. Who did it is PLAYHEAD_PERSON, else the system's user name;
    why is what --reason said. -o wide adds fingerprints, digests and ends.
    """
    from playhead.ops.history import Request
    from playhead.ops.history import history as op
    from playhead.render import as_json, tabular
    from playhead.render_look import entry_content, history_rows

    found = op(settings.project(), Request(pipeline, kinds, since, limit))
    if settings.json:
        content = [entry_content(e) for e in found.entries]
        out(as_json({"entries": content, "more": found.more}))
        return
    headings, rows = history_rows(found, wide=settings.output != "table")
    out(tabular(settings.output, headings, rows))
    if found.more:
        say(f"{found.more} older: --limit {limit + found.more}")
