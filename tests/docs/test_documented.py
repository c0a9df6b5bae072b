"""What is public is documented; what is not documented is not public."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import playhead
from playhead import errors
from playhead.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(cli))


def test_the_commands_are_those_of_this_release() -> None:
    assert sorted(COMMANDS) == [
        "adopt", "cache", "check", "clean", "dead-letters", "demo", "diff", "explain",
        "groups describe", "groups reset", "history", "ingest", "init", "plan", "promote", "query",
        "replay", "rewind", "rollback", "run", "scan", "status", "topics create", "topics describe",
        "topics list", "topics tail",
    ]  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_and_has_an_example(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert (command.epilog or "").startswith("Example: playhead ")
    group, _, last = name.partition(" ")
    assert f"`playhead {group}" in README
    assert f"`{last}`" in README or f"{group} {last or ''}".strip() in README
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_public_names_are_sorted_and_all_there() -> None:
    assert playhead.__all__ == sorted(playhead.__all__)
    for name in playhead.__all__:
        assert getattr(playhead, name) is not None


def test_every_error_is_in_the_tree_that_the_module_draws() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.PlayheadError):
            assert name in (errors.__doc__ or "")


def test_help_answers_at_once() -> None:
    command = [str(Path(sys.executable).parent / "playhead"), "--help"]
    times = []
    for _ in range(7):  # processor time: other tests run beside this one
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.2, times


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, playhead.cli.main; "
        "print([m for m in ('polars', 'duckdb', 'confluent_kafka', 'msgspec', 'sqlite3') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_contributing_fits_one_screen_and_names_what_there_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
    assert {"test", "lint"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"(?:tests|docs)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`((?:core|engine)/\w+\.py)`", text):
        assert (ROOT / "src/playhead" / path).exists(), path


def test_what_has_more_to_prove_is_run_by_the_long_proof() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for path in (ROOT / "tests").glob("*/test_*.py"):
        if "figures.LONG" in path.read_text(encoding="utf-8").replace('"figures.LONG"', ""):
            assert str(path.relative_to(ROOT)) in makefile
