"""Tables that are read before live stands still; then only what has changed since is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from playhead.core.checkpoint import Cursor, only_went_on
from playhead.ops.pairing import PIECE_ROWS, TablePair
from playhead.ports import Moment, TableRow

ROWS_MAX = 4_000_000  # of all tables together: they are kept in memory


@dataclass(frozen=True, slots=True)
class _Read:
    """A table as it was, in the order of its key, and where its version stood."""

    rows: pl.DataFrame
    version: str
    cursors: Mapping[int, Cursor]


@dataclass(slots=True)
class Ahead:
    """What was read of some tables at an earlier moment."""

    _read: dict[str, _Read] = field(default_factory=dict)

    def read(self, moment: Moment, pairs: Sequence[TablePair]) -> None:
        """Read the tables of both sides, where they are not too large together.

        Not those of a version that makes a part of history anew: rows that it takes over are older
        than where it stands.
        """
        chosen = [
            (version, table)
            for pair in pairs
            for version, table in ((pair.stage.base, pair.base), (pair.stage.head, pair.head))
            if version.scope is None
        ]
        if sum(moment.count(table) for _, table in chosen) > ROWS_MAX:
            return
        for version, table in chosen:
            pieces = list(moment.pieces(table, PIECE_ROWS))
            if pieces:
                cursors = dict(moment.cursors.get(version.name, {}))
                rows = pl.concat(pieces, rechunk=True)
                self._read[table.physical] = _Read(rows, version.name, cursors)

    def at(self, moment: Moment) -> Moment:
        """Return a later moment, of whose tables only what has changed since is read."""
        return _Later(moment, self._read)


@dataclass(frozen=True, slots=True)
class _Later:
    """`Moment`, from what was read at an earlier one."""

    moment: Moment
    read: Mapping[str, _Read]

    @property
    def cursors(self) -> Mapping[str, Mapping[int, Cursor]]:
        return self.moment.cursors

    def count(self, table: TableRow) -> int:
        return self.moment.count(table)

    def since(self, table: TableRow, positions: Mapping[int, int]) -> pl.DataFrame:
        return self.moment.since(table, positions)

    def pieces(self, table: TableRow, rows: int) -> Iterator[pl.DataFrame]:
        whole = self._whole(table)
        if whole is None:
            yield from self.moment.pieces(table, rows)
        else:
            yield from whole.iter_slices(rows)

    def _whole(self, table: TableRow) -> pl.DataFrame | None:
        """Return a table as it is now; None where that does not follow from how it was."""
        read = self.read.get(table.physical)
        if read is None:
            return None
        if not only_went_on(read.cursors, self.moment.cursors.get(read.version, {})):
            return None
        whole, key = read.rows, list(table.key)
        fresh = self.moment.since(table, {p: at.next for p, at in read.cursors.items()})
        if len(fresh):
            whole = pl.concat([whole.join(fresh, on=key, how="anti"), fresh]).sort(key)
        return whole if len(whole) == self.moment.count(table) else None
