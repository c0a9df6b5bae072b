"""``groups describe reset``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from playhead.cli.options import Globals, out, say, shared
from playhead.cli.targets import target_of, where_to
from playhead.errors import ConfigError

if TYPE_CHECKING:
    from playhead.ops.groups import Reset


@click.group(epilog="Example: playhead groups describe --all-groups")
def groups() -> None:
    """Look at consumer groups, and move them by hand."""


@groups.command(epilog="Example: playhead groups describe --group distance.miles")
@click.option("--group", help="One group.")
@click.option("--all-groups", is_flag=True, help="Every group.")
@shared
def describe(settings: Globals, group: str | None, *, all_groups: bool) -> None:
    """Show CURRENT-OFFSET, LOG-END-OFFSET and LAG, as kafka-consumer-groups does."""
    from playhead.ops.groups import describe as op
    from playhead.render import as_json, tabular

    if (group is None) == (not all_groups):
        raise ConfigError("say --group GROUP or --all-groups")
    found = op(settings.project(), group)
    if settings.json:
        content = [
            {
                "group": g.info.group,
                "state": g.info.state,
                "members": list(g.info.members),
                "partitions": [
                    {
                        "topic": p.place.topic,
                        "partition": p.place.partition,
                        "current_offset": p.current,
                        "log_end_offset": p.end,
                        "lag": p.lag,
                    }
                    for p in g.partitions
                ],
            }
            for g in found
        ]
        out(as_json({"groups": content}))
        return
    rows = [
        (
            g.info.group, p.place.topic, p.place.partition, p.current, p.end, p.lag,
            g.info.state, "; ".join(g.info.members) or None,
        )
        for g in found
        for p in g.partitions
    ]  # fmt: skip
    headings = (
        "GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "STATE",
        "MEMBERS",
    )  # fmt: skip
    out(tabular(settings.output, headings, rows))


@groups.command(
    epilog="Example: playhead groups reset --group distance.miles --to-offset 0 --execute"
)
@click.option("--group", required=True, help="The group.")
@click.option("--topic", "topics", multiple=True, metavar="T[:0,1]", help="Only these [all].")
@click.option("--all-topics", is_flag=True, help="Every topic that the group has read [default].")
@where_to
@click.option("--execute", is_flag=True, help="Do it; without this it is only shown.")
@shared
def reset(
    settings: Globals,
    group: str,
    topics: tuple[str, ...],
    *,
    all_topics: bool,
    execute: bool,
    **targets: object,
) -> None:
    """Move a group's offsets; a dry run unless --execute is given.

    The next run of a version whose group was moved back rewinds it: state and table go back with
    the offset. Refused while the group has members. What it changed is read back and compared, and
    the old offsets are kept in a file.
    """
    from playhead.ops.groups import reset as op
    from playhead.render import as_json, tabular

    if topics and all_topics:
        raise ConfigError("say --topic or --all-topics, not both")
    found = op(settings.project(), group, topics, target_of(settings, targets), execute=execute)
    undo = _undo(settings, found)
    if settings.json:
        content = [
            {
                "topic": place.topic,
                "partition": place.partition,
                "prior_offset": prior,
                "new_offset": new,
            }
            for place, (prior, new) in found.moves.items()
        ]
        out(
            as_json(
                {
                    "group": group,
                    "executed": found.executed,
                    "partitions": content,
                    "undo": undo,
                }
            )
        )
        return
    rows = [
        (group, place.topic, place.partition, prior, new)
        for place, (prior, new) in found.moves.items()
    ]
    headings = ("GROUP", "TOPIC", "PARTITION", "PRIOR-OFFSET", "NEW-OFFSET")
    out(tabular(settings.output, headings, rows))
    say(f"done; to undo it: {undo}" if undo else "a dry run: nothing was moved; --execute does it")


def _undo(settings: Globals, found: Reset) -> str | None:
    if found.undo is None:
        return None
    file = found.undo.relative_to(settings.root)
    where = f" -C {shlex.quote(str(settings.root))}" if str(settings.root) != "." else ""
    log = settings.flags.get("log")
    at = f" --log {shlex.quote(log)}" if log else ""
    return (
        f"playhead groups reset{where}{at} --group {shlex.quote(found.group)} "
        f"--from-file {shlex.quote(str(file))} --execute"
    )
