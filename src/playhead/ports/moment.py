"""Versions as they are recorded, and their results at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from playhead.core.checkpoint import Cursor
from playhead.core.schema import Column, Schema
from playhead.core.scope import Scope

if TYPE_CHECKING:
    import polars as pl


NOTHING: Mapping[str, Stand] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table of a recorded version."""

    name: str
    physical: str
    key: tuple[str, ...]
    schema: Schema


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version as the catalog knows it; ``stage`` is live, shadow or retired.

    ``source`` is the physical topic, ``partitions`` its count when the version was recorded;
    ``topics`` pairs public and physical names; ``topic_ids`` has the id of each physical topic
    that was made. ``shown`` is kept by the catalog: the how-manieth of its pipeline this version
    was to become live, 0 where it never was. ``scope`` is the part of history that a shadow makes
    anew, where it has the rest from another version.
    """

    pipeline: str
    label: str
    stage: str
    fingerprint: str
    app: str
    source: str
    partitions: int
    group: str
    tables: tuple[TableRow, ...]
    topics: tuple[tuple[str, str], ...]
    environment: Mapping[str, str]
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    shown: int = field(default=0, compare=False)
    scope: Scope | None = None

    @property
    def name(self) -> str:
        """``pipeline@label``."""
        return f"{self.pipeline}@{self.label}"


def shown_columns(versions: Iterable[VersionRow], pipeline: str, table: str) -> Schema:
    """Return the columns that a public table shows: first those of the version first live.

    Columns that a later version added are behind them, in the order in which versions became live;
    the view has them, null, also where the live version lacks them.
    """
    once_live = [
        v
        for v in versions
        if v.pipeline == pipeline and (v.shown or v.stage in {"live", "retired"})
    ]
    columns: dict[str, Column] = {}
    for version in sorted(once_live, key=lambda v: v.shown):
        for column in (c for t in version.tables if t.name == table for c in t.schema):
            columns.setdefault(column.name, column)
    return tuple(columns.values())


class Moment(Protocol):
    """Results of one moment, as long as it is open."""

    @property
    def cursors(self) -> Mapping[str, Mapping[int, Cursor]]:
        """Cursor by version and partition."""

    def pieces(self, table: TableRow, rows: int) -> Iterator[pl.DataFrame]:
        """Yield a physical table in the order of its key, at most so many rows at a time.

        Texts are ordered by their UTF-8 bytes, false before true, times by time: the order is the
        same in every store, and that of a polars sort. Several may be read at once, by turns. The
        frames are those of `Catalog.rows`.
        """

    def count(self, table: TableRow) -> int:
        """Return how many rows a physical table has."""

    def since(self, table: TableRow, positions: Mapping[int, int]) -> pl.DataFrame:
        """Return the rows that come of records at or after a position of each partition.

        In any order, as `Catalog.rows` has them; a partition that is not named has none.
        """


@dataclass(frozen=True, slots=True)
class Stand:
    """How a physical table stood when it was copied.

    Attributes:
        made: Tells the table from others that had its name.
        cursors: Where its version stood, by partition.
    """

    made: str
    cursors: Mapping[int, Cursor]


@dataclass(frozen=True, slots=True)
class Since:
    """What a table has that an earlier copy of it has not.

    Attributes:
        rows: Rows that were written since; they take the place of older ones of their keys.
        count: How many rows the table has in all.
    """

    rows: pl.DataFrame
    count: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Results of one moment, for the mirror.

    Attributes:
        changes: The counter at that moment.
        versions: Every recorded version.
        cursors: Cursor by version and partition.
        rows: Content of physical tables by their names.
        ledger: Id of the store.
        since: Of the other tables, what an earlier copy has not.
        stands: How each table stands.
    """

    changes: int
    versions: Sequence[VersionRow]
    cursors: Mapping[str, Mapping[int, Cursor]]
    rows: Mapping[str, pl.DataFrame]
    ledger: str = ""
    since: Mapping[str, Since] = field(default_factory=dict)
    stands: Mapping[str, Stand] = field(default_factory=dict)
