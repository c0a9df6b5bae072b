"""What an author said would change: polars SQL over head's columns and ``base.column``."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from playhead.core.codec import columns_schema
from playhead.core.schema import Schema
from playhead.errors import DeclarationError

RTOL = 1e-9
_ASSIGNMENT = re.compile(r"\s*(?P<column>[A-Za-z]\w*)\s*=(?![=])\s*(?P<value>.+)\Z", re.DOTALL)
_LOGICAL = re.compile(
    r"\b(and|or|not|case|between|in|like|is)\b|[<>!]=?|(?<![<>!=])=", re.IGNORECASE
)
# Of polars' SQL functions those that look at more than one row.
_OF_SEVERAL_ROWS = re.compile(
    r"\b(over|(?:sum|total|avg|mean|median|mode|count|min|max|first|last|first_value|last_value|"
    r"nth_value|lag|lead|row_number|rank|dense_rank|percent_rank|cume_dist|ntile|corr|covar|"
    r"covar_pop|covar_samp|stddev|stdev|stddev_pop|stddev_samp|stdev_pop|stdev_samp|var|var_pop|"
    r"var_samp|variance|quantile_cont|quantile_disc|percentile_cont|percentile_disc|array_agg|"
    r"string_agg|listagg|group_concat|any_value|bool_and|bool_or|approx_count_distinct))\s*\(",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One expectation, read: ``told`` is true of each row that satisfies it."""

    expr: str
    told: pl.Expr
    has_columns: bool

    def of(self, rows: pl.DataFrame) -> pl.Series:
        """Return for each row whether the expectation is true of it; null is not true.

        Args:
            rows: Head's columns, and base's in the struct ``_base``.
        """
        found = rows.with_columns(base=pl.col("_base")).select(self.told.alias("_told"))["_told"]
        if len(found) != len(rows):
            found = pl.repeat(bool(found[0]), len(rows), eager=True)
        return found.fill_null(value=False)


def read(expectation: str, base: Schema, head: Schema) -> Asked:
    """Return an expectation, ready to be asked of rows.

    Raises:
        DeclarationError: It cannot be read, names an unknown column, is not true or false, or
            looks at more than one row.
    """
    plain = _without_quotes(expectation)
    if re.search(r"\bselect\b", plain, re.IGNORECASE):
        raise DeclarationError(f"expectation {expectation!r}: subqueries are not possible")
    several = _OF_SEVERAL_ROWS.search(plain)
    if several is not None:
        raise _looks_around(expectation, several[1].lower())
    try:
        told = _told(expectation, head)
        asked = Asked(expectation, told, bool(told.meta.root_names()))
        nothing = pl.DataFrame(
            schema={**columns_schema(head), "_base": pl.Struct(columns_schema(base))}
        )
        found = nothing.with_columns(base=pl.col("_base")).select(told.alias("_told"))["_told"]
    except (pl.exceptions.PolarsError, TypeError) as error:
        names = ", ".join(c.name for c in head)
        raise DeclarationError(
            f"expectation {expectation!r} cannot be read: {str(error).splitlines()[0]}",
            cure=f"It is polars SQL over {names}, and base.<column>.",
        ) from error
    if found.dtype != pl.Boolean:
        raise DeclarationError(
            f"expectation {expectation!r} is not true or false, but {found.dtype}"
        )
    if asked.has_columns and len(found):  # of no rows there is one answer: it is about all of them
        raise _looks_around(expectation, "it")
    return asked


def _looks_around(expectation: str, what: str) -> DeclarationError:
    return DeclarationError(
        f"expectation {expectation!r}: {what} looks at more than one row, and an expectation is "
        "asked of each row by itself",
        cure="Say what is true of one row: its columns, and base.<column>.",
    )


def _told(expectation: str, head: Schema) -> pl.Expr:
    floats = {c.name for c in head if c.kind.name == "float"}
    match = _ASSIGNMENT.match(expectation)
    if (
        match is not None
        and match["column"] in floats
        and not _LOGICAL.search(_outermost(match["value"]))
    ):
        return close(pl.col(match["column"]), _sql(match["value"]), RTOL)
    return _sql(expectation)


def close(left: pl.Expr, right: pl.Expr, rtol: float) -> pl.Expr:
    """Return whether two floats are within a relative bound; null is not."""
    widest = pl.max_horizontal(left.abs(), right.abs())
    return ((left - right).abs() <= rtol * widest).fill_null(value=False)


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
