"""Results to text: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
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
    parts = [part for part in (shown, at) if part]
    return f"{'; '.join(parts)}; {answered.age_s:.1f} s old"


def difference_counts(found: Difference) -> str:
    """Return the counts of a diff, a line a table."""
    rows = [
        (name, c.same, c.changed, c.ghost, c.new, c.in_flight, c.explained, c.unexplained)
        for name, c in found.tables.items()
    ]
    headings = ("TABLE", "SAME", "CHANGED", "GHOST", "NEW", "IN-FLIGHT", "EXPLAINED", "UNEXPLAINED")
    return table(headings, rows)


def difference(found: Difference) -> str:
    """Return a diff for people: verdict first, then counts, expectations, samples."""
    differs = sum(found.total(n) for n in ("changed", "ghost", "new"))
    if found.unexplained:
        verdict = f"{found.unexplained} of {differs} rows that differ are not explained"
    elif differs:
        verdict = f"all {differs} rows that differ are explained"
    elif found.total("in_flight") and not found.total("same"):
        verdict = f"nothing compared yet: playhead replay {found.head} first"
    else:
        verdict = "no row differs"
    lines = [f"{found.base} → {found.head}: {verdict}", "", difference_counts(found)]
    for name, c in found.tables.items():
        lines += [
            f"expectation {e.expr!r} on {name}: explains {e.explained}, "
            f"contradicted by {e.contradicted}, holds for {e.holds} rows"
            for e in c.expectations
        ]
        for column, stats in c.columns.items():
            if stats["changed"] and "ratio" in stats:
                ratio = stats["ratio"]
                spikes = ", ".join(
                    f"{s['ratio']:.7g} × {s['rows']}" for s in ratio["most_common"][:3]
                )
                lines.append(
                    f"{name}.{column}: {stats['changed']} changed; head/base from "
                    f"{ratio['min']:.7g} to {ratio['max']:.7g}; most common {spikes}"
                )
        lines += _samples(name, c.samples)
    lines.append(f"digest {found.digest}")
    return "\n".join(lines)


def _samples(name: str, samples: Sequence[Mapping[str, Any]]) -> list[str]:
    unexplained = [s for s in samples if not s["explained"]]
    if not unexplained:
        return []
    rows = [
        (
            s["class"],
            cell(s["key"]),
            s["partition"],
            s["base_offset"],
            s["head_offset"],
            _row(s["base"]),
            _row(s["head"]),
        )
        for s in unexplained
    ]
    headings = ("CLASS", "KEY", "PARTITION", "BASE-OFFSET", "HEAD-OFFSET", "BASE", "HEAD")
    return ["", f"not explained in {name}, the first {len(rows)}:", table(headings, rows), ""]


def _row(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else " ".join(f"{k}={cell(v)}" for k, v in values.items())


def moment(ms: int | None) -> str | None:
    """Return milliseconds since 1970 as ISO-8601 UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")


def difference_content(found: Difference) -> dict[str, Any]:
    """Return a diff as JSON has it: totals over the tables, then each table."""
    counts = ("same", "changed", "ghost", "new", "in_flight", "explained", "unexplained")
    by_expr: dict[str, dict[str, Any]] = {}
    for c in found.tables.values():
        for e in c.expectations:
            seen = by_expr.setdefault(
                e.expr, {"expr": e.expr, "explained": 0, "contradicted": 0, "holds": 0}
            )
            seen["explained"] += e.explained
            seen["contradicted"] += e.contradicted
            seen["holds"] += e.holds
    return {
        "base": found.base.partition("@")[2],
        "head": found.head.partition("@")[2],
        **{name: found.total(name) for name in counts},
        "digest": found.digest,
        "expectations": list(by_expr.values()),
        "columns": {
            f"{name}.{column}": stats
            for name, c in found.tables.items()
            for column, stats in c.columns.items()
        },
        "samples": [
            {"table": name, **sample} for name, c in found.tables.items() for sample in c.samples
        ],
    }


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
