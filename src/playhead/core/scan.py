"""Which version made each row of a table that anything may have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from playhead.core.distribution import Tally
from playhead.core.expect import close

LISTED = 100
SAMPLES = 10
RTOL = 1e-9
RTOL_FLOAT32 = 1e-6


@dataclass(frozen=True, slots=True)
class Scanned:
    """Which version made each row.

    Attributes:
        rows: Rows of the table.
        only: By version, rows that equal its row and no other version's.
        both: Rows that equal those of several versions.
        neither: Rows that equal none.
        missing: The first keys that a version has and the table lacks.
        missing_keys: How many there are.
        ghosts: The first keys that the table has and no version.
        ghost_rows: Rows of such keys; they count as neither.
        duplicates: Rows whose key came before.
        samples: Rows that equal none, with each version's row.
        ratios: Of rows that equal none to each version's, by ``version.column``.
    """

    rows: int
    only: Mapping[str, int]
    both: int
    neither: int
    missing: Sequence[Sequence[Any]] = ()
    missing_keys: int = 0
    ghosts: Sequence[Sequence[Any]] = ()
    ghost_rows: int = 0
    duplicates: int = 0
    samples: Sequence[Mapping[str, Any]] = ()
    ratios: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked at.

    Attributes:
        key: Columns that say which rows belong together.
        rtol: By column that is compared, the tolerance of floats; None: it is no float.
        versions: Names of the versions.
    """

    key: tuple[str, ...]
    rtol: Mapping[str, float | None]
    versions: tuple[str, ...]


class Scanning:
    """Holds rows against those of versions, in pieces that cover the same range of keys.

    A version may have several rows of a key: one that equals is enough.
    """

    def __init__(self, look: Look) -> None:
        """Begin with nothing."""
        self._look = look
        self._rows = self._both = self._neither = self._ghost_rows = self._duplicates = 0
        self._missing_keys = 0
        self._only = dict.fromkeys(look.versions, 0)
        self._missing: list[list[Any]] = []
        self._ghosts: list[list[Any]] = []
        self._samples: list[dict[str, Any]] = []
        self._ratios = {
            (v, c): Tally()
            for v in look.versions
            for c, rtol in look.rtol.items()
            if rtol is not None
        }

    def add(self, rows: pl.DataFrame | None, versions: Sequence[pl.DataFrame | None]) -> None:
        """Take a piece in: key and compared columns of the table, and of each version."""
        key, columns = list(self._look.key), list(self._look.rtol)
        made = [v.select(*key, *columns) for v in versions if v is not None]
        keys = pl.concat([v.select(key) for v in made]).unique() if made else None
        if rows is None or not len(rows):
            self._miss(keys)
            return
        self._rows += len(rows)
        self._duplicates += len(rows) - len(rows.unique(key))
        numbered = rows.select(*key, *columns).with_row_index("_row")
        told = numbered.select("_row", *key)
        for name, version in zip(self._look.versions, versions, strict=True):
            told = told.join(self._equal(numbered, name, version), on="_row", how="left")
        of = [pl.col(f"_is:{v}").fill_null(value=False) for v in self._look.versions]
        told = told.with_columns(_n=pl.sum_horizontal(of))
        for name, equal in zip(self._look.versions, of, strict=True):
            self._only[name] += len(told.filter(equal & (pl.col("_n") == 1)))
        self._both += len(told.filter(pl.col("_n") > 1))
        odd = told.filter(pl.col("_n") == 0)
        self._neither += len(odd)
        self._keep_odd(numbered, odd, versions)
        if keys is not None:
            self._miss(keys.join(rows.select(key), on=key, how="anti", nulls_equal=True))

    def _equal(self, rows: pl.DataFrame, name: str, version: pl.DataFrame | None) -> pl.DataFrame:
        """Return for each row whether the version has its key, and a row that equals it."""
        if version is None:
            return rows.select("_row").with_columns(
                pl.lit(value=False).alias(f"_is:{name}"), pl.lit(value=False).alias(f"_has:{name}")
            )
        key = list(self._look.key)
        theirs = version.select(*key, *(pl.col(c).alias(f"_v:{c}") for c in self._look.rtol))
        joined = rows.join(theirs.with_columns(_has=True), on=key, how="left", nulls_equal=True)
        equal = [
            pl.col(c).eq_missing(pl.col(f"_v:{c}"))
            | (close(pl.col(c), pl.col(f"_v:{c}"), rtol) if rtol else pl.lit(value=False))
            for c, rtol in self._look.rtol.items()
        ]
        has = pl.col("_has").fill_null(value=False)
        return joined.group_by("_row").agg(
            (has & pl.all_horizontal(pl.lit(value=True), *equal)).any().alias(f"_is:{name}"),
            has.any().alias(f"_has:{name}"),
        )

    def _miss(self, keys: pl.DataFrame | None) -> None:
        if keys is None:
            return
        self._missing_keys += len(keys)
        kept = keys.sort(keys.columns).head(LISTED - len(self._missing))
        self._missing += [list(row) for row in kept.iter_rows()]

    def _keep_odd(
        self, rows: pl.DataFrame, odd: pl.DataFrame, versions: Sequence[pl.DataFrame | None]
    ) -> None:
        key = list(self._look.key)
        had = [pl.col(f"_has:{v}").fill_null(value=False) for v in self._look.versions]
        ghosts = odd.filter(~pl.any_horizontal(pl.lit(value=False), *had))
        self._ghost_rows += len(ghosts)
        listed = ghosts.select(key).unique(maintain_order=True).head(LISTED - len(self._ghosts))
        self._ghosts += [list(row) for row in listed.iter_rows()]
        odd_rows = rows.join(odd.select("_row"), on="_row", how="semi")
        for name, version in zip(self._look.versions, versions, strict=True):
            if version is not None:
                self._compare(name, odd_rows, version)
        for row in odd_rows.head(SAMPLES - len(self._samples)).iter_rows(named=True):
            at = {k: row[k] for k in key}
            self._samples.append(
                {
                    "key": list(at.values()),
                    "row": {c: row[c] for c in self._look.rtol},
                    "versions": {
                        v: self._row_of(version, at)
                        for v, version in zip(self._look.versions, versions, strict=True)
                    },
                }
            )

    def _compare(self, name: str, odd: pl.DataFrame, version: pl.DataFrame) -> None:
        joined = odd.join(version, on=list(self._look.key), how="inner", suffix="_theirs")
        for (v, column), tally in self._ratios.items():
            if v == name:
                theirs = joined.filter(pl.col(f"{column}_theirs") != 0)
                tally.add(theirs[column] / theirs[f"{column}_theirs"])

    def _row_of(self, version: pl.DataFrame | None, at: Mapping[str, Any]) -> dict[str, Any] | None:
        if version is None:
            return None
        found = version.filter(*(pl.col(k) == value for k, value in at.items()))
        return found.select(list(self._look.rtol)).row(0, named=True) if len(found) else None

    def odd(self, rows: int) -> None:
        """Count rows that have no key: no version made them."""
        self._rows += rows
        self._neither += rows

    def found(self) -> Scanned:
        """Return what was found in all pieces."""
        ratios = {f"{v}.{c}": tally.content("ratio") for (v, c), tally in self._ratios.items()}
        return Scanned(
            rows=self._rows,
            only=self._only,
            both=self._both,
            neither=self._neither,
            missing=self._missing,
            missing_keys=self._missing_keys,
            ghosts=self._ghosts,
            ghost_rows=self._ghost_rows,
            duplicates=self._duplicates,
            samples=self._samples,
            ratios={name: told for name, told in ratios.items() if told is not None},
        )
