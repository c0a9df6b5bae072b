"""What Playhead takes for everything but the peers' job; one figure a line.

``python benchmarks/own.py [--large] [--out FILE]``

Memory and CPU as history grows (4 M and, with ``--large``, 40 M records), state of a million keys;
latency of a live pipeline on both logs; the local log; diff, promotion, mirror of a million keys.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from bench import CACHE, FEW, PLAYHEAD, Project, Spent, broker
from confluent_kafka import Producer
from history import PARTITIONS, TIME, History, create, write

MANY = 1_000_000
LIVE_S, PER_S = 30, 1_000


def project_in(folder: Path, log: str, source: str, times: int = 2) -> Project:
    """Write a project with the job that goes to a table alone."""
    suffix = f"_{source}".replace("-", "_")
    told = {"source": source, "jobs": "alone", "times": str(times), "suffix": suffix}
    return Project(folder, log, "bench", **told)


def alone(project: Project) -> str:
    """Return the name of its pipeline."""
    return f"alone{project.environment['BENCH_SUFFIX']}"


def jsonl(path: Path, history: History) -> None:
    """Write a history as a file, one point a line."""
    number = 0
    with path.open("w") as file:
        for tracks, lats, lons in history.chunks():
            rows = zip(tracks.tolist(), lats.tolist(), lons.tolist(), strict=True)
            for track, lat, lon in rows:
                number += 1
                file.write(
                    f'{{"id":{number},"latitude":{lat!r},"longitude":{lon!r},"track_id":{track},'
                    f'"time":"{TIME % (number % 60)}"}}\n'
                )


def growth(scratch: Path, large: bool) -> Iterator[tuple[str, float, str]]:
    """Memory, CPU and time as history grows, and with a million keys."""
    cases = [("4 M records", 4_000_000, 1_000), ("1 M keys", 4_000_000, MANY)]
    if large:
        cases.insert(1, ("40 M records", 40_000_000, 1_000))
    with broker() as bootstrap:
        write(bootstrap, "few", History(1_000, 1_000))
        empty = project_in(scratch / "few", f"kafka://{bootstrap}", "few", 1)
        empty.spend("run", "--until-caught-up", "-q")
        start = empty.spend("replay", f"{alone(empty)}@r0", "-q")
        yield "memory of a replay of 1,000 records", start.peak_mb, "MB"
        for i, (name, records, keys) in enumerate(cases):
            source = f"grown-{i}"
            write(bootstrap, source, History(records, keys))
            project = project_in(scratch / source, f"kafka://{bootstrap}", source, 1)
            project.spend("run", "--until-caught-up", "-q")
            project.forget()
            spent = project.spend("replay", f"{alone(project)}@r0", "-q")
            yield f"{name}: memory", spent.peak_mb, "MB"
            yield f"{name}: rate", records / (spent.wall_s - start.wall_s), "records/s"
            yield f"{name}: CPU", (spent.cpu_s - start.cpu_s) / records * 1e6, "s per M records"
            if keys == MANY:
                again = project.spend("run", "--until-caught-up", "-q")
                yield "1 M keys: a start from the snapshot", again.wall_s, "s"


@contextmanager
def running(project: Project) -> Iterator[None]:
    """Run live beside the block."""
    with (project.folder / "live.log").open("w") as log:
        process = subprocess.Popen(
            [PLAYHEAD, "run"],
            cwd=project.folder,
            env={**os.environ, **project.environment},
            stdout=log,
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def latency(project: Project, append) -> dict[str, list[float]]:
    """Return milliseconds from a record's append to its being seen in the store's table."""
    sent: list[float] = []
    seen: list[float] = []
    total = LIVE_S * PER_S

    def watch() -> None:
        with closing(project.store()) as store:
            while len(seen) < total:
                (at,) = store.execute(
                    f"SELECT coalesce(max(next), 0) FROM playhead__cursor WHERE version = "
                    f"'{alone(project)}@v'"
                ).fetchone()
                now = time.perf_counter()
                seen.extend([now] * (at - len(seen)))
                time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    begun = time.perf_counter()
    for i in range(total):
        while time.perf_counter() < begun + i / PER_S:
            time.sleep(0.0005)
        append(i, sent)
    watching.join(60)
    waits = sorted((b - a) * 1000 for a, b in zip(sent, seen, strict=False))[:total]
    return {"ms": waits}


def live(scratch: Path) -> Iterator[tuple[str, float, str]]:
    """Latency on both logs, one partition."""
    value = '{{"id":{0},"latitude":1.5,"longitude":{0}e-5,"track_id":{1},"time":"x"}}'
    with broker() as bootstrap:
        create(bootstrap, "live", partitions=1)
        project = project_in(scratch / "live", f"kafka://{bootstrap}", "live", 0)
        producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "acks": "all"})

        def to_kafka(i: int, sent: list[float]) -> None:
            sent.append(time.perf_counter())
            producer.produce("live", value.format(i, i % 100), str(i % 100))
            producer.poll(0)

        with running(project):
            wait_for(project)
            yield from shown("Kafka", latency(project, to_kafka)["ms"])
    from playhead.adapters.local_log import LocalLog
    from playhead.core.records import Outgoing

    project = project_in(scratch / "lived", "local:.playhead/log.db", "lived", 0)
    with closing(LocalLog(project.folder / ".playhead/log.db")) as log:
        log.create_topic("lived", 1, {})
        appender = log.appender("bench")
        waiting: list[tuple[int, float]] = []

        def to_file(i: int, sent: list[float]) -> None:
            waiting.append((i, time.perf_counter()))
            if len(waiting) < 10 and i + 1 < LIVE_S * PER_S:
                return  # as `playhead ingest` does: some at a time
            out = Outgoing("lived")
            for j, at in waiting:
                sent.append(at)
                out.add(
                    0, str(j % 100).encode(), value.format(j, j % 100).encode(), 1_700_000_000_000
                )
            waiting.clear()
            appender.append(out)
            appender.commit()

        with running(project):
            wait_for(project)
            yield from shown("the local log", latency(project, to_file)["ms"])


def wait_for(project: Project) -> None:
    """Wait until live has begun."""
    for _ in range(300):
        try:
            with closing(project.store()) as store:
                if store.execute("SELECT count(*) FROM playhead__cursor").fetchone()[0]:
                    return
        except sqlite3.Error:
            pass
        time.sleep(0.1)
    sys.exit((project.folder / "live.log").read_text())


def shown(log: str, waits: list[float]) -> Iterator[tuple[str, float, str]]:
    """Yield median, 99th percentile and a histogram of latencies."""
    yield f"latency on {log}: median", statistics.median(waits), "ms"
    yield f"latency on {log}: p99", waits[int(len(waits) * 0.99)], "ms"
    for low, high in ((0, 10), (10, 20), (20, 50), (50, 100), (100, 200), (200, 500), (500, 1e9)):
        name = f"{low} to {high:g} ms" if high < 1e9 else f"above {low} ms"
        count = sum(low <= w < high for w in waits)
        yield f"latency on {log}, {name}", 100 * count / len(waits), "% of records"


def local(scratch: Path) -> Iterator[tuple[str, float, str]]:
    """The local log: ingest, and replay to a table, net of what it takes to start."""
    took = {}
    for records in (FEW, MANY):
        project, ingested = ingest(scratch / f"local-{records}", History(records, 1_000))
        project.forget()
        replayed = project.spend("replay", f"{alone(project)}@r0", "-q")
        took[records] = ingested.wall_s, replayed.wall_s
    for what, few, many in zip(("ingest", "replay to a table"), *took.values(), strict=True):
        yield f"local log: {what}", (MANY - FEW) / (many - few), "records/s"


def keys(scratch: Path) -> Iterator[tuple[str, float, str]]:
    """Diff, mirror and promotion of nearly a million keys."""
    project, _ = ingest(scratch / "keys", History(3 * MANY, MANY))
    with closing(project.store()) as store:
        yield "keys", store.execute("SELECT count(*) FROM alone").fetchone()[0], "keys"
    yield "mirror of them, built anew", mirrored(project), "s"
    project.spend("replay", f"{alone(project)}@r0", "-q")
    yield "mirror of two tables of them, built anew", mirrored(project), "s"
    yield "diff of them", project.spend("diff", alone(project), "-q").wall_s, "s"
    begun = time.perf_counter()
    done = subprocess.run(
        [PLAYHEAD, "promote", f"{alone(project)}@r0", "-o", "json"],
        cwd=project.folder,
        env={**os.environ, **project.environment},
        capture_output=True,
        check=True,
    )
    yield "promote, with diff and mirror", time.perf_counter() - begun, "s"
    yield "promote: live stood still", json.loads(done.stdout)["paused_s"], "s"


def mirrored(project: Project) -> float:
    """Build the mirror anew; return how long the command took, its start included."""
    (project.folder / "warehouse.duckdb").unlink()
    return project.spend("query", "SELECT 1", "-q").wall_s


def ingest(folder: Path, history: History) -> tuple[Project, Spent]:
    """Put a history into a local log, and run live; return what the ingest took."""
    project = project_in(folder, "local:.playhead/log.db", "points", 2)
    jsonl(project.folder / "points.jsonl", history)
    words = ("points.jsonl", "--topic", "points", "--partitions", str(PARTITIONS), "-q")
    spent = project.spend("ingest", *words)
    project.spend("run", "--until-caught-up", "-q")
    return project, spent


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", default="local,keys,live,growth")
    parser.add_argument("--out", type=Path, default=CACHE / "own.jsonl")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="playhead-own-") as folder, args.out.open("w") as out:
        scratch = Path(folder)
        parts = {
            "local": lambda: local(scratch),
            "keys": lambda: keys(scratch),
            "live": lambda: live(scratch),
            "growth": lambda: growth(scratch, args.large),
        }
        for name in args.only.split(","):
            for what, number, unit in parts[name]():
                print(f"{what:45} {number:12,.2f} {unit}", flush=True)
                out.write(json.dumps({"what": what, "number": number, "unit": unit}) + "\n")


if __name__ == "__main__":
    main()
