"""``init demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from playhead.cli.options import Globals, out, say, shared

if TYPE_CHECKING:
    from playhead.project import Project


@click.command(epilog="Example: playhead init trips && cd trips")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@shared
def init(settings: Globals, directory: Path) -> None:
    """Make a runnable project: vehicles.py, playhead.toml, trackpoints.csv."""
    from playhead.ops.init import init as op
    from playhead.render import as_json

    made = op(settings.root / directory)
    if settings.json:
        out(as_json({"directory": str(directory), "files": made}))
        return
    for name in made:
        out(str(directory / name))
    say(
        f"next: cd {directory}, then playhead ingest trackpoints.csv --topic raw_trackpoints "
        '--timestamp time --timestamp-format "%m/%d/%Y %H:%M"'
    )


@click.command(epilog="Example: playhead demo -b localhost:9092")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the project.")
@shared
def demo(settings: Globals, keep: Path | None) -> None:
    """Tell the whole story in a project of its own, from ingest to promotion and rollback."""
    from playhead.demo import demo as op
    from playhead.render import as_json

    def open_project(directory: Path) -> Project:
        settings.root = directory
        directory.mkdir(parents=True, exist_ok=True)
        return settings.project()

    tell = (lambda _text: None) if settings.json else out
    content = op(open_project, keep and settings.root / keep, tell)
    if settings.json:
        out(as_json(content))
