"""GPS points of cars, and the distance that each car has gone.

The version that was shipped tells it in miles. It should have been kilometres.
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

MILES_PER_METRE = 1 / 1609.344
KM_PER_METRE = 1 / 1000

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


@app.pipeline(trackpoints, to=[distances, dist_calc], version="miles")
def distance(points, state):
    """Total distance of each car so far, in miles: what was shipped."""
    points = metres_so_far(points, state)
    return points.with_columns(distance=pl.col("total") * MILES_PER_METRE)


@distance.version("km", expect="distance = base.distance * 1.609344")
def distance_km(points, state):
    """The same in kilometres: what it should have been."""
    points = metres_so_far(points, state)
    return points.with_columns(distance=pl.col("total") * KM_PER_METRE)
