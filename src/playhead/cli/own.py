"""``rewind adopt check dead-letters``: what is done to one version by itself."""

from __future__ import annotations

import sys

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.stream import teller
from playhead.cli.targets import target_of, where_to
from playhead.errors import ConfigError


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


@click.command("dead-letters", epilog="Example: playhead dead-letters distance")
@click.argument("version", metavar="PIPELINE[@VERSION]")
@click.option("--skip", "place", metavar="T[0]@12", help="Set this record aside, and go on.")
@click.option("--reason", help="With --skip: why, for the audit.")
@shared
def dead_letters(settings: Globals, version: str, place: str | None, reason: str | None) -> None:
    """List the records that a version could not process; or set aside the one that stopped it.

    They are kept with their bytes. After a rewind, those that lie ahead of it count no more.
    """
    from playhead.core.ranges import moment
    from playhead.ops import dead_letters as op
    from playhead.render import as_json, tabular, text_of

    if (place is None) != (reason is None):
        raise ConfigError("--skip and --reason belong together")
    project = settings.project()
    if place is None or reason is None:
        found = op.dead_letters(project, version)
    else:
        found = op.skip(project, version, op.Skip(place, reason), teller(settings))
    if settings.json:
        content = [
            {
                "topic": letter.place.topic,
                "partition": letter.place.partition,
                "offset": letter.offset,
                "generation": letter.generation,
                "error": letter.error,
                "timestamp": moment(letter.timestamp_ms),
                "key": text_of(letter.key),
                "value": text_of(letter.value),
                "skipped": letter.skipped,
            }
            for letter in found.letters
        ]
        out(as_json({"version": found.version, "dead_letters": content}))
        return
    rows = [
        (
            letter.place.topic, letter.place.partition, letter.offset, letter.generation,
            moment(letter.timestamp_ms), letter.error,
        )
        for letter in found.letters
    ]  # fmt: skip
    headings = ("TOPIC", "PARTITION", "OFFSET", "GENERATION", "TIME", "ERROR")
    out(tabular(settings.output, headings, rows))


@click.command(epilog="Example: playhead check distance@km")
@click.argument("version", metavar="PIPELINE[@VERSION]")
@click.option(
    "--records",
    type=click.IntRange(min=1),
    default=10_000,
    help="Most records to read of each partition [10,000].",
)
@click.option("--newest", is_flag=True, help="Take the newest records [the oldest retained].")
@shared
def check(settings: Globals, version: str, records: int, *, newest: bool) -> None:
    """Run a function over real history in other ways, and compare the bits of what it gives.

    Batches cut elsewhere, the same batch again, other hash seeds, other time zones. Without a
    version every declared one is checked. Reads only; works before anything has run. Exit 0, or 4
    when two runs differ: the first difference is named.
    """
    from playhead.ops.check import Request
    from playhead.ops.check import check as op
    from playhead.render import as_json, checked, checked_content

    found = op(settings.project(), Request(version, records, newest), say)
    if settings.json:
        told = [{"version": c.version, "equal": c.difference is None} for c in found]
        out(as_json({**checked_content(found[-1]), "versions": told}))
    else:
        out("\n".join(map(checked, found)))
    if found[-1].difference is not None:
        sys.exit(4)
