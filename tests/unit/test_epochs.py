"""What follows from a promotion for the epochs of a public topic."""

from __future__ import annotations

from dataclasses import replace

import pytest

import playhead as ph
from playhead.core.epochs import DIFFERENCE, Begun, Epoch, follows
from playhead.errors import DeclarationError

FIRST = Begun("t", "p", "t.public", 1, 1, "a", "t.a", 2)
NEXT = replace(FIRST, number=2, pointer=2, version="b", source="t.b", closes={0: 5, 1: 7})


def after(*begun: Begun) -> list[Epoch]:
    """Return every row once these have begun, in order."""
    rows: dict[str, Epoch] = {}
    for one in begun:
        for row in follows(list(rows.values()), one):
            rows[row.name] = row
    return list(rows.values())


def stages(rows: list[Epoch]) -> dict[str, str]:
    return {row.label: row.stage for row in rows}


def test_the_first_epoch_is_live_whatever_the_policy() -> None:
    for policy in ("append", "none", "changed"):
        (row,) = after(replace(FIRST, policy=policy))
        assert (row.name, row.group, row.stage) == ("t.public@e1", "t.public.e1", "live")
        assert (row.ends, row.difference, row.writer) == (None, False, "p@a")


def test_an_append_stops_all_before_it() -> None:
    assert stages(after(FIRST, NEXT)) == {"e1": "stopping", "e2": "live"}
    third = replace(NEXT, number=3, policy="append")
    rows = after(FIRST, replace(NEXT, policy="changed"), third)
    assert stages(rows) == {"e1": "stopping", "e2.changed": "stopping", "e2": "stopping",
                            "e3": "live"}  # fmt: skip


def test_else_what_was_live_runs_to_where_its_topic_ended() -> None:
    rows = after(FIRST, replace(NEXT, policy="none"), replace(NEXT, number=3, policy="none"))
    assert stages(rows) == {"e1": "ending", "e2": "ending", "e3": "live"}
    assert [row.ends for row in rows] == [{0: 5, 1: 7}, {0: 5, 1: 7}, None]


def test_a_difference_comes_first_and_is_not_cut() -> None:
    changed = replace(NEXT, policy="changed")
    rows = after(FIRST, changed, replace(changed, number=3))
    assert stages(rows) == {
        "e1": "ending", "e2.changed": "live", "e2": "ending", "e3.changed": "live", "e3": "live",
    }  # fmt: skip
    assert rows[1].group == "t.public.e2.changed"


def test_what_is_over_stays_over_and_what_is_known_follows_nothing() -> None:
    done = [replace(row, stage="over") for row in after(FIRST)]
    assert [row.label for row in follows(done, NEXT)] == ["e2"]
    assert list(follows(after(FIRST, NEXT), NEXT)) == []
    assert list(follows(after(FIRST, NEXT), FIRST)) == []


def test_another_publisher_of_the_topic_is_not_touched() -> None:
    (other,) = after(replace(FIRST, pipeline="q", publisher="t.public.q"))
    assert [row.of.publisher for row in follows([other], FIRST)] == ["t.public"]


def test_a_version_without_the_topic_ends_it_and_a_later_one_begins_again() -> None:
    rows = after(FIRST, replace(NEXT, policy="none", source=None))
    assert stages(rows) == {"e1": "ending", "e2": "over"}
    rows = after(FIRST, replace(NEXT, policy="none", source=None), replace(NEXT, number=3))
    assert stages(rows) == {"e1": "stopping", "e2": "over", "e3": "live"}


def test_the_id_of_the_public_topic_is_handed_on() -> None:
    known = [replace(row, topic_id="x") for row in after(FIRST)]
    assert {row.topic_id for row in follows(known, NEXT)} == {"x"}


@pytest.mark.parametrize(
    ("group", "is_one"),
    [
        ("t.public.e2.changed", True),
        ("a.t.public.p.e12.changed.witness", True),
        ("t.public.e2", False),
        ("t.e2.changed", False),
    ],
)
def test_groups_of_differences_are_known(group: str, is_one: bool) -> None:
    assert bool(DIFFERENCE.match(group)) is is_one


def declared(on_promote: str = "append", *, key: str | None = "k", group: str = "") -> ph.App:
    app = ph.App("a")
    source = app.topic("s", key="k", value={"k": int})
    out = app.topic("t", key=key, value={"k": int}, on_promote=on_promote)  # type: ignore[arg-type]
    app.pipeline(source, to=[out], version="v1", name="p", group=group or None)
    return app


def test_policies_are_checked_where_they_are_declared() -> None:
    declared("changed").check()
    with pytest.raises(DeclarationError, match=r"test_epochs.py:\d+.*'append' or 'none' or"):
        declared("all")
    with pytest.raises(DeclarationError, match="it needs key="):
        declared("changed", key=None)


@pytest.mark.parametrize("group", ["t.public.e1", "t_public.q.e3", "t.public.e2.changed"])
def test_a_group_that_a_publisher_may_have_is_refused(group: str) -> None:
    with pytest.raises(DeclarationError, match="looks like one that fills the public topic t"):
        declared(group=group).check()
    declared(group="t.public").check()
