"""A saved plan: what it rests on, what is said when that has moved, and what is no plan."""

import json
from dataclasses import replace

import pytest

from playhead.core import saved
from playhead.core.offsets import OffsetRange
from playhead.core.plan import Anew, Behind, Plan, Record, Replay, Revive, kind_of
from playhead.core.saved import Basis, Saved, parse
from playhead.errors import ConfigError, PlanOutdated
from playhead.ops.saved import ended, held_to

BASIS = Basis(
    version="distance@km",
    ledger="l1",
    fingerprint="f1",
    stage="shadow",
    live="miles",
    live_fingerprint="g1",
    epoch=1,
    topic="points",
    topic_id="t1",
    cursor={"0": (10, 1), "1": (20, 1)},
    live_generations={"0": 1, "1": 1},
)
RANGES = {0: OffsetRange(10, 80), 1: OffsetRange(20, 60)}
STEP = Replay("distance@km", "points", RANGES, {})
PLAN = Plan((STEP,))
THEN = Saved("a1", {"distance@km": BASIS}, [("replay", "distance@km")], {"distance@km": RANGES})


def to(*ends):
    ranges = {p: OffsetRange(RANGES[p].start, end) for p, end in enumerate(ends)}
    return Plan((replace(STEP, ranges=ranges),))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"ledger": "l2"}, ["this is another store"]),
        ({"topic": "q"}, ["it reads q, and read points"]),
        ({"topic_id": "t2"}, ["topic points was deleted and created again"]),
        ({"fingerprint": "f2"}, ["the code of distance@km has changed"]),
        ({"stage": "retired"}, ["distance@km is retired, and was shadow"]),
        ({"stage": None}, ["distance@km is not recorded, and was shadow"]),
        ({"live": "mi", "epoch": 2, "live_fingerprint": "x", "live_generations": {}},
         ["distance@mi is live (epoch 2), and distance@miles was (epoch 1)"]),
        ({"epoch": 3}, ["distance@miles is live (epoch 3), and distance@miles was (epoch 1)"]),
        ({"live_fingerprint": "g2"}, ["other code was adopted for distance@miles"]),
        ({"live_generations": {"0": 1, "1": 2}},
         ["distance@miles was rewound, or a gap accepted"]),
        ({"cursor": {"0": (10, 1), "1": (33, 2)}},
         ["distance@km points[1] stands at 33 (generation 2), and stood at 20 (generation 1)"]),
        ({"cursor": {"0": (10, 1)}},
         ["distance@km points[1] stands at nothing, and stood at 20 (generation 1)"]),
    ],
)  # fmt: skip
def test_what_has_moved_is_said(changed, said):
    now = replace(BASIS, **changed)
    assert saved.moved(BASIS, now) == said
    if said:
        with pytest.raises(PlanOutdated) as refused:
            held_to(THEN, now, PLAN)
        assert f"the plan for distance@km is outdated: {said[0]}" in str(refused.value)
        assert "Plan anew: playhead plan distance" in (refused.value.cure or "")


def test_live_may_go_on_and_the_plan_ends_where_it_said():
    assert held_to(THEN, BASIS, to(500, 60)) == PLAN
    assert held_to(THEN, BASIS, PLAN) == PLAN


@pytest.mark.parametrize(
    ("today", "said"),
    [
        (to(79, 60), "live stands at 79 of points[0], before the end 80"),
        (Plan((replace(STEP, ranges={**RANGES, 0: OffsetRange(30, 80)}),)),
         "points[0] would be read from 30 on, and not from 10"),
        (Plan((replace(STEP, ranges={**RANGES, 2: OffsetRange(0, 5)}),)), "points[2] is new"),
        (Plan((replace(STEP, ranges={0: RANGES[0]}),)), "points[1] is gone"),
        (Plan((Anew("distance@km"), STEP)), "it does not rewind distance@km, which is needed now"),
        (Plan(), "there is nothing left to do"),
    ],
)  # fmt: skip
def test_other_steps_or_ranges_are_another_plan(today, said):
    with pytest.raises(PlanOutdated, match="outdated") as refused:
        held_to(THEN, BASIS, today)
    assert said in refused.value.message


def test_a_plan_says_nothing_of_another_version():
    with pytest.raises(ConfigError, match=r"for distance@km, and not for distance@yd"):
        held_to(THEN, replace(BASIS, version="distance@yd"), PLAN)


def test_what_was_begun_goes_on_to_the_saved_end_from_where_it_stands():
    today = Plan((replace(STEP, ranges={0: OffsetRange(50, 500), 1: OffsetRange(60, 600)}),))
    (step,) = ended(THEN, today).steps
    assert step.ranges == {0: OffsetRange(50, 80), 1: OffsetRange(60, 60)}
    behind = Behind("writer@v1+km", "t", "distance@km")
    other = replace(STEP, version="distance@yd")
    assert ended(THEN, Plan((other, behind))).steps == (other, behind)


def test_it_is_read_as_it_was_written():
    steps = [
        {"kind": "record", "version": "distance@km", "group": "g"},
        {
            "kind": "replay",
            "version": "distance@km",
            "partitions": [
                {"partition": 0, "start_offset": 10, "end_offset": 80, "records": 7},
                {"partition": 1, "start_offset": 20, "end_offset": 60},
            ],
        },
    ]
    text = {"schema_version": 1, "steps": steps, "basis": [saved.content_of(BASIS)], "more": 1}
    found = parse(json.dumps(text).encode(), "plan.json")
    assert found.bases == THEN.bases
    assert found.ranges == THEN.ranges
    assert found.steps == [("record", "distance@km"), ("replay", "distance@km")]
    assert len(found.id) == 16
    assert parse(json.dumps(text).encode(), "again").id == found.id
    assert parse(json.dumps({**text, "more": 2}).encode(), "other").id != found.id


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "plan.json is no saved plan"),
        (b"\xff\xfe", "plan.json is no saved plan"),
        (b'{"schema_version": 1, "steps": []}', "plan.json is no saved plan"),
        (b'{"schema_version": 1, "steps": [], "basis": [{"version": 7}]}', "is no saved plan"),
        (b'{"schema_version": 2, "steps": [], "basis": []}', "has schema_version 2"),
    ],
)
def test_what_is_no_plan_is_named(content, said):
    with pytest.raises(ConfigError, match=said) as refused:
        parse(content, "plan.json")
    assert "playhead plan PIPELINE -o json > plan.json" in (refused.value.cure or "")


def test_each_step_has_a_word():
    steps = [
        Record("v", "g", (), ()), Revive("v"), Anew("v"), STEP, Behind("v", "t", "w"),
    ]  # fmt: skip
    assert [kind_of(s) for s in steps] == ["record", "revive", "rewind", "replay", "replay"]
