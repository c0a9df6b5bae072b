"""Make a project to begin with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from playhead.errors import Refused

FILES = ("vehicles.py", "playhead.toml", "trackpoints.csv")


def init(directory: Path) -> list[str]:
    """Write the example project into a folder that lacks its files; return their names.

    Raises:
        Refused: One of the files is there already; none is written.
    """
    there = [name for name in FILES if (directory / name).exists()]
    if there:
        raise Refused(
            f"{directory / there[0]} exists already",
            safe="Nothing was written.",
            cure="Choose another folder.",
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            content = files("playhead").joinpath("example", name).read_bytes()
            (directory / name).write_bytes(content)
    except OSError as error:
        raise Refused(f"{directory}: {error.strerror}") from error
    return list(FILES)
