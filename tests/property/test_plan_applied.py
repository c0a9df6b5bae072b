"""Law 3: planning an applied plan gives no steps."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import oracle
from playhead.core.offsets import OffsetRange
from playhead.core.plan import Anew, Facts, Plan, Record, Replay, Revive, plan_version
from proof import figures
from story import TIME, Trip

RECORD = Record("p@b", "p.b", ("t__b",), ())
PARTITIONS = range(2)
offsets = st.integers(0, 50)


@st.composite
def worlds(draw: st.DrawFn) -> Facts:
    """Draw what a version and the log may look like; retention takes nothing that is needed."""
    retained = {p: OffsetRange(0, draw(offsets)) for p in PARTITIONS}
    recorded = draw(st.booleans())
    begun = [p for p in PARTITIONS if recorded and draw(st.booleans())]
    cursor = {p: draw(st.integers(0, retained[p].end)) for p in begun}
    return Facts(
        version="p@b",
        stage=draw(st.sampled_from(["shadow", "retired"])) if recorded else None,
        record=None if recorded else RECORD,
        changed=recorded and draw(st.booleans()),
        topic="t",
        cursor=cursor,
        start=dict.fromkeys(cursor, 0),
        bound={p: draw(st.integers(0, retained[p].end)) for p in PARTITIONS if draw(st.booleans())},
        retained=retained,
        from_times_ms={},
    )


def applied(world: Facts, plan: Plan) -> Facts:
    """Do the steps, as a model of what replay does with them."""
    for step in plan.steps:
        match step:
            case Record():
                world = replace(world, stage="shadow", record=None)
            case Revive():
                world = replace(world, stage="shadow")
            case Anew():
                world = replace(world, changed=False, cursor=dict(world.start))
            case Replay():
                start = {p: wanted.start for p, wanted in step.ranges.items()}
                at = {p: max(world.cursor.get(p, 0), end) for p, end in step.bound.items()}
                world = replace(world, cursor=at, start={**start, **world.start})
    return world


@given(worlds())
@settings(max_examples=500)
def test_of_a_model(world: Facts) -> None:
    plan = plan_version(world)
    assert plan.refused == ()
    assert plan_version(applied(world, plan)).steps == ()


MOVES = ("ingest", "run", "replay a part", "replay", "other code", "rewind km", "rewind live",
         "there and back")  # fmt: skip


@given(
    st.lists(st.sampled_from(MOVES), max_size=4),
    st.integers(0, 30),
    st.booleans(),
)
@example(moves=["replay a part", "other code", "run"], at=7, saved=True)
@example(moves=["replay", "ingest", "run", "rewind km"], at=0, saved=False)
@settings(
    max_examples=40,
    phases=(Phase.explicit, Phase.generate) if figures.LONG else (Phase.explicit,),
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_of_a_project(moves: list[str], at: int, saved: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="playhead-") as folder:
        trip = Trip.make(Path(folder) / "trip")
        lines = ["id,latitude,longitude,track_id,time"]
        lines += [",".join(row.values()) for row in oracle.rows()[80:100]]
        (trip.folder / "trackpoints.csv").write_text("\n".join(lines) + "\n")
        ingest = ("ingest", "trackpoints.csv", "--topic", trip.topic, *TIME)
        trip.ok(*ingest, "--partitions", "2")
        trip.run()
        for i, move in enumerate(moves):
            make(trip, ingest, (move, at, i))
        plan = trip.json("plan", "distance")
        assert plan["refused"] == []
        (trip.folder / "plan.json").write_text(trip.ok("plan", "distance", "-o", "json").out)
        if plan["steps"]:
            trip.ok("replay", *(("--plan", "plan.json") if saved else ("distance@km",)))
        again = trip.json("plan", "distance")
        assert (again["steps"], again["refused"]) == ([], [])


def make(trip: Trip, ingest: tuple[str, ...], how: tuple[str, int, int]) -> None:
    """Make one move."""
    move, at, i = how
    recorded = "distance@km" in {name for (name,) in trip.sql("SELECT DISTINCT version FROM "
                                                                "playhead__cursor")}  # fmt: skip
    match move:
        case "ingest":
            trip.ok(*ingest)
        case "run":
            trip.run()
        case "replay a part":
            trip.ok("replay", "distance@km", "--to", str(at))
        case "replay":
            trip.ok("replay", "distance@km")
        case "other code":
            trip.edit(" * KM_PER_METRE", f" * {i + 2} * KM_PER_METRE")
        case "rewind km" if recorded:
            trip.cli("rewind", "distance@km", "--to-offset", "3", "--execute")
        case "rewind live":
            trip.ok("rewind", "distance@miles", "--to-earliest", "--execute")
        case "there and back":
            trip.run()
            trip.ok("replay", "distance@km")
            trip.ok("promote", "distance@km", "--accept-diff", trip.cli(
                "diff", "distance", "-o", "json").json["digest"])  # fmt: skip
            trip.ok("rollback", "distance")
