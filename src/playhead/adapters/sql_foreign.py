"""Tables of other programs, over SQL: each database says how it casts, orders and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from playhead.core.codec import dtype_of
from playhead.core.naming import quoted
from playhead.core.schema import Column, Schema
from playhead.errors import ConfigError

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class SqlForeign:
    """The `Foreign` port over a database that answers SQL.

    Attributes:
        shown: What the table is called in messages.
        named: Its quoted name.
        described: Its columns and their types; empty: there is no such table.
        tables: Names of the tables that there are.
        casts: SQL types that keys are cast to, by the name of a declared type.
        text_order: What makes a text in ORDER BY come by its bytes.
        some: Yields the rows of a query, so many at a time.
        shut: Closes the connection.
    """

    shown: str
    named: str
    described: Mapping[str, str]
    tables: Sequence[str]
    casts: Mapping[str, str]
    text_order: str
    some: Callable[[str, int], Iterator[Rows]]
    shut: Callable[[], None]

    def columns(self) -> dict[str, str]:
        """Return its columns with their types."""
        if not self.described:
            raise ConfigError(
                f"there is no table {self.shown}",
                cure=f"There are: {', '.join(self.tables)}." if self.tables else None,
            )
        return dict(self.described)

    def keyless(self, key: Sequence[str]) -> int:
        """Return how many rows have a null in the key."""
        null = " OR ".join(f"{quoted(k)} IS NULL" for k in key)
        ((n,),) = next(self.some(f"SELECT count(*) FROM {self.named} WHERE {null}", 1))
        return int(n)

    def pieces(self, columns: Schema, key: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """Yield the rows that have a key, in the order of their keys, so many at a time."""
        kinds = {c.name: c.kind.name for c in columns}
        chosen = ", ".join(
            self._cast(c.name, c.kind.name) if c.name in key else quoted(c.name) for c in columns
        )
        whole = " AND ".join(f"{quoted(k)} IS NOT NULL" for k in key)
        order = ", ".join(
            self._cast(k, kinds[k]) + self.text_order * (kinds[k] == "str") for k in key
        )
        text = f"SELECT {chosen} FROM {self.named} WHERE {whole} ORDER BY {order}"
        for content in self.some(text, rows):
            values = zip(*content, strict=True)
            yield pl.DataFrame(
                {
                    c.name: pl.Series([_loose(c, v) for v in given], dtype=dtype_of(c.kind))
                    for c, given in zip(columns, values, strict=True)
                }
            )

    def _cast(self, name: str, kind: str) -> str:
        wanted = self.casts.get(kind)
        return f"CAST({quoted(name)} AS {wanted})" if wanted else quoted(name)

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""
        self.shut()


def in_pieces(
    ask: Callable[[str], Any], translated: Callable[[], AbstractContextManager[None]]
) -> Callable[[str, int], Iterator[Rows]]:
    """Return how a query's rows are read, so many at a time.

    Args:
        ask: Runs a query and returns its cursor.
        translated: Turns the database's errors into ours.
    """

    def some(sql: str, rows: int) -> Iterator[Rows]:
        with translated():
            cursor = ask(sql)
            while found := cursor.fetchmany(rows):
                yield found

    return some


def _loose(column: Column, value: Any) -> Any:  # noqa: ANN401  whatever a database holds
    """Return a value as the column's type has it, or None."""
    try:
        return _READ[column.kind.name](value) if value is not None else None
    except (KeyError, ValueError, OverflowError):
        return None


def _float(value: Any) -> float | None:  # noqa: ANN401
    numeric = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    return float(value) if numeric else None


def _int(value: Any) -> int | None:  # noqa: ANN401
    if not isinstance(value, (int, float, Decimal)) or value != int(value):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def _datetime(value: Any) -> datetime | None:  # noqa: ANN401
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(found, datetime):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _date(value: Any) -> date | None:  # noqa: ANN401
    found = date.fromisoformat(value) if isinstance(value, str) else value
    return found if isinstance(found, date) else None


_READ: Mapping[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "str": lambda v: v if isinstance(v, str) else str(v),
    "bool": lambda v: bool(v) if v in (0, 1) else None,
    "bytes": lambda v: bytes(v) if isinstance(v, (bytes, bytearray, memoryview)) else None,
    "date": _date,
    "datetime": _datetime,
}
