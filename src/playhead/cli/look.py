"""``explain``: what happened, and why. These commands change nothing."""

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
