"""A table that anything may have made, looked at by ``scan``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from playhead.core.schema import Schema

if TYPE_CHECKING:
    import polars as pl

FLOAT32 = "float32"


class Foreign(Protocol):
    """One table or view of any database, open for reading; it is never written to."""

    def columns(self) -> dict[str, str]:
        """Return its columns with the database's own types; `FLOAT32` for floats of 32 bits.

        Raises:
            ConfigError: There is no such table; the message names those that there are.
        """

    def keyless(self, key: Sequence[str]) -> int:
        """Return how many rows have a null in the key."""

    def pieces(self, columns: Schema, key: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """Yield the rows that have a key, in the order of their keys, so many at a time.

        The frames have these columns, in their own dtypes; a value that is none of its column's
        type is null. Keys may come more than once. The order is that of `Moment.pieces`.
        """

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""
