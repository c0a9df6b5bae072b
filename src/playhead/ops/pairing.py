"""Which outputs of two versions are compared with each other, in a chain those of every stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from playhead.core.declare import Topic
from playhead.core.diff import Comparing, Shape
from playhead.core.merge import aligned
from playhead.core.schema import Schema
from playhead.ops.in_flight import Late, Path, Place, late, root_positions
from playhead.ops.spool import Spool
from playhead.ops.topic_rows import Writer, columns_of, put_aside, schema_of_records, taken
from playhead.ops.versions import Known
from playhead.ports import Moment, TableRow, VersionRow

PIECE_ROWS = 25_000


@dataclass(frozen=True, slots=True)
class Stage:
    """Two versions of one pipeline, and how they hang together.

    Attributes:
        of_base: From the version that reads a topic which both go back to, to the one compared.
        of_head: The same to its counterpart.
    """

    of_base: tuple[VersionRow, ...]
    of_head: tuple[VersionRow, ...]

    @property
    def base(self) -> VersionRow:
        """The version compared with."""
        return self.of_base[-1]

    @property
    def head(self) -> VersionRow:
        """Its counterpart."""
        return self.of_head[-1]

    def __hash__(self) -> int:
        """Return a hash by name: rows of the catalog hold mappings."""
        return hash((self.base.name, self.head.name))


def stages(known: Known, base: VersionRow, head: VersionRow) -> list[Stage]:
    """Return base and head, and behind them each pair of versions that read what they write."""
    found = [_rooted(known, Stage((base,), (head,)))]
    for stage in found:
        pipelines = {s.base.pipeline for s in found}
        for pipeline in known.app.pipelines:
            readers = [_reader(known, pipeline, v) for v in (stage.base, stage.head)]
            one, two = readers
            if pipeline in pipelines or one is None or two is None or one.name == two.name:
                continue
            found.append(Stage((*stage.of_base, one), (*stage.of_head, two)))
    return found


def _rooted(known: Known, stage: Stage) -> Stage:
    """Return a stage with the writers of what it reads in front, up to where both read one topic.

    As it is where there is no such topic.
    """
    whole = stage
    while whole.of_base[0].source != whole.of_head[0].source:
        one, two = (_writer(known, path[0]) for path in (whole.of_base, whole.of_head))
        if one is None or two is None or one in whole.of_base or two in whole.of_head:
            return stage
        whole = Stage((one, *whole.of_base), (two, *whole.of_head))
    return whole


def _writer(known: Known, reader: VersionRow) -> VersionRow | None:
    """Return the one version that writes what a version reads; None: not one."""
    names = known.writers(reader)
    return known.rows[names[0]] if len(names) == 1 else None


def _reader(known: Known, pipeline: str, writer: VersionRow) -> VersionRow | None:
    """Return the version of a pipeline that reads what a version writes, the live one first."""
    written = {physical for _, physical in writer.topics}
    rows = [r for r in known.rows.values() if r.pipeline == pipeline and r.source in written]
    return next((r for r in rows if r.stage == "live"), rows[-1] if rows else None)


@dataclass(frozen=True, slots=True)
class TablePair:
    """One table of the two versions of a stage."""

    stage: Stage
    base: TableRow
    head: TableRow

    @property
    def name(self) -> str:
        """Its public name."""
        return self.base.name

    def shape(self, known: Known, bound: Mapping[int, int]) -> Shape:
        """Return what is compared, and how."""
        rtol = rtol_of(known, self.stage)
        return Shape(self.base.key, self.base.schema, self.head.schema, bound, rtol)


def tables(stages: Sequence[Stage]) -> list[TablePair]:
    """Return the tables that both versions of a stage have."""
    return [
        TablePair(stage, b, h)
        for stage in stages
        for b in stage.base.tables
        for h in stage.head.tables
        if b.name == h.name
    ]


@dataclass(frozen=True, slots=True)
class TopicPair:
    """One topic that both versions publish: physical names and columns."""

    stage: Stage
    public: str
    base: tuple[str, Schema]
    head: tuple[str, Schema]

    @property
    def name(self) -> str:
        """What it is called beside tables."""
        return f"topic {self.public}"

    def shape(self, known: Known, bound: Mapping[int, int]) -> Shape:
        """Return what is compared, and how."""
        one, two = (schema_of_records(schema) for _, schema in (self.base, self.head))
        key = tuple(c.name for c in one[:4])
        return Shape(key, one, two, bound, rtol_of(known, self.stage))


def topics(known: Known, stage: Stage) -> list[TopicPair]:
    """Return the topics that both versions publish.

    Raises:
        Refused: One of them is not declared here: nothing says what its records hold.
    """
    of_base, of_head = dict(stage.base.topics), dict(stage.head.topics)
    both = [public for public in of_base if public in of_head]
    if not both or stage.base.source != stage.head.source:
        return []
    one, two = (columns_of(known, v) for v in (stage.base, stage.head))
    return [
        TopicPair(stage, public, (of_base[public], one[public]), (of_head[public], two[public]))
        for public in both
    ]


def rtol_of(known: Known, stage: Stage) -> float:
    """Return within what floats count as equal."""
    version = known.declared(stage.head.name)
    return float(version.options.get("rtol", 0.0)) if version else 0.0


@dataclass(frozen=True, slots=True)
class Flight:
    """How far both sides of a stage have come.

    Attributes:
        bound: By partition of the source, the smaller of the two; in a chain, of the root topic.
        late: In a chain, what of each side's source lies beyond it; None: not a chain.
    """

    bound: Mapping[int, int]
    late: tuple[Late, Late] | None = None


def flight(place: Place, stage: Stage) -> Flight:
    """Return up to where the tables of a stage compare."""
    if stage.base.source == stage.head.source:
        return Flight(bound_of(place, stage.base, stage.head))
    if stage.of_base[0].source != stage.of_head[0].source:
        return Flight({}, (Late({}), Late({})))  # offsets of two topics say nothing of each other
    paths: list[Path] = [stage.of_base, stage.of_head]
    one, two = (root_positions(place, path) for path in paths)
    bound = {p: min(one[p], two[p]) for p in one.keys() & two.keys()}
    return Flight(bound, (late(place, paths[0], bound), late(place, paths[1], bound)))


def bound_of(place: Place, base: VersionRow, head: VersionRow) -> dict[int, int]:
    """Return the smaller of the two cursors, by partition: beyond it rows do not compare."""
    one, two = place.cursors(base), place.cursors(head)
    return {p: min(one[p], two[p]) for p in one.keys() & two.keys()}


def compare_tables(moment: Moment, pair: TablePair, flight: Flight, into: Comparing) -> None:
    """Compare two tables of one moment, piece by piece."""
    of_base = moment.pieces(pair.base, PIECE_ROWS)
    of_head = moment.pieces(pair.head, PIECE_ROWS)
    for base, head in aligned((of_base, of_head), pair.base.key):
        if flight.late is None:
            into.add(base, head)
        else:
            one, two = flight.late
            into.add(
                one.marked(base) if base is not None else None,
                two.marked(head) if head is not None else None,
            )


def compare_topics(place: Place, pair: TopicPair, into: Comparing) -> None:
    """Compare two topics record by record, those of the same inputs together."""
    with Spool() as spool:
        sides = {"base": (pair.stage.base, pair.base), "head": (pair.stage.head, pair.head)}
        for side, (row, (physical, schema)) in sides.items():
            topic = Topic(physical, schema=schema, tombstones=True)
            put_aside(place.log, spool, side, topic, Writer(place.store, row))
        for bucket in spool.buckets():
            base, head = (
                taken(spool, side, bucket, schema) for side, (_, (_, schema)) in sides.items()
            )
            into.add(base, head)
