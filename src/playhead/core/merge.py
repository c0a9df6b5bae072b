"""Tables in the order of their keys, piece by piece, brought together by key."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from playhead.errors import StoreFailed

Key = tuple[Any, ...]


def aligned(
    sides: Sequence[Iterator[pl.DataFrame]], key: Sequence[str]
) -> Iterator[tuple[pl.DataFrame | None, ...]]:
    """Yield pieces of all sides that cover the same range of keys; None: a side has no more.

    Args:
        sides: Pieces whose rows are in the order of their keys, texts by their bytes. A key is not
            spread over two pieces of one side (`whole_keys`).
        key: The key's columns, in all of them.

    Raises:
        StoreFailed: The rows of one come out of order.
    """
    read = [_Side(pieces, key) for pieces in sides]
    while there := [side.last() for side in read if side.frame is not None]:
        upto = min(there)
        yield tuple(side.take(upto) for side in read)


def whole_keys(pieces: Iterator[pl.DataFrame], key: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield pieces with all rows of a key in one of them, where a key may have several."""
    held: pl.DataFrame | None = None
    for piece in pieces:
        both = piece if held is None else pl.concat([held, piece])
        keys = both.select(key)
        last = keys.row(-1)
        n = next((i for i in range(len(keys) - 1, -1, -1) if keys.row(i) != last), -1) + 1
        held = both.slice(n)
        if n:
            yield both.head(n)
    if held is not None:
        yield held


class _Side:
    def __init__(self, pieces: Iterator[pl.DataFrame], key: Sequence[str]) -> None:
        self._pieces = pieces
        self._key = list(key)
        self._before: Key | None = None
        self.frame: pl.DataFrame | None = None
        self._advance()

    def _advance(self) -> None:
        self.frame = next((piece for piece in self._pieces if len(piece)), None)
        if self.frame is None:
            return
        first = self._at(0)
        if first > self.last() or (self._before is not None and first <= self._before):
            raise StoreFailed(
                f"rows come out of the order of their keys, at {first!r}",
                safe="Nothing was changed.",
            )
        self._before = self.last()

    def _at(self, i: int) -> Key:
        assert self.frame is not None
        return self.frame.select(self._key).row(i)

    def last(self) -> Key:
        return self._at(-1)

    def take(self, upto: Key) -> pl.DataFrame | None:
        """Return the rows up to and with this key, and keep the others."""
        if self.frame is None:
            return None
        keys = self.frame.select(self._key)
        n = bisect_right(range(len(keys)), upto, key=keys.row)
        taken, self.frame = self.frame.head(n), self.frame.slice(n)
        if not len(self.frame):
            self._advance()
        return taken
