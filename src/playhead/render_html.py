"""A report of a diff as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from playhead import render_report as told
from playhead.render import is_number

MARKS = {"unexplained": "✗", "explained": "✓", "same": "✓", "nothing": "–"}
_CODE = frozenset({"Expectation", "Fingerprint", "Key", "Base", "Head", "Made from", "Partition"})
SHORT = 16
_SHARES = ("same", "explained", "unexplained", "in_flight")


def html_report(content: Mapping[str, Any]) -> str:
    """Return the page."""
    title = f"{content['pipeline']}: {content['base']} → {content['head']}"
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
        '<p class="eyebrow">Playhead · what a new version changes</p>',
        f"<h1>{escape(content['pipeline'])}: {escape(content['base'])} "
        f'<span class="arrow">→</span> {escape(content["head"])}</h1>',
        _verdict(content),
        *_counts(content),
        _section("What was expected", _table(told.expectations(content))),
        *(_column(n, stats) for n, stats in content["columns"].items() if stats["changed"]),
        _section("Rows that nothing explains", _table(told.samples(content))),
        _keys("Ghosts", "that only base has", content["ghost_keys"], content["ghost"]),
        _keys("New", "that only head has", content["new_keys"], content["new"]),
        _section("What was read", _time_line(content)),
        _section("What was compared", _table(told.versions(content))),
        _section("What was done last", _table(told.past(content))),
        f"<footer>Digest <code>{escape(content['digest'])}</code>. Made {content['made_at']} by "
        f"Playhead {escape(content['playhead'])}.</footer>",
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>" if body else ""


def _verdict(content: Mapping[str, Any]) -> str:
    said = content["verdict"]
    text = said["text"][0].upper() + said["text"][1:]
    return (
        f'<section class="verdict {said["state"]}"><p class="said">'
        f'<span class="mark" aria-hidden="true">{MARKS[said["state"]]}</span>{escape(text)}.</p>'
        f"{_next(content)}</section>"
    )


def _next(content: Mapping[str, Any]) -> str:
    if content["next"] is None:
        return ""
    before = "What comes next:"
    if content["verdict"]["state"] == "unexplained":
        before = (
            "Correct the version, or say what changes with <code>expect=</code>. Or accept the "
            "rows below as they are:"
        )
    return f'<p class="quiet">{before}</p><p><code>{escape(content["next"])}</code></p>'


def _counts(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the counts of each output: a bar of shares, and a number for each."""
    for name, counts in content["tables"].items():
        shares = [(kind, counts[kind]) for kind in _SHARES]
        total = sum(n for _, n in shares)
        bar = _bar([(f"fill-{kind}", n / total if total else 0.0) for kind, n in shares], "share")
        parts = [_tile(kind, counts[kind], key=True) for kind in _SHARES]
        differing = [_tile(kind, counts[kind]) for kind in ("changed", "ghost", "new")]
        tiles = f'<ul class="tiles four">{"".join(parts)}</ul>'
        tiles += f'<ul class="tiles">{"".join(differing)}</ul>'
        rows = f'<p class="quiet">{_several(total, "key")} ({escape(", ".join(counts["key"]))})</p>'
        yield _section(name, f"{rows}{bar}{tiles}")


def _several(n: int, what: str) -> str:
    return f"{n:,} {what}" + "s" * (n != 1)


def _tile(kind: str, n: int, *, key: bool = False) -> str:
    mark = f'<i class="key-{kind}"></i>' if key else ""
    return f"<li><b>{n:,}</b><span>{mark}{kind.replace('_', ' ')}</span></li>"


def _bar(parts: Sequence[tuple[str, float]], kind: str, start: float = 0.0) -> str:
    """Return parts of a whole, side by side; what is there is wide enough to be seen."""
    shapes, at = [], start
    for fill, share in parts:
        if share > 0:
            width = max(share, 0.004)
            left = min(at, 1 - width)
            shapes.append(
                f'<rect class="{fill}" x="{left * 1000:.2f}" y="0" width="{width * 1000:.2f}" '
                'height="10"/>'
            )
        at += share
    return (
        f'<svg class="{kind}" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
        f'aria-hidden="true">{"".join(shapes)}</svg>'
    )


def _column(name: str, stats: Mapping[str, Any]) -> str:
    share = f"{stats['share']:.1%}" if stats["share"] is not None else "-"
    parts = [f"<p>{stats['changed']:,} of {stats['compared']:,} changed ({share}).</p>"]
    parts += [
        f'<p class="note">{unit["rows"]:,} of them are as <code>{escape(unit["formula"])}</code>: '
        f"{escape(unit['name'])}?</p>"
        for unit in stats.get("units", ())
    ]
    figures = [_histogram(kind, stats[kind]) for kind in told.TITLES if kind in stats]
    if figures:
        parts.append(f'<div class="pair">{"".join(figures)}</div>')
    worst = told.largest(stats)
    if worst[1]:
        parts.append("<h3>Largest changes</h3>" + _table(worst))
    return _section(name, "".join(parts))


def _histogram(kind: str, told_of: Mapping[str, Any]) -> str:
    histogram = told_of["histogram"]
    rows, most = histogram["rows"], max(histogram["rows"])
    n = len(rows)
    bars = []
    for i, count in enumerate(rows):
        if count:
            height = max(3.0, 100 * count / most)
            # One value alone is a spike in the middle, not a wall.
            left, width = (i / n, 0.9 / n) if n > 1 else (0.47, 0.06)
            bars.append(
                f'<rect class="fill-explained" x="{left * 1000:.2f}" y="{100 - height:.2f}" '
                f'width="{width * 1000:.2f}" height="{height:.2f}"/>'
            )
    unit = f" ({told_of['unit']})" if "unit" in told_of else ""
    scale = ", logarithmic" if histogram["scale"] == "log" else ""
    common = told.most_common(kind, told_of)
    low, high = f"{told_of['min']:.7g}", f"{told_of['max']:.7g}"
    ends = f"<span>{low}</span><span>{high}</span>"
    if n == 1:
        ends = f'<span style="margin:auto">{low}</span>' if low == high else ends
    label = f"{told.TITLES[kind]}: from {low} to {high}"
    return (
        f"<figure><figcaption>{told.TITLES[kind]}{unit}{scale}</figcaption>"
        f'<svg class="histogram" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(bars)}</svg>'
        f'<div class="axis">{ends}</div>'
        f'<p class="quiet">median {told_of["median"]:.7g}{common}</p></figure>'
    )


def _keys(title: str, what: str, listed: Sequence[Mapping[str, Any]], n: int) -> str:
    if not n:
        return ""
    shown = [f"<code>{escape(told.shown(k['key']))}</code>" for k in listed]
    more = f" and {n - len(listed):,} more" if n > len(listed) else ""
    count = f'<p class="quiet">{_several(n, "key")} {what}</p>'
    return _section(title, f"{count}<p>{' · '.join(shown)}{more}</p>")


def _time_line(content: Mapping[str, Any]) -> str:
    """Return for each partition what the log retains and how far each version has read it."""
    lines = []
    for version in content["versions"]:
        for part in version["partitions"]:
            start, end = part["read"]
            first, last = part["retained"] or (start, end)
            whole = max(last, end) - min(first, start) or 1
            begin = (start - min(first, start)) / whole
            kind = "same" if version["role"] == "base" else "explained"
            bar = _bar([(f"fill-{kind}", (end - start) / whole)], "track share", begin)
            held = f" of [{first}, {last})" if part["retained"] else ""
            when = f"{part['from_time'] or '?'} – {part['to_time'] or '?'}"
            lines.append(
                f'<div><div class="label"><span>{escape(version["version"])} '
                f'<span class="quiet">{escape(version["topic"])}[{part["partition"]}]</span></span>'
                f"<span>[{start}, {end}){held}</span></div>{bar}"
                f'<div class="quiet">{when}</div></div>'
            )
    return f'<div class="time">{"".join(lines)}</div>' if lines else ""


def _table(section: told.Section) -> str:
    headings, rows = section
    if not rows:
        return ""
    used = [i for i in range(len(headings)) if any(row[i] is not None for row in rows)]
    right = {i for i in used if all(is_number(row[i]) or row[i] is None for row in rows)}
    head = "".join(f"<th{_class(i in right)}>{escape(headings[i])}</th>" for i in used)
    body = []
    for row in rows:
        cells = (
            f'<td data-label="{escape(headings[i])}"{_class(i in right, row[i])}>'
            f"{_cell(headings[i], row[i])}</td>"
            for i in used
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _class(right: bool, value: object = None) -> str:
    kinds = ["number"] * right + ["wide"] * (len(told.shown(value)) > SHORT)
    return f' class="{" ".join(kinds)}"' if kinds else ""


def _cell(heading: str, value: object) -> str:
    shown = told.shown(value)
    text = escape(shown)
    if value is None:
        return '<span class="quiet">–</span>'
    if is_number(value) or (heading not in _CODE and len(shown) <= SHORT):
        return f'<span class="whole">{text}</span>' if heading != "Note" else _warned(text)
    return f'<span class="code">{text}</span>' if heading in _CODE else f"<span>{text}</span>"


def _warned(text: str) -> str:
    return f'<span class="warn">{text}</span>'
