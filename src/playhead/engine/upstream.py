"""Generations in chains: what a pipeline does when the one that writes its source was rewound.

A physical topic keeps the records of every generation. A generation of a reader begins with what
it knows of its writer's generations, and skips what they supersede: now, in a redo, and in a
restore. Records of a newer generation come later in the topic. Without state they are read on, and
the table converges; with state they would count twice, so the reader refuses and is rewound.
"""

from __future__ import annotations

import re

import polars as pl

from playhead.core.lineage import Generation, owner
from playhead.core.records import Headers, Records
from playhead.core.slots import Slots
from playhead.engine.task import Task
from playhead.errors import Refused

SLOT = "upstream"
_SOURCE = re.compile(rb"\[(\d+)\]@(\d+)\Z")


def fresh(records: Records, generation: Generation) -> Records:
    """Return the records that the writer's generations, as known, do not supersede."""
    starts = generation.upstream
    keep = []
    for headers in records.headers:
        origin = _origin(headers)
        keep.append(origin is None or origin[2] >= owner(starts.get(origin[0], ()), origin[1]))
    return records if all(keep) else records.where(keep)


def noted(task: Task, records: Records, slots: Slots) -> Slots:
    """Return the slot that says how far each partition of the writer's source was processed.

    Raises:
        Refused: A record is of a newer generation of an offset that was processed already.
    """
    known = slots.get(SLOT)
    seen: dict[int, tuple[int, int]] = {}
    if known is not None:
        seen = {p: (offset, generation) for p, offset, generation in known.iter_rows()}
    touched = set()
    for i, headers in enumerate(records.headers):
        origin = _origin(headers)
        if origin is None:
            continue
        partition, offset, generation = origin
        before = seen.get(partition, (-1, generation))
        if offset < before[0] or (offset == before[0] and generation > before[1]):
            raise _refusal(task, records.source.at(records.offsets[i]), origin)
        seen[partition] = (offset, generation)
        touched.add(partition)
    if not touched:
        return {}
    rows = [(p, *seen[p]) for p in sorted(touched)]
    schema = {"partition": pl.Int32, "_offset": pl.Int64, "_generation": pl.Int64}
    return {SLOT: pl.DataFrame(rows, schema=schema, orient="row")}


def _origin(headers: Headers) -> tuple[int, int, int] | None:
    """Return partition and offset of the writer's input, and the writer's generation."""
    named = dict(headers)
    source = _SOURCE.search(named.get("playhead-source", b""))
    generation = named.get("playhead-generation", b"")
    if source is None or not generation.isdigit():
        return None
    return int(source[1]), int(source[2]), int(generation)


def _refusal(task: Task, where: str, origin: tuple[int, int, int]) -> Refused:
    partition, offset, generation = origin
    return Refused(
        f"{task.version.name} keeps state, and has processed what {task.writer} made of "
        f"[{partition}]@{offset} before: this record is of generation {generation}, for "
        f"{task.writer} was rewound; with state it would count twice",
        where=where,
        safe="Nothing of this batch was committed; results are as they were.",
        cure=f"playhead rewind {task.version.name} --to-earliest --execute, then playhead run: "
        "it reads again, and skips what was superseded.",
    )
