"""The seeded bugs still fit the code: ``make test-long`` runs them, this notices drift at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from proof import seeded


@pytest.mark.parametrize("bug", seeded.BUGS, ids=lambda bug: bug.name)
def test_a_seeded_bug_fits_the_code(bug: seeded.Bug) -> None:
    text = (seeded.ROOT / "src/playhead" / bug.file).read_text(encoding="utf-8")
    assert seeded.seeded(bug, text) != text


def test_the_tests_that_the_bugs_name_are_there() -> None:
    named = sorted({bug.test for bug in seeded.BUGS})
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *named], cwd=seeded.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
