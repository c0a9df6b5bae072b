"""The command line: ``playhead COMMAND``."""

from __future__ import annotations

import gc
import os
import sys

import click

from playhead import __version__
from playhead.cli import clean, diff, groups, look, own, repair, scan, start, stream, topics
from playhead.cli.options import Globals, shared
from playhead.cli.replay import replay


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog="Begin with: playhead demo",
)
@click.version_option(__version__, message="playhead %(version)s")
@shared
def cli(settings: Globals) -> None:
    """Rewind, replay, compare and promote stream processing, exactly once.

    A pipeline reads a topic and writes topics and tables. When its function changes: plan, replay
    history into a shadow version, diff the two, promote, or roll back.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


_YOUNG = 200_000  # rows that are read are objects, too: let the collector look at them seldom

for _command in (
    start.demo,
    start.init,
    topics.topics,
    stream.ingest,
    stream.run,
    stream.status,
    stream.query,
    groups.groups,
    repair.plan,
    replay,
    diff.diff,
    repair.promote,
    repair.rollback,
    look.explain,
    look.history,
    scan.scan,
    clean.clean,
    clean.cache,
    own.rewind,
    own.adopt,
    own.check,
    own.dead_letters,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; a closed pipe is no error."""
    gc.set_threshold(_YOUNG)
    try:
        cli(prog_name="playhead")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
