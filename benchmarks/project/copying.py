"""Forwarding a topic record by record: decoded, checked against what is declared, and encoded."""

import os

import playhead as ph

app = ph.App("copying")
suffix = os.environ.get("BENCH_SUFFIX", "")
point = {"id": int, "latitude": float, "longitude": float, "track_id": int, "time": str}
source = app.topic(os.environ.get("BENCH_SOURCE", "points"), key="track_id", value=point)
target = app.topic(f"copied{suffix}", key="track_id", value=point, public=False)


def as_it_is(points, state):
    """Every record, unchanged."""
    return points


copy = app.pipeline(source, to=[target], name=f"copy{suffix}", version="v")(as_it_is)
for i in range(int(os.environ.get("BENCH_TIMES", "8"))):
    copy.version(f"r{i}")(as_it_is)
