"""What the SQL store asks of a database, and the named queries of ``sql/*.sql``.

Each query has a name and a comment. ``:name`` is a value, always bound; ``{word}`` is how a
dialect says it. Both databases take values by position, so a query knows the order of its names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from playhead.core.naming import quoted
from playhead.core.schema import Column
from playhead.errors import StoreFailed

FOLDER = Path(__file__).parent / "sql"
SHARED = ("schema", "ledger", "history", "catalog", "journal", "publications")
_HEAD = re.compile(r"^-- ([a-z_.]+) --\n((?:-- .*\n)+)", re.MULTILINE)
_VALUE = re.compile(r"(?<!:):([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Query:
    """One query, ready for its database: values are given in the order of ``names``."""

    sql: str
    names: tuple[str, ...]

    def values(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values by position."""
        return tuple(given[name] for name in self.names)


@dataclass(frozen=True)
class Dialect:
    """How one database says things.

    Attributes:
        name: Also the name of its own file in ``sql/``.
        mark: What stands for a value in a query.
        words: What ``{word}`` in a query becomes.
        types: Column types of tables of results, by the name of a declared type.
        text_order: What makes a text in ORDER BY come by its bytes.
        table_options: What follows the columns of a table of results.
        drop_view: Whether a view has to be dropped before it is made anew.
        name_max: Most bytes of a column's name; None where there is no limit.
    """

    name: str
    mark: str
    words: Mapping[str, str]
    types: Mapping[str, str]
    text_order: str
    table_options: str
    drop_view: bool
    name_max: int | None

    @cached_property
    def queries(self) -> dict[str, Query]:
        """Every named query."""
        return {
            name: self._query(text)
            for file in (*SHARED, self.name)
            for name, text in read(FOLDER / f"{file}.sql").items()
        }

    def _query(self, text: str) -> Query:
        said = re.sub(r"\{([a-z_]+)\}", lambda m: self.words[m[1]], text)
        return Query(_VALUE.sub(self.mark, said), tuple(_VALUE.findall(said)))

    def quoted(self, name: str) -> str:
        """Return an identifier, quoted for SQL."""
        plain = quoted(name)
        return plain.replace("%", "%%") if self.mark == "%s" else plain

    def type_of(self, column: Column) -> str:
        """Return the type of a column in a table of results."""
        return self.types.get(column.kind.name, self.types["nested"])


def read(file: Path) -> dict[str, str]:
    """Return the queries of a file by name."""
    text = file.read_text(encoding="utf-8")
    heads = list(_HEAD.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return {
        head[1]: text[head.end() : end].strip().removesuffix(";")
        for head, end in zip(heads, ends, strict=True)
    }


class Database(Protocol):
    """One connection; belongs to one thread. Vendor errors come out as `StoreFailed`."""

    dialect: Dialect

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block in one writing transaction: all of it, or none."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Run the block in one reading transaction: it sees one moment."""

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Return every row."""

    def some(self, sql: str, rows: int, *values: Any) -> Iterator[list[tuple[Any, ...]]]:  # noqa: ANN401
        """Yield the rows of a query, so many at a time; of many, inside a transaction."""

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:  # noqa: ANN401
        """Return the first row, or None."""

    def run(self, sql: str, *values: Any) -> int:  # noqa: ANN401
        """Run one statement; return how many rows it changed."""

    def run_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run one statement for each row; return how many rows it changed."""

    def stage(self, table: str, rows: pl.DataFrame) -> str:
        """Put rows of a table of results where SQL finds them, until the transaction ends.

        Returns:
            The quoted name of a temporary table with the rows, their columns, and nothing else.
        """

    def insert(self, table: str, rows: pl.DataFrame, conflict: str) -> int:
        """Insert rows into a table of results; return how many were written.

        Args:
            table: Its name.
            rows: Columns of the table, and their values.
            conflict: What is done with a row whose key is there already, as SQL.
        """

    def loaded(self, column: Column, values: list[Any]) -> pl.Series:
        """Return what was read of a column of a table of results, in its dtype."""

    def refused(self, rows: pl.DataFrame) -> tuple[int, str] | None:
        """Return the first row that cannot be stored here, and why; None: all can."""

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""


class Sql:
    """A database by the names of its queries."""

    def __init__(self, db: Database) -> None:
        """Keep the connection."""
        self.db = db
        self.dialect = db.dialect
        self.transaction = db.transaction
        self.snapshot = db.snapshot
        self._queries = db.dialect.queries

    def all(self, name: str, /, **values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Return every row of a query."""
        query = self._queries[name]
        return self.db.all(query.sql, *query.values(values))

    def one(self, name: str, /, **values: Any) -> tuple[Any, ...] | None:  # noqa: ANN401
        """Return the first row of a query, or None."""
        query = self._queries[name]
        return self.db.one(query.sql, *query.values(values))

    def run(self, name: str, /, **values: Any) -> int:  # noqa: ANN401
        """Run a query; return how many rows it changed."""
        query = self._queries[name]
        return self.db.run(query.sql, *query.values(values))

    def run_many(self, name: str, /, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run a query for each row of values."""
        query = self._queries[name]
        given = [query.values(row) for row in rows]
        if given:
            self.db.run_many(query.sql, given)

    def meta(self, key: str) -> str | None:
        """Return a fact of the whole store, or None before it was made."""
        row = self.one("meta.value", key=key)
        return None if row is None else str(row[0])


def check_format(sql: Sql, known: int) -> None:
    """Refuse a store that another edition of Playhead made.

    Raises:
        StoreFailed: It has another format.
    """
    found = sql.meta("format")
    if found not in {None, str(known)}:
        raise StoreFailed(
            f"the store is of format {found}, and this playhead reads format {known}",
            safe="Nothing was changed.",
            cure="Use the playhead that made it.",
        )
