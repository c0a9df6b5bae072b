"""The hold and the swap keep what they promise; without any one of the rules they do not."""

from __future__ import annotations

import pytest

from model import hold


def test_with_every_rule_nothing_is_wrong() -> None:
    states, why, trace = hold.find()
    assert why is None, "\n".join(trace)
    assert states > 10_000


@pytest.mark.parametrize("rule", hold.RULES)
def test_without_a_rule_something_is_wrong(rule: str) -> None:
    _, why, trace = hold.find((rule,))
    assert why is not None, f"{rule} is not needed"
    assert trace
