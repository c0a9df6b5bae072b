"""The options that say where to: the words of kafka-consumer-groups (KIP-122)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from playhead.cli.options import Globals
from playhead.errors import ConfigError

if TYPE_CHECKING:
    from playhead.core.targets import Target

_F = TypeVar("_F", bound=Callable[..., Any])
_OPTIONS = (
    click.option("--to-earliest", is_flag=True, help="To the first offset that is retained."),
    click.option("--to-latest", is_flag=True, help="To the end of the log."),
    click.option("--to-current", is_flag=True, help="To where it stands."),
    click.option("--to-offset", type=click.IntRange(min=0), help="To this offset."),
    click.option("--to-datetime", metavar="TIME", help="To the first record at or after a time."),
    click.option("--by-duration", metavar="PT6H", help="To that long before now."),
    click.option("--shift-by", type=int, metavar="N", help="By so many offsets, back with -N."),
    click.option("--clamp", is_flag=True, help="To the nearest that is retained [an error]."),
    click.option(
        "--from-file", type=click.Path(path_type=Path), help="topic,partition,offset lines."
    ),
)


def where_to(command: _F) -> _F:
    """Give a command the options that say where to."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def target_of(settings: Globals, targets: Mapping[str, object]) -> Target:
    """Return the one target that was given.

    Raises:
        ConfigError: None or several were given, or one cannot be read.
    """
    from datetime import UTC, datetime

    from playhead.core.ranges import timestamp_ms
    from playhead.core.targets import Target, duration

    clamp = bool(targets.get("clamp"))
    words = {k: v for k, v in targets.items() if k != "clamp"}
    given = {k: v for k, v in words.items() if v is not None and v is not False}
    if len(given) != 1:
        names = [option.replace("_", "-") for option in words]
        raise ConfigError("say one of " + " ".join(f"--{name}" for name in names))
    ((word, value),) = given.items()
    match word, value:
        case "from_file", Path():
            return Target("file", file=settings.root / value)
        case "to_offset", int():
            return Target("offset", value, clamp=clamp)
        case "shift_by", int():
            return Target("shift", value, clamp=clamp)
        case "to_datetime", str():
            return Target("time", timestamp_ms(value))
        case "by_duration", str():
            moment = datetime.now(UTC) - duration(value)
            return Target("time", round(moment.timestamp() * 1000))
        case _:
            return Target(word.removeprefix("to_"))
