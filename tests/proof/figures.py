"""Figures of the proofs: counted by the tests, gathered for ``docs/proof.md``.

Each test process appends JSON lines to the file that ``PLAYHEAD_PROOF_FIGURES`` names; without it
nothing is kept. ``PLAYHEAD_PROOF=long`` asks for the full products.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

LONG = os.environ.get("PLAYHEAD_PROOF") == "long"


def count(kind: str, what: str, number: float = 1) -> None:
    """Add to one figure."""
    path = os.environ.get("PLAYHEAD_PROOF_FIGURES")
    if path:
        line = json.dumps({"kind": kind, "what": what, "number": number}) + "\n"
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line)
