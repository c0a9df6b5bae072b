"""Laws of replays: (6) live is not touched; (7) unchanged code differs in nothing.

Any part of history, begun with base's state or with its own, killed anywhere and gone on with.
"""

from __future__ import annotations

import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from playhead.core.ranges import Wanted
from playhead.core.scope import own
from playhead.engine.events import STEPS
from playhead.ops.diff import Request as DiffRequest
from playhead.ops.diff import diff
from playhead.ops.replay import Request, replay
from proof import figures
from proof.program import Crash, Program, crash_at
from proof.project import points, slots_of, stored

PLACES = st.integers(0, 60).map(lambda n: f"+{n}") | st.integers(0, 60).map(lambda n: f"-{n}")
TIMES = st.integers(-(10**12), 10**10).map(lambda ms: f"@{1_700_000_000_000 + ms}")
WORDS = st.none() | PLACES | TIMES.filter(lambda text: len(text) > 12)
CRASHES = st.none() | st.tuples(st.sampled_from(STEPS), st.integers(1, 4))


def replayed(program: Program, name: str, wanted: Wanted, crash: tuple[str, int] | None) -> None:
    """Replay, dying once on the way; then the same again, and then what is left."""
    request, stop = Request((name,), wanted), threading.Event()
    if crash:
        with suppress(Crash):
            replay(program.project, request, stop, crash_at(*crash))
    replay(program.project, request, stop)
    replay(program.project, Request((name,)), stop)


@settings(
    max_examples=80 if figures.LONG else 6,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(
    pipeline=st.sampled_from(["total", "quiet"]),
    seed=st.integers(0, 1000),
    part=st.tuples(WORDS, WORDS, st.booleans()),
    crash=CRASHES,
)
@example(pipeline="quiet", seed=25, part=("-25", "@1097328683118", False), crash=None)
def test_a_replay_touches_nothing_of_live_and_changes_nothing_by_itself(
    pipeline, seed, part, crash
):
    begin, end, from_base = part
    wanted = Wanted(begin, end, clamp=True, state_from_base=from_base and begin is not None)
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder) / "site", 2, 50)
        program.produce(points(90, seed))
        program.run(pipeline, 7)
        program.produce(points(20, seed + 1))  # live has not read these
        before = program.version_state((pipeline, "one"))
        replayed(program, f"{pipeline}@same", wanted, crash)
        assert program.version_state((pipeline, "one")) == before, "law 6"
        with closing(program.project.open_store()) as store:
            one, same = (stored(store, pipeline, label) for label in ("one", "same"))
            assert same["table"] == one["table"], "law 7"
            assert same["cursor"] == one["cursor"]
            for partition, standing in store.ledger.standings(f"{pipeline}@same").items():
                states = [
                    own(slots_of(store, f"{pipeline}@{label}", partition, at))
                    for label, at in (
                        ("one", store.ledger.standings(f"{pipeline}@one")[partition].cursor),
                        ("same", standing.cursor),
                    )
                ]
                ordered = [{n: f.sort(f.columns[0]) for n, f in s.items()} for s in states]
                assert ordered[0].keys() == ordered[1].keys()
                assert all(ordered[0][n].equals(ordered[1][n]) for n in ordered[0])
        found = diff(program.project, DiffRequest(pipeline, head="same"))
        assert [found.total(n) for n in ("changed", "ghost", "new", "in_flight")] == [0, 0, 0, 0]
        program.close()
