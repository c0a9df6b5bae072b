"""``rewind adopt``: what is done to one version by itself."""

from __future__ import annotations

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stream import teller
from playhead.cli.targets import target_of, where_to


@click.command(epilog="Example: playhead rewind distance --to-offset 0 --execute")
@click.argument("version", metavar="PIPELINE[@VERSION]")
@where_to
@click.option("--topic", "partitions", multiple=True, metavar="T[:0,1]", help="Only these [all].")
@click.option("--execute", is_flag=True, help="Do it; without this it is only shown.")
@click.option("--reason", help="For the audit.")
@shared
def rewind(
    settings: Globals,
    version: str,
    partitions: tuple[str, ...],
    *,
    execute: bool,
    reason: str | None,
    **targets: object,
) -> None:
    """Move a version's own playhead back; state and table go back with it.

    A dry run unless --execute is given. The version's next run reads again from there, under a new
    generation. Readers of a live table see it as of that offset until then; to spare them that,
    give the code a new version, replay it and promote it.
    """
    from playhead.ops.rewind import Request
    from playhead.ops.rewind import rewind as op
    from playhead.render import as_json, tabular

    target = target_of(settings, targets)
    request = Request(version, target, partitions, execute, reason)
    found = op(settings.project(), request, teller(settings))
    pipeline, _, label = found.version.partition("@")
    if settings.json:
        out(
            as_json(
                {
                    "pipeline": pipeline,
                    "version": label,
                    "generation": found.generation,
                    "cursor": {found.topic: found.cursor},
                    "executed": found.executed,
                    "partitions": [
                        {
                            "topic": place.topic,
                            "partition": place.partition,
                            "prior_offset": prior,
                            "new_offset": new,
                        }
                        for place, (prior, new) in found.moves.items()
                    ],
                }
            )
        )
    else:
        rows = [
            (found.group, place.topic, place.partition, prior, new, prior - new)
            for place, (prior, new) in found.moves.items()
        ]
        headings = ("GROUP", "TOPIC", "PARTITION", "PRIOR-OFFSET", "NEW-OFFSET", "OFFSETS")
        out(tabular(settings.output, headings, rows))
    if found.remark:
        say(found.remark)
    if found.executed:
        say(f"{found.version} is in generation {found.generation}; next: playhead run")
    else:
        say("a dry run: nothing was moved; --execute does it")


@click.command(epilog='Example: playhead adopt distance@miles --reason "renamed a helper"')
@click.argument("version", metavar="PIPELINE@VERSION")
@click.option("--reason", required=True, help="For the audit.")
@shared
def adopt(settings: Globals, version: str, reason: str) -> None:
    """Accept refactored code under its label, from where the version stands on.

    For code that does the same in other words: it must keep the same slots and outputs, and nothing
    is computed again. Anything else wants a new label, a replay and a diff.
    """
    from playhead.ops.adopt import adopt as op
    from playhead.render import as_json

    found = op(settings.project(), version, reason, teller(settings))
    pipeline, _, label = found.version.partition("@")
    if settings.json:
        out(
            as_json(
                {
                    "pipeline": pipeline,
                    "version": label,
                    "fingerprint": found.fingerprint,
                    "previous": found.previous,
                }
            )
        )
    else:
        at = ", ".join(f"[{p}]@{offset}" for p, offset in sorted(found.cursor.items()))
        out(
            f"{found.version} runs code {found.fingerprint} from {at} on (before: {found.previous})"
        )
