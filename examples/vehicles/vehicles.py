"""The tutorial's own shape: one pipeline computes, another writes what it published to the table.

`playhead init` has the same in one pipeline.
"""

import polars as pl
import pyproj

import playhead as ph

app = ph.App("vehicles")

trackpoints = app.topic(
    "raw_trackpoints",
    key="track_id",
    value={"id": int, "latitude": float, "longitude": float, "track_id": int, "time": str},
)
distances = app.topic(
    "distance_calcs", key="track_id", value={"id": int, "track_id": int, "distance": float}
)
dist_calc = app.table("dist_calc", key="track_id", columns={"track_id": int, "distance": float})

earth = pyproj.Geod(ellps="WGS84")


def metres_so_far(points, state):
    """The way of each car up to each point, along the WGS-84 geodesic, in metres (`total`)."""
    points = state.previous(points, lat0="latitude", lon0="longitude")  # null for a first point
    start = points.select(pl.coalesce("lon0", "longitude"), pl.coalesce("lat0", "latitude"))
    _, _, metres = earth.inv(
        start["lon0"].to_numpy(),
        start["lat0"].to_numpy(),
        points["longitude"].to_numpy(),
        points["latitude"].to_numpy(),
    )
    return state.running_sum(points.with_columns(metres=metres), total="metres")


@app.pipeline(trackpoints, to=[distances], version="miles")
def distance(points, state):
    """Total distance of each car so far, in miles: what was shipped."""
    return metres_so_far(points, state).with_columns(distance=pl.col("total") * (1 / 1609.344))


@distance.version("km", expect="distance = base.distance * 1.609344")
def distance_km(points, state):
    """The same in kilometres: what it should have been."""
    return metres_so_far(points, state).with_columns(distance=pl.col("total") * (1 / 1000))


db_writer = app.pipeline(distances, to=[dist_calc], name="db_writer", version="v1")
