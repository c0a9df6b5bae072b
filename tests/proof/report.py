"""Write ``docs/proof.md`` from the figures of a run.

``python tests/proof/report.py begin FIGURES`` before it, ``python tests/proof/report.py FIGURES``
after it.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from servers import KAFKA_VERSION  # noqa: E402  a script finds its neighbours itself

TITLES = {
    "crash cells": "Crash matrix: killed there, restarted, equal to the oracle in every bit",
    "random kills": "Random kills: 0 lost, 0 duplicated, 0 reordered within a key",
    "programs": "Stateful model: what happened in the programs; the laws held after each step",
    "rewind table": "Rewind table: rewinds that equal a fresh pass",
    "cycles": "Promotions and rollbacks while records come in and four readers poll: no error",
    "diff": "Diff of many keys, in bounded memory",
    "seeded bugs": "Seeded bugs, and how many the one test that each names has found",
    "seconds": "Time, in seconds, six at once",
}
HEAD = """\
# What was proven

Written by `make test-long` on {day}: Python {python}, SQLite {sqlite}, Apache Kafka {kafka}, polars
{polars}, confluent-kafka {confluent}; {cores} cores, {minutes:.0f} minutes in all. Nothing here is
typed by hand. What each proof does is said in `docs/DESIGN.md`, "What proves it".
"""


def read(path: Path) -> dict[str, dict[str, float]]:
    """Return the figures, summed, by kind and what they count."""
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line in path.read_text(encoding="utf-8").splitlines():
        figure = json.loads(line)
        found[figure["kind"]][figure["what"]] += figure["number"]
    return found


def page(figures: dict[str, dict[str, float]], minutes: float) -> str:
    """Return the page."""
    lines = [
        HEAD.format(
            day=time.strftime("%Y-%m-%d", time.gmtime()),
            python=platform.python_version(),
            sqlite=sqlite3.sqlite_version,
            kafka=KAFKA_VERSION,
            polars=version("polars"),
            confluent=version("confluent-kafka"),
            cores=os.cpu_count(),
            minutes=minutes,
        )
    ]
    for kind, title in TITLES.items():
        lines += [f"## {title}", "", "| | |", "|---|---:|"]
        counted = figures.get(kind, {})
        lines += [f"| {what} | {number:,.0f} |" for what, number in sorted(counted.items())]
        if kind in {"crash cells", "rewind table", "seconds"} and len(counted) > 1:
            lines.append(f"| in all | {sum(counted.values()):,.0f} |")
        lines.append("")
    return "\n".join(lines)


def main(path: Path) -> None:
    """Write the page; every proof must have left a figure."""
    figures = read(path)
    missing = [kind for kind in TITLES if not figures.get(kind)]
    if missing:
        sys.exit(f"{path} has no figure of: {', '.join(missing)}")
    begun = figures.pop("begun")["at"]
    (ROOT / "docs/proof.md").write_text(page(figures, (time.time() - begun) / 60), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "begin":
        line = json.dumps({"kind": "begun", "what": "at", "number": time.time()})
        Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
        Path(sys.argv[2]).write_text(line + "\n", encoding="utf-8")
    else:
        main(Path(sys.argv[1]))
