"""Words for a place in a log, and times as text."""

import time
from datetime import UTC, datetime

import pytest

from playhead.core.ranges import Place, Wanted, parse, resolve, timestamp_ms
from playhead.errors import ConfigError

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
NOV_1 = 1_793_491_200_000  # 2026-11-01T00:00:00Z
HOUR = 3_600_000


@pytest.fixture(autouse=True, scope="module")
def somewhere_else():
    """A machine that is not in UTC: naive times must not be its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("start", Place("word", word="start")),
        ("end", Place("word", word="end")),
        ("live", Place("word", word="live")),
        ("0", Place("offset", 0)),
        ("1200", Place("offset", 1200)),
        ("+5", Place("plus", 5)),
        ("-5", Place("minus", 5)),
        ("@2026-11-01", Place("time", NOV_1, naive=True)),
        ("@2026-11-01T02:00:00+02:00", Place("time", NOV_1)),
        ("@-48h", Place("time", NOV_1 + 12 * HOUR)),
        ("@-1.5h", Place("time", NOV_1 + 60 * HOUR - HOUR * 3 // 2)),
        ("@-2d", Place("time", NOV_1 + 12 * HOUR)),
        ("@-90m", Place("time", NOV_1 + 60 * HOUR - HOUR * 3 // 2)),
        ("@-30s", Place("time", NOV_1 + 60 * HOUR - 30_000)),
        ("@1793491200", Place("time", NOV_1)),
    ],
)
def test_what_a_word_means(text, place):
    assert parse(text, NOW) == place


@pytest.mark.parametrize(
    "text",
    ["", "END", "starts", "1.5", "+-1", "--1", "+", "1e3", " 5", "@", "@x", "@0", "@-5w", "@-h"],
)
def test_what_is_no_place_is_shown(text):
    with pytest.raises(ConfigError) as e:
        parse(text, NOW)
    assert repr(text.removeprefix("@")) in str(e.value)


@pytest.mark.parametrize("text", ["@-99999999999d", "@-9999999d", "@99999-01-01"])
def test_a_time_that_no_calendar_has_is_an_error_with_words(text):
    with pytest.raises(ConfigError):
        parse(text, NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01", NOV_1),
        ("20261101", NOV_1),
        ("2026-11-01T00:00:00", NOV_1),  # naive is UTC
        ("2026-11-01 00:00", NOV_1),
        ("2026-11-01T00:00:00Z", NOV_1),
        ("2026-11-01T05:30:00+05:30", NOV_1),
        ("2026-11-01T00:00:00.123", NOV_1 + 123),
        ("2026-11-01T00:00:00.999999", NOV_1 + 1000),
        ("1969-12-31T23:59:59", -1000),
        ("100000000", 100_000_000_000),  # seconds: 9 to 11 digits
        ("1793491200", NOV_1),
        ("99999999999", 99_999_999_999_000),
        ("1793491200000", NOV_1),  # milliseconds: 12 to 14
        ("1793491200000123", NOV_1),  # microseconds: 15 to 17
    ],
)
def test_times(text, expected):
    assert timestamp_ms(text) == expected


@pytest.mark.parametrize(
    "text", ["", "noon", "12345678901234567890", "2026-13-01", "5", "1/2/2026"]
)
def test_what_is_no_time(text):
    with pytest.raises(ConfigError, match="neither ISO-8601 nor an epoch"):
        timestamp_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("start", 100),
        ("end", 900),
        ("live", 500),
        ("700", 700),
        ("5", 5),  # outside of what is retained: the caller says so, nothing is clamped
        ("+5", 105),
        ("+0", 100),
        ("-5", 895),
        ("-0", 900),
        ("-5000", 100),
        ("@2026-11-01", 333),
    ],
)
def test_where_a_place_is(text, expected):
    assert resolve(parse(text, NOW), 100, 900, 500, 333) == expected


@pytest.mark.parametrize(
    ("text", "naive"),
    [
        ("@2026-11-01", True),
        ("@20261101", True),
        ("@2026-11-01T00:00Z", False),
        ("@2026-11-01T00:00+01:00", False),
        ("@1793491200", False),
        ("@-48h", False),
        ("700", False),
    ],
)
def test_a_time_without_a_zone_is_marked_for_it_was_read_as_utc(text, naive):
    assert parse(text, NOW).naive is naive


def test_what_was_asked_for_is_kept_in_the_users_words():
    assert Wanted().words == {}
    assert Wanted("@-2h", "+5", state_from_base=True).words == {
        "from": "@-2h", "to": "+5", "state_from": "base",
    }  # fmt: skip


def test_no_record_at_or_after_a_time_is_the_end():
    assert resolve(parse("@2026-11-01", NOW), 100, 900, 500, None) == 900


def test_a_first_record_at_offset_zero_is_not_no_record():
    assert resolve(parse("@2026-11-01", NOW), 0, 900, 500, 0) == 0
