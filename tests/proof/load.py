"""Records that come in at a steady rate, and readers who poll, in a process of their own.

``python load.py FOLDER RATE`` produces into the topic ``points`` until its standard input is
closed, then prints one JSON object: how many records it produced, how often each reader read, and
what was wrong. Two readers poll the view, two the mirror.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb

from playhead.adapters.local_log import LocalLog
from playhead.core.records import Outgoing, partition_of

KEYS = 40
PARTITIONS = 2
TICK_S, LOOK_S = 0.02, 0.1
ASKED = "SELECT count(DISTINCT v), min(v), sum(n) FROM counted"


class Readers:
    """Two of the view, two of the mirror; each looks until told to stop."""

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        self.store, self.mirror = folder / ".playhead/store.db", folder / "warehouse.duckdb"
        self.stop = stop
        self.wrong: list[str] = []
        self.read = {"view": 0, "mirror": 0}
        self.versions: set[str] = set()
        self.longest_standstill_s = 0.0

    def threads(self) -> list[threading.Thread]:
        looks = [self._view, self._view, self._mirror, self._mirror]
        return [threading.Thread(target=self._poll, args=(look,)) for look in looks]

    def _poll(self, look: Callable[[], tuple[str, int, str, int]]) -> None:
        before, grown_at = 0, time.monotonic()
        while not self.stop.wait(LOOK_S):
            try:
                kind, versions, version, total = look()
            except (sqlite3.Error, duckdb.Error) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                continue
            self.read[kind] += 1
            self.versions.add(version)
            if versions != 1:
                self.wrong.append(f"a result of {versions} versions in the {kind}")
            if total < before:
                self.wrong.append(f"the {kind} went back from {before} to {total}")
            if total > before and kind == "view":
                stood_s = time.monotonic() - grown_at
                self.longest_standstill_s = max(self.longest_standstill_s, stood_s)
                grown_at = time.monotonic()
            before = total

    def _view(self) -> tuple[str, int, str, int]:
        address = f"file:{self.store}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as store:
            return ("view", *store.execute(ASKED).fetchone())

    def _mirror(self) -> tuple[str, int, str, int]:
        with duckdb.connect(str(self.mirror), read_only=True) as mirror:
            versions, version, total = mirror.execute(ASKED).fetchall()[0]
            (told,) = mirror.execute(
                "SELECT version FROM playhead WHERE stage = 'live'"
            ).fetchall()[0]
            if not told.endswith(f"@{version}"):
                self.wrong.append(f"the mirror says {told} and shows {version}")
            return "mirror", versions, version, int(total)


def produce(log: LocalLog, rate: int, stop: threading.Event) -> int:
    """Append records at a rate, in a transaction a tick; return how many."""
    begun, done = time.monotonic(), 0
    with closing(log.appender("load")) as appender:
        while not stop.wait(TICK_S):
            due = int((time.monotonic() - begun) * rate)
            outgoing = Outgoing("points")
            for i in range(done, due):
                key = str(i % KEYS).encode()
                value = b'{"key": %d}' % (i % KEYS)
                outgoing.add(partition_of(key, PARTITIONS), key, value, 1_700_000_000_000 + i)
            appender.append(outgoing)
            appender.commit()
            done = due
    return done


def main(folder: Path, rate: int) -> None:
    """Load until standard input is closed."""
    stop = threading.Event()
    readers = Readers(folder, stop)
    threads = readers.threads()
    produced: list[int] = []
    with closing(LocalLog(folder / ".playhead/log.db")) as log:
        producing = threading.Thread(target=lambda: produced.append(produce(log, rate, stop)))
        for thread in (producing, *threads):
            thread.start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
        stop.set()
        for thread in (producing, *threads):
            thread.join()
    found = {
        "produced": sum(produced),
        "read": readers.read,
        "versions": sorted(readers.versions),
        "wrong": readers.wrong[:20],
        "longest_standstill_s": readers.longest_standstill_s,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
