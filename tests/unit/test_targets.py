"""Kafka's words for where to go, as pure functions."""

import pytest

from playhead.core.offsets import OffsetRange
from playhead.core.targets import Target, duration, resolve
from playhead.errors import ConfigError

HELD = OffsetRange(10, 50)


@pytest.mark.parametrize(
    ("target", "prior", "at", "expected"),
    [
        (Target("earliest"), 30, None, 10),
        (Target("latest"), 30, None, 50),
        (Target("current"), 30, None, 30),
        (Target("offset", 17), None, None, 17),
        (Target("offset", 3), None, None, 3),
        (Target("offset", 3, clamp=True), None, None, 10),
        (Target("offset", 99, clamp=True), None, None, 50),
        (Target("shift", -25), 30, None, 5),
        (Target("shift", -25, clamp=True), 30, None, 10),
        (Target("shift", 5), 30, None, 35),
        (Target("time", 1), 30, 22, 22),
        (Target("time", 1), 30, None, 50),
    ],
    ids=str,
)
def test_each_word(target, prior, at, expected):
    assert resolve(target, prior, HELD, at) == expected


@pytest.mark.parametrize("word", ["current", "shift"])
def test_what_counts_from_a_position_needs_one(word):
    with pytest.raises(ConfigError, match=f"--{word}"):
        resolve(Target(word), None, HELD, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT6H", 21_600), ("P2D", 172_800), ("P1DT30M", 88_200), ("pt1.5s", 1.5), ("PT1H1M1S", 3661)],
)
def test_durations(text, seconds):
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "6H", "PT6", "P1Y", "-PT6H", "PT6H "])
def test_what_is_no_duration(text):
    with pytest.raises(ConfigError, match="PT6H"):
        duration(text)
