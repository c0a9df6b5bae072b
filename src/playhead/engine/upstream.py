"""Generations in chains: what a pipeline does when the one that writes its source was rewound.

A physical topic keeps the records of every generation. A generation of a reader begins with what
it knows of its writer's generations, and skips what they supersede: now, in a redo, and in a
restore. Records of a newer generation come later in the topic. Without state they are read on, and
the table converges; with state they would count twice, so the reader refuses and is rewound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from playhead.core.lineage import Upstream, owner
from playhead.core.records import GENERATION, PIPELINE, SOURCE, VERSION, Headers, Records
from playhead.core.slots import Slots
from playhead.engine.task import Task
from playhead.errors import Refused
from playhead.ports import Ledger

SLOT = "upstream"
_SOURCE = re.compile(rb"\[(\d+)\]@(\d+)\Z")


def known_now(ledger: Ledger, writers: Sequence[str]) -> Upstream:
    """Return the generations of the versions that write a source, as they are now."""
    return {
        f"{writer}[{partition}]": tuple((g.number, g.start) for g in history)
        for writer in writers
        for partition, history in ledger.generations(writer).items()
    }


def fresh(records: Records, starts: Upstream) -> Records:
    """Return the records that the writer's generations, as known, do not supersede."""
    keep = [not superseded(origin(headers), starts) for headers in records.headers]
    return records if all(keep) else records.where(keep)


def superseded(found: Origin | None, starts: Upstream) -> bool:
    """Say whether a newer generation of its writer, as known, has made a record anew."""
    return found is not None and found.generation < owner(
        starts.get(found.writer, ()), found.offset
    )


def noted(task: Task, records: Records, slots: Slots) -> Slots:
    """Return the slot that says how far what each writer read was processed.

    Raises:
        Refused: A record is of a newer generation of an offset that was processed already.
    """
    known = slots.get(SLOT)
    seen: dict[str, tuple[int, int]] = {}
    if known is not None:
        seen = {writer: (offset, generation) for writer, offset, generation in known.iter_rows()}
    touched = set()
    for i, headers in enumerate(records.headers):
        found = origin(headers)
        if found is None:
            continue
        offset, generation = seen.get(found.writer, (-1, found.generation))
        if found.offset < offset or (found.offset == offset and found.generation > generation):
            raise _refusal(task, records.source.at(records.offsets[i]), found)
        seen[found.writer] = (found.offset, found.generation)
        touched.add(found.writer)
    if not touched:
        return {}
    rows = [(writer, *seen[writer]) for writer in sorted(touched)]
    schema = {"writer": pl.String, "_offset": pl.Int64, "_generation": pl.Int64}
    return {SLOT: pl.DataFrame(rows, schema=schema, orient="row")}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a record of a pipeline of the app says of itself.

    ``writer`` is ``pipeline@label[n]``; ``offset`` is that of the record that it was made from.
    """

    writer: str
    offset: int
    generation: int


def origin(headers: Headers) -> Origin | None:
    """Return what a record of a pipeline of the app says of itself; None: it is none."""
    named = dict(headers)
    source = _SOURCE.search(named.get(SOURCE, b""))
    generation = named.get(GENERATION, b"")
    if source is None or not generation.isdigit():
        return None
    pipeline, label = named.get(PIPELINE, b""), named.get(VERSION, b"")
    writer = f"{pipeline.decode()}@{label.decode()}[{int(source[1])}]"
    return Origin(writer, int(source[2]), int(generation))


def _refusal(task: Task, where: str, found: Origin) -> Refused:
    writer = found.writer.partition("[")[0]
    return Refused(
        f"{task.version.name} keeps state, and has processed what {writer} made of offset "
        f"{found.offset} before: this record is of generation {found.generation}, for {writer} "
        "was rewound; with state it would count twice",
        where=where,
        safe="Nothing of this batch was committed; results are as they were.",
        cure=f"playhead rewind {task.version.name} --to-earliest --execute, then playhead run: "
        "it reads again, and skips what was superseded.",
    )
