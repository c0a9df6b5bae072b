"""What the rows that differ have in common, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from playhead.core import units
from playhead.core.distribution import Tally
from playhead.core.schema import Column

LARGEST = 10
UNIT_SHARE = 0.1
_MEASURES = {"int": None, "float": None, "datetime": "seconds", "date": "days"}


class ColumnDifference:
    """Statistics of one column, over the rows that both sides have."""

    def __init__(self, column: Column, key: Sequence[str]) -> None:
        """Begin with nothing."""
        self._column, self._key = column, list(key)
        self._changed = self._compared = 0
        self._ratio, self._difference = Tally(), Tally()
        self._units = [0] * len(units.KNOWN)
        self._largest: pl.DataFrame | None = None

    def add(self, both: pl.DataFrame) -> None:
        """Take rows in: head's columns, base's in ``_base``, ``_differs:<column>``, origins."""
        name, kind = self._column.name, self._column.kind.name
        changed = both.filter(pl.col(f"_differs:{name}"))
        self._compared += len(both)
        self._changed += len(changed)
        if kind not in _MEASURES or not len(changed):
            return
        head, base = pl.col(name), pl.col("_base").struct.field(name)
        pairs = changed.select(
            *(pl.col(k).alias(f"key:{i}") for i, k in enumerate(self._key)),
            base.alias("was"),
            head.alias("is"),
            _number(base, kind).alias("base"),
            _number(head, kind).alias("head"),
            pl.col("_partition").alias("partition"),
            pl.col("_base_offset").alias("base_offset"),
            pl.col("_offset").alias("head_offset"),
        ).with_columns(difference=pl.col("head") - pl.col("base"))
        self._difference.add(pairs["difference"])
        self._keep_largest(pairs)
        if _MEASURES[kind] is None:
            ratios = pairs.filter(pl.col("base") != 0)
            self._ratio.add(ratios["head"] / ratios["base"])
            self._units = [a + b for a, b in zip(self._units, units.counted(pairs), strict=True)]

    def _keep_largest(self, pairs: pl.DataFrame) -> None:
        whole = pairs.filter(pl.col("difference").is_not_null())
        keys = [f"key:{i}" for i in range(len(self._key))]
        if self._largest is not None:
            whole = pl.concat([self._largest, whole])
        order = [pl.col("difference").abs(), *map(pl.col, keys)]
        down = [True, *[False] * len(keys)]
        self._largest = whole.sort(order, descending=down).head(LARGEST)

    def content(self) -> dict[str, Any]:
        """Return the statistics as JSON has them."""
        found: dict[str, Any] = {"changed": self._changed, "compared": self._compared}
        found["share"] = self._changed / self._compared if self._compared else None
        ratio, difference = self._ratio.content("ratio"), self._difference.content("difference")
        if ratio is not None:
            found["ratio"] = ratio
        if difference is not None:
            measure = _MEASURES[self._column.kind.name]
            found["difference"] = {**difference, "unit": measure} if measure else difference
        told = self._named()
        if told:
            found["units"] = told
        if self._largest is not None:
            found["largest"] = [self._row(row) for row in self._largest.iter_rows(named=True)]
        return found

    def _named(self) -> list[dict[str, Any]]:
        """Return the units that explain a good part of the changes, the best first."""
        enough = max(1.0, UNIT_SHARE * self._changed)
        named = [
            {"name": unit.name, "formula": f"head = {unit.formula}", "rows": n}
            for unit, n in zip(units.KNOWN, self._units, strict=True)
            if n >= enough
        ]
        return sorted(named, key=lambda told: -int(str(told["rows"])))[:3]

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        base, head = row["base"], row["head"]
        measured = _MEASURES[self._column.kind.name] is None
        return {
            "key": [row[f"key:{i}"] for i in range(len(self._key))],
            "base": row["was"],
            "head": row["is"],
            "difference": row["difference"],
            "ratio": head / base if measured and base else None,
            "partition": row["partition"],
            "base_offset": row["base_offset"],
            "head_offset": row["head_offset"],
        }


def _number(value: pl.Expr, kind: str) -> pl.Expr:
    if kind == "datetime":
        return value.dt.epoch("us").cast(pl.Float64) / 1e6
    if kind == "date":
        return value.dt.epoch("d").cast(pl.Float64)
    return value.cast(pl.Float64)
