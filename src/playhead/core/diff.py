"""What differs between two versions of a table, and how much of it was declared.

The two come in pieces that cover the same range of keys (`playhead.core.merge`); what is kept of
them does not grow with their number, but for the keys that nothing explains.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from playhead.core import expect
from playhead.core.codec import columns_schema
from playhead.core.differing import ColumnDifference
from playhead.core.outputs import nothing
from playhead.core.schema import Schema

SAMPLES = 10
LISTED = 20
UNEXPLAINED_MAX = 1_000_000
CLASSES = ("same", "changed", "ghost", "new")
LATE = "_late"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One declared expectation, and what became of it.

    Attributes:
        expr: As the author wrote it.
        explained: Rows that differ and satisfy it.
        contradicted: Rows that differ and do not.
        holds: Rows that satisfy it, equal rows included.
    """

    expr: str
    explained: int
    contradicted: int
    holds: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base and head, key by key.

    Attributes:
        same: Keys whose rows are equal (within the pipeline's ``rtol``).
        changed: Keys that both have, with other values.
        ghost: Keys that only base has.
        new: Keys that only head has.
        in_flight: Keys with a row beyond the smaller of the two cursors; not compared.
        explained: Rows of changed, ghost and new that an expectation declares.
        unexplained: The others.
        expectations: One a declared expectation.
        columns: Statistics by column: how many changed, ratios and differences of head to base,
            well-known units, the largest changes.
        samples: Rows that differ, unexplained ones first, with their source offsets.
        unexplained_keys: Key and differing columns of every unexplained row, in the order of the
            keys; of more than `UNEXPLAINED_MAX` the first, and a last line that says how many.
        ghost_keys: The first ghosts.
        new_keys: The first new keys.
        digest: Of every unexplained row's key and differing columns.
        key: The key's columns.
    """

    same: int
    changed: int
    ghost: int
    new: int
    in_flight: int
    explained: int
    unexplained: int
    expectations: tuple[Expectation, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    unexplained_keys: Sequence[str] = ()
    ghost_keys: Sequence[Sequence[Any]] = ()
    new_keys: Sequence[Sequence[Any]] = ()
    digest: str = ""
    key: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """What two tables look like.

    Attributes:
        key: Columns that identify a row, in both.
        base_schema: Columns of base.
        head_schema: Columns of head.
        bound: By partition, the smaller of the two cursors. A Boolean column ``_late`` in the
            rows takes its place where offsets of the two do not compare.
        rtol: Relative tolerance within which floats count as equal; 0: bit for bit.
    """

    key: tuple[str, ...]
    base_schema: Schema
    head_schema: Schema
    bound: Mapping[int, int]
    rtol: float = 0.0


class Comparing:
    """Compares two tables that come in pieces."""

    def __init__(
        self, shape: Shape, expectations: Sequence[str] = (), keep: int = UNEXPLAINED_MAX
    ) -> None:
        """Read the expectations.

        Args:
            shape: Of the two tables.
            expectations: Polars SQL over head's columns and ``base.column``. ``column = value`` on
                a float column means within relative 1e-9. A row that satisfies one is explained.
            keep: How many keys of unexplained rows to keep.

        Raises:
            DeclarationError: An expectation cannot be read or names an unknown column.
        """
        self._shape, self._most = shape, keep
        self._made = {k for k in shape.key if k.startswith("_")}  # a key that no column holds
        self._asked = [expect.read(e, shape.base_schema, shape.head_schema) for e in expectations]
        in_base = {c.name for c in shape.base_schema}
        common = [c for c in shape.head_schema if c.name in in_base and c.name not in shape.key]
        self._differs = {
            c.name: _differs(c.name, c.kind.name, shape.rtol).alias(f"_differs:{c.name}")
            for c in common
        }
        self._columns = {c.name: ColumnDifference(c, shape.key) for c in common}
        self._counts = dict.fromkeys(("in_flight", "explained", "unexplained", *CLASSES), 0)
        self._held = [[0, 0, 0] for _ in self._asked]
        self._unexplained: list[str] = []
        self._sha = hashlib.sha256()
        self._samples: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        self._listed: dict[str, list[list[Any]]] = {"ghost": [], "new": []}

    def add(self, base: pl.DataFrame | None, head: pl.DataFrame | None) -> None:
        """Compare two pieces that cover the same range of keys.

        Args:
            base: Declared columns with ``_partition`` and ``_offset``, in any order; None: no rows.
            head: The same.
        """
        base = nothing(self._shape.base_schema) if base is None else base
        head = nothing(self._shape.head_schema) if head is None else head
        joined, in_flight = _joined(base, head, self._shape)
        classed = joined.with_columns(
            pl.when(pl.col("_base").is_null())
            .then(pl.lit("new"))
            .when(~pl.col("_in_head"))
            .then(pl.lit("ghost"))
            .when(pl.any_horizontal(pl.lit(value=False), *self._differs.values()))
            .then(pl.lit("changed"))
            .otherwise(pl.lit("same"))
            .alias("_class"),
            *self._differs.values(),
        )
        self._counts["in_flight"] += in_flight
        for name, n in classed["_class"].value_counts().iter_rows():
            self._counts[name] += n
        classed = classed.with_columns(self._explain(classed).alias("_explained"))
        both = classed.filter(pl.col("_class").is_in(["same", "changed"]))
        for column in self._columns.values():
            column.add(both)
        self._keep(classed.filter(pl.col("_class") != "same"))

    def _explain(self, classed: pl.DataFrame) -> pl.Series:
        """Ask every expectation; return which rows that differ satisfy one."""
        differing = classed["_class"] != "same"
        explained = pl.repeat(value=False, n=len(classed), eager=True)
        for asked, held in zip(self._asked, self._held, strict=True):
            holds = asked.of(classed)
            for i, rows in enumerate((holds & differing, ~holds & differing, holds)):
                held[i] += int(rows.sum())
            explained |= holds
        explained &= differing
        self._counts["explained"] += int(explained.sum())
        self._counts["unexplained"] += int((differing & ~explained).sum())
        return explained

    def _keep(self, differing: pl.DataFrame) -> None:
        ids = [f"_id:{k}" for k in self._shape.key]
        for name, listed in self._listed.items():
            if len(listed) < LISTED:
                rows = differing.filter(pl.col("_class") == name).head(LISTED - len(listed))
                listed += [list(row) for row in rows.select(ids).iter_rows()]
        unexplained = differing.filter(~pl.col("_explained"))
        for explained, kept in self._samples.items():
            rows = differing.filter(pl.col("_explained")) if explained else unexplained
            rows = rows.head(SAMPLES - len(kept))
            kept += [self._sample(row) for row in rows.iter_rows(named=True)]
        for line in _lines(unexplained, ids, tuple(self._differs)):
            self._sha.update(line.encode("utf-8", "surrogatepass") + b"\n")
            if len(self._unexplained) < self._most:
                self._unexplained.append(line)

    def _sample(self, row: Mapping[str, Any]) -> dict[str, Any]:
        in_head = row["_in_head"]
        return {
            "class": row["_class"],
            "explained": row["_explained"],
            "key": [row[f"_id:{k}"] for k in self._shape.key],
            "base": row["_base"] and {n: v for n, v in row["_base"].items() if n not in self._made},
            "head": {
                c.name: row[c.name] for c in self._shape.head_schema if c.name not in self._made
            }
            if in_head
            else None,
            "base_offset": row["_base_offset"],
            "head_offset": row["_offset"],
            "partition": row["_partition"] if in_head else row["_base_partition"],
        }

    def found(self) -> Comparison:
        """Return what was found in all pieces."""
        lines = self._unexplained
        more = self._counts["unexplained"] - len(lines)
        return Comparison(
            **self._counts,
            expectations=tuple(
                Expectation(a.expr, *held) for a, held in zip(self._asked, self._held, strict=True)
            ),
            columns={name: c.content() for name, c in self._columns.items()},
            samples=(self._samples[False] + self._samples[True])[:SAMPLES],
            unexplained_keys=[*lines, f"and {more} more"] if more else lines,
            ghost_keys=self._listed["ghost"],
            new_keys=self._listed["new"],
            digest=self._sha.hexdigest(),
            key=tuple(k.lstrip("_") for k in self._shape.key),
        )


@dataclass(frozen=True, slots=True)
class Sides:
    """Two whole tables to compare: declared columns with ``_partition`` and ``_offset``.

    Attributes:
        base: The version that is live.
        head: The version that is to become live.
        key: Columns that identify a row, in both.
        base_schema: Columns of base.
        head_schema: Columns of head.
        bound: By partition, the smaller of the two cursors.
    """

    base: pl.DataFrame
    head: pl.DataFrame
    key: tuple[str, ...]
    base_schema: Schema
    head_schema: Schema
    bound: Mapping[int, int]


def compare(sides: Sides, expectations: Sequence[str] = (), rtol: float = 0.0) -> Comparison:
    """Compare two tables in one piece.

    Raises:
        DeclarationError: An expectation cannot be read or names an unknown column.
    """
    shape = Shape(sides.key, sides.base_schema, sides.head_schema, sides.bound, rtol)
    comparing = Comparing(shape, expectations)
    comparing.add(sides.base, sides.head)
    return comparing.found()


def _joined(base: pl.DataFrame, head: pl.DataFrame, shape: Shape) -> tuple[pl.DataFrame, int]:
    """Join on the key; keys with a row beyond the bound are left out and counted.

    The key of either side is in ``_id:<column>``; ``_in_head`` says whether head has the row.
    """
    key = list(shape.key)
    flying = pl.concat([_late(side, shape).select(key) for side in (base, head)]).unique()
    base = base.join(flying, on=key, how="anti").select(
        *(pl.col(k).alias(f"_key:{k}") for k in key),
        pl.struct(c.name for c in shape.base_schema).alias("_base"),
        pl.col("_offset").alias("_base_offset"),
        pl.col("_partition").alias("_base_partition"),
    )
    names = [*columns_schema(shape.head_schema), "_partition", "_offset"]
    head = head.join(flying, on=key, how="anti").select(names).with_columns(_in_head=True)
    joined = head.join(
        base, left_on=key, right_on=[f"_key:{k}" for k in key], how="full", coalesce=False
    )
    # An expectation sees the missing side null, its key too: the key itself is kept aside.
    ids = {f"_id:{k}": pl.coalesce(pl.col(k), pl.col(f"_key:{k}")) for k in key}
    joined = joined.with_columns(pl.col("_in_head").fill_null(value=False), **ids)
    return joined.sort(list(ids)), len(flying)


def _late(side: pl.DataFrame, shape: Shape) -> pl.DataFrame:
    if LATE in side.columns:
        return side.filter(LATE)
    bound = pl.DataFrame(
        {"_partition": list(shape.bound), "_bound": list(shape.bound.values())},
        schema={"_partition": pl.Int32, "_bound": pl.Int64},
    )
    return side.join(bound, on="_partition", how="left").filter(
        pl.col("_bound").is_null() | (pl.col("_offset") >= pl.col("_bound"))
    )


def _differs(name: str, kind: str, rtol: float) -> pl.Expr:
    head, base = pl.col(name), pl.col("_base").struct.field(name)
    if kind == "float" and rtol > 0:
        return ~(expect.close(head, base, rtol) | (head.is_null() & base.is_null()))
    return head.ne_missing(base)


def _lines(unexplained: pl.DataFrame, key: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Return class, key and differing columns of each row."""
    names = [f"_differs:{c}" for c in columns]
    rows = unexplained.select("_class", *key, *names).iter_rows()
    n = 1 + len(key)
    return [
        f"{row[0]} {list(row[1:n])!r} "
        + ",".join(c for c, differs in zip(columns, row[n:], strict=True) if differs)
        for row in rows
    ]
