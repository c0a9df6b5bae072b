"""Options that every command shares, and how a command ends."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import click

from playhead.errors import ConfigError, PlayheadError

if TYPE_CHECKING:
    from playhead.project import Project

P = ParamSpec("P")
R = TypeVar("R")
OUTPUTS = ("table", "wide", "json", "jsonl", "csv", "md")


@dataclass(slots=True)
class Globals:
    """What the options before the command said; options after it may say it too."""

    root: Path = field(default_factory=Path)
    flags: dict[str, str | None] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    output: str = "table"
    verbosity: int = 0

    def project(self) -> Project:
        """Return the project that the options name."""
        from playhead.config import load
        from playhead.project import Project

        return Project(load(self.root, self.flags, self.properties))

    @property
    def json(self) -> bool:
        """Whether the answer is JSON."""
        return self.output in {"json", "jsonl"}


def _take(context: click.Context, given: Mapping[str, Any]) -> Globals:
    """Merge the shared options of one level into what outer levels said."""
    settings = context.find_root().ensure_object(Globals)
    if given.get("root") is not None:
        settings.root = Path(given["root"])
    for flag in ("app", "log", "store"):
        if given.get(flag) is not None:
            settings.flags[flag] = given[flag]
    if given.get("server") is not None:
        settings.flags["log"] = f"kafka://{given['server']}"
    if given.get("config") is not None:
        settings.properties.update(_properties(Path(given["config"])))
    for pair in given.get("property") or ():
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"-X {pair!r}: name=value")
        settings.properties[name] = value
    if given.get("output") is not None:
        settings.output = given["output"]
    settings.verbosity += int(given.get("verbose") or 0) - int(given.get("quiet") or 0)
    return settings


def _properties(path: Path) -> dict[str, str]:
    from playhead.properties import load_properties

    return load_properties(path)


_SHARED = [
    click.option("-C", "--project", "g_root", metavar="DIR", help="Project folder [here]."),
    click.option("--app", "g_app", metavar="MODULE:NAME", help="The App [as playhead.toml says]."),
    click.option("--log", "g_log", metavar="URL", help="local:PATH or kafka://HOST:PORT."),
    click.option("--store", "g_store", metavar="URL", help="sqlite:PATH or postgresql://…"),
    click.option("-b", "--bootstrap-server", "g_server", metavar="HOST:PORT", help="Kafka broker."),
    click.option("-F", "--command-config", "g_config", metavar="FILE", help="Kafka properties."),
    click.option(
        "-X", "--command-property", "g_property", metavar="K=V", multiple=True, help="One of them."
    ),
    click.option("-o", "--output", "g_output", type=click.Choice(OUTPUTS), help="Form [table]."),
    click.option("-v", "--verbose", "g_verbose", count=True, help="Say more; -vv: tracebacks."),
    click.option("-q", "--quiet", "g_quiet", count=True, help="Say less."),
]


def shared(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command the shared options, and end it as the conventions ask.

    The command gets a `Globals` first. A `PlayheadError` becomes its text on stderr and its exit
    code; nothing else than a defect of Playhead shows a traceback.
    """

    @click.pass_context
    @functools.wraps(function)
    def command(context: click.Context, /, *args: Any, **kwargs: Any) -> R:  # noqa: ANN401
        given = {name[2:]: kwargs.pop(name) for name in list(kwargs) if name.startswith("g_")}
        settings = context.find_root().ensure_object(Globals)
        try:
            settings = _take(context, given)
            _log_to_stderr(settings)
            return function(settings, *args, **kwargs)
        except PlayheadError as error:
            fail(error, verbose=settings.verbosity >= 2)
        except KeyboardInterrupt:
            say("interrupted; what was committed stays")
            sys.exit(130)

    for option in reversed(_SHARED):
        command = option(command)
    return command


def _log_to_stderr(settings: Globals) -> None:
    import logging

    level = {0: logging.WARNING, 1: logging.INFO}.get(max(0, settings.verbosity), logging.DEBUG)
    if settings.verbosity < 2:  # what the client library says is told once, by the error
        logging.getLogger("playhead.kafka.librdkafka").setLevel(logging.CRITICAL)
    logging.basicConfig(
        level=level if settings.verbosity >= 0 else logging.ERROR,
        stream=sys.stderr,
        format="%(message)s",
    )


def fail(error: PlayheadError, *, verbose: bool) -> NoReturn:
    """Print an error on stderr and exit with its code."""
    if verbose:
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
    click.echo(f"error: {error}", err=True)
    sys.exit(error.exit_code)


def say(sentence: str) -> None:
    """Print a remark on stderr: data alone goes to stdout."""
    click.echo(sentence, err=True)


def out(text: str) -> None:
    """Print data on stdout."""
    click.echo(text)
