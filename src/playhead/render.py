"""Results to text: tables for people, JSON for programs."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from playhead.ops.check import Checked, Disagreement, Run
from playhead.ops.diff import Difference
from playhead.ops.query import Answered

SCHEMA_VERSION = 1


def as_json(content: Mapping[str, Any]) -> str:
    """Return one JSON object with ``schema_version`` in front."""
    import msgspec

    return msgspec.json.encode({"schema_version": SCHEMA_VERSION, **content}).decode()


def cell(value: object) -> str:
    """Return a value as a table shows it; None is ``-``."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, (list, tuple)):
        return ",".join(cell(v) for v in value)
    return str(value)


def is_number(value: object) -> bool:
    """Say whether a value is aligned to the right."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under upper-case headings: no borders, no wrapping; numbers to the right."""
    shown = [[cell(v) for v in row] for row in rows]
    widths = [
        max(len(heading), *(len(row[i]) for row in shown)) if shown else len(heading)
        for i, heading in enumerate(headings)
    ]
    right = [
        bool(rows) and all(is_number(row[i]) or row[i] is None for row in rows)
        for i in range(len(headings))
    ]
    lines = [_line(headings, widths, right)]
    lines += [_line(row, widths, right) for row in shown]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    return "  ".join(
        text.rjust(width) if to_right else text.ljust(width)
        for text, width, to_right in zip(cells, widths, right, strict=True)
    ).rstrip()


def markdown(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as a Markdown table."""
    lines = [headings, ["---"] * len(headings), *([cell(v) for v in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comma_separated(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV with a heading line."""
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    writer.writerows([["" if v is None else cell(v) for v in row] for row in rows])
    return out.getvalue().rstrip("\n")


def tabular(kind: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows in one of the tabular outputs: table, wide, csv, md."""
    if kind == "csv":
        return comma_separated([h.lower().replace("-", "_") for h in headings], rows)
    return markdown(headings, rows) if kind == "md" else table(headings, rows)


def answer(answered: Answered) -> str:
    """Return a query's answer as DuckDB prints it: names, types, rows; boxed on a terminal."""
    names, types = answered.names, [t.lower() for t in answered.types]
    rows = [["NULL" if v is None else cell(v) for v in row] for row in answered.rows]
    widths = [
        max(len(names[i]), len(types[i]), *(len(row[i]) for row in rows), 0)
        for i in range(len(names))
    ]
    right = [
        bool(answered.rows) and all(is_number(row[i]) or row[i] is None for row in answered.rows)
        for i in range(len(names))
    ]
    if not sys.stdout.isatty():
        return "\n".join(_line(line, widths, right) for line in (names, types, *rows))
    centred = [[t.center(w) for t, w in zip(line, widths, strict=True)] for line in (names, types)]
    body = [
        [t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True)]
        for row in rows
    ]
    bars = ["─" * (w + 2) for w in widths]
    lines = ["┌" + "┬".join(bars) + "┐"]
    lines += ["│ " + " │ ".join(line) + " │" for line in centred]
    lines += ["├" + "┼".join(bars) + "┤"]
    lines += ["│ " + " │ ".join(line) + " │" for line in body]
    lines += ["└" + "┴".join(bars) + "┘"]
    return "\n".join(lines)


def told_age(answered: Answered) -> str:
    """Return what an answer shows and how old it is, in one line."""
    shown = ", ".join(f"{t} shows {v}" for t, v in sorted(answered.versions.items()))
    at = ", ".join(f"{t} up to {','.join(map(str, o))}" for t, o in answered.as_of.items())
    late = ", ".join(f"{v} is {n} offsets behind" for v, n in sorted(answered.behind.items()))
    parts = [part for part in (shown, at, late) if part]
    return f"{'; '.join(parts)}; {answered.age_s:.1f} s old"


def difference_counts(found: Difference) -> str:
    """Return the counts of a diff, a line a table."""
    rows = [
        (name, c.same, c.changed, c.ghost, c.new, c.in_flight, c.explained, c.unexplained)
        for name, c in found.tables.items()
    ]
    headings = ("TABLE", "SAME", "CHANGED", "GHOST", "NEW", "IN-FLIGHT", "EXPLAINED", "UNEXPLAINED")
    return table(headings, rows)


def text_of(data: bytes | None) -> str | dict[str, str] | None:
    """Return bytes as text; what is no UTF-8 as base64, marked as such."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def row_text(values: Mapping[str, Any] | None) -> str | None:
    """Return a row in one line, or None."""
    return None if values is None else " ".join(f"{k}={cell(v)}" for k, v in values.items())


def checked(found: Checked) -> str:
    """Return a check for people: verdict first, then the first difference and its likely causes."""
    of = ", ".join(f"{n} of {found.topic}[{p}] {held}" for p, (n, held) in found.sample.items())
    bound = (
        f"floats within rtol {found.rtol:g}, all else bit for bit" if found.rtol else "bit for bit"
    )
    lines = [f"{found.version}: {{}} ({bound})", f"records: {of}"]
    differs = found.difference
    if differs is None:
        told = ", ".join(str(run) for run in found.runs)
        return "\n".join([lines[0].format(f"{len(found.runs)} runs are equal"), lines[1], told])
    one, two = differs.runs
    lines[0] = lines[0].format("runs differ")
    lines.append(f"first difference: {_place(differs)}")
    for run, value in zip((one, two), _sides(differs), strict=True):
        lines.append(f"  {run}: {value}")
    return "\n".join([*lines, differs.hint])


def _place(found: Disagreement) -> str:
    unlike = found.unlike
    if unlike is None:
        return " ".join(part for part in (found.where, "one of two runs raises") if part)
    key = " ".join(f"{k}={cell(v)}" for k, v in unlike.key.items())
    what = "only one of two runs has this row" if unlike.column is None else unlike.column
    return f"{found.where}: " + ", ".join(part for part in (unlike.output, key, what) if part)


def _sides(found: Disagreement) -> list[str]:
    if found.unlike is None:
        return [f"raised: {text}" if text else "passed" for text in found.raised]
    return [repr(_plain(value)) if value is not None else "-" for value in found.unlike.values]


def _plain(value: Any) -> Any:  # noqa: ANN401  any value of a column
    """Return a value as JSON can hold it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def checked_content(found: Checked) -> dict[str, Any]:
    """Return a check as JSON has it."""
    pipeline, _, label = found.version.partition("@")
    differs = found.difference
    return {
        "pipeline": pipeline,
        "version": label,
        "topic": found.topic,
        "records": found.records,
        "rtol": found.rtol,
        "runs": len(found.runs),
        "passes": [_run_content(run) for run in found.runs],
        "equal": differs is None,
        "first_difference": None if differs is None else _difference_of(differs, found.topic),
    }


def _run_content(run: Run) -> dict[str, Any]:
    return {"run": str(run), "cut": run.cut, "seed": run.seed, "zone": run.zone}


def _difference_of(found: Disagreement, topic: str) -> dict[str, Any]:
    unlike = found.unlike
    content: dict[str, Any] = {
        "runs": [_run_content(run) for run in found.runs],
        "where": found.where,
        "raised": list(found.raised),
        "hint": found.hint,
    }
    if unlike is None:
        return {**content, "output": None, "column": None, "values": [None, None]}
    return {
        **content,
        "output": unlike.output,
        "topic": topic,
        "partition": unlike.partition,
        "offset": unlike.offset,
        "key": _plain(unlike.key),
        "column": unlike.column,
        "values": [_plain(v) for v in unlike.values],
    }
