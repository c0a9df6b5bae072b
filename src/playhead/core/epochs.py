"""Epochs of a pointer, as the publisher of a public topic forwards them.

A public topic shows, epoch by epoch, what the version that was live then has written. An epoch is
one row, or with ``on_promote="changed"`` two: the difference first, then what is forwarded. A row
begins when all before it are over. What follows from a promotion is a pure function, `follows`; the
rules were model-checked (``tests/model/publisher.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from playhead.core.lineage import Upstream

DIFFERENCE = re.compile(r".+\.public\.(\w+\.)?e\d+\.changed(\.witness)?\Z")
"""Groups of differences: their offsets are positions in the difference, not in the topic."""
APPEND, NONE, CHANGED = POLICIES = ("append", "none", "changed")
LIVE, ENDING, STOPPING, OVER = "live", "ending", "stopping", "over"


@dataclass(frozen=True, slots=True)
class Begun:
    """An epoch that begins, and what it has to know of the moment.

    Attributes:
        topic: The public topic.
        pipeline: The pipeline whose pointer has moved.
        publisher: Name of the publisher; its groups are ``<publisher>.e<n>``.
        number: Of the epoch: the pointer's, or more where readers have seen that one before (from
            a store that was lost, say).
        pointer: The pointer's own epoch.
        version: Label of the version that is live from now on.
        source: The physical topic that it writes; None where it does not write this one.
        partitions: Partition count of that topic.
        policy: How it follows the epoch before: ``append``, ``none`` or ``changed``.
        begins: By partition of the version's source: records made from before it are not
            forwarded.
        closes: By partition, where the topic of the epoch before ended.
        held: By partition, where ``source`` ended: what lies before was made from before
            ``begins``, or is superseded. Empty where that is not so.
        upstream: Generations of the version, as they were.
    """

    topic: str
    pipeline: str
    publisher: str
    number: int
    pointer: int
    version: str
    source: str | None
    partitions: int = 0
    policy: str = APPEND
    begins: Mapping[int, int] = field(default_factory=dict)
    closes: Mapping[int, int] = field(default_factory=dict)
    held: Mapping[int, int] = field(default_factory=dict)
    upstream: Upstream = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row: an epoch, or the difference that comes before it.

    Attributes:
        of: What began.
        difference: Whether this is the difference.
        stage: ``live``; ``ending``: it runs to ``ends``; ``stopping``: it stops where it is, for
            the next one begins with the whole history; ``over``.
        ends: By partition, where the source ended when the next epoch began.
        sizes: Of a difference that was taken: how many records, by partition.
        topic_id: Id of the public topic, once it was made.
    """

    of: Begun
    difference: bool = False
    stage: str = LIVE
    ends: Mapping[int, int] | None = None
    sizes: Mapping[int, int] | None = None
    topic_id: str = ""

    @property
    def shows(self) -> bool:
        """Whether it forwards what the live version writes."""
        return self.stage == LIVE and not self.difference

    @property
    def label(self) -> str:
        """``e<n>``, or ``e<n>.changed`` of a difference."""
        return f"e{self.of.number}.changed" if self.difference else f"e{self.of.number}"

    @property
    def name(self) -> str:
        """``publisher@label``: what cursors and leases are kept under."""
        return f"{self.of.publisher}@{self.label}"

    @property
    def group(self) -> str:
        """Its consumer group."""
        return f"{self.of.publisher}.{self.label}"

    @property
    def writer(self) -> str:
        """The version that it forwards, ``pipeline@label``."""
        return f"{self.of.pipeline}@{self.of.version}"


def follows(known: Sequence[Epoch], begun: Begun) -> Iterator[Epoch]:
    """Yield the rows that are other or new once an epoch has begun.

    With ``append`` every earlier row stops where it is; else each runs to its end, and what the
    version before had written by now is the end of the last one.

    Args:
        known: Every row of every publisher.
        begun: What begins; where it is known already, nothing follows from it.
    """
    mine = [e for e in known if e.of.publisher == begun.publisher]
    if any(e.of.number >= begun.number for e in mine):
        return
    for row in mine:
        if row.stage == OVER:
            continue
        if begun.policy == APPEND and begun.source is not None:
            yield replace(row, stage=STOPPING)
        elif row.shows:
            yield replace(row, stage=ENDING, ends=begun.closes)
    topic_id = next((e.topic_id for e in known if e.of.topic == begun.topic), "")
    if begun.source is None:
        yield Epoch(begun, stage=OVER, topic_id=topic_id)
        return
    if begun.policy == CHANGED and mine:
        yield Epoch(begun, difference=True, topic_id=topic_id)
    yield Epoch(begun, topic_id=topic_id)
