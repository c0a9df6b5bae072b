"""The seeded bugs still fit the code: ``make test-long`` runs them, this notices drift at once."""

from __future__ import annotations

import pytest

from proof import seeded


@pytest.mark.parametrize("bug", seeded.BUGS, ids=lambda bug: bug.name)
def test_a_seeded_bug_fits_the_code(bug: seeded.Bug) -> None:
    text = (seeded.ROOT / "src/playhead" / bug.file).read_text(encoding="utf-8")
    assert seeded.seeded(bug, text) != text
