"""Write ``docs/performance.md`` and its picture from what the benchmarks left in ``.cache``."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
JOBS = {
    "both": "Distance per car, to a topic",
    "table": "Distance per car, to a table only",
    "copy": "Forwarding a topic",
    "row": "Row by row, to a table",
    "filter": "Filtering, to a table",
}
AGAIN = "Playhead a second time"
# What each is asked to reach, as (job, figure, whose, of whom, of what): so many times it.
WANTED = (
    ("both", "rate", "Playhead", "Quix Streams", 6.0),
    ("both", "rate", "Playhead", "Kafka Streams", 1.4),
    ("both", "cpu", "Playhead", "Kafka Streams", 0.6),
    ("both", "rate", "Playhead", "hand-written loop", 1.0),
    ("table", "rate", "Playhead", "Quix Streams", 10.0),
    ("table", "rate", "Playhead", "hand-written loop", 1.4),
    ("copy", "rate", "Playhead", "consume and produce", 0.5),
    ("row", "rate", 'Playhead per="row"', "Quix Streams", 2.5),
    ("table", "rate", AGAIN, "Playhead", 1.6),
    ("filter", "rate", AGAIN, "Playhead", 3.0),
)


def rows(name: str) -> list[dict[str, object]]:
    """Return what a benchmark has left."""
    path = CACHE / name
    if not path.exists():
        sys.exit(f"{path} is not there: run the benchmark first")
    return [json.loads(line) for line in path.read_text().splitlines()]


def cell(numbers: list[float], scale: float = 1.0, digits: int = 0) -> str:
    """Return a median with the least and the most."""
    found = [statistics.median(numbers), min(numbers), max(numbers)]
    middle, low, high = (f"{number / scale:,.{digits}f}" for number in found)
    return f"{middle} ({low} … {high})"


def tables(found: list[dict]) -> list[str]:
    """Return a table for each job."""
    lines = []
    for job, title in JOBS.items():
        mine = [row for row in found if row["job"] == job]
        if not mine:
            continue
        lines += [
            f"## {title}",
            "",
            "| | 1,000 records/s | CPU s per million | peak MB | guarantee |",
        ]
        lines.append("|---|---:|---:|---:|---|")
        for row in mine:
            peak = cell(row["peak"]) if "peak" in row else "not measured"
            cells = [cell(row["rate"], 1000), cell(row["cpu"], 1, 2), peak]
            lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['guarantee']} |")
        lines.append("")
    return lines


def ratios(found: list[dict]) -> list[str]:
    """Return how the figures compare with what they have to be."""

    def middle(job: str, name: str, figure: str) -> float | None:
        for row in found:
            if (row["job"], row["name"]) == (job, name):
                return statistics.median(row[figure])
        return None

    lines = ["## What it has to reach", "", "| | wanted | is |", "|---|---:|---:|"]
    for job, figure, who, peer, wanted in WANTED:
        mine = middle(job, who, figure)
        theirs = middle("both" if peer == "Quix Streams" else job, peer, figure)
        if mine is None or theirs is None:
            continue
        what = {"rate": "records/s", "cpu": "CPU"}[figure]
        sign = "at most" if figure == "cpu" else "at least"
        title = f"{JOBS[job]}{', a second time' * (who == AGAIN)}: {what}, {peer} = 1"
        lines.append(f"| {title} | {sign} {wanted} | {mine / theirs:.2f} |")
    return [*lines, ""]


def void(found: list[dict]) -> list[str]:
    """Say so where a peer was slower than it is known to be: then the machine was not itself."""
    least = {"Kafka Streams": 180_000, "Quix Streams": 40_000}
    slow = [
        f"{row['name']} at {statistics.median(row['rate']) / 1000:,.0f} k/s"
        for row in found
        if statistics.median(row["rate"]) < least.get(row["name"], 0)
    ]
    if not slow:
        return []
    said = f"**Slower than it is known to be: {', '.join(slow)}.** The machine was busy otherwise"
    return [f"{said}; the ratios to it are to be measured again.", ""]


def missing(found: list[dict], alone: list[dict]) -> list[str]:
    """Say what the runs have left out."""
    gaps = []
    if any("peak" not in row for row in found):
        gaps.append("peak memory of the programs that are compared")
    if not any(row["what"].startswith("40 M") for row in alone):
        gaps.append("40 million records (`own.py --large`)")
    return [f"Not measured in these runs: {'; '.join(gaps)}.", ""] if gaps else []


def picture(found: list[dict]) -> str:
    """Return bars as SVG: records a second, job by job."""
    bars, y = [], 10
    most = max(statistics.median(row["rate"]) for row in found)
    for job, title in JOBS.items():
        mine = [row for row in found if row["job"] == job]
        if not mine:
            continue
        bars.append(f'<text x="0" y="{y + 12}" font-weight="bold">{title}</text>')
        y += 20
        for row in mine:
            rate = statistics.median(row["rate"])
            color = "#2563eb" if row["name"].startswith("Playhead") else "#94a3b8"
            bars.append(f'<text x="150" y="{y + 13}" text-anchor="end">{row["name"]}</text>')
            width = 400 * rate / most
            bars.append(f'<rect x="158" y="{y}" width="{width:.0f}" height="18" fill="{color}"/>')
            bars.append(f'<text x="{164 + width:.0f}" y="{y + 13}">{rate / 1000:,.0f} k/s</text>')
            y += 24
        y += 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {y}" width="640" height="{y}" '
        f'font-family="sans-serif" font-size="12"><rect width="640" height="{y}" fill="white"/>'
        f"{''.join(bars)}</svg>\n"
    )


def own(found: list[dict]) -> list[str]:
    """Return what was measured of Playhead alone."""
    lines = ["## Playhead alone", "", "| | | |", "|---|---:|---|"]
    for row in found:
        number = row["number"]
        digits = 0 if number >= 1000 else 2
        lines.append(f"| {row['what']} | {number:,.{digits}f} | {row['unit']} |")
    return [*lines, ""]


def main() -> None:
    """Write page and picture."""
    found = rows("bench.jsonl")
    head = (
        (ROOT / "benchmarks/head.md")
        .read_text(encoding="utf-8")
        .format(
            records=found[0]["records"],
            keys=found[0]["keys"],
            partitions=found[0]["partitions"],
            kafka="4.1.0",
            cores=os.cpu_count(),
            python=platform.python_version(),
            day=time.strftime("%Y-%m-%d", time.gmtime()),
            playhead=version("playhead"),
            polars=version("polars"),
            confluent=version("confluent-kafka"),
            times=len(found[0]["rate"]),
        )
    )
    alone = rows("own.jsonl")
    lines = [
        head,
        *tables(found),
        *ratios(found),
        *void(found),
        *own(alone),
        *missing(found, alone),
    ]
    limits = (ROOT / "benchmarks/limits.md").read_text(encoding="utf-8")
    (ROOT / "docs/performance.md").write_text("\n".join([*lines, limits]), encoding="utf-8")
    (ROOT / "docs/performance.svg").write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    main()
