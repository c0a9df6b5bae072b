"""Compare two versions of a pipeline's outputs, as they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import msgspec

from playhead.core.checkpoint import Cursor
from playhead.core.diff import UNEXPLAINED_MAX, Comparing, Comparison, Shape
from playhead.core.merge import aligned
from playhead.errors import ConfigError, DeclarationError, Refused
from playhead.ops.versions import Known
from playhead.ports import Moment, Store, TableRow, VersionRow
from playhead.project import Project

PIECE_ROWS = 25_000


@dataclass(frozen=True, slots=True)
class Stood:
    """Where a version stood when it was compared.

    Attributes:
        name: ``pipeline@label``.
        fingerprint: Of its code.
        source: The physical topic that it reads.
        cursors: By partition.
    """

    name: str
    fingerprint: str
    source: str
    cursors: Mapping[int, Cursor]


@dataclass(frozen=True, slots=True)
class Difference:
    """Base and head of one pipeline, over all its tables.

    Attributes:
        base: The version compared with.
        head: The version that is to become live.
        tables: The comparison of each table, by public name.
        digest: Names fingerprints, generations, cursors and classes, as reviewed.
        expectations: What was expected, in code and by the user.
        stood: Every version that was compared.
    """

    base: str
    head: str
    tables: Mapping[str, Comparison]
    digest: str
    expectations: tuple[str, ...] = ()
    stood: tuple[Stood, ...] = ()

    @property
    def unexplained(self) -> int:
        """Rows that differ and that no expectation declares."""
        return self.total("unexplained")

    @property
    def idle(self) -> tuple[str, ...]:
        """Expectations that explain no row, though rows differ."""
        if not sum(self.total(n) for n in ("changed", "ghost", "new")):
            return ()
        explaining = {e.expr for c in self.tables.values() for e in c.expectations if e.explained}
        return tuple(e for e in dict.fromkeys(self.expectations) if e not in explaining)

    def total(self, name: str) -> int:
        """Return one of the counts, summed over the tables."""
        return sum(getattr(c, name) for c in self.tables.values())

    def beyond(self, seen: Mapping[str, Sequence[str]]) -> int:
        """Return how many unexplained rows are not among those that somebody has seen."""
        return sum(
            c.unexplained - len(set(seen.get(name, ())).intersection(c.unexplained_keys))
            for name, c in self.tables.items()
        )


class Reviewed(msgspec.Struct):
    """What is kept under a digest: the unexplained rows, as somebody has seen them."""

    base: str
    head: str
    unexplained: dict[str, list[str]]
    acceptable: bool
    expect: list[str] = []


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for; None: the live version, and the only shadow."""

    pipeline: str
    base: str | None = None
    head: str | None = None
    expect: Sequence[str] = ()


def diff(project: Project, request: Request) -> Difference:
    """Compare two versions and keep the result under its digest.

    Raises:
        Refused: There is nothing to compare, or a version is not recorded.
        DeclarationError: An expectation cannot be read.
    """
    with closing(project.open_store(must_exist=True)) as store:
        known = Known.read(project, store)
        known.pipeline(request.pipeline)
        base, head = _chosen(known, request)
        found = difference(known, store, base, head, request.expect)
        keep(store, found, request.expect)
    return found


def keep(store: Store, found: Difference, expect: Sequence[str] = ()) -> None:
    """Keep a diff under its digest, with what was expected beyond the code: it can be accepted."""
    acceptable = found.unexplained <= UNEXPLAINED_MAX
    unexplained = {name: list(c.unexplained_keys) for name, c in found.tables.items()}
    reviewed = Reviewed(found.base, found.head, unexplained if acceptable else {}, acceptable)
    reviewed.expect = list(expect)
    store.journal.save_diff(found.digest, msgspec.json.encode(reviewed))


def _chosen(known: Known, request: Request) -> tuple[VersionRow, VersionRow]:
    rows = [r for r in known.rows.values() if r.pipeline == request.pipeline]
    by_label = {r.label: r for r in rows}
    for label in (request.base, request.head):
        if label is not None and label.rpartition("@")[2] not in by_label:
            raise Refused(
                f"{request.pipeline}@{label.rpartition('@')[2]} is not recorded",
                cure=f"playhead replay {request.pipeline}@{label.rpartition('@')[2]}",
            )
    live = known.live(request.pipeline)
    base = by_label[request.base.rpartition("@")[2]] if request.base else live
    if base is None:
        raise Refused(f"nothing of {request.pipeline} is live", cure="playhead run first.")
    if request.head:
        return base, by_label[request.head.rpartition("@")[2]]
    shadows = [r for r in rows if r.stage == "shadow" and r != base]
    if len(shadows) == 1:
        return base, shadows[0]
    if not shadows:
        raise Refused(
            f"no version of {request.pipeline} is a shadow: nothing to compare",
            cure=f"playhead plan {request.pipeline}",
        )
    names = ", ".join(r.label for r in shadows)
    raise ConfigError(f"{request.pipeline} has several shadows: say --head {names}")


@dataclass(frozen=True, slots=True)
class _Pair:
    """One table of two versions."""

    versions: tuple[VersionRow, VersionRow]
    base: TableRow
    head: TableRow


def difference(
    known: Known,
    store: Store,
    base: VersionRow,
    head: VersionRow,
    expect: Sequence[str] = (),
) -> Difference:
    """Compare two recorded versions at one moment.

    Raises:
        Refused: They have no table in common.
        DeclarationError: An expectation cannot be read, whichever table it is asked of.
    """
    pairs = [
        _Pair((base, head), b, h) for b in base.tables for h in head.tables if b.name == h.name
    ]
    if not pairs:
        raise Refused(
            f"{base.name} and {head.name} have no table in common: there is nothing to compare",
            cure="Give the pipeline a table.",
        )
    version = known.declared(head.name)
    rtol = float(version.options.get("rtol", 0.0)) if version else 0.0
    expectations = (*(version.expectations if version else ()), *expect)
    with store.catalog.moment() as moment:
        shapes = {
            pair.base.name: Shape(
                pair.base.key,
                pair.base.schema,
                pair.head.schema,
                _bound(moment, *pair.versions),
                rtol,
            )
            for pair in pairs
        }
        comparing = _begun(shapes, expectations)
        for pair in pairs:
            _compare(moment, pair, comparing[pair.base.name])
        stood = _stood(moment, (v for pair in pairs for v in pair.versions))
    tables = {name: c.found() for name, c in comparing.items()}
    digest = _digest(stood, tables, expectations)
    return Difference(base.name, head.name, tables, digest, expectations, stood)


def _begun(shapes: Mapping[str, Shape], expectations: Sequence[str]) -> dict[str, Comparing]:
    """Ask each expectation of the outputs that have its columns; of one at least."""
    asked: dict[str, list[str]] = {name: [] for name in shapes}
    for expression in expectations:
        refused: list[DeclarationError] = []
        for name, shape in shapes.items():
            try:
                Comparing(shape, [expression])
            except DeclarationError as error:
                refused.append(error)
            else:
                asked[name].append(expression)
        if len(refused) == len(shapes):
            raise refused[0]
    return {name: Comparing(shape, asked[name]) for name, shape in shapes.items()}


def _compare(moment: Moment, pair: _Pair, comparing: Comparing) -> None:
    of_base = moment.pieces(pair.base, PIECE_ROWS)
    of_head = moment.pieces(pair.head, PIECE_ROWS)
    for base, head in aligned((of_base, of_head), pair.base.key):
        comparing.add(base, head)


def _bound(moment: Moment, base: VersionRow, head: VersionRow) -> dict[int, int]:
    """Return the smaller of the two cursors, by partition: beyond it rows do not compare.

    Offsets of two topics do not compare: there nothing is beyond.
    """
    of_base, of_head = (moment.cursors.get(v.name, {}) for v in (base, head))
    which = min if base.source == head.source else max
    return {p: which(of_base[p].next, of_head[p].next) for p in of_base.keys() & of_head.keys()}


def _stood(moment: Moment, versions: Iterable[VersionRow]) -> tuple[Stood, ...]:
    return tuple(
        Stood(v.name, v.fingerprint, v.source, moment.cursors.get(v.name, {}))
        for v in {v.name: v for v in versions}.values()
    )


def _digest(
    stood: Sequence[Stood], tables: Mapping[str, Comparison], expectations: Sequence[str]
) -> str:
    versions = [
        {
            "version": s.name,
            "fingerprint": s.fingerprint,
            "cursors": {str(p): [c.generation, c.next] for p, c in sorted(s.cursors.items())},
        }
        for s in stood
    ]
    classes = {
        name: [c.same, c.changed, c.ghost, c.new, c.in_flight, c.explained, c.digest]
        for name, c in sorted(tables.items())
    }
    content = msgspec.json.encode([versions, classes, expectations], order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]
