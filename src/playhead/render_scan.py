"""A scan as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from playhead.ops.scan import Answer
from playhead.render import cell, row_text, table


def scan(found: Answer) -> str:
    """Return a scan for people: verdict first, then what is missing, and what no version made."""
    s = found.scanned
    made = [(f"only {name}", s.only[name]) for name in found.versions]
    made += [("several of them", s.both), ("neither", s.neither)]
    counts = [(name, n, f"{n / s.rows:.1%}" if s.rows else None) for name, n in made]
    lines = [f"{found.subject}: {verdict(found)}", "", table(("MADE-BY", "ROWS", "SHARE"), counts)]
    bounds = ", ".join(
        f"{c} within rtol {r:g}" if r else f"{c} exactly" for c, r in found.rtol.items()
    )
    lines.append(f"compared by {', '.join(found.key)}: {bounds}")
    if found.left_out:
        lines.append(f"not compared: {', '.join(found.left_out)}")
    lines += _listed("missing here", s.missing, s.missing_keys)
    lines += _listed("in no version", s.ghosts, s.ghost_rows)
    if s.duplicates:
        lines.append(f"{s.duplicates} rows have a key that came before")
    if found.unreadable:
        lines.append(f"{found.unreadable} records cannot be read as the versions write them")
    for name, told in s.ratios.items():
        lines.append(
            f"rows that are neither, divided by {name}: {told['min']:.7g} to {told['max']:.7g}, "
            f"median {told['median']:.7g}"
        )
    return "\n".join([*lines, *_samples(found)])


def verdict(found: Answer) -> str:
    """Return what a scan says, in a few words."""
    s = found.scanned
    if not s.rows:
        return "there are no rows"
    if s.neither == s.rows:
        return f"none of {s.rows} rows was made by {' or '.join(found.versions)}"
    made = [name for name in found.versions if s.only[name] + s.both == s.rows]
    if made and not s.missing_keys:
        return f"all {s.rows} rows are as {' and '.join(made)} made them"
    parts = [f"{n} {name}" for name, n in s.only.items() if n]
    parts += [f"{s.both} several"] * bool(s.both) + [f"{s.neither} neither"] * bool(s.neither)
    return f"of {s.rows} rows: {', '.join(parts)}"


def _listed(what: str, keys: Sequence[Sequence[Any]], n: int) -> list[str]:
    if not n:
        return []
    shown = "; ".join(", ".join(map(cell, key)) for key in keys[:20])
    return [f"{what}: {shown}" + (f" and more: {n} in all" if n > 20 else "")]


def _samples(found: Answer) -> list[str]:
    samples = found.scanned.samples
    if not samples:
        return []
    rows = [
        (cell(s["key"]), row_text(s["row"]), *(row_text(s["versions"][v]) for v in found.versions))
        for s in samples
    ]
    headings = ("KEY", "HERE", *(v.upper() for v in found.versions))
    return ["", f"neither, the first {len(rows)}:", table(headings, rows)]


def scan_content(found: Answer) -> dict[str, Any]:
    """Return a scan as JSON has it; a key of one column is its value, of several a list."""
    s = found.scanned
    return {
        "subject": found.subject,
        "against": list(found.versions),
        "key": list(found.key),
        "rows": s.rows,
        "only": dict(s.only),
        "both": s.both,
        "neither": s.neither,
        "missing": [_key(key) for key in s.missing],
        "missing_keys": s.missing_keys,
        "ghosts": [_key(key) for key in s.ghosts],
        "ghost_rows": s.ghost_rows,
        "duplicates": s.duplicates,
        "unreadable": found.unreadable,
        "rtol": found.rtol,
        "left_out": list(found.left_out),
        "ratios": dict(s.ratios),
        "samples": [{**sample, "key": _key(sample["key"])} for sample in s.samples],
    }


def _key(key: Sequence[Any]) -> Any:  # noqa: ANN401  one value, or all of them
    return key[0] if len(key) == 1 else list(key)
