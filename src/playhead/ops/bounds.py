"""Where a replay begins and ends, from the user's words and what the log holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime

from playhead.core import ranges
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.ranges import Place, Wanted
from playhead.errors import OffsetOutOfRange
from playhead.ports import Log

Retained = Mapping[int, OffsetRange]


def places(
    log: Log, topic: str, retained: Retained, live_at: Mapping[int, int], text: str
) -> dict[int, int]:
    """Return the offset that a place means in each partition, retained or not.

    Raises:
        ConfigError: The text is not a place.
    """
    return _resolved(log, topic, retained, live_at, ranges.parse(text, datetime.now(UTC)))


def end(
    log: Log, topic: str, retained: Retained, live_at: Mapping[int, int], wanted: Wanted
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return where a replay ends: never beyond the live cursor, whatever the user said.

    Beside it come sentences for the user: what was cut, and what a time came to mean.

    Raises:
        ConfigError: What is wanted is not a place.
        OffsetOutOfRange: It lies before what is retained, and is not to be clamped.
    """
    bound = {p: live_at.get(p, held.start) for p, held in retained.items()}
    if wanted.to is None:
        return bound, ()
    place = ranges.parse(wanted.to, datetime.now(UTC))
    found = _resolved(log, topic, retained, live_at, place)
    inside = _inside(topic, found, retained, ("--to", wanted.clamp))
    remarks = _said(topic, place, wanted.to, (retained, inside))
    cut = [f"{topic}[{p}] {at} → {bound[p]}" for p, at in inside.items() if at > bound[p]]
    if cut:
        remarks = (*remarks, f"cut to where live stands: {', '.join(cut)}")
    return {p: min(at, bound[p]) for p, at in inside.items()}, remarks


def start(
    log: Log, topic: str, retained: Retained, bound: Mapping[int, int], wanted: Wanted
) -> tuple[dict[int, int], tuple[str, ...]]:
    """Return where a replay begins to write: never beyond where it ends.

    Raises:
        ConfigError: What is wanted is not a place.
        OffsetOutOfRange: It lies outside of what is retained, and is not to be clamped.
    """
    text = wanted.start or "start"
    place = ranges.parse(text, datetime.now(UTC))
    found = _resolved(log, topic, retained, bound, place)
    inside = _inside(topic, found, retained, ("--from", wanted.clamp))
    remarks = _said(topic, place, text, (retained, inside))
    return {p: min(at, bound.get(p, at)) for p, at in inside.items()}, remarks


def _resolved(
    log: Log, topic: str, retained: Retained, live_at: Mapping[int, int], place: Place
) -> dict[int, int]:
    times: Mapping[int, int | None] = {}
    if place.kind == "time":
        times = log.offset_at(topic, place.number)
    return {
        p: ranges.resolve(place, held.start, held.end, live_at.get(p, held.end), times.get(p))
        for p, held in sorted(retained.items())
    }


def _inside(
    topic: str, found: Mapping[int, int], retained: Retained, how: tuple[str, bool]
) -> dict[int, int]:
    """Return the places, moved to what is retained if that was asked for.

    An end beyond the log's is none of it: it is cut to the live cursor, and said.
    """
    option, clamp = how
    inside = {}
    for partition, at in found.items():
        held = retained[partition]
        nearest = max(at, held.start)
        nearest = nearest if option == "--to" else min(nearest, held.end)
        if nearest != at and not clamp:
            raise OffsetOutOfRange(
                f"{option} {at} is not retained (the topic holds {held})",
                where=str(TopicPartition(topic, partition)),
                safe="Nothing was changed.",
                cure=f"Choose a place in {held}, or say --clamp: then it is {nearest}.",
            )
        inside[partition] = nearest
    return inside


def _said(
    topic: str, place: Place, text: str, where: tuple[Retained, Mapping[int, int]]
) -> tuple[str, ...]:
    """Say what is not plain about a time: its zone, and partitions that have no record after it."""
    if place.kind != "time":
        return ()
    retained, found = where
    said = []
    if place.naive:
        said.append(f"{text[1:]} has no zone: it was read as UTC")
    after = [f"{topic}[{p}]" for p, at in found.items() if at == retained[p].end]
    if after:
        said.append(f"no record at or after {text[1:]} in {', '.join(after)}: its end is meant")
    return tuple(said)


def times(
    log: Log, topic: str, positions: Mapping[int, int], ends: Mapping[int, int] | None = None
) -> dict[int, int | None]:
    """Return the time of the first record at or after each position, where it is read at once.

    Args:
        log: The log.
        topic: The topic.
        positions: Where to look, by partition.
        ends: Where to stop looking; else the log's end.
    """
    retained = log.retained(topic)
    found: dict[int, int | None] = dict.fromkeys(positions)
    for partition, at in positions.items():
        held = retained.get(partition)
        if held is None or not held.start <= at < held.end:
            continue
        end = ends[partition] if ends else held.end
        with closing(log.reader(topic, {partition: at})) as reader:
            for records in reader.read(1, 1.0):
                if len(records) and records.offsets[0] < end:
                    found[partition] = records.timestamps_ms[0]
    return found


def told(log: Log, topic: str, spans: Mapping[int, OffsetRange]) -> list[str]:
    """Say which offsets and record times a replay reads, a sentence a partition."""
    some = {p: wanted for p, wanted in spans.items() if len(wanted)}
    first = times(log, topic, {p: wanted.start for p, wanted in some.items()})
    ends = {p: wanted.end for p, wanted in some.items()}
    last = times(log, topic, {p: at - 1 for p, at in ends.items()}, ends)
    said = []
    for partition, wanted in sorted(spans.items()):
        begin, end = (ranges.moment(found.get(partition)) or "-" for found in (first, last))
        what = f"{begin} to {end}"
        read = f"records of {what}" if len(wanted) else "nothing to read"
        said.append(f"{TopicPartition(topic, partition)} {wanted}: {read}")
    return said
