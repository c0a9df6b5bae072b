"""The public API under mypy; never run."""

from __future__ import annotations

from typing import Any, assert_type

import polars as pl

import playhead as ph

app = ph.App("vehicles")
points = app.topic("points", key="id", value={"id": int, "x": float | None}, partitions=4)
raw = app.topic("raw", value=bytes)
totals = app.table("totals", key=["id"], columns={"id": int, "x": float})


@app.pipeline(points, to=[totals], version="v1", per="frame", rtol=1e-9)
def total(frame: pl.DataFrame, state: Any) -> pl.DataFrame:
    return frame.select(ph.origin, "id", "x")


@total.version("v2", expect=["x = base.x * 2"], reads=["model.json"])
def total_v2(frame: pl.DataFrame, state: Any) -> pl.DataFrame:
    return frame


@total.version("v3", frame="pandas")
def total_v3(frame: Any, state: Any) -> dict[ph.Table, Any]:
    return {totals: frame}


assert_type(app.topic("gone", key=["id"], value={"id": int}, tombstones=True), ph.Topic)
assert_type(total, ph.Pipeline)
assert_type(total_v2, ph.Version)
assert_type(app.pipeline(points, to=[totals], name="copy", version="v1"), ph.Pipeline)
assert_type(ph.testing.run(total, [{"id": 1, "x": 2.0}]), dict[str, list[dict[str, Any]]])
ph.errors.Refused("no", cure="stop it")
