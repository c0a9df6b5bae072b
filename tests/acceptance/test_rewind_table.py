"""The rewind table: a running total of ten 1.0's, rewound to every offset, equals a fresh pass.

Peers give 2..6 where 6..10 is right after a rewind to 5, and 11..20 after one to 0. Here every
offset is tried with every pair of batch sizes before and after the rewind, with a topic and a
table, and with a table alone. What is compared after each step is in ``proof/program.py``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from proof import figures
from proof.program import Program

SIZES = (1, 2, 3, 10) if figures.LONG else (1, 3)
INTERVALS = (1, 3, 7, 100) if figures.LONG else (3, 100)
PIPELINES = ("total", "quiet") if figures.LONG else ("total",)
TEN = [(0, 1.0, 1_700_000_000_000 + i) for i in range(10)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", INTERVALS)
@pytest.mark.parametrize("size", SIZES)
def test_a_rewind_to_every_offset_equals_a_fresh_pass(size: int, every: int) -> None:
    with tempfile.TemporaryDirectory(prefix="playhead-") as folder:
        program = Program(Path(folder) / "site", 1, snapshot_records=every)
        program.produce(TEN)
        for pipeline in PIPELINES:
            assert program.run(pipeline, size) == "done"
            for offset in range(11):
                for by in ("us", "others"):
                    for again in SIZES if figures.LONG else (size,):
                        rewind(program, pipeline, offset, again, by)
                        figures.count("rewind table", f"rewinds by {by}")


def rewind(program: Program, pipeline: str, offset: int, size: int, by: str) -> None:
    """Rewind to an offset and run on; what readers see is what a fresh pass gives."""
    generation = program.tracks[pipeline, "one"].generation[0]
    if by == "us":
        assert program.rewind(pipeline, offset) == "done"
    else:
        program.reset(pipeline, {0: offset})
        assert program.run(pipeline, size, to={0: offset}) == "done"
    assert table(program, pipeline) == ([offset * 1.0] if offset else [])
    assert program.run(pipeline, size) == "done"
    assert table(program, pipeline) == [10.0]
    begun = program.tracks[pipeline, "one"].generation[0]
    # A reset to where it stood is none.
    assert begun == generation + (offset < 10 or by == "us")
    if pipeline == "total" and begun > generation:
        assert newest(program) == [n * 1.0 for n in range(offset + 1, 11)]


def table(program: Program, pipeline: str) -> list[float]:
    """Return what readers of the table see."""
    return [row[1] for row in program.public(pipeline)]


def newest(program: Program) -> list[float]:
    """Return the totals that the newest generation has published."""
    published = program.site.topic_dump("sums.one")
    with_generation = [
        (int(r["headers"]["playhead-generation"]), json.loads(r["value"])["total"])
        for r in published
    ]
    last = program.tracks["total", "one"].generation[0]
    return [total for generation, total in with_generation if generation == last]
