"""Programs of producing, running, crashing, rewinding, promoting: the laws hold after each step.

The model is in ``proof/program.py``; this file chooses what happens. 50 programs with a fixed seed
in ``make test``, four times 75 in ``make test-long``; ``PLAYHEAD_PROOF_SEED`` chooses another seed,
and a failure prints the one that it had, and the program; ``PLAYHEAD_PROOF_SHRINK=1`` makes it
short.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from playhead.engine.events import STEPS
from proof import figures
from proof.program import AWAKE, Program
from proof.project import BAD, points

PROGRAMS, PARTS = (75, 4) if figures.LONG else (50, 1)
SEED = int(os.environ.get("PLAYHEAD_PROOF_SEED", "2014"))
SHRINK = bool(os.environ.get("PLAYHEAD_PROOF_SHRINK"))  # takes minutes

pipelines = st.sampled_from(["total", "quiet"])
labels = st.sampled_from(["two", "same", "two", "one"])
sizes = st.sampled_from([1, 2, 3, 7, 20])  # at most 20 bad records in a batch
xs = st.none() | st.sampled_from([0.0, 0.1, 1 / 3, -0.7, 1e9, -1e-9, *BAD]) | st.floats(-1e6, 1e6)
times = st.just(1_700_000_000_000) | st.integers(1, 4_000_000_000_000)  # late, and in the future
given = st.lists(st.tuples(st.integers(0, 5), xs, times), min_size=1, max_size=25)
crashes = st.tuples(st.sampled_from(STEPS[: STEPS.index("before swap")]), st.integers(1, 2))
small = st.sampled_from([1, 2, 3])
shares = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=2, max_size=2)
rewinding = ["rewind intent", "after compare-and-set", "between delta and rows", "rewind stored",
             "before restore", "after restore", "group advised"]  # fmt: skip
rewind_crashes = st.tuples(st.sampled_from(rewinding), st.just(1))
WANTED = ("run crashed", "rewind", "rewind done", "replay done", "promotion", "rollback",
          "woke up overtaken", "records deleted", "topic recreated", "group lost")  # fmt: skip
happened: Counter[str] = Counter()


class Programs(RuleBasedStateMachine):
    """One program: each rule acts, and then compares everything with the oracle."""

    seed = SEED

    @initialize(partitions=st.integers(1, 2), points=given, every=st.sampled_from([1, 5, 20, 500]))
    def begin(self, partitions, points, every):
        hypothesis.note(f"PLAYHEAD_PROOF_SEED={self.seed}")
        self.folder = tempfile.TemporaryDirectory(prefix="playhead-")
        self.program = Program(Path(self.folder.name) / "site", partitions, every)
        self.program.produce(points)
        happened["program"] += 1

    def teardown(self):
        if hasattr(self, "program"):
            for pipeline in ("total", "quiet"):
                self.program.caught_up(pipeline, 20)
            self.program.recreate_topic("total", 20)
            self.program.close()
            happened.update(self.program.happened)
            self.folder.cleanup()

    @rule(points=given)
    def produce(self, points):
        self.program.produce(points)

    @rule(pipeline=pipelines, records=sizes, most=st.none() | st.integers(1, 20))
    def run(self, pipeline, records, most):
        self.program.run(pipeline, records, most=most)

    @rule(pipeline=pipelines, records=small, crash=crashes, points=given)
    def crash(self, pipeline, records, crash, points):
        self.program.produce(points)
        self.program.run(pipeline, records, crash=crash)

    @rule(pipeline=pipelines, records=sizes)
    def catch_up(self, pipeline, records):
        self.program.caught_up(pipeline, records)

    @rule(pipeline=pipelines, shares=shares)
    def reset(self, pipeline, shares):
        self.program.reset(pipeline, self.program.at(shares))

    @rule(pipeline=pipelines, shares=shares, records=sizes, crash=st.none() | rewind_crashes)
    def rewind_from_outside(self, pipeline, shares, records, crash):
        self.program.caught_up(pipeline, records)
        self.program.reset(pipeline, self.program.at(shares))
        self.program.run(pipeline, records, crash=crash)

    @rule(pipeline=pipelines, share=st.floats(0, 1), crash=st.none() | rewind_crashes)
    def rewind(self, pipeline, share, crash):
        self.program.rewind(pipeline, int(share * min(self.program.ends().values())), crash)

    @rule(pipeline=pipelines, records=sizes)
    def accept_gap(self, pipeline, records):
        self.program.run(pipeline, records, accept_gap=True)

    @rule(pipeline=pipelines, witness=st.booleans())
    def lose_group(self, pipeline, witness):
        self.program.lose_group(pipeline, witness=witness)

    @precondition(lambda self: self.program.happened.get("records deleted", 0) < 1)
    @rule(shares=shares)
    def delete_records(self, shares):
        ends = self.program.safe_to_delete()
        self.program.delete_records({p: int(end * shares[p]) for p, end in ends.items()})

    @precondition(lambda self: not self.program.happened.get("topic recreated", 0))
    @rule(pipeline=pipelines, records=sizes)
    def recreate_topic(self, pipeline, records):
        self.program.recreate_topic(pipeline, records)

    @rule(pipeline=pipelines, label=labels, crash=st.none() | crashes)
    def replay(self, pipeline, label, crash):
        self.program.replay(pipeline, label, crash)

    @rule(pipeline=pipelines, label=labels, records=sizes)
    def promote(self, pipeline, label, records):
        self.program.promote(pipeline, label, records)

    @precondition(lambda self: self.program.happened.get("promotion", 0))
    @rule(pipeline=pipelines)
    def roll_back(self, pipeline):
        self.program.rollback(pipeline)

    @rule(pipeline=pipelines, step=st.sampled_from(AWAKE), records=small, points=given)
    def freeze_in_a_batch(self, pipeline, step, records, points):
        self.program.produce(points)
        self.program.freeze_in(pipeline, step, records)

    @rule(pipeline=pipelines, records=small, batches=st.integers(0, 2), points=given)
    def fall_asleep(self, pipeline, records, batches, points):
        self.program.produce(points)
        self.program.fall_asleep(pipeline, records, batches)

    @rule(records=sizes)
    def wake(self, records):
        self.program.wake(records)


@pytest.mark.parametrize("pipeline", ["total", "quiet"])
def test_a_reset_beside_a_frozen_member_is_not_overwritten(tmp_path, pipeline):
    """Found by a program: on the local log the member that woke up overwrote the reset."""
    program = Program(tmp_path / "site", 2)
    program.produce(points(60))
    program.run(pipeline, 5, most=10)
    program.fall_asleep(pipeline, 5, batches=1)
    program.reset(pipeline, program.at([0, 0]))
    program.wake(5)
    assert program.happened["woke up after a reset"]
    program.caught_up(pipeline, 7)
    assert program.happened["rewind"]
    program.close()


@pytest.mark.parametrize("step", AWAKE)
@pytest.mark.parametrize("pipeline", ["total", "quiet"])
def test_a_process_that_wakes_up_at_a_step_commits_nothing(tmp_path, pipeline, step):
    if pipeline == "quiet" and step in {"begin", "after log commit"}:
        pipeline, records = "total", 20  # a table alone has no transaction of the log
    else:
        records = 5
    program = Program(tmp_path / "site", 2)
    program.produce(points(60))
    program.run(pipeline, 5, most=10)
    program.freeze_in(pipeline, step, records)
    assert program.happened["frozen at a step"]
    program.caught_up(pipeline, 7)
    program.close()


def test_a_replay_leaves_live_alone_and_a_topic_made_again_is_refused(tmp_path):
    program = Program(tmp_path / "site", 2)
    program.produce(points(40))
    for pipeline in ("total", "quiet"):
        program.run(pipeline, 7)
        program.replay(pipeline, "two")
        program.promote(pipeline, "two", 7)
        program.recreate_topic(pipeline, 7)
        program.caught_up(pipeline, 7)
    wanted = {"replay done": 4, "promotion": 2, "topic recreated": 2, "rollback": 4}
    assert {what: program.happened[what] for what in wanted} == wanted
    program.close()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_programs(part):
    happened.clear()
    chosen = settings(
        max_examples=PROGRAMS,
        stateful_step_count=20 if figures.LONG else 10,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink) if SHRINK else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    Programs.seed = SEED + part
    seeded = hypothesis.seed(SEED + part)(Programs)
    run_state_machine_as_test(seeded, settings=chosen)
    for what, number in sorted(happened.items()):
        print(f"{number:6} {what}")
        figures.count("programs", what, number)
    assert happened["program"] >= PROGRAMS
    for what in WANTED:
        assert happened[what], f"no program had: {what}"
