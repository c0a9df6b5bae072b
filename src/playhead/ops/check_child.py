"""One process of ``playhead check``: ``python -P -m playhead.ops.check_child FOLDER NAME CUTS``.

Not for users. `playhead.ops.check` starts it, so that module-level state begins clean and the
hash seed and the time zone are those of the process. It finds ``job`` in the folder: the project,
the version, and the records. It writes ``NAME-<i>`` for each pass (frames, as a blob of slots), and
``NAME`` at last: the error of each pass, or None.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from playhead.config import Settings
from playhead.core.declare import Table, Version
from playhead.core.records import SOURCE, Outgoing, Records
from playhead.core.sameness import ORIGIN
from playhead.core.slots import Slots, encode
from playhead.engine.call import Caller, Outcome
from playhead.engine.isolate import isolate
from playhead.engine.trial import Trial, try_out
from playhead.errors import PlayheadError
from playhead.project import Project

SMALL_BATCHES = 40


class Job(msgspec.Struct):
    """What every process of one check works on."""

    root: str
    app: str
    version: str
    source: str
    records: list[Records]


class Raised(msgspec.Struct):
    """An error of the function, as its attributes."""

    message: str
    where: str | None = None
    safe: str | None = None
    cure: str | None = None
    exit_code: int = 1


def sizes(cut: str, records: int) -> list[int]:
    """Return the batch sizes of a cut by its name.

    Batches of one size are tried on the first 40 only; the rest is one batch.
    """
    if cut in {"whole", "again"}:
        found = [records]
    elif cut == "halves":
        found = [records // 2, records - records // 2]
    elif cut == "random":
        chance, found = random.Random(7), []
        while sum(found) < records:
            found.append(min(chance.randint(1, max(2, records // 8)), records - sum(found)))
    else:
        size = int(cut)
        found = [size] * min(SMALL_BATCHES, records // size)
        found.append(records - sum(found))
    return [size for size in found if size]


def passed(version: Version, caller: Caller, records: Sequence[Records], cut: str) -> Slots:
    """Run one pass over every partition; return what came of it, as frames to compare.

    Raises:
        BadRecord: A record cannot be decoded.
        FunctionFailed: The function raised, or returned what it must not.
    """
    parts: dict[str, list[pl.DataFrame]] = {}
    dead: list[tuple[int, int]] = []

    def call(batch: Records, slots: Slots) -> Outcome:
        outcome, bad = isolate(
            lambda some, state: caller.call(some, state, 1),
            batch,
            slots,
            keep_on=version.sets_aside,
        )
        dead.extend((batch.source.partition, offset) for offset in sorted(bad))
        return outcome

    for of_partition in records:
        trial = try_out(call, caller.targets, of_partition, sizes(cut, len(of_partition)))
        for name, frame in _frames(trial, caller, of_partition.source.partition).items():
            parts.setdefault(name, []).append(frame)
    parts["dead/letters"] = [
        pl.DataFrame(dead, schema=dict.fromkeys(ORIGIN, pl.Int64), orient="row")
    ]
    return {name: pl.concat(frames, rechunk=True) for name, frames in parts.items()}


def _frames(trial: Trial, caller: Caller, partition: int) -> Slots:
    found: Slots = {}
    named = {t.physical: t.output for t in caller.targets}
    for physical, output in named.items():
        if isinstance(output, Table):
            if physical in trial.rows:
                found[f"table/{output.name}"] = trial.rows[physical].sort(output.key)
        else:
            some = [out for out in trial.outgoing if out.topic == physical]
            found[f"topic/{output.name}"] = _published(some)
    for slot, frame in trial.slots.items():
        key = [c for c in frame.columns if not c.startswith("_")]
        found[f"state/{partition}/{slot}"] = frame.sort(key) if key else frame
    return found


def _published(outgoing: Sequence[Outgoing]) -> pl.DataFrame:
    rows = []
    for out in outgoing:
        for i, headers in enumerate(out.headers):
            place, _, offset = dict(headers)[SOURCE].decode().rpartition("@")
            origin = (int(place.rpartition("[")[2].rstrip("]")), int(offset))
            rows.append((*origin, out.partitions[i], out.keys[i], out.values[i]))
    schema = {**dict.fromkeys((*ORIGIN, "to"), pl.Int64), "key": pl.Binary, "value": pl.Binary}
    return pl.DataFrame(rows, schema=schema, orient="row")


def main(folder: Path, name: str, cuts: Sequence[str]) -> None:
    """Run the cuts one after another in this process."""
    job = msgspec.msgpack.decode((folder / "job").read_bytes(), type=Job)
    raised: list[Raised | None] = []
    try:
        version, caller = _caller(job)
    except PlayheadError as error:
        raised = [_raised(error)] * len(cuts)
    else:
        for i, cut in enumerate(cuts):
            raised.append(None)
            try:
                frames = passed(version, caller, job.records, cut)
            except PlayheadError as error:
                raised[i] = _raised(error)
            else:
                (folder / f"{name}-{i}").write_bytes(encode(frames))
    (folder / name).write_bytes(msgspec.msgpack.encode(raised))


def _caller(job: Job) -> tuple[Version, Caller]:
    app: Any = Project(Settings(Path(job.root), job.app)).app
    pipeline, _, label = job.version.partition("@")
    declared = app.pipelines[pipeline].versions[label]
    version = replace(declared, source=replace(declared.source, name=job.source))
    return version, Caller(version, {})


def _raised(error: PlayheadError) -> Raised:
    return Raised(error.message, error.where, error.safe, error.cure, error.exit_code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","))
