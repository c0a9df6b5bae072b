"""Try a pipeline's function in a unit test: no log, no store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from playhead.core.codec import META, TOMBSTONE
from playhead.core.declare import Pipeline, Table, Topic, Version
from playhead.core.keys import in_utc, key_reader, message_key
from playhead.core.offsets import TopicPartition
from playhead.core.outputs import Target
from playhead.core.records import Records
from playhead.engine.call import Caller
from playhead.engine.trial import try_out

Outputs = dict[str, list[dict[str, Any]]]
_META = {*META, TOMBSTONE, "_value"}


def run(
    pipeline: Pipeline | Version,
    rows: Sequence[Mapping[str, Any]],
    cuts: Sequence[int | None] = (1, 7, None),
) -> Outputs:
    """Run a version over rows, cut into batches of each size, and compare the results.

    Args:
        pipeline: A pipeline (its first version) or a version.
        rows: Values of the source topic's records, in log order; offsets are 0, 1, 2, …
            Of each, ``_timestamp`` (a datetime, or milliseconds), ``_key`` and ``_value`` (bytes)
            are the record's own; with ``_tombstone`` true its value is null.
        cuts: Batch sizes; None is one batch.

    Returns:
        For each output by its name: a table's rows, the last of each key, or a topic's values
        (a null value is ``{"_tombstone": True}`` with the columns of the key).

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
    source = version.source
    records = Records(TopicPartition(source.name, 0), range(len(rows)), [], [], [], len(rows))
    times, keys, values = [], [], []
    for row in rows:
        fields = {name: value for name, value in row.items() if name not in _META}
        time = row.get("_timestamp", 0)
        times.append(time if isinstance(time, int) else round(in_utc(time).timestamp() * 1000))
        values.append(None if row.get(TOMBSTONE) else _value(source, row, fields))
        keys.append(row.get("_key", _key(source.key, fields)))
    return replace(records, timestamps_ms=times, keys=keys, values=values)


def _value(source: Topic, row: Mapping[str, Any], fields: Mapping[str, Any]) -> bytes:
    if source.schema is None and isinstance(row.get("_value"), bytes):
        return bytes(row["_value"])
    return msgspec.json.encode(fields)


def _key(key: Sequence[str], fields: Mapping[str, Any]) -> bytes | None:
    if not key:
        return None
    try:
        return message_key([fields.get(k) for k in key])
    except (TypeError, msgspec.MsgspecError):
        return b""  # what is wrong with it is told when the row is decoded


def _pass(caller: Caller, records: Records, cut: int | None) -> Outputs:
    found: Outputs = {t.output.name: [] for t in caller.targets}
    gone_of = {t.physical: (t.output.name, _tombstone_of(t)) for t in caller.targets}
    size = cut or max(1, len(records))
    sizes = [size] * -(-len(records) // size)
    trial = try_out(lambda r, slots: caller.call(r, slots, 1), caller.targets, records, sizes)
    for out in trial.outgoing:
        name, gone = gone_of[out.topic]
        found[name] += [
            gone(key) if value is None else msgspec.json.decode(value)
            for key, value in zip(out.keys, out.values, strict=True)
        ]
    for target in caller.targets:
        if isinstance(target.output, Table) and target.physical in trial.rows:
            rows = trial.rows[target.physical].sort(target.output.key)
            found[target.output.name] = rows.select(c.name for c in target.schema).to_dicts()
    return found


def _tombstone_of(target: Target) -> Callable[[bytes | None], dict[str, Any]]:
    """Return what a null value of a topic is shown as, from its message key."""
    columns = [c for c in target.schema if c.name in target.output.key]
    ordered = sorted(columns, key=lambda c: target.output.key.index(c.name))
    read = key_reader(ordered) if ordered else lambda _key: []

    def gone(key: bytes | None) -> dict[str, Any]:
        values = read(key or b"")
        return {TOMBSTONE: True, **{c.name: v for c, v in zip(ordered, values, strict=True)}}

    return gone
