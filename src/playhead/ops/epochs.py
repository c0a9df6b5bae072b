"""Which epochs of public topics there are, and what follows from a promotion."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from playhead.core.declare import App, Topic, Version
from playhead.core.epochs import APPEND, CHANGED, NONE, Begun, Epoch
from playhead.engine.upstream import known_now
from playhead.engine.worker import ends
from playhead.errors import Refused
from playhead.ops.versions import Known
from playhead.ports import Log, Store, VersionRow, positions


def public(version: Version) -> list[Topic]:
    """Return the topics of a version that are shown to readers outside."""
    return [topic for topic in version.topics if topic.public]


def begin(known: Known, log: Log, store: Store, row: VersionRow) -> None:
    """Begin the epoch of a live version for each public topic that lacks it.

    Raises:
        Refused: A public topic exists that neither catalog nor log know as one.
    """
    version, pointer = known.version(row.name), store.catalog.pointer(row.pipeline)
    epochs = store.publications.epochs()
    wanted = []
    for topic in public(version) if pointer else ():
        name = _publisher(epochs, known.app, topic, row.pipeline)
        mine = [e.of for e in epochs if e.of.publisher == name]
        at = pointer.epoch if pointer else 0
        if not any(of.pointer >= at and of.source is not None for of in mine):
            number = _number(log, epochs, topic, (name, at))
            wanted.append(_begun(log, row, topic, (name, number, at)))
    if wanted:
        store.publications.begin(wanted)


def begun(
    known: Known, log: Log, store: Store, base: VersionRow, head: VersionRow
) -> tuple[Begun, ...]:
    """Return the epochs of public topics that begin when ``head`` takes the place of ``base``.

    To be called with both versions held where they stand, for the swap (`Swap.public`).

    Raises:
        Refused: A public topic exists that neither catalog nor log know as one.
    """
    pointer = store.catalog.pointer(head.pipeline)
    at = pointer.epoch + 1 if pointer else 1
    epochs = store.publications.epochs()
    shown = {t.name: t for t in public(known.version(head.name))}
    before = {e.of.topic: e for e in epochs if e.of.pipeline == head.pipeline and e.shows}
    found = []
    for name, topic in shown.items():
        publisher = _publisher(epochs, known.app, topic, head.pipeline)
        number = _number(log, epochs, topic, (publisher, at))
        one = _begun(log, head, topic, (publisher, number, at))
        if name in before:
            closes = ends(log.retained(before[name].of.source or ""))
            one = replace(one, policy=topic.on_promote, closes=closes)
        found.append(_from_here(log, store, one, base, head) if one.policy != APPEND else one)
    for name in before.keys() - shown.keys():
        of = before[name].of
        closes = ends(log.retained(of.source or ""))
        gone = replace(of, number=of.number + 1, pointer=at, version=head.label, source=None)
        found.append(replace(gone, policy=NONE, closes=closes))
    return tuple(found)


def _begun(log: Log, row: VersionRow, topic: Topic, epoch: tuple[str, int, int]) -> Begun:
    publisher, number, pointer = epoch
    source = dict(row.topics)[topic.name]
    info = log.topic(source)
    partitions = info.partitions if info else topic.partitions or row.partitions
    return Begun(
        topic=topic.name,
        pipeline=row.pipeline,
        publisher=publisher,
        number=number,
        pointer=pointer,
        version=row.label,
        source=source,
        partitions=partitions,
    )


def _from_here(log: Log, store: Store, one: Begun, base: VersionRow, head: VersionRow) -> Begun:
    """Return the epoch as it begins at the swap, without the history before it."""
    at = {name: store.ledger.standings(name) for name in (base.name, head.name)}
    # After a swap without catching up, what head makes up for was shown by the epoch before; only
    # a difference, which is taken from head as it stands, leaves it to be forwarded.
    from_base = base.source == head.source and one.policy == NONE
    begins = positions(at[base.name if from_base else head.name])
    ahead = any(to > begins.get(p, 0) for p, to in positions(at[head.name]).items())
    return replace(
        one,
        begins=begins,
        held={} if ahead else ends(log.retained(one.source or "")),
        upstream=known_now(store.ledger, (head.name,)),
    )


def _publisher(epochs: Iterable[Epoch], app: App, topic: Topic, pipeline: str) -> str:
    """Return the publisher's name: the same for ever, and of one pipeline alone."""
    mine = [e for e in epochs if e.of.topic == topic.name]
    for epoch in mine:
        if epoch.of.pipeline == pipeline:
            return epoch.of.publisher
    alone = not mine and {p.name for p in app.writers(topic)} <= {pipeline}
    return f"{topic.name}.public" if alone else f"{topic.name}.public.{pipeline}"


def _number(log: Log, epochs: Iterable[Epoch], topic: Topic, publisher: tuple[str, int]) -> int:
    """Return the number of the next epoch: behind every one that readers have seen.

    Raises:
        Refused: The topic exists, and neither catalog nor log know it as a public one.
    """
    name, at = publisher
    mine = [e.of.number for e in epochs if e.of.publisher == name]
    if mine:
        return max(at, max(mine) + 1)
    if any(e.of.topic == topic.name for e in epochs) or log.topic(topic.name) is None:
        return at
    seen = _seen(log, name)  # by another store, which is gone: else the version would be refused
    if seen:
        return max(at, seen + 1)
    raise Refused(
        f"topic {topic.name} exists, but the catalog does not know it: it would be the public "
        "topic",
        safe="It was not written to.",
        cure="Declare the output under another name, or with public=False, or use the store that "
        "belongs to the topic.",
    )


def _seen(log: Log, publisher: str) -> int:
    """Return the highest epoch that a publisher of this name has committed for; 0: none."""
    ours = re.compile(re.escape(publisher) + r"\.e(\d+)(\.changed)?(\.witness)?\Z")
    found = [0]
    for group in log.groups():
        match = ours.match(group)
        if match and any(c.checkpoint is not None for c in log.committed(group).values()):
            found.append(int(match[1]))
    return max(found)


def remarks(version: Version) -> list[str]:
    """Return what readers outside will see once a version is promoted, a sentence a topic."""
    told = {
        APPEND: "its whole history, appended record by record",
        NONE: "what it makes from its promotion on; nothing that was published is corrected",
        CHANGED: "the last value of each key that changes, a tombstone for each that it lacks, "
        "then what it makes from its promotion on",
    }
    return [
        f"once {version.name} is live, readers outside see in {topic.name}: "
        f"{told[topic.on_promote]}"
        for topic in public(version)
    ]
