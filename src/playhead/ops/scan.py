"""Say of each row of a table or topic, made by anything, which version made it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from playhead.core.addresses import POSTGRES, masked, postgres_address
from playhead.core.merge import aligned, whole_keys
from playhead.core.scan import RTOL, RTOL_FLOAT32, Look, Scanned, Scanning
from playhead.core.schema import Column
from playhead.errors import ConfigError, Refused
from playhead.ops.versions import Known
from playhead.ports import Store, TableRow, VersionRow
from playhead.ports.foreign import FLOAT32, Foreign
from playhead.project import Project

PIECE_ROWS = 25_000
_NESTED = frozenset({"list", "dict"})


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        against: Labels, or ``pipeline@label``.
        table: ``TABLE`` of the store, or ``FILE#TABLE``, or ``URL#TABLE``.
        topic: A topic, in place of a table.
        rtol: Tolerance of floats; None: 1e-9, and 1e-6 for columns of 32 bits.
    """

    against: Sequence[str]
    table: str | None = None
    topic: str | None = None
    rtol: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scan found.

    Attributes:
        subject: What was scanned.
        versions: What it was held against.
        key: Columns that say which rows belong together.
        rtol: By compared column the tolerance; None: it is no float.
        left_out: Columns of the versions that were not compared.
        scanned: The counts.
        unreadable: Records of a topic that could not be decoded; they count as neither.
    """

    subject: str
    versions: tuple[str, ...]
    key: tuple[str, ...]
    rtol: dict[str, float | None]
    left_out: tuple[str, ...]
    scanned: Scanned
    unreadable: int = 0


def scan(project: Project, request: Request) -> Answer:
    """Hold a table or a topic against versions of this project.

    Raises:
        ConfigError: It says neither or both, or there is no such table.
        Refused: A version is not recorded, or has nothing that could be compared.
    """
    if (request.table is None) == (request.topic is None):
        raise ConfigError("say what to scan: TABLE, FILE#TABLE, or --topic T")
    labels = tuple(dict.fromkeys(v for v in request.against if v))
    if not labels:
        raise ConfigError("say which versions may have made it: --against V,V")
    with closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        if request.topic is not None:
            from playhead.ops.scan_topic import scan_topic

            return scan_topic(project, known, (request.topic, labels, request.rtol))
        assert request.table is not None
        with closing(opened(project, request.table)) as subject:
            return _scan_table(known, store, subject, (request, labels))


def opened(project: Project, name: str) -> Foreign:
    """Open the table that ``TABLE``, ``FILE#TABLE`` or ``URL#TABLE`` names.

    Raises:
        ConfigError: There is no such file, or it is neither DuckDB's nor SQLite's.
    """
    place, mark, table = name.rpartition("#")
    if not mark:
        address = project.settings.store
        scheme, _, rest = address.partition(":")
        place = address if scheme in POSTGRES else str(project.settings.path(rest))
    if place.partition(":")[0] in POSTGRES:
        from playhead.adapters import postgres_foreign

        return postgres_foreign.open_table(postgres_address(place), table)
    path = project.settings.path(place)
    if not path.is_file():
        raise ConfigError(f"there is no file {masked(place)}", cure="FILE#TABLE, or TABLE alone.")
    if _begins(path, 0, b"SQLite format 3\0"):
        from playhead.adapters import sqlite_foreign

        return sqlite_foreign.open_table(path, table)
    if _begins(path, 8, b"DUCK"):
        from playhead.adapters import duckdb_foreign

        return duckdb_foreign.open_table(path, table)
    raise ConfigError(f"{place} is neither a DuckDB nor a SQLite file")


def _begins(path: Path, at: int, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(at + len(magic))[at:] == magic


def chosen(known: Known, label: str) -> list[VersionRow]:
    """Return the recorded versions that a label means.

    Raises:
        Refused: None is recorded.
    """
    found = [r for r in known.rows.values() if label in (r.label, r.name)]
    if not found:
        names = ", ".join(known.rows)
        raise Refused(
            f"no version {label!r} is recorded; there are {names}",
            cure="Replay it first: playhead replay PIPELINE@VERSION.",
        )
    return found


def _rival(known: Known, label: str, columns: Sequence[str], name: str) -> TableRow:
    """Return the table of a version that a table with these columns can be held against."""
    tables = [t for row in chosen(known, label) for t in row.tables]
    fitting = [
        t
        for t in tables
        if set(t.key) <= set(columns) and any(_compared(c, t, columns) for c in t.schema)
    ]
    same_name = [t for t in fitting if t.name == name.rpartition(".")[2]] or fitting
    if len(same_name) == 1:
        return same_name[0]
    if same_name:
        named = ", ".join(t.physical for t in same_name)
        raise ConfigError(f"{label} may mean {named}", cure="Say --against PIPELINE@VERSION.")
    has = ", ".join(columns)
    raise Refused(
        f"{label} has no table whose key and columns are among {has}",
        cure="Make a view that names them as the version does.",
    )


def _compared(column: Column, table: TableRow, columns: Sequence[str]) -> bool:
    plain = column.kind.name not in _NESTED
    return column.name not in table.key and column.name in columns and plain


def tolerance(column: Column, kind: str, asked: float | None) -> float | None:
    """Return the tolerance of a column; None where it holds no floats."""
    if column.kind.name != "float":
        return None
    if asked is not None:
        return asked
    return RTOL_FLOAT32 if kind == FLOAT32 else RTOL


def _scan_table(
    known: Known, store: Store, subject: Foreign, asked: tuple[Request, tuple[str, ...]]
) -> Answer:
    request, labels = asked
    kinds = subject.columns()
    name = (request.table or "").rpartition("#")[2]
    rivals = {label: _rival(known, label, list(kinds), name) for label in labels}
    first = rivals[labels[0]]
    if any(t.key != first.key for t in rivals.values()):
        raise Refused(
            "the versions' tables have different keys", cure="Scan against one at a time."
        )
    everywhere = set.intersection(*({c.name for c in t.schema} for t in rivals.values()))
    columns = [c for c in first.schema if c.name in everywhere and _compared(c, first, list(kinds))]
    rtol = {c.name: tolerance(c, kinds[c.name], request.rtol) for c in columns}
    scanning = Scanning(Look(first.key, rtol, labels))
    scanning.odd(subject.keyless(first.key))
    wanted = (*(c for c in first.schema if c.name in first.key), *columns)
    theirs = subject.pieces(wanted, first.key, PIECE_ROWS)
    with store.catalog.moment() as moment:
        sides = [
            whole_keys(theirs, first.key),
            *(moment.pieces(rivals[label], PIECE_ROWS) for label in labels),
        ]
        for rows, *versions in aligned(sides, first.key):
            scanning.add(rows, versions)
    every = {c.name for t in rivals.values() for c in t.schema} - set(first.key)
    left_out = tuple(sorted(every - set(rtol)))
    shown = masked(request.table or "")
    return Answer(shown, labels, first.key, rtol, left_out, scanning.found())
