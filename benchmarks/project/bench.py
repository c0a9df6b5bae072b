"""The job as a user of Playhead writes it; one version for each time that it is measured."""

import os

import polars as pl
import pyproj

import playhead as ph

app = ph.App("bench")

earth = pyproj.Geod(ellps="WGS84")
source = os.environ.get("BENCH_SOURCE", "points")
suffix = os.environ.get("BENCH_SUFFIX", "")
times = range(int(os.environ.get("BENCH_TIMES", "8")))

points = app.topic(
    source,
    key="track_id",
    value={"id": int, "latitude": float, "longitude": float, "track_id": int, "time": str},
)
distances = app.topic(
    f"distances{suffix}",
    key="track_id",
    value={"id": int, "track_id": int, "distance": float},
    public=False,
)
both = app.table("both", key="track_id", columns={"track_id": int, "distance": float})
alone = app.table("alone", key="track_id", columns={"track_id": int, "distance": float})
filtered = app.table("filtered", key="track_id", columns={"track_id": int, "latitude": float})
rowwise = app.table("rowwise", key="track_id", columns={"track_id": int, "distance": float})


def kilometres(points, state):
    """The way of each car so far, along the geodesic."""
    points = state.previous(points, lat0="latitude", lon0="longitude")
    start = points.select(pl.coalesce("lon0", "longitude"), pl.coalesce("lat0", "latitude"))
    _, _, metres = earth.inv(
        start["lon0"].to_numpy(),
        start["lat0"].to_numpy(),
        points["longitude"].to_numpy(),
        points["latitude"].to_numpy(),
    )
    points = points.with_columns(metres=metres)
    return state.running_sum(points, total="metres").with_columns(distance=pl.col("total") * 0.001)


def by_row(row, state):
    """The same, row by row."""
    lat, lon = row["latitude"], row["longitude"]
    total = 0.0
    if state:
        _, _, metres = earth.inv(state["lon"], state["lat"], lon, lat)
        total = state["total"] + metres / 1000
    state.update(lat=lat, lon=lon, total=total)
    return {"track_id": row["track_id"], "distance": total}


def every_tenth(points, _state):
    """Only a filter."""
    return points.filter(pl.col("id") % 10 == 0)


outputs = {
    "both": [distances, both],
    "alone": [alone],
    "rowwise": [rowwise],
    "filtered": [filtered],
}
functions = {"rowwise": by_row, "filtered": every_tenth}
for job in os.environ.get("BENCH_JOBS", "both alone").split():
    function = functions.get(job, kilometres)
    options = {"per": "row"} if job == "rowwise" else {}
    declare = app.pipeline(points, to=outputs[job], name=f"{job}{suffix}", version="v", **options)
    pipeline = declare(function)
    for i in times:
        pipeline.version(f"r{i}", **options)(function)
