"""Try a pipeline's function in a unit test: no log, no store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import polars as pl

from playhead.core import outputs
from playhead.core.codec import encode_keys
from playhead.core.declare import Pipeline, Table, Version
from playhead.core.offsets import TopicPartition
from playhead.core.records import Records
from playhead.core.slots import Slots, decode, encode, merge
from playhead.engine.call import Caller

Outputs = dict[str, list[dict[str, Any]]]


def run(
    pipeline: Pipeline | Version,
    rows: Sequence[Mapping[str, Any]],
    cuts: Sequence[int | None] = (1, 7, None),
) -> Outputs:
    """Run a version over rows, cut into batches of each size, and compare the results.

    Args:
        pipeline: A pipeline (its first version) or a version.
        rows: Values of the source topic's records, in log order; offsets are 0, 1, 2, …
        cuts: Batch sizes; None is one batch.

    Returns:
        For each output by its name: a table's rows, the last of each key, or a topic's values.

    Raises:
        AssertionError: Two cuts give other results: the function depends on where batches end.
        BadRecord: A row is not what the topic declares; it is named by its offset.
        FunctionFailed: The function failed.
    """
    version = pipeline
    if isinstance(pipeline, Pipeline):
        version = next(iter(pipeline.versions.values()))
    assert isinstance(version, Version)
    caller = Caller(version, {})
    records = _records(version, rows)
    results = {cut: _pass(caller, records, cut) for cut in cuts}
    first_cut, first = next(iter(results.items()))
    for cut, result in results.items():
        for name, expected in first.items():
            _compare(name, (first_cut, expected), (cut, result[name]))
    return first


def _compare(
    name: str, one: tuple[int | None, list[Any]], two: tuple[int | None, list[Any]]
) -> None:
    if repr(one[1]) == repr(two[1]):
        return
    for i, (a, b) in enumerate(zip(one[1], two[1], strict=False)):
        if repr(a) != repr(b):
            raise AssertionError(
                f"{name}, row {i}: batches of {one[0] or 'all'} give {a!r}, "
                f"batches of {two[0] or 'all'} give {b!r}"
            )
    raise AssertionError(
        f"{name}: batches of {one[0] or 'all'} give {len(one[1])} rows, "
        f"batches of {two[0] or 'all'} give {len(two[1])}"
    )


def _records(version: Version, rows: Sequence[Mapping[str, Any]]) -> Records:
    place = TopicPartition(version.source.name, 0)
    key = version.source.key
    values = [msgspec.json.encode(dict(row)) for row in rows]
    keys: list[bytes | None] = [b"" if key else None] * len(rows)
    if key and rows:
        with suppress(TypeError, AttributeError, pl.exceptions.PolarsError):  # told when decoded
            keys = list(encode_keys(pl.DataFrame([{k: r.get(k) for k in key} for r in rows]), key))
    offsets = range(len(rows))
    return Records(place, offsets, [0] * len(rows), keys, values, len(rows))


def _pass(caller: Caller, records: Records, cut: int | None) -> Outputs:
    slots: Slots = {}
    tables: dict[str, list[pl.DataFrame]] = {}
    found: Outputs = {t.output.name: [] for t in caller.targets}
    named = {t.physical: t.output.name for t in caller.targets}
    size = cut or max(1, len(records))
    for begin in range(0, len(records), size):
        part = slice(begin, begin + size)
        batch = Records(
            records.source,
            records.offsets[part],
            records.timestamps_ms[part],
            records.keys[part],
            records.values[part],
            min(begin + size, len(records)),
        )
        outcome = caller.call(batch, slots, 1)
        slots = merge(slots, decode(encode(outcome.delta)))
        for physical, rows in outcome.rows.items():
            tables.setdefault(physical, []).append(rows)
        for out in outcome.outgoing:
            found[named[out.topic]] += [msgspec.json.decode(v) for v in out.values if v is not None]
    for target in caller.targets:
        if isinstance(target.output, Table) and target.physical in tables:
            folded = outputs.fold(pl.concat(tables[target.physical]), target.output.key)
            columns = [c.name for c in target.schema]
            found[target.output.name] = folded.sort(target.output.key).select(columns).to_dicts()
    return found
