"""Compare the outputs of two versions of a pipeline, and of what reads them, as they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import msgspec

from playhead.core.checkpoint import Cursor
from playhead.core.diff import UNEXPLAINED_MAX, Comparing, Comparison, Shape
from playhead.errors import ConfigError, DeclarationError, Refused
from playhead.ops import pairing
from playhead.ops.ahead import Ahead
from playhead.ops.in_flight import Place
from playhead.ops.pairing import Stage
from playhead.ops.versions import Known
from playhead.ports import Log, Moment, Store, VersionRow
from playhead.project import Project


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
        tables: The comparison of each table, by public name; of a topic by ``topic <name>``.
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
    topics: bool = False


def diff(project: Project, request: Request) -> Difference:
    """Compare two versions and keep the result under its digest.

    Raises:
        Refused: There is nothing to compare, or a version is not recorded.
        DeclarationError: An expectation cannot be read.
    """
    with closing(project.open_store(must_exist=True)) as store, closing(project.open_log()) as log:
        known = Known.read(project, store)
        known.pipeline(request.pipeline)
        base, head = _chosen(known, request)
        pair = base, head
        found = difference(known, (log, store), pair, request.expect, topics=request.topics)
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


def difference(
    known: Known,
    where: tuple[Log, Store],
    pair: tuple[VersionRow, VersionRow],
    expect: Sequence[str] = (),
    *,
    topics: bool = False,
    ahead: Ahead | None = None,
) -> Difference:
    """Compare two recorded versions at one moment, and in a chain what reads them.

    Args:
        known: The catalog and the module.
        where: Log and store. The log is read for topics, and for how far chains have come.
        pair: The version compared with, and the one that is to become live.
        expect: What is expected beyond the code.
        topics: Compare topics, too; they are where there is no table in common.
        ahead: What was read of their tables before.

    Raises:
        Refused: They have no output in common.
        DeclarationError: An expectation cannot be read, whichever output it is asked of.
    """
    (log, store), (base, head) = where, pair
    stages = pairing.stages(known, base, head)
    tables = pairing.tables(stages)
    published = pairing.topics(known, stages[0]) if topics or not tables else ()
    if not tables and not published:
        raise Refused(
            f"{base.name} and {head.name} have no output in common: there is nothing to compare",
            cure="Give the pipeline a table or a topic.",
        )
    expectations = (*_expected(known, stages), *expect)
    with store.catalog.moment() as now:
        moment = ahead.at(now) if ahead else now
        place = Place(log, store, moment)
        flights = {stage: pairing.flight(place, stage) for stage in {t.stage for t in tables}}
        shapes = {t.name: t.shape(known, flights[t.stage].bound) for t in tables}
        bound = pairing.bound_of(place, base, head)
        shapes |= {t.name: t.shape(known, bound) for t in published}
        comparing = _begun(shapes, expectations)
        for table in tables:
            pairing.compare_tables(moment, table, flights[table.stage], comparing[table.name])
        for topic in published:
            pairing.compare_topics(place, topic, comparing[topic.name])
        stood = _stood(moment, stages)
    found = {name: c.found() for name, c in comparing.items()}
    digest = _digest(stood, found, expectations)
    return Difference(base.name, head.name, found, digest, expectations, stood)


def _expected(known: Known, stages: Sequence[Stage]) -> list[str]:
    """Return what the heads of all stages are expected to change, each once."""
    versions = [known.declared(stage.head.name) for stage in stages]
    return list(dict.fromkeys(e for v in versions if v is not None for e in v.expectations))


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


def _stood(moment: Moment, stages: Sequence[Stage]) -> tuple[Stood, ...]:
    compared = [v for stage in stages for v in (stage.base, stage.head)]
    return tuple(
        Stood(v.name, v.fingerprint, v.source, moment.cursors.get(v.name, {}))
        for v in {v.name: v for v in compared}.values()
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
