"""The rewind table: a running total of ten 1.0's, rewound to every offset, equals a fresh pass.

Peers give 2..6 where 6..10 is right after a rewind to 5, and 11..20 after one to 0. Here every
offset is tried with every pair of batch sizes before and after the rewind, with a topic and a
table, and with a table alone. What is compared after each step is in ``proof/program.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proof import figures
from proof.program import Program

SIZES = (1, 2, 3, 7, 10)
TEN = [(0, 1.0, 1_700_000_000_000 + i) for i in range(10)]


@pytest.mark.parametrize("size", SIZES)
def test_a_rewind_to_every_offset_equals_a_fresh_pass(tmp_path: Path, size: int) -> None:
    program = Program(tmp_path / "site", 1)
    program.produce(TEN)
    assert program.run("total", size) == program.run("quiet", size) == "done"
    for offset in range(11):
        for again in SIZES:
            for pipeline in ("total", "quiet"):
                program.reset(pipeline, {0: offset})
                assert program.run(pipeline, again, to={0: offset}) == "done"
                assert table(program, pipeline) == ([offset * 1.0] if offset else [])
                assert program.run(pipeline, again) == "done"
                assert table(program, pipeline) == [10.0]
            assert newest(program) == [n * 1.0 for n in range(offset + 1, 11)]
            figures.count("rewind table", "rewinds, from outside")


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
