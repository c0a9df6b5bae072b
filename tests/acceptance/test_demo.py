"""`playhead demo` tells the story right, on both logs, as often as somebody likes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import oracle
from playhead.cli.main import cli


def near(found: dict[str, float], unit: float) -> bool:
    expected = oracle.totals(unit)
    return {int(k) for k in found} == expected.keys() and all(
        abs(found[str(k)] - expected[k]) < 1e-6 for k in expected
    )


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_the_demo_tells_what_is_true(
    log: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where = ["-b", request.getfixturevalue("kafka").bootstrap] if log == "kafka" else []
    for keep in ([], ["--keep", str(tmp_path / "kept")]):
        begun = time.monotonic()
        done = CliRunner().invoke(cli, ["demo", *where, *keep, "-o", "json"])
        assert done.exit_code == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["records"] == 681
        assert near(found["tables"]["miles"], oracle.MILES)
        assert near(found["tables"]["km"], oracle.KM)
        assert found["tables"]["public"] == found["tables"]["km"]
        assert (found["diff"]["unexplained"], found["diff"]["changed"]) == (0, 9)
        assert time.monotonic() - begun < 30  # README says seconds; a busy machine takes longer
    assert (tmp_path / "kept" / "vehicles.py").exists()


def test_the_demo_shows_what_the_tutorial_published() -> None:
    told = CliRunner().invoke(cli, ["demo"]).stdout
    assert "7.61726" in told
    assert "2.73 × the truth" in told
    assert told.count("was lost") == 2
