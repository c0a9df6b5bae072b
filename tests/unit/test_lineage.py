"""Lineage: which generation owns an offset, and what was processed on the way to one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.core.lineage import Generation, first_start, owner, spans


def history(*generations):
    """Generations from (start) or (start, gap_from)."""
    return [Generation(i, *g) for i, g in enumerate(generations, 1)]


def ranges(generations, to):
    """Return the spans as pairs, those that touch made one."""
    found = []
    for span in spans(history(*generations), to):
        begin, end = span.offsets.start, span.offsets.end
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return found


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
    assert ranges(generations, to) == expected


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
    found = spans(history(*generations), to)
    offsets = [offset for s in found for offset in range(s.offsets.start, s.offsets.end)]
    assert offsets == sorted(offset for offset in held if offset < to)
    starts = [(g.number, g.start) for g in history(*generations)]
    for span in found:
        assert owner(starts, span.offsets.start) == span.generation.number
        assert owner(starts, span.offsets.end - 1) == span.generation.number


def test_nobody_owns_what_lies_before_the_first_start():
    assert owner([(1, 10), (2, 20)], 9) == 0
    assert owner([(1, 10), (2, 20), (3, 15)], 25) == 3
    assert owner([(1, 10), (2, 20), (3, 15)], 14) == 1


def test_the_first_start_is_no_gap():
    assert first_start(history((10,), (30, 20), (5,))) == 5
