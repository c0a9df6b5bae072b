"""A report of a diff: its content as JSON has it, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from playhead.core.offsets import OffsetRange
from playhead.core.ranges import moment
from playhead.ops.diff import Difference
from playhead.ops.report import Ran, Report, Stretch
from playhead.render import cell, markdown
from playhead.render_diff import difference_content, verdict
from playhead.render_look import entry_content

BLOCKS = "▁▂▃▄▅▆▇█"
CELL_MAX = 160


def report_content(report: Report) -> dict[str, Any]:
    """Return a report as JSON has it; Markdown and HTML show the same."""
    found = report.found
    return {
        **difference_content(found),
        "pipeline": found.head.partition("@")[0],
        "verdict": {"state": state(found), "text": verdict(found)},
        "next": next_step(report),
        "versions": [_ran(ran, found) for ran in report.ran],
        "history": [entry_content(entry) for entry in report.entries],
        "made_at": report.made_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "playhead": report.playhead,
    }


def state(found: Difference) -> str:
    """Return ``unexplained``, ``explained``, ``same`` or ``nothing``: what the verdict is about."""
    if found.unexplained:
        return "unexplained"
    if sum(found.total(n) for n in ("changed", "ghost", "new")):
        return "explained"
    return "same" if found.total("same") else "nothing"


def next_step(report: Report) -> str | None:
    """Return the command that comes next; None where head is no shadow."""
    found = report.found
    if not any(r.stood.name == found.head and r.stage == "shadow" for r in report.ran):
        return None
    match state(found):
        case "unexplained":
            return f"playhead promote {found.head} --accept-diff {found.digest}"
        case "nothing":
            return f"playhead replay {found.head}"
    return f"playhead promote {found.head}"


def _ran(ran: Ran, found: Difference) -> dict[str, Any]:
    stood = ran.stood
    role = {found.base: "base", found.head: "head"}.get(stood.name, "chain")
    return {
        "version": stood.name,
        "role": role,
        "stage": ran.stage,
        "fingerprint": stood.fingerprint,
        "topic": stood.source,
        "environment": dict(ran.environment),
        "partitions": [_stretch(s) for s in ran.stretches],
    }


def _stretch(s: Stretch) -> dict[str, Any]:
    def ends(held: OffsetRange | None) -> list[int] | None:
        return None if held is None else [held.start, held.end]

    return {
        "partition": s.partition,
        "generation": s.generation,
        "read": ends(s.read),
        "retained": ends(s.retained),
        "from_time": moment(s.from_ms),
        "to_time": moment(s.to_ms),
    }


def shown(value: object) -> str:
    """Return a value as reports show it: in one line, cut where it is very long."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float):
        value = f"{value:.10g}"
    if isinstance(value, Mapping):
        value = " ".join(f"{k}={shown(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        value = ", ".join(shown(v) for v in value)
    text = " ".join(cell(value).split())
    return text if len(text) <= CELL_MAX else text[: CELL_MAX - 1] + "…"


Rows = list[Sequence[object]]
Section = tuple[Sequence[str], Rows]


def counts(content: Mapping[str, Any]) -> Section:
    """Return the counts of each output."""
    headings = ("Output", "Same", "Changed", "Ghost", "New", "In flight", "Explained",
                "Unexplained")  # fmt: skip
    names = [h.lower().replace(" ", "_") for h in headings[1:]]
    rows: Rows = [(name, *(t[n] for n in names)) for name, t in content["tables"].items()]
    return headings, rows


def expectations(content: Mapping[str, Any]) -> Section:
    """Return what was expected, and what became of it."""
    rows: Rows = [
        (
            e["expr"],
            e["explained"],
            e["contradicted"],
            e["holds"],
            "explains nothing" if e["expr"] in content["idle"] else None,
        )
        for e in content["expectations"]
    ]
    return ("Expectation", "Explains", "Contradicted by", "Holds for", "Note"), rows


def largest(stats: Mapping[str, Any]) -> Section:
    """Return the largest changes of a column."""
    rows: Rows = [
        (r["key"], r["base"], r["head"], r["difference"], r["ratio"], origin(r))
        for r in stats.get("largest", ())
    ]
    return ("Key", "Base", "Head", "Difference", "Ratio", "Made from"), rows


def samples(content: Mapping[str, Any]) -> Section:
    """Return the rows that nothing explains."""
    rows: Rows = [
        (s["class"], s["table"], s["key"], s["base"], s["head"], origin(s))
        for s in content["samples"]
        if not s["explained"]
    ]
    return ("Class", "Output", "Key", "Base", "Head", "Made from"), rows


def origin(row: Mapping[str, Any]) -> str:
    """Return the source offsets that base's and head's row were made from."""
    base, head = row["base_offset"], row["head_offset"]
    at = [f"{o}" for o in dict.fromkeys((base, head)) if o is not None]
    return f"[{row['partition']}]@{', '.join(at)}"


def versions(content: Mapping[str, Any]) -> Section:
    """Return what was compared."""
    rows: Rows = [
        (
            v["version"],
            f"{v['role']}, {v['stage']}",
            v["fingerprint"][:12],
            v["topic"],
            max((p["generation"] for p in v["partitions"]), default=None),
            [p["read"][1] for p in v["partitions"]],
            " ".join(f"{k} {n}" for k, n in sorted(v["environment"].items())),
        )
        for v in content["versions"]
    ]
    headings = ("Version", "Stage", "Fingerprint", "Reads", "Generation", "Cursor", "With")
    return headings, rows


def stretches(content: Mapping[str, Any]) -> Section:
    """Return which offsets each version has read, and of when the records are."""
    rows: Rows = [
        (v["version"], f"{v['topic']}[{p['partition']}]", *p["read"], p["from_time"], p["to_time"])
        for v in content["versions"]
        for p in v["partitions"]
    ]
    return ("Version", "Partition", "From", "To", "First record", "Last record"), rows


def past(content: Mapping[str, Any]) -> Section:
    """Return what was done with the pipeline last."""
    rows: Rows = [
        (
            e["started_at"],
            e["kind"],
            e["version"],
            e.get("outcome"),
            e.get("person"),
            e.get("reason"),
        )
        for e in content["history"]
    ]
    return ("When", "What", "Version", "Outcome", "Who", "Why"), rows


def markdown_report(content: Mapping[str, Any]) -> str:
    """Return a report as Markdown, for a merge request."""
    mark = {"unexplained": "✗", "explained": "✓", "same": "✓", "nothing": "–"}
    said = content["verdict"]
    lines = [
        f"# {mark[said['state']]} {content['pipeline']}: {content['base']} → {content['head']}",
        "",
        f"**{said['text'][0].upper()}{said['text'][1:]}.**"
        + (f" Next: `{content['next']}`" if content["next"] else ""),
        "",
        _table(counts(content)),
        "",
    ]
    lines += _section("What was expected", expectations(content))
    for name, stats in content["columns"].items():
        if stats["changed"]:
            lines += _column(name, stats)
    lines += _section("Not explained", samples(content))
    for title, listed, n in (
        ("Ghosts: only base has them", content["ghost_keys"], content["ghost"]),
        ("New: only head has them", content["new_keys"], content["new"]),
    ):
        if n:
            keys = "; ".join(f"{k['table']}: {_escaped(shown(k['key']))}" for k in listed)
            more = f" and {n - len(listed)} more" if n > len(listed) else ""
            lines += [f"## {title}", "", keys + more, ""]
    lines += _section("What was read", stretches(content))
    lines += _section("What was compared", versions(content))
    lines += _section("What was done last", past(content))
    lines += [f"Digest `{content['digest']}`, made {content['made_at']} by Playhead "
              f"{content['playhead']}.", ""]  # fmt: skip
    return "\n".join(lines)


def _column(name: str, stats: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## {name}", "", f"{stats['changed']} of {stats['compared']} changed.", "")
    for unit in stats.get("units", ()):
        told = f"{unit['rows']} of them are as `{unit['formula']}`: {unit['name']}?"
        yield from (told, "")
    for kind in ("ratio", "difference"):
        if kind in stats:
            d = stats[kind]
            bars = "".join(_block(n, d["histogram"]["rows"]) for n in d["histogram"]["rows"])
            yield from (
                f"{TITLES[kind]}: {d['min']:.7g} to {d['max']:.7g}, median {d['median']:.7g}"
                + most_common(kind, d),
                "",
                f"`{d['histogram']['edges'][0]:.7g} {bars} {d['histogram']['edges'][-1]:.7g}`",
                "",
            )
    yield from _section("", largest(stats))


def most_common(kind: str, told_of: Mapping[str, Any]) -> str:
    """Return the values that are there several times."""
    several = [c for c in told_of["most_common"] if c["rows"] > 1][:3]
    common = ", ".join(f"{c[kind]:.7g} × {c['rows']:,}" for c in several)
    return f"; most common {common}" if common else ""


TITLES = {"ratio": "Head / base", "difference": "Head − base"}


def _block(n: int, rows: Sequence[int]) -> str:
    """Return a bar of a histogram in one character; what is there can be seen."""
    return BLOCKS[-(-n * (len(BLOCKS) - 1) // max(rows))] if n else " "


def _section(title: str, section: Section) -> list[str]:
    if not section[1]:
        return []
    heading = [f"## {title}", ""] if title else []
    return [*heading, _table(section), ""]


def _table(section: Section) -> str:
    headings, rows = section
    return markdown(headings, [[_escaped(shown(v)) for v in row] for row in rows])


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    for character in "\\`*_|<>[]":
        text = text.replace(character, "\\" + character)
    return text
