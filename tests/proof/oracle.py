"""What must come out of the project in ``project.py``, computed from a dump of its input.

Plain Python, one record after another; imports nothing of the product's. The dump is JSON lines:
``{"partition", "offset", "key", "value", "ts"}``, in log order per partition, key and value as text
or null. As a script, ``python tests/proof/oracle.py DUMP [FACTOR]`` prints it. Floats are written
in hexadecimal, so that equal means equal in every bit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


def bits(number: float | None) -> str | None:
    """Return a float's bits as text; None stays None."""
    return None if number is None else float(number).hex()


def positive(number: float | None) -> float | None:
    """Return what is written for a number: −0.0 is written as 0.0."""
    return 0.0 if number == 0 else number


def read(record: Record) -> tuple[int, float | None] | None:
    """Return (key, x) of a record's value; None: it is a dead letter."""
    try:
        value = json.loads(record["value"])
        key, x = value["key"], value.get("x")
    except (TypeError, ValueError, KeyError, AttributeError):
        return None
    if type(key) is not int or type(x) not in {int, float, type(None)}:
        return None
    return key, None if x is None else float(x)


class Fold:
    """The pipeline, record by record: what each key carries and what each record gives."""

    def __init__(self, factor: float = 1.0) -> None:
        """Start with nothing; ``factor`` multiplies the total that is written."""
        self.factor = factor
        self.before: dict[int, float | None] = {}
        self.total: dict[int, float] = {}
        self.count: dict[int, int] = {}
        self.rows: dict[int, tuple[Any, ...]] = {}
        self.out: dict[int, dict[str, Any]] = {}
        self.dead: list[tuple[int, int, str | None]] = []

    def take(self, record: Record) -> dict[str, Any] | None:
        """Process one record; return the record that is published for it, None for a dead one."""
        found = read(record)
        if found is None:
            self.dead.append((record["partition"], record["offset"], record["value"]))
            return None
        key, x = found
        before = self.before.get(key)
        total = self.total.get(key, 0.0) + (0.0 if x is None else x)
        count = self.count.get(key, 0) + (x is not None)
        self.before[key], self.total[key], self.count[key] = x, total, count
        written = (bits(positive(total * self.factor)), bits(positive(before)), count)
        self.rows[key] = (key, *written, record["partition"], record["offset"])
        out = {
            "partition": record["partition"],
            "source": record["offset"],
            "key": str(key),
            "value": dict(zip(("key", "total", "before", "n"), (key, *written), strict=True)),
            "ts": record["ts"],
        }
        self.out[record["offset"]] = out
        return out

    def state(self) -> dict[str, dict[str, Any]]:
        """Return what is carried, by operator and key."""
        return {
            "before": {str(k): bits(x) for k, x in sorted(self.before.items())},
            "total": {str(k): bits(x) for k, x in sorted(self.total.items())},
            "n": {str(k): n for k, n in sorted(self.count.items())},
        }


def expected(records: Iterable[Record], factor: float = 1.0) -> dict[str, Any]:
    """Return everything that must be there once the records were processed once, in order."""
    folds: dict[int, Fold] = {}
    published: dict[int, list[dict[str, Any]]] = {}
    cursor: dict[int, int] = {}
    for record in records:
        partition = record["partition"]
        fold = folds.setdefault(partition, Fold(factor))
        out = fold.take(record)
        if out is not None:
            published.setdefault(partition, []).append(out)
        cursor[partition] = record["offset"] + 1
    rows = sorted(row for fold in folds.values() for row in fold.rows.values())
    return {
        "table": [list(row) for row in rows],
        "topic": {str(p): published[p] for p in sorted(published)},
        "state": {str(p): folds[p].state() for p in sorted(folds)},
        "dead": sorted(list(d) for fold in folds.values() for d in fold.dead),
        "cursor": {str(p): cursor[p] for p in sorted(cursor)},
    }


def parsed(text: str) -> Iterator[Record]:
    """Yield the records of a dump."""
    for line in text.splitlines():
        yield json.loads(line)


if __name__ == "__main__":
    factor_given = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    dump = Path(sys.argv[1]).read_text(encoding="utf-8")
    print(json.dumps(expected(parsed(dump), factor_given), indent=1))
