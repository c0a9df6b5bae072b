"""A diff as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from playhead.core.diff import Comparison
from playhead.ops.diff import Difference
from playhead.render import cell, difference_counts, row_text, table


def verdict(found: Difference) -> str:
    """Return what a diff says, in a few words."""
    differs = sum(found.total(n) for n in ("changed", "ghost", "new"))
    if found.unexplained:
        return f"{found.unexplained} of {differs} rows that differ are not explained"
    if differs:
        return f"all {differs} rows that differ are explained"
    if found.total("in_flight") and not found.total("same"):
        return f"nothing compared yet: playhead replay {found.head} first"
    return "no row differs"


def difference(found: Difference) -> str:
    """Return a diff for people: verdict first, then counts, expectations, samples."""
    lines = [f"{found.base} → {found.head}: {verdict(found)}", "", difference_counts(found)]
    for name, c in found.tables.items():
        lines += [
            f"expectation {e.expr!r} on {name}: explains {e.explained}, "
            f"contradicted by {e.contradicted}, holds for {e.holds} rows"
            for e in c.expectations
        ]
        for column, stats in c.columns.items():
            lines += _column(f"{name}.{column}", stats)
        lines += _listed(name, c)
        lines += _samples(name, c.samples)
    lines += [f"expectation {expr!r} explains nothing: is it still meant?" for expr in found.idle]
    lines.append(f"digest {found.digest}")
    return "\n".join(lines)


def _column(name: str, stats: Mapping[str, Any]) -> Iterator[str]:
    if not stats["changed"]:
        return
    line = f"{name}: {stats['changed']} changed"
    if "ratio" in stats:
        ratio = stats["ratio"]
        spikes = ", ".join(f"{s['ratio']:.7g} × {s['rows']}" for s in ratio["most_common"][:3])
        line += f"; head/base from {ratio['min']:.7g} to {ratio['max']:.7g}; most common {spikes}"
    yield line
    for unit in stats.get("units", ()):
        yield f"  {unit['rows']} of them are as {unit['formula']}: {unit['name']}?"


def _listed(name: str, c: Comparison) -> Iterator[str]:
    for kind, n, keys in (("ghost", c.ghost, c.ghost_keys), ("new", c.new, c.new_keys)):
        if n:
            shown = "; ".join(key_text(key) for key in keys)
            more = f" and {n - len(keys)} more" if n > len(keys) else ""
            yield f"{kind} in {name} ({', '.join(c.key)}): {shown}{more}"


def key_text(key: Sequence[Any]) -> str:
    """Return a key in one line."""
    return ", ".join(cell(value) for value in key)


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
            row_text(s["base"]),
            row_text(s["head"]),
        )
        for s in unexplained
    ]
    headings = ("CLASS", "KEY", "PARTITION", "BASE-OFFSET", "HEAD-OFFSET", "BASE", "HEAD")
    return ["", f"not explained in {name}, the first {len(rows)}:", table(headings, rows), ""]


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
        "idle": list(found.idle),
        "tables": {
            name: {"key": list(c.key), **{n: getattr(c, n) for n in counts}}
            for name, c in found.tables.items()
        },
        "ghost_keys": [
            {"table": name, "key": key} for name, c in found.tables.items() for key in c.ghost_keys
        ],
        "new_keys": [
            {"table": name, "key": key} for name, c in found.tables.items() for key in c.new_keys
        ],
        "samples": [
            {"table": name, **sample} for name, c in found.tables.items() for sample in c.samples
        ],
    }
