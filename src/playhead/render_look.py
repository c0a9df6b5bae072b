"""What was made of a record, what was done, and what a plan found, as text and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from playhead.core import saved
from playhead.core.plan import Plan, Replay, Survey
from playhead.core.ranges import moment
from playhead.core.records import Records
from playhead.core.verdicts import size
from playhead.errors import PlayheadError
from playhead.ops.explain import Account, Explained, Rows, Written
from playhead.ops.history import Entry, Past
from playhead.render import cell, table, text_of

VALUE_MAX = 200
DURATION_TOLD_S = 10.0
_FATES = {
    "processed": "processed",
    "dead_letter": "a dead letter",
    "superseded": "skipped: a rewind of what wrote it superseded it",
    "skipped": "never read",
    "next": "comes next; this is what it will do",
    "unavailable": "cannot be told",
}


def _short(value: object) -> str:
    shown = " ".join(cell(value).split())
    return shown if len(shown) <= VALUE_MAX else shown[: VALUE_MAX - 1] + "…"


def _pairs(row: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_short(value)}" for name, value in row.items()) or "-"


def explained(found: Explained) -> str:
    """Return for people: the record, then version by version its state and what is written."""
    record = found.record
    head = f"{record.source.at(record.offsets[0])}  {moment(record.timestamps_ms[0])}"
    parts = [[head, f"key    {_short(text_of(record.keys[0]))}"]]
    parts[0].append(f"value  {_short(text_of(record.values[0]))}")
    parts[0] += [f"{name}  {_short(text_of(value))}" for name, value in _headers(record)]
    parts += [_account(account) for account in found.accounts]
    return "\n\n".join("\n".join(lines) for lines in parts)


def _headers(record: Records) -> Sequence[tuple[str, bytes]]:
    return record.headers[0] if record.headers else ()


def _account(found: Account) -> list[str]:
    of = found.stage if found.generation is None else f"{found.stage}, gen. {found.generation}"
    lines = [f"{found.version} ({of}): {_FATES[found.fate]}"]
    if found.error is not None:
        lines += [f"  {line}" for line in str(found.error).splitlines()]
    state = [
        (slot, *line)
        for slot, after in found.after.items()
        for line in _changes(found.before.get(slot, []), after)
    ]
    if state:
        lines.append(table(("STATE", "KEY", "BEFORE", "AFTER"), state))
    if found.output:
        rows = [(w.physical, _row(w)) for w in found.output]
        lines.append(table(("OUTPUT", "ROW"), rows))
    elif found.fate in {"processed", "next"} and found.error is None:
        lines.append("no output")
    return lines


def _changes(before: Rows, after: Rows) -> list[tuple[str, str | None, str]]:
    """Return key, row before and row after, for each row of a slot after the record."""
    earlier = {_pairs(_key(row)): _pairs(_carried(row)) for row in before}
    keyed = [(_pairs(_key(row)), row) for row in after]
    return [(key, earlier.get(key), _pairs(_carried(row))) for key, row in keyed]


def _key(row: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in row.items() if not n.startswith("_")}


def _carried(row: Mapping[str, Any]) -> Mapping[str, Any]:
    carried = {n.removeprefix("_"): v for n, v in row.items() if n.startswith("_")}
    state = carried.get("state")
    return state if isinstance(state, Mapping) and len(carried) == 1 else carried


def _row(written: Written) -> str:
    if written.deletes:
        return f"deleted: {_pairs(written.row) if written.table else _short(text_of(written.key))}"
    return _pairs(written.row)


def explained_content(found: Explained) -> dict[str, Any]:
    """Return an explanation as JSON has it."""
    record = found.record
    return {
        "pipeline": found.pipeline,
        "input": {
            "topic": record.source.topic,
            "partition": record.source.partition,
            "offset": record.offsets[0],
            "timestamp": moment(record.timestamps_ms[0]),
            "key": text_of(record.keys[0]),
            "value": text_of(record.values[0]),
            "headers": {name: text_of(value) for name, value in _headers(record)},
        },
        "versions": {a.version.partition("@")[2]: _account_content(a) for a in found.accounts},
        "remarks": list(found.remarks),
    }


def _account_content(found: Account) -> dict[str, Any]:
    return {
        "stage": found.stage,
        "fate": found.fate,
        "generation": found.generation,
        "before": _plain(found.before),
        "after": _plain(found.after),
        "output": [
            {
                "table" if w.table else "topic": w.output,
                "physical": w.physical,
                "row": _plain(w.row),
                "deletes": w.deletes,
                **({} if w.table else {"key": text_of(w.key)}),
            }
            for w in found.output
        ],
        "error": None if found.error is None else _error(found.error),
    }


def _error(error: PlayheadError) -> dict[str, str | None]:
    return {"message": error.message, "where": error.where, "cure": error.cure}


def _plain(value: Any) -> Any:  # noqa: ANN401  any value of a column or of a state
    """Return a value as JSON can hold it."""
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, Mapping):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


_HISTORY = ("STARTED", "KIND", "VERSION", "BY", "OUTCOME", "OFFSETS", "REASON")
_HISTORY_WIDE = ("ENDED", "FINGERPRINT", "DIGEST", "RUN")


def history_rows(found: Past, *, wide: bool) -> tuple[Sequence[str], list[Sequence[object]]]:
    """Return headings and rows of a history."""
    rows: list[Sequence[object]] = []
    for e in found.entries:
        row = (
            e.started_at, e.kind, e.version, e.person, e.outcome, _moved(e),
            None if e.reason is None else _short(e.reason),
        )  # fmt: skip
        more = (e.finished_at, e.fingerprint, e.digest, e.id) if wide else ()
        rows.append((*row, *more))
    return (*_HISTORY, *(_HISTORY_WIDE if wide else ())), rows


def _moved(entry: Entry) -> str | None:
    """Return from which offsets to which, place by place."""
    places = sorted({*entry.begin, *entry.end})
    begin, end = entry.begin, entry.end
    shown = [
        f"{place}@{begin[place]}→{end[place]}"
        if place in begin and place in end
        else f"{place}@{end.get(place, begin.get(place))}"
        for place in places
    ]
    return " ".join(shown) or None


def entry_content(entry: Entry) -> dict[str, Any]:
    """Return one entry of a history as JSON has it."""
    pipeline, _, label = entry.version.partition("@")
    return {
        "id": entry.id,
        "kind": entry.kind,
        "pipeline": pipeline,
        "version": label,
        "started_at": entry.started_at,
        "finished_at": entry.finished_at,
        "outcome": entry.outcome,
        "person": entry.person,
        "reason": entry.reason,
        "fingerprint": entry.fingerprint,
        "from_offsets": dict(entry.begin),
        "to_offsets": dict(entry.end),
        "digest": entry.digest,
        "detail": _plain(entry.detail),
    }


def replay_lines(step: Replay, survey: Survey | None) -> list[str]:
    """Return a replay for people: how much, partition by partition, and what was found out."""
    head = f"replay {step.version} to where live stands: "
    if survey is None:
        lines = [f"{head}at most {step.records_at_most} records"]
    else:
        lines = [head + _amount(survey)]
    rows = []
    for partition, wanted in step.ranges.items():
        found = survey.estimates.get(partition) if survey else None
        rows.append(
            (
                step.topic, partition, wanted.start, wanted.end,
                found.records if found else None,
                moment(found.first_ms) if found else moment(step.from_times_ms.get(partition)),
                moment(found.last_ms) if found else None,
                size(found.size_bytes) if found else None,
            )
        )  # fmt: skip
    headings = ("TOPIC", "PARTITION", "FROM", "TO", "RECORDS", "FROM-TIME", "TO-TIME", "SIZE")
    return [*lines, table(headings, rows), *(_found_out(survey) if survey else ())]


def _amount(survey: Survey) -> str:
    found = survey.estimates.values()
    about = "" if all(e.exact for e in found) else "about "
    count, held = sum(e.records for e in found), sum(e.size_bytes for e in found)
    told = f"{about}{count} records, {size(held)}"
    if survey.duration_s is not None and survey.duration_s >= DURATION_TOLD_S:
        told += f", about {survey.duration_s:.0f} s"
    return told


def _found_out(survey: Survey) -> list[str]:
    """Return what was found out for people: findings, then who reads the output."""
    told = [
        f"group {r.group} has read {r.read} of {len(r.held)} offsets of {r.place}, which will be "
        "corrected"
        for r in survey.readers
    ]
    return [*map(str, survey.findings), *told]


def survey_content(found: Plan) -> dict[str, Any]:
    """Return what was found out, beside the steps of a plan, as JSON has it."""
    surveys = found.surveys.items()
    findings = [
        {
            "version": version,
            "kind": f.kind,
            "level": f.level,
            "subject": f.subject,
            "text": f.text,
            "cure": f.cure or None,
        }
        for version, survey in surveys
        for f in survey.findings
    ]
    readers = [
        {
            "version": version,
            "group": r.group,
            "topic": r.place.topic,
            "partition": r.place.partition,
            "current_offset": r.committed,
            "log_end_offset": r.held.end,
            "read": r.read,
        }
        for version, survey in surveys
        for r in survey.readers
    ]
    basis = [saved.content_of(b) for b in found.bases]
    return {"findings": findings, "readers": readers, "basis": basis}


def surveyed(content: dict[str, Any], found: Plan) -> dict[str, Any]:
    """Return a step's JSON with what was found out about it, where it is a replay."""
    survey = found.surveys.get(content["version"])
    if content["kind"] != "replay" or survey is None:
        return content
    partitions = []
    for one in content["partitions"]:
        e = survey.estimates.get(one["partition"])
        more = {} if e is None else {
            "records": e.records,
            "exact": e.exact,
            "size_bytes": e.size_bytes,
            "from_time": moment(e.first_ms),
            "to_time": moment(e.last_ms),
        }  # fmt: skip
        partitions.append({**one, **more})
    return {
        **content,
        "partitions": partitions,
        "duration_s": survey.duration_s,
        "needed_bytes": survey.needed_bytes,
        "free_bytes": survey.free_bytes,
    }
