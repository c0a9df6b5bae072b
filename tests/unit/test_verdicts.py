"""What is to be known before a replay: each judgement, its words, and when it says nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playhead.core import verdicts
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.schema import schema_of
from playhead.core.verdicts import Estimate, Finding, Reading

DAY_MS = 86_400_000
NOW = 1_800_000_000_000  # 2027-01-15T08:00:00Z
WEEK = Estimate(700, True, 70_000, NOW - 6 * DAY_MS, NOW - DAY_MS)
PLACE = TopicPartition("t", 0)


def lines(found):
    return [str(f) for f in found]


def one(found):
    (line,) = lines(found)
    return line


def test_a_beginning_that_live_has_read_and_the_log_holds_no_more():
    def judged(began, start, held_from):
        held = {0: OffsetRange(held_from, 900)}
        return lines(verdicts.truncated("t", {0: OffsetRange(start, 900)}, {0: began}, held))

    (said,) = judged(0, 300, 300)
    assert said.startswith(
        "warning: t[0]: [0, 300) is no longer retained: live has read it, and this replay cannot. "
    )
    assert judged(300, 300, 300) == [], "live has not read more"
    assert judged(0, 500, 300) == [], "the replay begins later by somebody's wish"
    assert judged(0, 900, 900) == [], "nothing is read"
    assert list(verdicts.truncated("t", {0: OffsetRange(0, 5)}, {}, {})) == []


def overtaken(retention_ms, duration_s, found=WEEK):
    return lines(verdicts.overtaken("t", {0: found}, retention_ms, duration_s, NOW))


def test_retention_that_overtakes_the_replay():
    assert overtaken(7 * DAY_MS, 3600) == []
    (said,) = overtaken(7 * DAY_MS, 7 * 86_400)
    assert said == (
        "warning: t[0]: retention will overtake the replay: its oldest record expires "
        "2027-01-16T08:00:00Z, and reading takes until about 2027-01-22T08:00:00Z. "
        "Raise retention.ms of t for as long as it takes."
    )
    assert "expired 2027-01-14T08:00:00Z: it may be deleted at any" in one(
        verdicts.overtaken("t", {0: WEEK}, 5 * DAY_MS, 1, NOW)
    )
    assert overtaken(-1, 10**9) == [], "kept for ever"
    assert overtaken(7 * DAY_MS, None) == [], "a day is left"
    assert "was never measured here" in overtaken(7 * DAY_MS - 1, None)[0]
    assert overtaken(1, 1, replace(WEEK, first_ms=None, last_ms=None)) == [], "no record"


@given(
    st.integers(0, 10 * DAY_MS), st.integers(0, 5 * DAY_MS), st.integers(DAY_MS, 12 * DAY_MS),
    st.integers(0, 10 * 86_400),
)  # fmt: skip
def test_what_is_said_of_retention_is_what_a_replay_would_meet(age_ms, span_ms, keeps_ms, takes_s):
    """A replay that reads step by step finds every record there, unless it was warned."""
    first = NOW - age_ms
    last = min(NOW, first + span_ms)
    found = Estimate(2, True, 2, first, last)
    said = overtaken(keeps_ms, takes_s, found)
    gone = any(
        first + (last - first) * i / 20 + keeps_ms <= NOW + 1000 * takes_s * i / 20
        for i in range(21)
    )
    assert bool(said) == gone


def test_compaction_and_the_kind_of_time():
    assert "this history is not what live has seen" in one(verdicts.compacted("t", "compact"))
    assert lines(verdicts.compacted("t", "compact,delete"))
    assert lines(verdicts.compacted("t", "delete")) == []
    assert "note: t: its times are LogAppendTime" in one(verdicts.append_time("t", "LogAppendTime"))
    assert lines(verdicts.append_time("t", "CreateTime")) == []


@pytest.mark.parametrize(
    ("by_ms", "said"),
    [(1_500, "1.5 s"), (240_000, "4.0 min"), (7_200_000, "2.0 h"), (3 * DAY_MS, "3.0 d")],
)
def test_time_that_goes_back_and_what_a_time_then_means(by_ms, said):
    found = replace(WEEK, backwards=(12, by_ms))
    assert one(verdicts.not_monotonic("t", {0: WEEK, 1: found})) == (
        f"note: t[1]: time goes back, by {said} at offset 12: a time as a bound means the first "
        "record at or after it, and older ones may lie behind that"
    )


def test_an_open_transaction():
    assert "t[3]: an open transaction holds back the end: 7 offsets behind it" in one(
        verdicts.held_back("t", {3: 7})
    )


def test_columns_that_are_added():
    live = schema_of({"car": int, "total": float}, "t")
    head = schema_of({"car": int, "total": float, "n": int, "mean": float}, "t")
    assert "it adds n, mean to totals: appended to the public table" in one(
        verdicts.added_columns("p@b", "totals", live, head)
    )
    assert lines(verdicts.added_columns("p@b", "totals", head, live)) == []


def test_room_on_the_disk():
    assert one(verdicts.short_of_disk("p@b", 2_000_000_000, 150_000_000)) == (
        "warning: p@b: the replay needs about 2.0 GB, and 150 MB are free. Make room first."
    )
    assert lines(verdicts.short_of_disk("p@b", 10, 10)) == []
    assert lines(verdicts.short_of_disk("p@b", 10, None)) == [], "a server's disk is not seen"


@pytest.mark.parametrize(
    ("recorded", "members", "looks", "foreign", "said"),
    [
        (True, [], ({}, {}), [], None),
        (True, [], ({PLACE: 7}, {PLACE: 7}), [], None),
        (True, ["m1"], ({PLACE: 7}, {PLACE: 9}), [], "note: g: it is active: m1"),
        (True, [], ({PLACE: 7}, {PLACE: 9}), [], "warning: g: its offsets move (t[0]), and it has "
         "no members"),
        (False, [], ({PLACE: 7}, {PLACE: 7}), [], "warning: g: it has offsets, and nothing of this "
         "store ever used it"),
        (True, [], ({PLACE: 7}, {PLACE: 7}), [PLACE], "warning: g: something else has committed "
         "t[0]: a reset by hand"),
    ],
)  # fmt: skip
def test_who_else_uses_a_group(recorded, members, looks, foreign, said):
    found = lines(verdicts.group_looks("g", recorded, members, looks, foreign))
    assert [line[: len(said or "")] for line in found] == ([said] if said else [])
    assert all("only assigns" in line for line in found if "warning" in line)


def test_how_much_of_what_will_be_corrected_was_read():
    held = OffsetRange(100, 500)
    assert [Reading("g", PLACE, at, held).read for at in (0, 100, 250, 500, 900)] == [
        0, 0, 150, 400, 400,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (66_830, "67 kB"), (5 * 10**15, "5000 TB")],
)
def test_bytes_for_people(count, said):
    assert verdicts.size(count) == said


def test_a_finding_is_one_line():
    assert str(Finding("k", "note", "s", "text")) == "note: s: text"
    assert str(Finding("k", "note", "s", "text", "Cure.")) == "note: s: text. Cure."
