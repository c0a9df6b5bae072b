"""What must come out, recomputed from the input in plain Python; no code of the product's."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from geographiclib.geodesic import Geodesic

CSV = Path(__file__).resolve().parent.parent / "src/playhead/example/trackpoints.csv"
MILES = 1609.344
KM = 1000.0

# facts.md of the project's beginnings: computed once, by other means, to six decimals.
KNOWN_MILES = {
    1: 1.732114, 2: 3.427947, 3: 0.542257, 4: 4.644179, 8: 0.280208,
    10: 0.005860, 11: 1.965171, 12: 0.440290, 13: 5.221804, 14: 0.0,
}  # fmt: skip
KNOWN_KM = {
    1: 2.787567, 2: 5.516746, 3: 0.872678, 4: 7.474082, 8: 0.450952,
    10: 0.009431, 11: 3.162636, 12: 0.708577, 13: 8.403679, 14: 0.0,
}  # fmt: skip


def rows() -> list[dict[str, str]]:
    """Return the trackpoints as they stand in the file."""
    with CSV.open(newline="") as file:
        return list(csv.DictReader(file))


def steps() -> list[tuple[int, int, float]]:
    """Return (id, track, metres so far) for every point, in the order of the file."""
    last: dict[int, tuple[float, float]] = {}
    total: dict[int, float] = {}
    found = []
    for row in rows():
        track = int(row["track_id"])
        here = (float(row["latitude"]), float(row["longitude"]))
        there = last.get(track, here)
        metres = Geodesic.WGS84.Inverse(*there, *here, Geodesic.DISTANCE)["s12"]
        total[track] = total.get(track, 0.0) + metres
        last[track] = here
        found.append((int(row["id"]), track, total[track]))
    return found


@cache
def totals(unit: float) -> dict[int, float]:
    """Return the way of each track in a unit, given in metres."""
    return {track: metres / unit for _, track, metres in steps()}
