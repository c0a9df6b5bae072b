"""Compare two versions of a pipeline's tables, as they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import msgspec

from playhead.core.checkpoint import Cursor
from playhead.core.declare import Version
from playhead.core.diff import UNEXPLAINED_MAX, Comparison, Sides, compare
from playhead.errors import ConfigError, Refused
from playhead.ops.versions import Known
from playhead.ports import Cut, Store, VersionRow
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Difference:
    """Base and head of one pipeline, over all its tables.

    Attributes:
        base: The version compared with.
        head: The version that is to become live.
        tables: The comparison of each table, by public name.
        digest: Names fingerprints, generations, cursors and classes, as reviewed.
    """

    base: str
    head: str
    tables: Mapping[str, Comparison]
    digest: str

    @property
    def unexplained(self) -> int:
        """Rows that differ and that no expectation declares."""
        return self.total("unexplained")

    def total(self, name: str) -> int:
        """Return one of the counts, summed over the tables."""
        return sum(getattr(c, name) for c in self.tables.values())


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
    unexplained = {name: list(c.unexplained_keys) for name, c in found.tables.items()}
    count = sum(map(len, unexplained.values()))
    acceptable = count <= UNEXPLAINED_MAX
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
    """
    cut = store.catalog.cut({base.name, head.name})
    pairs = [(b, h) for b in base.tables for h in head.tables if b.name == h.name]
    if not pairs:
        raise Refused(
            f"{base.name} and {head.name} have no table in common: there is nothing to compare",
            cure="Give the pipeline a table.",
        )
    version = known.declared(head.name)
    expectations = [*(version.expectations if version else ()), *expect]
    bound = _bound(cut, base, head)
    tables = {}
    for b, h in pairs:
        sides = Sides(cut.rows[b.physical], cut.rows[h.physical], b.key, b.schema, h.schema, bound)
        tables[b.name] = compare(sides, expectations, _rtol(version))
    digest = _digest(cut, (base, head), tables, expectations)
    return Difference(base.name, head.name, tables, digest)


def _rtol(version: Version | None) -> float:
    return float(version.options.get("rtol", 0.0)) if version else 0.0


def _bound(cut: Cut, base: VersionRow, head: VersionRow) -> dict[int, int]:
    """Return the smaller of the two cursors, by partition: beyond it rows do not compare."""
    of_base, of_head = cut.cursors.get(base.name, {}), cut.cursors.get(head.name, {})
    return {p: min(of_base[p].next, of_head[p].next) for p in of_base.keys() & of_head.keys()}


def _digest(
    cut: Cut,
    pair: tuple[VersionRow, VersionRow],
    tables: Mapping[str, Comparison],
    expectations: Sequence[str],
) -> str:
    def stands(row: VersionRow) -> dict[str, object]:
        cursors: Mapping[int, Cursor] = cut.cursors.get(row.name, {})
        at = {str(p): [c.generation, c.next] for p, c in sorted(cursors.items())}
        return {"version": row.name, "fingerprint": row.fingerprint, "cursors": at}

    classes = {
        name: [c.same, c.changed, c.ghost, c.new, c.in_flight, c.explained, c.unexplained_keys]
        for name, c in sorted(tables.items())
    }
    content = msgspec.json.encode([*map(stands, pair), classes, expectations], order="sorted")
    return hashlib.sha256(content).hexdigest()[:16]
