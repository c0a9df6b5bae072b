"""How far a replay has come: from what the worker tells, and the seconds that have passed."""

from playhead.core.progress import Meter


def begun():
    meter = Meter("distance@km", 100.0)
    meter.reads({0: 10, 1: 0, 2: 5}, {0: 110, 1: 400, 2: 5})
    return meter


def test_before_the_first_batch_nobody_can_tell_when_it_will_be_done():
    found = begun().look(100.0)
    assert (found.records, found.done, found.total) == (0, 0, 500)
    assert [part.eta_s for part in found.parts] == [None, None, 0.0]
    assert found.eta_s is None
    assert found.time_ms is None


def test_the_slowest_partition_says_when_it_will_be_done():
    meter = begun()
    meter.did(90, {0: 60, 1: 40, 2: 5}, {0: 5_000, 1: 4_000})
    found = meter.look(110.0)
    assert [(p.partition, p.offset, p.end) for p in found.parts] == [
        (0, 60, 110), (1, 40, 400), (2, 5, 5),
    ]  # fmt: skip
    assert [(p.done, p.total) for p in found.parts] == [(50, 100), (40, 400), (0, 0)]
    assert [p.eta_s for p in found.parts] == [10.0, 90.0, 0.0]
    assert (found.eta_s, found.records_per_s) == (90.0, 9.0)
    assert (found.done, found.total, found.time_ms) == (90, 500, 5_000)


def test_event_time_does_not_go_back():
    meter = begun()
    meter.did(1, {0: 11}, {0: 7_000})
    meter.did(1, {0: 12}, {0: 6_000})
    assert meter.look(101.0).parts[0].time_ms == 7_000


def test_a_bound_that_has_moved_leaves_more_to_do():
    meter = begun()
    meter.did(100, {0: 110}, {})
    assert meter.look(110.0).parts[0].eta_s == 0.0
    meter.reads({0: 110, 1: 0, 2: 5}, {0: 210, 1: 400, 2: 5})
    found = meter.look(110.0)
    assert (found.parts[0].done, found.parts[0].total, found.parts[0].eta_s) == (100, 200, 10.0)


def test_a_bound_behind_the_position_is_where_it_stands():
    meter = Meter("distance@km", 0.0)
    meter.reads({0: 50}, {0: 20})
    found = meter.look(1.0)
    assert (found.parts[0].end, found.total, found.eta_s) == (50, 0, 0.0)


def test_after_a_new_session_it_goes_on_from_where_it_stands():
    meter = begun()
    meter.did(10, {0: 20}, {})
    meter.reads({0: 15, 1: 0, 2: 5}, {0: 110, 1: 400, 2: 5})
    assert meter.look(101.0).parts[0].done == 5
