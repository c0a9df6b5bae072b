"""Shadows of readers: labels, names, groups, and what they are expected to change."""

from __future__ import annotations

import playhead as ph
from playhead.core.behind import declared

app = ph.App("chain")
points = app.topic("points", key="k", value={"k": int, "x": float})
sums = app.topic("sums", key="k", value={"k": int, "x": float})
kept = app.topic("kept", key="k", value={"k": int, "x": float})
table = app.table("totals", key="k", columns={"k": int, "x": float})
last = app.table("last", key="k", columns={"k": int, "x": float})


@app.pipeline(points, to=[sums], version="one")
def total(rows, state):
    return rows


@total.version("two", expect="x = base.x * 2.0")
def total_two(rows, state):
    return rows


writer = app.pipeline(sums, to=[table, kept], name="writer", version="v1", group="own.group")


@app.pipeline(kept, to=[last], version="r1", expect="x > 0")
def report(rows, state):
    return rows


def test_a_reader_behind_a_version_has_names_of_its_own():
    found = declared(app, "writer@v1+two")
    assert found.name == "writer@v1+two"
    assert found.group == "own.group.two"
    assert [t.physical(found.label) for t in found.tables] == ["totals__v1__two"]
    assert [t.physical(found.label) for t in found.topics] == ["kept.v1.two"]
    assert found.function is None


def test_what_hands_on_is_expected_to_change_alike_and_what_computes_is_not():
    assert declared(app, "writer@v1+two").expectations == ("x = base.x * 2.0",)
    assert declared(app, "writer@v1+one").expectations == ()
    assert declared(app, "report@r1+two").expectations == ("x > 0",)


def test_further_down_it_lies_behind_the_same_version():
    found = declared(app, "report@r1+two")
    assert (found.label, found.group) == ("r1+two", "report.r1.two")
    assert found.function is app.pipelines["report"].versions["r1"].function


def test_what_lies_behind_nothing_is_not_there():
    for name in ("writer@v1+three", "writer@v2+two", "total@one+two", "nobody@v1+two"):
        assert declared(app, name) is None
    assert declared(app, "writer@v1") is writer.versions["v1"]
