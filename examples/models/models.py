"""Two small models on the same stream, and how often each is right once the labels are known.

Requests and labels are two topics. Their order is recorded by forwarding both into one, `events`;
what is computed from that can be computed again.
"""

import json
from pathlib import Path

import polars as pl

import playhead as ph

app = ph.App("models")

requests = app.topic("requests", key="id", value={"id": int, "x1": float, "x2": float})
labels = app.topic("labels", key="id", value={"id": int, "label": int})
events = app.topic(
    "events",
    key="id",
    value={"id": int, "x1": float | None, "x2": float | None, "label": int | None},
)
scores = app.table("scores", key="id", columns={"id": int, "score": float, "label": int | None})


@app.pipeline(requests, to=[events], version="v1")
def requests_in(rows, state):
    """A request is an event without a label."""
    return rows.with_columns(label=pl.lit(None, dtype=pl.Int64))


@app.pipeline(labels, to=[events], version="v1")
def labels_in(rows, state):
    """A label is an event without features."""
    nothing = pl.lit(None, dtype=pl.Float64)
    return rows.with_columns(x1=nothing, x2=nothing)


def scored(rows, state, file):
    """Score each request; a label joins the newest score of its id."""
    model = json.loads(Path(__file__).with_name(file).read_text())
    total = model["bias"] + model["x1"] * pl.col("x1") + model["x2"] * pl.col("x2")
    rows = rows.with_columns(raw=1 / (1 + (-total).exp()))
    rows = state.latest(rows, score="raw")
    return rows.filter(pl.col("score").is_not_null())  # a label that nobody asked for


@app.pipeline(events, to=[scores], version="a", reads=["model_a.json"])
def score(rows, state):
    """The model in use."""
    return scored(rows, state, "model_a.json")


@score.version("b", reads=["model_b.json"], expect="label = base.label")
def score_b(rows, state):
    """The one that may take its place."""
    return scored(rows, state, "model_b.json")
