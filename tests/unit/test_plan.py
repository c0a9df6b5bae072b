"""What a replay of one version would do, as data."""

from dataclasses import replace

import pytest

from playhead.core.offsets import OffsetRange
from playhead.core.plan import Anew, Facts, Record, Replay, Revive, plan_version

RECORD = Record("distance@km", "distance.km", ("dist_calc__km",), ("distance_calcs.km",))
TIMES = {0: 1_400_000_000_000, 1: None}


def span(start, end):
    return OffsetRange(start, end)


NEW = Facts(
    version="distance@km",
    stage=None,
    record=RECORD,
    changed=False,
    topic="raw_trackpoints",
    cursor={},
    start={},
    bound={0: 80, 1: 60},
    retained={0: span(0, 100), 1: span(10, 90)},
    from_times_ms=TIMES,
)
SHADOW = replace(NEW, stage="shadow", record=None, cursor={0: 80, 1: 60}, start={0: 0, 1: 10})


def planned(facts, **changes):
    plan = plan_version(replace(facts, **changes))
    return plan, [type(step) for step in plan.steps]


def test_a_new_version_is_recorded_and_reads_from_the_lowest_retained_offset_to_live():
    plan, kinds = planned(NEW)
    assert kinds == [Record, Replay]
    record, replay = plan.steps
    assert record == RECORD
    assert replay == Replay(
        "distance@km", "raw_trackpoints", {0: span(0, 80), 1: span(10, 60)}, TIMES
    )
    assert replay.bound == {0: 80, 1: 60}
    assert replay.records_at_most == 130
    assert (plan.refused, plan.remarks) == ((), ())


def test_a_shadow_that_has_caught_up_has_nothing_to_do():
    assert planned(SHADOW) == (plan_version(SHADOW), [])


@pytest.mark.parametrize("stage", ["shadow", "live", "retired"])
def test_planning_an_applied_plan_gives_no_steps(stage):
    """Law 3, for the part that is a function of facts."""
    plan, _ = planned(SHADOW, cursor={0: 50})
    applied = replace(SHADOW, cursor={**SHADOW.cursor, **plan.steps[-1].bound}, stage=stage)
    assert planned(applied)[1] == ([Revive, Replay] if stage == "retired" else [])


def test_a_shadow_that_lags_goes_on_from_its_own_cursor():
    plan, kinds = planned(SHADOW, cursor={0: 50, 1: 60})
    assert kinds == [Replay]
    assert plan.steps[0].ranges == {0: span(50, 80), 1: span(60, 60)}


def test_a_retired_version_is_revived_even_when_it_has_nothing_to_read():
    plan, kinds = planned(SHADOW, stage="retired")
    assert kinds == [Revive, Replay]
    assert plan.steps[1].records_at_most == 0


@pytest.mark.parametrize(
    ("stage", "kinds"),
    [("shadow", [Anew, Replay]), ("retired", [Revive, Anew, Replay]), ("live", [])],
)
def test_a_shadow_whose_code_has_changed_is_read_anew_from_its_start(stage, kinds):
    plan, found = planned(SHADOW, stage=stage, changed=True, start={0: 5, 1: 20})
    assert found == kinds
    if kinds:
        assert plan.steps[-1].ranges == {0: span(5, 80), 1: span(20, 60)}


@pytest.mark.parametrize(
    ("changes", "ranges"),
    [
        # a partition for which live has no cursor is bound at its start
        ({"bound": {0: 80}}, {0: span(0, 80), 1: span(10, 10)}),
        ({"bound": {}}, {0: span(0, 0), 1: span(10, 10)}),
        # a bound behind the cursor never goes back
        ({"cursor": {0: 90, 1: 60}}, {0: span(90, 90), 1: span(60, 60)}),
        # a partition that is new to the version begins at what is retained
        ({"cursor": {0: 40}}, {0: span(40, 80), 1: span(10, 60)}),
    ],
)
def test_where_ranges_begin_and_end(changes, ranges):
    plan, _ = planned(NEW, **changes)
    assert plan.steps[-1].ranges == ranges
    assert list(plan.steps[-1].ranges) == [0, 1]
    assert plan.refused == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cursor": {0: 5, 1: 60}, "retained": {0: span(30, 100), 1: span(10, 90)}}, "[5, 80)"),
        ({"changed": True, "retained": {0: span(1, 100), 1: span(10, 90)}}, "[0, 80)"),
        ({"cursor": {0: 50, 1: 60}, "retained": {0: span(0, 70), 1: span(10, 90)}}, "[50, 80)"),
    ],
)
def test_what_is_needed_and_no_longer_retained_is_refused_by_name(changes, words):
    plan, kinds = planned(SHADOW, **changes)
    assert kinds[-1] is Replay
    (refusal,) = plan.refused
    assert refusal.subject == "distance@km"
    assert f"raw_trackpoints[0]: {words} is needed" in refusal.reason
    assert str(changes["retained"][0]) in refusal.reason
    assert "Restore" in refusal.cure


def test_what_is_not_needed_may_be_gone():
    assert planned(SHADOW, retained={0: span(80, 100), 1: span(60, 90)})[1] == []
    assert planned(SHADOW, retained={0: span(95, 100), 1: span(60, 90)})[0].refused == ()


def test_building_a_plan_changes_nothing_and_is_repeatable():
    before = repr(NEW)
    assert plan_version(NEW) == plan_version(NEW)
    assert repr(NEW) == before
