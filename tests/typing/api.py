"""The public API under mypy; never run."""

from __future__ import annotations

import playhead as ph

app = ph.App("vehicles")
points = app.topic("points", key="id", value={"id": int, "x": float | None})
totals = app.table("totals", key=["id"], columns={"id": int, "x": float})
ph.errors.Refused("no")
