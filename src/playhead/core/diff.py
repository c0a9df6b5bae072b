"""What differs between two versions of a table, and how much of it was declared."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from playhead.core.codec import columns_schema
from playhead.core.schema import Schema
from playhead.errors import DeclarationError

RTOL = 1e-9
SAMPLES = 10
UNEXPLAINED_MAX = 1_000_000
_ASSIGNMENT = re.compile(r"\s*(?P<column>[A-Za-z]\w*)\s*=(?![=])\s*(?P<value>.+)\Z", re.DOTALL)
_LOGICAL = re.compile(
    r"\b(and|or|not|case|between|in|like|is)\b|[<>!]=?|(?<![<>!=])=", re.IGNORECASE
)


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
        columns: Statistics by column: how many changed, and the ratios head/base.
        samples: Rows that differ, unexplained ones first, with their source offsets.
        unexplained_keys: Key and differing columns of every unexplained row, sorted.
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


@dataclass(frozen=True, slots=True)
class Sides:
    """Two tables to compare: declared columns with ``_partition`` and ``_offset``.

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
    """Compare head with base.

    Args:
        sides: The two tables.
        expectations: Polars SQL over head's columns and ``base.column``. ``column = value`` on
            a float column means within relative 1e-9. A row that satisfies one is explained.
        rtol: Relative tolerance within which floats count as equal; 0: bit for bit.

    Raises:
        DeclarationError: An expectation cannot be read or names an unknown column.
    """
    joined, in_flight = _joined(sides)
    common = [c for c in sides.head_schema if c.name in {b.name for b in sides.base_schema}]
    differs = {
        c.name: _differs(pl.col(c.name), pl.col("_base").struct.field(c.name), c.kind.name, rtol)
        for c in common
        if c.name not in sides.key
    }
    classed = joined.with_columns(
        pl.when(pl.col("_base").is_null())
        .then(pl.lit("new"))
        .when(~pl.col("_in_head"))
        .then(pl.lit("ghost"))
        .when(pl.any_horizontal(pl.lit(value=False), *differs.values()))
        .then(pl.lit("changed"))
        .otherwise(pl.lit("same"))
        .alias("_class"),
        *(expr.alias(f"_differs:{name}") for name, expr in differs.items()),
    )
    asked = [_evaluate(classed, expr, sides) for expr in expectations]
    differing = classed["_class"] != "same"
    explained = pl.repeat(value=False, n=len(classed), eager=True)
    for holds in asked:
        explained |= holds
    explained &= differing
    unexplained = classed.filter(differing & ~explained)
    counts = dict(classed["_class"].value_counts().iter_rows())
    return Comparison(
        **{name: counts.get(name, 0) for name in ("same", "changed", "ghost", "new")},
        in_flight=in_flight,
        explained=int(explained.sum()),
        unexplained=len(unexplained),
        expectations=tuple(
            Expectation(
                expr,
                int((holds & differing).sum()),
                int((~holds & differing).sum()),
                int(holds.sum()),
            )
            for expr, holds in zip(expectations, asked, strict=True)
        ),
        columns={name: _statistics(classed, name) for name in differs},
        samples=_samples(classed, explained, sides),
        unexplained_keys=_keys(unexplained, sides.key),
    )


def _joined(sides: Sides) -> tuple[pl.DataFrame, int]:
    """Join on the key; keys with a row beyond the bound are left out and counted."""
    bound = pl.DataFrame(
        {"_partition": list(sides.bound), "_bound": list(sides.bound.values())},
        schema={"_partition": pl.Int32, "_bound": pl.Int64},
    )
    late = [
        side.join(bound, on="_partition", how="left")
        .filter(pl.col("_bound").is_null() | (pl.col("_offset") >= pl.col("_bound")))
        .select(sides.key)
        for side in (sides.base, sides.head)
    ]
    flying = pl.concat(late).unique()
    base = sides.base.join(flying, on=sides.key, how="anti").select(
        *(pl.col(k).alias(f"_key:{k}") for k in sides.key),
        pl.struct(c.name for c in sides.base_schema).alias("_base"),
        pl.col("_offset").alias("_base_offset"),
        pl.col("_partition").alias("_base_partition"),
    )
    head = sides.head.join(flying, on=sides.key, how="anti").with_columns(_in_head=True)
    joined = head.join(
        base,
        left_on=list(sides.key),
        right_on=[f"_key:{k}" for k in sides.key],
        how="full",
        coalesce=False,
    ).with_columns(pl.col("_in_head").fill_null(value=False))
    order = [pl.coalesce(pl.col(k), pl.col(f"_key:{k}")) for k in sides.key]
    return joined.sort(order), len(flying)


def _differs(head: pl.Expr, base: pl.Expr, kind: str, rtol: float) -> pl.Expr:
    if kind == "float" and rtol > 0:
        return ~(_close(head, base, rtol) | (head.is_null() & base.is_null()))
    return head.ne_missing(base)


def _close(left: pl.Expr, right: pl.Expr, rtol: float) -> pl.Expr:
    """Return whether two floats are within a relative bound; null is not."""
    widest = pl.max_horizontal(left.abs(), right.abs())
    return ((left - right).abs() <= rtol * widest).fill_null(value=False)


def _evaluate(joined: pl.DataFrame, expectation: str, sides: Sides) -> pl.Series:
    """Return for each row whether the expectation is true of it; null is not true."""
    floats = {c.name for c in sides.head_schema if c.kind.name == "float"}
    match = _ASSIGNMENT.match(expectation)
    plain = match is not None and not _LOGICAL.search(_outermost(match["value"]))
    if re.search(r"\bselect\b", _without_quotes(expectation), re.IGNORECASE):
        raise DeclarationError(f"expectation {expectation!r}: subqueries are not possible")
    try:
        if match is not None and plain and match["column"] in floats:
            told = _close(pl.col(match["column"]), _sql(match["value"]), RTOL)
        else:
            told = _sql(expectation)
        shown = joined.with_columns(base=pl.col("_base"))
        found = shown.select(told.alias("_told"))["_told"]
    except (pl.exceptions.PolarsError, TypeError) as error:
        names = ", ".join(c.name for c in sides.head_schema)
        raise DeclarationError(
            f"expectation {expectation!r} cannot be read: {str(error).splitlines()[0]}",
            cure=f"It is polars SQL over {names}, and base.<column>.",
        ) from error
    if found.dtype != pl.Boolean:
        raise DeclarationError(
            f"expectation {expectation!r} is not true or false, but {found.dtype}"
        )
    if len(found) != len(joined):
        found = pl.repeat(bool(found[0]), len(joined), eager=True)
    return found.fill_null(value=False)


def _sql(text: str) -> pl.Expr:
    found: pl.Expr = pl.sql_expr(text)
    return found


def _without_quotes(text: str) -> str:
    return re.sub(r"'(?:[^']|'')*'", "''", text)


def _outermost(text: str) -> str:
    """Return an expression without what stands in quotes, in parentheses, or in CASE … END."""
    text = _without_quotes(text)
    before = ""
    while before != text:
        before = text
        text = re.sub(r"\([^()]*\)", " ", text)
        text = re.sub(r"\bcase\b(?:(?!\bcase\b).)*?\bend\b", " ", text, flags=re.I | re.S)
    return text


def _statistics(classed: pl.DataFrame, column: str) -> dict[str, Any]:
    both = classed.filter(pl.col("_class").is_in(["same", "changed"]))
    changed = both.filter(pl.col(f"_differs:{column}"))
    found: dict[str, Any] = {"changed": len(changed), "compared": len(both)}
    if not classed.schema[column].is_numeric():
        return found
    head, base = pl.col(column), pl.col("_base").struct.field(column)
    ratios = changed.select(pl.when(base != 0).then(head / base).alias("ratio"))[
        "ratio"
    ].drop_nulls()
    if len(ratios):
        spikes = ratios.round_sig_figs(7).value_counts(sort=True, name="n").head(5)
        found["ratio"] = {
            "min": ratios.min(),
            "median": ratios.median(),
            "max": ratios.max(),
            "most_common": [{"ratio": r, "rows": n} for r, n in spikes.iter_rows()],
        }
    return found


def _samples(classed: pl.DataFrame, explained: pl.Series, sides: Sides) -> list[dict[str, Any]]:
    chosen = (
        classed.with_columns(explained.alias("_explained"))
        .filter(pl.col("_class") != "same")
        .sort("_explained", maintain_order=True)
        .head(SAMPLES)
    )
    names = list(columns_schema(sides.head_schema))
    return [
        {
            "class": row["_class"],
            "explained": row["_explained"],
            "key": [row[k] if row["_in_head"] else row["_base"][k] for k in sides.key],
            "base": row["_base"],
            "head": {n: row[n] for n in names} if row["_in_head"] else None,
            "base_offset": row["_base_offset"],
            "head_offset": row["_offset"],
            "partition": row["_partition"] if row["_in_head"] else row["_base_partition"],
        }
        for row in chosen.iter_rows(named=True)
    ]


def _keys(unexplained: pl.DataFrame, key: Sequence[str]) -> list[str]:
    columns = [c for c in unexplained.columns if c.startswith("_differs:")]
    found = []
    for row in unexplained.iter_rows(named=True):
        values = [row[k] if row["_in_head"] else row["_base"][k] for k in key]
        names = [c.removeprefix("_differs:") for c in columns if row[c]]
        found.append(f"{row['_class']} {values!r} {','.join(names)}")
    return sorted(found)
