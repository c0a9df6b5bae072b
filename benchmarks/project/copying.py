"""Forwarding a topic as it is: a pipeline without a function."""

import os

import playhead as ph

app = ph.App("copying")
suffix = os.environ.get("BENCH_SUFFIX", "")
source = app.topic(os.environ.get("BENCH_SOURCE", "points"), value=bytes)
target = app.topic(f"copied{suffix}", value=bytes, public=False)


def as_it_is(records, state):
    """Every record, unchanged."""
    return records


copy = app.pipeline(source, to=[target], name=f"copy{suffix}", version="v")(as_it_is)
for i in range(int(os.environ.get("BENCH_TIMES", "8"))):
    copy.version(f"r{i}")(as_it_is)
