"""``diff``."""

from __future__ import annotations

import sys
from typing import Any

import click

from playhead.cli.options import Globals, out, say, shared


@click.command(epilog='Example: playhead diff distance --expect "distance = base.distance * 1.6"')
@click.argument("pipeline")
@click.option("--base", metavar="V", help="Compare with this version [the live one].")
@click.option("--head", metavar="V", help="Compare this version [the only shadow].")
@click.option("--expect", multiple=True, metavar="EXPR", help="Polars SQL over head and base.")
@click.option("--topics", is_flag=True, help="Compare topics, too, record by record.")
@click.option("--html", metavar="FILE", help="Write a report with pictures, one HTML file.")
@click.option("--md", metavar="FILE", help="Write the report as Markdown.")
@shared
def diff(settings: Globals, pipeline: str, **options: str | tuple[str, ...] | bool | None) -> None:
    """Compare two versions key by key with what was declared to change.

    Exit 0, or 4 when a row differs that no expectation explains.
    """
    from playhead.ops.diff import Request
    from playhead.ops.diff import diff as op
    from playhead.ops.report import report
    from playhead.render import as_json
    from playhead.render_diff import difference
    from playhead.render_html import html_report
    from playhead.render_report import markdown_report, report_content

    project = settings.project()
    asked: Any = {name: options[name] for name in ("base", "head", "expect", "topics")}
    found = op(project, Request(pipeline, **asked))
    wanted = {"html": html_report, "md": markdown_report}
    files = {name: str(options[name]) for name in wanted if options[name]}
    content = {}
    if files or settings.json or settings.output == "md":
        content = report_content(report(project, found))
    for name, file in files.items():
        _write(settings, file, wanted[name](content))
    if settings.json:
        out(as_json(content))
    else:
        out(markdown_report(content) if settings.output == "md" else difference(found))
    if found.unexplained:
        sys.exit(4)
    if not settings.json:
        say(f"next: playhead promote {found.head}")


def _write(settings: Globals, file: str, text: str) -> None:
    from playhead.errors import ConfigError

    path = settings.root / file
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}", safe="The diff is kept in the store."
        ) from error
    say(f"written: {file}")
