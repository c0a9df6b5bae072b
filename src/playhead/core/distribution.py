"""How numbers are distributed, in bounded memory and whatever the pieces they come in."""

from __future__ import annotations

import math
from typing import Any

import polars as pl

DISTINCT_MAX = 65_536
FIGURES = 7
BINS = 24
_SCHEMA = {"value": pl.Float64(), "n": pl.Int64()}


class Tally:
    """Counts numbers by their first significant figures: seven, or fewer where they are many.

    Min, max and the number of values are exact. The rest is exact to the figures that are kept:
    the more distinct values there are, the fewer (never more than `DISTINCT_MAX` are held).
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.figures = FIGURES
        self.rows = 0
        self._min, self._max = math.inf, -math.inf
        self._held = pl.DataFrame(schema=_SCHEMA)

    def add(self, values: pl.Series) -> None:
        """Count values; null and what is not finite is left out."""
        values = values.cast(pl.Float64).drop_nulls()
        values = values.filter(values.is_finite())
        if not len(values):
            return
        self.rows += len(values)
        self._min = min(self._min, float(values.min()))  # type: ignore[arg-type]
        self._max = max(self._max, float(values.max()))  # type: ignore[arg-type]
        once = pl.DataFrame({"value": values}).with_columns(n=pl.lit(1, dtype=pl.Int64))
        self._held = pl.concat([self._held, self._rounded(once)])
        self._held = self._rounded(self._held)
        while len(self._held) > DISTINCT_MAX and self.figures > 1:
            self.figures -= 1
            self._held = self._rounded(self._held)

    def _rounded(self, counted: pl.DataFrame) -> pl.DataFrame:
        value = pl.col("value").round_sig_figs(self.figures)
        return counted.group_by(value).agg(pl.col("n").sum()).select("value", "n")

    def content(self, name: str) -> dict[str, Any] | None:
        """Return min, quantiles, max, the most common and a histogram; None: no values.

        Args:
            name: What one value is.
        """
        if not self.rows:
            return None
        held = self._held.sort("value").with_columns(upto=pl.col("n").cum_sum())
        told: dict[str, Any] = {"rows": self.rows, "min": self._min}
        for at_share, share in (("p05", 0.05), ("median", 0.5), ("p95", 0.95)):
            at = max(1, math.ceil(share * self.rows))
            told[at_share] = held.filter(pl.col("upto") >= at)["value"][0]
        told["max"] = self._max
        common = held.sort(["n", "value"], descending=[True, False]).head(5)
        told["most_common"] = [{name: v, "rows": n} for v, n, _ in common.iter_rows()]
        told["figures"] = self.figures
        told["histogram"] = _histogram(held, told)
        return told


def _histogram(held: pl.DataFrame, told: dict[str, Any]) -> dict[str, Any]:
    """Return up to `BINS` bins from min to max; logarithmic where the values span decades."""
    low, high = float(held["value"][0]), float(held["value"][-1])
    if low == high:
        return {"scale": "linear", "edges": [low, high], "rows": [told["rows"]]}
    log = low > 0 and high / low > 100
    value = pl.col("value").log10() if log else pl.col("value")
    first, last = (math.log10(low), math.log10(high)) if log else (low, high)
    width = last / BINS - first / BINS
    if width <= 0:  # as close as two floats can be
        return {"scale": "linear", "edges": [low, high], "rows": [told["rows"]]}
    binned = held.group_by(
        ((value - first) / width).floor().clip(0, BINS - 1).cast(pl.Int64).alias("bin")
    ).agg(pl.col("n").sum())
    counts = dict(binned.iter_rows())
    edges = [first + width * i for i in range(BINS)] + [last]
    return {
        "scale": "log" if log else "linear",
        "edges": [10**e for e in edges] if log else edges,
        "rows": [counts.get(i, 0) for i in range(BINS)],
    }
