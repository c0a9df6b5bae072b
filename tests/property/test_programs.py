"""Programs of producing, running, crashing, rewinding, promoting: the laws hold after each step.

The model is in ``proof/program.py``; this file chooses what happens. 50 programs with a fixed seed
in ``make test``, 300 in ``make test-long``; ``PLAYHEAD_PROOF_SEED`` chooses another seed, and a
failure prints the one that it had.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from playhead.engine.events import STEPS
from proof import figures
from proof.program import AWAKE, Program

PROGRAMS = 300 if figures.LONG else 50
SEED = int(os.environ.get("PLAYHEAD_PROOF_SEED", "2014"))
MEMORY = Path("/dev/shm")  # a disk that need not be waited for, where there is one

pipelines = st.sampled_from(["total", "quiet"])
labels = st.sampled_from(["two", "same", "one"])
sizes = st.sampled_from([1, 2, 3, 7, 50])
xs = st.none() | st.sampled_from([0.0, 0.1, 1 / 3, -0.7, 1e9, -1e-9]) | st.floats(-1e6, 1e6)
times = st.just(1_700_000_000_000) | st.integers(1, 4_000_000_000_000)  # late, and in the future
given = st.lists(st.tuples(st.integers(0, 5), xs, times), min_size=1, max_size=25)
crashes = st.tuples(st.sampled_from(STEPS), st.integers(1, 3))
share = st.integers(0, 8).map(lambda n: n / 8)
happened: Counter[str] = Counter()


class Programs(RuleBasedStateMachine):
    """One program: each rule acts, and then compares everything with the oracle."""

    @initialize(partitions=st.integers(1, 2), points=given)
    def begin(self, partitions, points):
        hypothesis.note(f"PLAYHEAD_PROOF_SEED={SEED}")
        memory = MEMORY if MEMORY.is_dir() else None
        self.folder = tempfile.TemporaryDirectory(prefix="playhead-", dir=memory)
        self.program = Program(Path(self.folder.name) / "site", partitions)
        self.program.produce(points)
        happened["program"] += 1

    def teardown(self):
        if hasattr(self, "program"):
            for pipeline in ("total", "quiet"):
                self.program.caught_up(pipeline, 50)
            self.program.close()
            happened.update(self.program.happened)
            self.folder.cleanup()

    @rule(points=given)
    def produce(self, points):
        self.program.produce(points)

    @rule(pipeline=pipelines, records=sizes, most=st.none() | st.integers(1, 20))
    def run(self, pipeline, records, most):
        self.program.run(pipeline, records, most=most)

    @rule(pipeline=pipelines, records=sizes, crash=crashes)
    def crash(self, pipeline, records, crash):
        self.program.run(pipeline, records, crash=crash)

    @rule(pipeline=pipelines, records=sizes)
    def catch_up(self, pipeline, records):
        self.program.caught_up(pipeline, records)

    @rule(pipeline=pipelines, shares=st.lists(share, min_size=2, max_size=2))
    def reset(self, pipeline, shares):
        ends = self.program.ends()
        self.program.reset(pipeline, {p: int(end * shares[p]) for p, end in ends.items()})

    @rule(pipeline=pipelines, records=sizes)
    def accept_gap(self, pipeline, records):
        self.program.run(pipeline, records, accept_gap=True)

    @rule(pipeline=pipelines, witness=st.booleans())
    def lose_group(self, pipeline, witness):
        self.program.lose_group(pipeline, witness=witness)

    @rule(shares=st.lists(share, min_size=2, max_size=2))
    def delete_records(self, shares):
        ends = self.program.safe_to_delete()
        self.program.delete_records({p: int(end * shares[p]) for p, end in ends.items()})

    @rule(pipeline=pipelines, records=sizes)
    def recreate_topic(self, pipeline, records):
        self.program.recreate_topic(pipeline, records)

    @rule(pipeline=pipelines, label=labels, crash=st.none() | crashes)
    def replay(self, pipeline, label, crash):
        self.program.replay(pipeline, label, crash)

    @rule(pipeline=pipelines, label=labels, records=sizes)
    def promote(self, pipeline, label, records):
        self.program.promote(pipeline, label, records)

    @rule(pipeline=pipelines)
    def roll_back(self, pipeline):
        self.program.rollback(pipeline)

    @rule(pipeline=pipelines, step=st.sampled_from(AWAKE), records=sizes)
    def freeze_in_a_batch(self, pipeline, step, records):
        self.program.freeze_in(pipeline, step, records)

    @rule(pipeline=pipelines, records=sizes, batches=st.integers(0, 2))
    def fall_asleep(self, pipeline, records, batches):
        self.program.fall_asleep(pipeline, records, batches)

    @rule(records=sizes)
    def wake(self, records):
        self.program.wake(records)


def test_programs():
    happened.clear()
    chosen = settings(
        max_examples=PROGRAMS,
        stateful_step_count=16,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    seeded = hypothesis.seed(SEED)(Programs)
    run_state_machine_as_test(seeded, settings=chosen)
    for what, number in sorted(happened.items()):
        print(f"{number:6} {what}")
        figures.count("programs", what, number)
    assert happened["program"] >= PROGRAMS
    for what in ("run crashed", "rewind", "replay done", "promotion", "woke up overtaken"):
        assert happened[what], f"no program had: {what}"
