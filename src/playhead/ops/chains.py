"""What reads what a shadow writes: each reader gets a shadow too, behind it.

A shadow of `distance`, `km`, writes the topic `distance_calcs.km`, which no live version reads. So
that the whole chain can be compared and promoted, each pipeline of the app that reads
`distance_calcs` gets a shadow of its live version that reads that topic instead: `db_writer@v1+km`,
its group `db_writer.v1.km`, its table `dist_calc__v1__km`. Nobody declares it; its code is v1's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from playhead.core.behind import behind
from playhead.core.declare import Version
from playhead.core.naming import PHYSICAL_MAX, TOPIC_MAX
from playhead.core.plan import Anew, Behind, Plan, Promotion, Record, Refusal, Revive, Step
from playhead.ops import versions
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow, positions
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Link:
    """A shadow of a reader, behind the shadow that writes what it reads.

    Attributes:
        version: The reader's code under its own label, `v1+km`.
        topic: The physical topic that it reads.
        after: The version that writes it, as ``pipeline@label``.
        base: The reader's live version: what it is compared with, and takes the place of.
    """

    version: Version
    topic: str
    after: str
    base: VersionRow

    @property
    def name(self) -> str:
        """``pipeline@label``."""
        return self.version.name


@dataclass(slots=True)
class Chain:
    """The links behind one shadow, each after those that it reads, and why one is missing."""

    links: list[Link] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def chain(known: Known, name: str) -> Chain:
    """Return what goes behind a version: a shadow of each reader of what it writes, and on.

    Raises:
        ConfigError: It is not declared.
        Refused: Pipelines read each other in a circle.
    """
    root = known.version(name)
    feeds = {root.pipeline: root}
    found = Chain()
    for pipeline in versions.in_order(known.app):
        live = known.live(pipeline.name)
        label = live.label.partition("+")[0] if live else pipeline.first
        reader = pipeline.versions.get(label)
        source = reader.source if reader else pipeline.source
        writers = known.app.writers(source)
        feeding = [feeds[w.name] for w in writers if w.name in feeds]
        if not feeding or pipeline.name in feeds:
            continue
        if live is None or reader is None:
            why = "nothing of it is live" if live is None else f"{live.name} is not declared here"
            found.remarks.append(f"{pipeline.name} reads {source.name}, but {why}: no shadow of it")
            continue
        others = [w.name for w in writers if w.name not in feeds]
        if others:
            found.refused.append(
                Refusal(
                    f"{pipeline.name}@{label}+{root.label}",
                    f"{', '.join(others)} write {source.name}, too, and it would miss that",
                    "Give what they write topics of their own, and forward them into one.",
                )
            )
            continue
        topic = source.physical(feeding[0].label)
        link = Link(_version(known, reader, root, topic), topic, feeding[0].name, live)
        found.links.append(link)
        feeds[pipeline.name] = link.version
    return found


def promotion(known: Known, base: VersionRow, name: str) -> tuple[Promotion, list[Refusal]]:
    """Return what is handed over when a version takes the place of ``base``; and why it cannot be.

    Raises:
        ConfigError: It is not declared.
        Refused: Pipelines read each other in a circle.
    """
    found = chain(known, name)
    rows = {link.name: known.rows.get(link.name) for link in found.links}
    behind = tuple(
        (link.name, link.base.name)
        for link in found.links
        if (row := rows[link.name]) is None or row.stage != "live"
    )
    return Promotion(name, base.name, behind), found.refused


def _version(known: Known, reader: Version, root: Version, topic: str) -> Version:
    """Return the reader under the label that it has behind ``root``.

    That is the label of a recorded version of the same code which reads the topic already: after a
    promotion of the chain and a replay of what was live before it, the reader's own.
    """
    for row in known.rows.values():
        of_reader = row.pipeline == reader.pipeline
        if of_reader and row.source == topic and row.label.partition("+")[0] == reader.label:
            return known.declared(row.name) or reader
    name = f"{reader.name}+{root.label}"
    return known.declared(name) or behind(reader, root)


def planned(
    known: Known, project: Project, where: tuple[Log, Store], name: str, first: Plan
) -> Plan:
    """Return the plan of a version with what its replay does to the links behind it.

    Args:
        known: The catalog and the module.
        project: The project.
        where: Log and store.
        name: The version.
        first: Its own plan.
    """
    log, store = where
    if first.refused:
        return first
    found = chain(known, name)
    steps, refused = list(first.steps), list(found.refused)
    begun = {s.version for s in first.steps}
    anew = {s.version for s in first.steps if isinstance(s, Anew)}
    for link in found.links:
        refused += _too_long(link)
        row = known.rows.get(link.name)
        if row is not None and row.stage == "live":
            continue
        before = _before(known, project, store, link, anew)
        anew |= {s.version for s in before if isinstance(s, Anew)}
        if before or link.after in begun or not _at_the_end(log, store, link):
            steps += [*before, Behind(link.name, link.topic, link.after)]
            begun.add(link.name)
    return Plan(tuple(steps), (*first.refused, *refused), (*first.remarks, *found.remarks))


def _before(known: Known, project: Project, store: Store, link: Link, anew: set[str]) -> list[Step]:
    """Return what has to be done before a link can read on."""
    row = known.rows.get(link.name)
    version = link.version
    if row is None:
        tables = tuple(t.physical(version.label) for t in version.tables)
        topics = tuple(t.physical(version.label) for t in version.topics)
        return [Record(link.name, version.group, tables, topics)]
    steps: list[Step] = [Revive(link.name)] if row.stage == "retired" else []
    if versions.changed_code(row, version, project):
        steps.append(Anew(link.name))
    elif link.after in anew or _superseded(store, link):
        steps.append(Anew(link.name, f"{link.after} began anew"))
    return steps


def _superseded(store: Store, link: Link) -> bool:
    """Say whether what writes a link's source has begun a generation that the link knows not."""
    now = {
        f"{link.after}[{partition}]": history[-1].number
        for partition, history in store.ledger.generations(link.after).items()
    }
    for history in store.ledger.generations(link.name).values():
        seen: Mapping[str, object] = history[-1].upstream
        for writer, number in now.items():
            known = history[-1].upstream.get(writer, ())
            if writer in seen and number > max(n for n, _ in known):
                return True
    return False


def _at_the_end(log: Log, store: Store, link: Link) -> bool:
    if log.topic(link.topic) is None:
        return False
    at = positions(store.ledger.standings(link.name))
    return all(at.get(p) == held.end for p, held in log.retained(link.topic).items())


def _too_long(link: Link) -> list[Refusal]:
    label = link.version.label
    tables = [t.physical(label) for t in link.version.tables]
    topics = [t.physical(label) for t in link.version.topics]
    long = [n for n in tables if len(n.encode()) > PHYSICAL_MAX]
    long += [n for n in topics if len(n) > TOPIC_MAX]
    return [
        Refusal(link.name, f"{name} would be too long a name", "Give the versions shorter labels.")
        for name in long
    ]
