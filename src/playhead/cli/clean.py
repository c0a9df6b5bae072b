"""``clean cache``: what is not needed any more goes."""

from __future__ import annotations

from dataclasses import asdict

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stream import teller
from playhead.core.ranges import moment


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


@click.command(epilog="Example: playhead cache --clear")
@click.option("--clear", is_flag=True, help="Remove all of it.")
@shared
def cache(settings: Globals, *, clear: bool) -> None:
    """Show the history cache: what was read and decoded, for the next replay.

    It is checked against the log each time, and results do not depend on it: what is not there is
    read from the log. It is never larger than [cache] bytes in playhead.toml [2GB; 0B: none].
    """
    from playhead.core.verdicts import size
    from playhead.ops.cache import cache as op
    from playhead.render import as_json, tabular

    found = op(settings.project(), clear=clear)
    if settings.json:
        topics = [
            {
                "topic": held.topic,
                "id": held.id,
                "log": held.log,
                "size_bytes": held.size,
                "used_at": moment(int(held.used_at_s * 1000)),
                "partitions": [
                    {"partition": p, "ranges": [[s.start, s.end] for s in ranges]}
                    for p, ranges in held.ranges.items()
                ],
            }
            for held in found.topics
        ]
        most, cleared = found.most_bytes, found.cleared_bytes
        out(as_json({"topics": topics, "most_bytes": most, "cleared_bytes": cleared}))
        return
    rows = [
        (held.topic, held.id, len(held.ranges), held.offsets, size(held.size), _at(held.used_at_s))
        for held in found.topics
    ]
    out(tabular(settings.output, ("TOPIC", "ID", "PARTITIONS", "OFFSETS", "SIZE", "USED"), rows))
    if found.cleared_bytes is not None:
        say(f"cleared: {size(found.cleared_bytes)}")
    elif not found.most_bytes:
        say("nothing is kept: [cache] bytes is 0")
    elif not rows:
        say(f"nothing yet: what is replayed is kept, up to {size(found.most_bytes)}")
    else:
        say(f"{size(sum(held.size for held in found.topics))} of {size(found.most_bytes)}")


def _at(at_s: float) -> str:
    return (moment(int(at_s * 1000)) or "").partition(".")[0] + "Z"
