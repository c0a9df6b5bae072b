"""``clean``: old versions go."""

from __future__ import annotations

from dataclasses import asdict

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stream import teller


@click.command(epilog="Example: playhead clean --execute")
@click.argument("versions", nargs=-1, metavar="[PIPELINE@VERSION]...")
@click.option("--execute", is_flag=True, help="Do it; without this, say what would be done.")
@click.option("--reason", help="For the audit.")
@shared
def clean(
    settings: Globals, versions: tuple[str, ...], *, execute: bool, reason: str | None
) -> None:
    """Remove old versions: their tables, topics, groups, and what the ledger holds of them.

    Without names: the retired ones that no rollback needs, and shadows that are declared no more.
    What is live, what a rollback goes back to, and what one of these reads is refused. Runs and
    the audit stay.
    """
    from playhead.ops.clean import clean as op
    from playhead.render import as_json, table

    project, told = settings.project(), teller(settings)
    done = op(project, versions, execute=execute, reason=reason, tell=told)
    if settings.json:
        removed = [asdict(removal) for removal in done.removals]
        kept = [{"version": version, "why": why} for version, why in done.kept.items()]
        out(as_json({"executed": done.executed, "removed": removed, "kept": kept}))
        return
    rows = [
        (r.version, r.stage, ", ".join(r.tables), ", ".join(r.topics), ", ".join(r.groups))
        for r in done.removals
    ]
    out(table(("VERSION", "STAGE", "TABLES", "TOPICS", "GROUPS"), rows))
    for version, why in done.kept.items():
        say(f"{version} stays: it {why}")
    if not done.removals:
        say("nothing to remove")
    elif done.executed:
        say(f"{len(done.removals)} removed")
    else:
        say(f"nothing was removed; {len(done.removals)} would be with --execute")
