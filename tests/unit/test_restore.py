"""What was processed on the way to an offset, and state and table computed again from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import playhead as ph
from playhead.adapters.local_log import LocalLog
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Outgoing
from playhead.engine.call import Caller
from playhead.engine.restore import read_all, read_one, recompute, segments
from playhead.errors import OffsetOutOfRange
from playhead.ports import Generation


def history(*generations):
    """Generations from (start) or (start, gap_from)."""
    return [Generation(i, *g) for i, g in enumerate(generations, 1)]


def spans(*pairs):
    return [OffsetRange(*pair) for pair in pairs]


# --- segments ----------------------------------------------------------------------------------

SEGMENTS = {
    "first generation": ([(0,)], 50, [(0, 50)]),
    "started later": ([(10,)], 50, [(10, 50)]),
    "as of the start": ([(10,)], 10, []),
    "as of before the start": ([(10,)], 5, []),
    "a rewind changes nothing": ([(0,), (20,)], 50, [(0, 50)]),
    "a rewind before the start": ([(10,), (5,)], 50, [(5, 50)]),
    "a gap": ([(0,), (30, 20)], 50, [(0, 20), (30, 50)]),
    "as of the gap's start": ([(0,), (30, 20)], 20, [(0, 20)]),
    "as of inside the gap": ([(0,), (30, 20)], 25, [(0, 20)]),
    "as of the gap's end": ([(0,), (30, 20)], 30, [(0, 20)]),
    "as of before the gap": ([(0,), (30, 20)], 15, [(0, 15)]),
    "a gap right at the start": ([(0,), (30, 0)], 50, [(30, 50)]),
    "two gaps": ([(0,), (30, 20), (45, 40)], 50, [(0, 20), (30, 40), (45, 50)]),
    "two gaps end to end": ([(0,), (30, 20), (40, 30)], 50, [(0, 20), (40, 50)]),
    "a rewind into the gap": ([(0,), (30, 20), (25,)], 50, [(0, 20), (25, 50)]),
    "a rewind to the gap's start": ([(0,), (30, 20), (20,)], 50, [(0, 50)]),
    "a rewind to the gap's end": ([(0,), (30, 20), (30,)], 50, [(0, 20), (30, 50)]),
    "a rewind before the gap": ([(0,), (30, 20), (5,)], 50, [(0, 50)]),
    "a rewind behind the gap": ([(0,), (30, 20), (40,)], 50, [(0, 20), (30, 50)]),
    "into the gap, then before it": ([(0,), (30, 20), (25,), (5,)], 50, [(0, 50)]),
    "before the gap, and another": ([(0,), (30, 20), (5,), (28, 18)], 50, [(0, 18), (28, 50)]),
    "into the gap, and another": (
        [(0,), (30, 20), (25,), (40, 27)],
        50,
        [(0, 20), (25, 27), (40, 50)],
    ),
    "a gap inside one that was undone": (
        [(0,), (30, 20), (22,), (24, 23)],
        50,
        [(0, 20), (22, 23), (24, 50)],
    ),
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_segments(case):
    generations, to, expected = SEGMENTS[case]
    assert segments(history(*generations), to) == spans(*expected)


moves = st.lists(st.tuples(st.sampled_from("brg"), st.integers(0, 12)), max_size=8)


@given(st.integers(0, 6), moves, st.integers(0, 40))
def test_segments_are_the_offsets_that_the_state_is_made_of(start, actions, to):
    """The oracle keeps the set of offsets that state holds, one move after the other."""
    generations, cursor, held = [(start,)], start, set()
    for action, amount in actions:
        if action == "b":
            held |= set(range(cursor, cursor + amount))
            cursor += amount
        elif action == "r":
            cursor = min(cursor, amount)
            held = {offset for offset in held if offset < cursor}
            generations.append((cursor,))
        elif amount:
            generations.append((cursor + amount, cursor))
            cursor += amount
    to = min(to, cursor)
    found = segments(history(*generations), to)
    offsets = [offset for s in found for offset in range(s.start, s.end)]
    assert offsets == sorted(offset for offset in held if offset < to)


# --- recompute, on the local log ---------------------------------------------------------------

PLACE = TopicPartition("points", 0)


def total(points, state):
    return state.running_sum(points, total="x")


@pytest.fixture
def log(tmp_path):
    """Twenty records: x = 1, 2, 4, 8, …: every sum tells what it was made of."""
    log = LocalLog(tmp_path / "log.db")
    log.create_topic("points", 1, {})
    out = Outgoing("points")
    for i in range(20):
        out.add(0, b"7", b'{"car": %d, "x": %d}' % (i % 2, 2**i), 1_400_000_000_000 + i)
    appender = log.appender("points")
    appender.append(out)
    appender.commit()
    appender.close()
    yield log
    log.close()


@pytest.fixture
def caller():
    app = ph.App("vehicles")
    points = app.topic("points", key="car", value={"car": int, "x": int})
    table = app.table("totals", key="car", columns={"car": int, "total": int})
    return Caller(app.pipeline(points, to=[table], version="v1")(total).versions["v1"], {})


def sums(*ranges):
    found = {}
    for i in (i for begin, end in ranges for i in range(begin, end)):
        found[i % 2] = found.get(i % 2, 0) + 2**i
    return found


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("ranges", [[(0, 20)], [(0, 13)], [(0, 4), (9, 20)], [(3, 4)], []], ids=str)
def test_state_and_rows_are_those_of_one_pass_over_the_segments(log, caller, batch, ranges):
    restored = recompute(log, caller, PLACE, spans(*ranges), batch)
    rows = restored.rows["totals__v1"]
    assert dict(rows.select("car", "total").rows()) == sums(*ranges)
    assert rows.columns == ["car", "total", "_partition", "_offset"]
    after = caller.call(read_one(log, PLACE, OffsetRange(0, 2)), restored.slots, 1)
    expected = {car: sums(*ranges).get(car, 0) + 2**car for car in (0, 1)}
    assert dict(after.rows["totals__v1"].select("car", "total").rows()) == expected


def test_the_session_is_kept_alive_batch_by_batch(log, caller):
    beats = []
    recompute(log, caller, PLACE, spans((0, 20)), 5, keep_alive=lambda: beats.append(1))
    assert len(beats) == 4


def test_a_range_is_read_whole_and_no_further(log):
    records = read_one(log, PLACE, OffsetRange(5, 12))
    assert (list(records.offsets), records.next) == (list(range(5, 12)), 12)
    parts = list(read_all(log, PLACE, OffsetRange(5, 12), 3))
    assert [offset for part in parts for offset in part.offsets] == list(range(5, 12))
    assert max(len(part) for part in parts) == 3


@pytest.mark.parametrize("wanted", [(0, 21), (25, 30)])
def test_a_range_that_is_not_retained_is_refused_by_name(log, caller, wanted):
    with pytest.raises(OffsetOutOfRange) as e:
        recompute(log, caller, PLACE, spans(wanted), 100)
    assert e.value.where == "points[0]"
    assert str(OffsetRange(*wanted)) in str(e.value)
    assert "[0, 20)" in str(e.value)
