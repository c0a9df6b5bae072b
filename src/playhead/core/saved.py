"""A plan that was saved: what it rests on, and what it says, to be done later as it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from playhead.core.offsets import OffsetRange
from playhead.errors import ConfigError

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan for one version rests on: while it holds, the plan does.

    Where live stands is no part of it: live goes on, and the plan ends where it said.

    Attributes:
        version: ``pipeline@label``.
        ledger: Id of the store.
        fingerprint: Of its code as it is declared.
        stage: Its stage in the catalog, or None when it was not recorded.
        live: Label of the live version.
        live_fingerprint: Of the live version's code, as recorded.
        epoch: Epoch of the pipeline's pointer.
        topic: Its physical source topic.
        topic_id: Id of that topic.
        cursor: Where it stands, by partition: next offset and generation.
        live_generations: Generation of live, by partition.
    """

    version: str
    ledger: str
    fingerprint: str
    stage: str | None
    live: str
    live_fingerprint: str
    epoch: int
    topic: str
    topic_id: str
    cursor: Mapping[str, tuple[int, int]]
    live_generations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved plan.

    Attributes:
        id: First 16 hex digits of the file's SHA-256.
        bases: What it rests on, by version.
        steps: Kind and version of each step, in order.
        ranges: What is read into each version, by partition.
    """

    id: str
    bases: Mapping[str, Basis]
    steps: Sequence[tuple[str, str]]
    ranges: Mapping[str, Mapping[int, OffsetRange]]


class _Partition(msgspec.Struct):
    partition: int
    start_offset: int
    end_offset: int


class _Step(msgspec.Struct):
    kind: str
    version: str
    partitions: list[_Partition] = []


class _File(msgspec.Struct):
    schema_version: int
    steps: list[_Step]
    basis: list[Basis]


def parse(content: bytes, name: str) -> Saved:
    """Return the plan that ``playhead plan -o json`` wrote.

    Args:
        content: The file's bytes.
        name: How an error calls it.

    Raises:
        ConfigError: It is none, or of another edition.
    """
    try:
        found = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{name} is no saved plan ({error})",
            cure="Save one: playhead plan PIPELINE -o json > plan.json",
        ) from error
    if found.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"{name} has schema_version {found.schema_version}, and this playhead reads "
            f"{SCHEMA_VERSION}",
            cure="Plan anew: playhead plan PIPELINE -o json > plan.json",
        )
    return Saved(
        id=hashlib.sha256(content).hexdigest()[:16],
        bases={basis.version: basis for basis in found.basis},
        steps=[(step.kind, step.version) for step in found.steps],
        ranges={
            step.version: {
                p.partition: OffsetRange(p.start_offset, p.end_offset) for p in step.partitions
            }
            for step in found.steps
            if step.partitions
        },
    )


def content_of(basis: Basis) -> dict[str, Any]:
    """Return a basis as a saved plan has it."""
    found: dict[str, Any] = msgspec.to_builtins(basis)
    return found


def moved(then: Basis, now: Basis) -> list[str]:
    """Return what a plan rests on and is not so any more, a phrase each; empty: all holds."""
    name, pipeline = then.version, then.version.partition("@")[0]
    told = [
        (then.ledger, now.ledger, "this is another store"),
        (then.topic, now.topic, f"it reads {now.topic}, and read {then.topic}"),
        (then.topic_id, now.topic_id, f"topic {then.topic} was deleted and created again"),
        (then.fingerprint, now.fingerprint, f"the code of {name} has changed"),
        (
            then.stage,
            now.stage,
            f"{name} is {now.stage or 'not recorded'}, and was {then.stage or 'not recorded'}",
        ),
        (
            (then.live, then.epoch),
            (now.live, now.epoch),
            f"{pipeline}@{now.live} is live (epoch {now.epoch}), and {pipeline}@{then.live} was "
            f"(epoch {then.epoch})",
        ),
    ]
    phrases = [phrase for was, is_now, phrase in told if was != is_now]
    if then.live == now.live and then.live_fingerprint != now.live_fingerprint:
        phrases.append(f"other code was adopted for {pipeline}@{now.live}")
    if then.live == now.live and then.live_generations != now.live_generations:
        phrases.append(f"{pipeline}@{now.live} was rewound, or a gap accepted")
    for partition in sorted({*then.cursor, *now.cursor}, key=int):
        was, stands = then.cursor.get(partition), now.cursor.get(partition)
        if was != stands:
            place = f"{name} {then.topic}[{partition}]"
            phrases.append(f"{place} stands at {_stands(stands)}, and stood at {_stands(was)}")
    return phrases


def _stands(at: tuple[int, int] | None) -> str:
    return "nothing" if at is None else f"{at[0]} (generation {at[1]})"
