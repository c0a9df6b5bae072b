"""The mean of a thermometer's last five readings, by minute.

The version that was shipped shows degrees Fahrenheit. It should have been Celsius.
"""

from datetime import datetime

import polars as pl

import playhead as ph

app = ph.App("sensor")

readings = app.topic(
    "readings", key="sensor", value={"sensor": str, "time": datetime, "fahrenheit": float}
)
averages = app.table(
    "averages",
    key=["sensor", "minute"],
    columns={"sensor": str, "minute": datetime, "mean": float},
)


def smoothed(points, state):
    """The mean of each sensor's last five readings (`smooth`), and the minute of each."""
    points = state.rolling_mean(points, rows=5, smooth="fahrenheit")
    return points.with_columns(minute=pl.col("time").dt.truncate("1m"))


@app.pipeline(readings, to=[averages], version="fahrenheit")
def average(points, state):
    """What was shipped."""
    return smoothed(points, state).with_columns(mean=pl.col("smooth"))


@average.version("celsius", expect="mean = (base.mean - 32) * 5 / 9")
def average_celsius(points, state):
    """What it should have been."""
    return smoothed(points, state).with_columns(mean=(pl.col("smooth") - 32) * (5 / 9))
