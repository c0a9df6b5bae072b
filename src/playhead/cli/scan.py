"""``scan``."""

from __future__ import annotations

import click

from playhead.cli.options import Globals, out, shared


@click.command(epilog="Example: playhead scan old.duckdb#dist_calc --against miles,km")
@click.argument("table", required=False, metavar="TABLE|FILE#TABLE")
@click.option("--topic", metavar="T", help="Scan a topic.")
@click.option("--against", required=True, metavar="V,V", help="The versions it may be of.")
@click.option("--rtol", type=float, metavar="X", help="Tolerance [1e-9; floats of 32 bits: 1e-6].")
@shared
def scan(
    settings: Globals, table: str | None, topic: str | None, against: str, rtol: float | None
) -> None:
    """Say of each row of a table, made by anything, which version made it.

    TABLE is one of the store, FILE a DuckDB or SQLite file or a PostgreSQL URL. Nothing is written.
    """
    from playhead.ops.scan import Request
    from playhead.ops.scan import scan as op
    from playhead.render import as_json
    from playhead.render_scan import scan as text
    from playhead.render_scan import scan_content

    labels = tuple(label.strip() for label in against.split(","))
    found = op(settings.project(), Request(labels, table, topic, rtol))
    out(as_json(scan_content(found)) if settings.json else text(found))
