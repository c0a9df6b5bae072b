"""The publisher's rules hold in every interleaving; without any one of them something breaks."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest

from model.publisher import Rules, Story, explore
from proof import figures

POLICIES = ("append", "none", "changed")
# Two processes, one of which may freeze anywhere; or one, which may be killed anywhere.
FROZEN = [Story("MK", (policy,), processes=2, crashes=0) for policy in POLICIES]
KILLED = [
    Story("MKM", (first, second), processes=1, crashes=1)
    for first in POLICIES
    for second in POLICIES
]
AGAIN = Story("MKZ", ("none", "changed"), processes=1, crashes=1)
STORIES = [*FROZEN, *KILLED, AGAIN] if figures.LONG else [FROZEN[0], *KILLED, AGAIN]

# Rule, the story in which it is missed, and what goes wrong without it.
MISSED = [
    ("in_turn", FROZEN[0], "a record of an older epoch after one of a newer"),
    ("settled", FROZEN[0], "a record of an older epoch after one of a newer"),
    ("leased", FROZEN[0], "a record of an older epoch after one of a newer"),
    ("lease_after_fence", FROZEN[0], "a record of an older epoch after one of a newer"),
    ("stage_after_fence", FROZEN[0], "a record of an older epoch after one of a newer"),
    ("stage_after_read", KILLED[3], r"epoch 1 shows \[0, 1\], and should show \[0\]"),
    ("witness", KILLED[0], "a record twice in one epoch"),
    ("fence", FROZEN[0], "a record twice in one epoch"),
    ("skip", replace(FROZEN[1], processes=1), r"epoch 2 shows \[0\], and should show \[\]"),
    ("ends", KILLED[3], r"epoch 1 shows \[0, 1\], and should show \[0\]"),
    ("kept", replace(FROZEN[2], processes=1, crashes=1), "readers have .*, the head says"),
    ("from_public", AGAIN, "readers have .*, the head says"),
    ("one_swap", replace(FROZEN[0], processes=1, crashes=1), "there is no way on"),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda s: f"{s.labels}-{'-'.join(s.policies)}")
def test_readers_see_each_record_once_per_epoch_and_nothing_is_lost(story: Story) -> None:
    found = explore(story)
    assert found.wrong is None, found.way
    assert found.states > 500
    figures.count("model states", "publisher", found.states)


@pytest.mark.parametrize(("rule", "story", "wrong"), MISSED, ids=[rule for rule, *_ in MISSED])
def test_without_a_rule_something_breaks(rule: str, story: Story, wrong: str) -> None:
    found = explore(story, replace(Rules(), **{rule: False}))
    assert found.wrong is not None, f"{rule} is not needed"
    assert re.search(wrong, found.wrong)


def test_every_rule_is_missed_somewhere() -> None:
    assert [rule for rule, *_ in MISSED] == [field.name for field in fields(Rules)]
