"""Run the job in Playhead and its peers, side by side, on one broker; write what came out.

``python benchmarks/bench.py [--records N] [--keys K] [--times T] [--only NAME,…] [--out FILE]``

Before anything is timed, each program does a small history, and its output is compared with what
the points give: every record, its value to 1e-6 km, the order within a key, and the count. Then
they take turns: one round warms up, and the rounds after it are measured. A program's time is that
of its whole process, less that of the same process on 1,000 records: what it takes to start does
not count, for anybody.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from history import PARTITIONS, History, check, check_table, create, delete, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = ROOT / ".cache"
sys.path.insert(0, str(ROOT / "tests"))

from servers import KafkaServer  # noqa: E402  a script finds its neighbours itself

BROKER = ("-Xmx1g", "-XX:+UseG1GC")
PLAYHEAD = str(Path(sys.executable).parent / "playhead")
FEW = 1_000
QUICK = {"both": 0.4, "table": 0.5}  # wide margins: short runs on a machine that may be busy


@dataclass(slots=True)
class Spent:
    """What one run of a process took: seconds, CPU seconds, and peak memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(slots=True)
class Place:
    """Where a run works: broker, the source with its history, a folder, and a word of its own."""

    bootstrap: str
    source: str
    history: History
    folder: Path
    word: str


def spend(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> Spent:
    """Run a process to its end; a failure ends the benchmark with what it said."""
    said = folder / "said.txt"
    with said.open("w") as out:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        peak_mb, ended = 0.0, 0
        while not ended:
            peak_mb = max(peak_mb, memory(process.pid))
            time.sleep(0.01)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(
            f"{' '.join(command)}\nended with {process.returncode}:\n{said.read_text()[-3000:]}"
        )
    return Spent(wall, usage.ru_utime + usage.ru_stime, peak_mb)


def memory(pid: int) -> float:
    """Return the most memory that a process has had since it began, in MB.

    Not from its resource usage: a child's begins with what its parent has at the fork.
    """
    try:
        said = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0.0
    found = [line.split()[1] for line in said.splitlines() if line.startswith("VmHWM")]
    return int(found[0]) / 1024 if found else 0.0


class Peer:
    """A program that is one command: reads the source from its beginning to its end, and ends."""

    def __init__(
        self,
        command: Callable[[Place], list[str]],
        *,
        topics: tuple[str, ...] = ("out",),
        checks: str = "topic",
    ) -> None:
        """Keep the command; ``topics`` are created before each run, and deleted after it."""
        self._command, self._topics, self._checks = command, topics, checks

    def run(self, place: Place, times: int, *, checked: bool = False) -> Iterator[Spent]:
        """Run so many times, each time into topics of its own."""
        for _ in range(times):
            topics = [f"{place.word}-{name}" for name in self._topics]
            if topics:
                create(place.bootstrap, *topics)
            spent = spend(self._command(place), place.folder)
            if checked and self._checks == "topic":
                check(place.bootstrap, topics[0], place.history)
            if checked and self._checks == "table":
                file = sqlite3.connect(place.folder / "table.db")
                check_table(file.execute("SELECT * FROM dist_calc").fetchall(), place.history)
            if topics:
                delete(place.bootstrap, *topics)
            for left in (*place.folder.glob("table.db*"), place.folder / "state"):
                shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
            yield spent


class Project:
    """A project in a folder, with one of the modules in ``project/``."""

    def __init__(self, folder: Path, log: str, module: str, **told: str) -> None:
        """Write it; ``told`` is what the module finds as ``BENCH_…`` in the environment."""
        folder.mkdir()
        self.folder = folder
        shutil.copy(HERE / "project" / f"{module}.py", folder)
        (folder / "playhead.toml").write_text(f'app = "{module}:app"\nlog = "{log}"\n')
        self.environment = {f"BENCH_{name.upper()}": value for name, value in told.items()}

    def spend(self, *words: str) -> Spent:
        """Run a command; return what it took."""
        return spend([PLAYHEAD, *words], self.folder, self.environment)

    def forget(self) -> None:
        """Empty the history cache: what is replayed next is read from the log."""
        shutil.rmtree(self.folder / ".playhead/cache", ignore_errors=True)

    def store(self) -> sqlite3.Connection:
        """Open the store, to look at a table."""
        return sqlite3.connect(self.folder / ".playhead/store.db", timeout=10)


class Playhead:
    """`playhead replay` of a version beside a live one that has read everything."""

    def __init__(
        self, module: str, job: str, *, topic: str | None = None, again: bool = False
    ) -> None:
        """Measure one pipeline of a module in ``project/``.

        ``again``: of a history that was read here before; else it is not in the history cache.
        """
        self._module, self._job, self._topic, self._again = module, job, topic, again

    def run(self, place: Place, times: int, *, checked: bool = False) -> Iterator[Spent]:
        """Run live to the end once, and then replay so many versions."""
        suffix = f"_{place.word}".replace("-", "_")
        project = Project(
            place.folder / "project",
            f"kafka://{place.bootstrap}",
            self._module,
            source=place.source,
            suffix=suffix,
            times=str(times),
            jobs=self._job,
        )
        project.spend("run", "--until-caught-up", "-q")
        topic = f"{self._topic}{suffix}" if self._topic else None
        for i in range(times):
            version = f"{self._job}{suffix}@r{i}"
            if not self._again:
                project.forget()
            spent = project.spend("replay", version, "-q")
            if checked and topic and self._job != "copy":
                check(place.bootstrap, f"{topic}.r{i}", place.history)
            if checked and self._job in {"both", "alone", "rowwise"}:
                rows = (
                    project.store()
                    .execute(f"SELECT track_id, distance FROM {self._job}__r{i}")
                    .fetchall()
                )
                check_table(rows, place.history)
            if topic:
                delete(place.bootstrap, f"{topic}.r{i}")
            yield spent
        if topic:
            delete(place.bootstrap, f"{topic}.v")
        shutil.rmtree(project.folder)


def _python(file: str, *more: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        words = [w.format(word=place.word, folder=place.folder) for w in more]
        script = [sys.executable, str(HERE / file), place.bootstrap, place.source]
        return [*script, str(place.history.records), *words]

    return command


def _quix(place: Place) -> list[str]:
    python = CACHE / "quix/bin/python"
    script = [str(python), str(HERE / "quix.py"), place.bootstrap, place.source]
    return [*script, str(place.history.records), f"{place.word}-out", str(place.folder / "state")]


def _streams(place: Place) -> list[str]:
    jars = CACHE / "streams"
    java = ["java", "-Xmx1g", "-cp", f"{jars / 'classes'}:{jars / 'libs'}/*", "Distance"]
    state = str(place.folder / "state")
    words = [place.bootstrap, place.source, str(place.history.records), f"{place.word}-out", state]
    return [*java, *words]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row of the table.

    Attributes:
        name: What it is.
        job: What is done: ``both`` (topic and table), ``table``, ``copy`` or ``row``.
        guarantee: Its delivery guarantee.
        program: What runs it.
        needs: What has to be built for it: ``quix``, ``streams`` or nothing.
        share: The part of the history that it is given, where it is slow.
    """

    name: str
    job: str
    guarantee: str
    program: Peer | Playhead
    needs: str = ""
    share: float = 1.0


HAND = ("out", "out-changelog")
AGAIN = "Playhead a second time"
CONTESTANTS = (
    Contestant(
        "Playhead",
        "both",
        "exactly once, topic and table",
        Playhead("bench", "both", topic="distances"),
    ),
    Contestant(
        AGAIN,
        "both",
        "exactly once, topic and table",
        Playhead("bench", "both", topic="distances", again=True),
    ),
    Contestant(
        "hand-written loop",
        "both",
        "exactly once, topic; no table",
        Peer(_python("handwritten.py", "--to", "{word}-out"), topics=HAND),
    ),
    Contestant("Kafka Streams", "both", "exactly once, topic and state", Peer(_streams), "streams"),
    Contestant("Quix Streams", "both", "exactly once, topic and state", Peer(_quix), "quix", 0.25),
    Contestant("Playhead", "table", "exactly once, table", Playhead("bench", "alone")),
    Contestant(AGAIN, "table", "exactly once, table", Playhead("bench", "alone", again=True)),
    Contestant(
        "hand-written loop",
        "table",
        "at least once, table",
        Peer(_python("handwritten.py", "--table", "{folder}/table.db"), topics=(), checks="table"),
    ),
    Contestant("Playhead", "copy", "exactly once", Playhead("copying", "copy", topic="copied")),
    Contestant(
        "consume and produce",
        "copy",
        "exactly once",
        Peer(_python("handwritten.py", "--to", "{word}-out", "--copy"), topics=HAND, checks=""),
    ),
    Contestant(
        'Playhead per="row"', "row", "exactly once, table", Playhead("bench", "rowwise"), "", 0.25
    ),
    Contestant("Playhead", "filter", "exactly once, table", Playhead("bench", "filtered")),
    Contestant(AGAIN, "filter", "exactly once, table", Playhead("bench", "filtered", again=True)),
)


def build(needs: set[str]) -> None:
    """Install the peers, once, into ``.cache``."""
    if "quix" in needs and not (CACHE / "quix/complete").exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE / "quix"], check=True)
        pip = [
            CACHE / "quix/bin/python",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, "-r", HERE / "requirements-quix.txt"], check=True)
        (CACHE / "quix/complete").touch()
    if "streams" in needs and not (CACHE / "streams/complete").exists():
        where = f"-DoutputDirectory={CACHE / 'streams/libs'}"
        maven = ["mvn", "-q", "-B"]
        subprocess.run(
            [*maven, "dependency:copy-dependencies", where], cwd=HERE / "streams", check=True
        )
        source = HERE / "streams/src/main/java/Distance.java"
        javac = ["javac", "-cp", f"{CACHE / 'streams/libs'}/*", "-d", CACHE / "streams/classes"]
        subprocess.run([*javac, source], check=True)
        (CACHE / "streams/complete").touch()


@contextmanager
def broker() -> Iterator[str]:
    """Give the address of a broker of its own, with the JVM's own compilers."""
    folder = Path(tempfile.mkdtemp(prefix="playhead-bench-"))
    server = KafkaServer(folder, flags=BROKER)
    server.start()
    try:
        yield server.bootstrap
    finally:
        server.stop()
        shutil.rmtree(folder)


@dataclass(slots=True)
class Figures:
    """What was measured of one contestant, net of its start, a number a round."""

    records: int
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)


def measure(
    chosen: list[Contestant], records: int, keys: int, times: int
) -> Iterator[tuple[Contestant, Figures]]:
    """Check each, then run them in turns; yield the figures of each at the end."""
    with broker() as bootstrap, tempfile.TemporaryDirectory(prefix="playhead-bench-") as scratch:
        sizes = {FEW, records // 20, *(int(records * c.share) for c in chosen)}
        histories = {n: History(n, keys) for n in sizes}
        for n, history in histories.items():
            write(bootstrap, f"points-{n}", history)

        def place(n: int, what: str, c: int) -> Place:
            folder = Path(scratch) / f"{what}{c}"
            folder.mkdir()
            return Place(bootstrap, f"points-{n}", histories[n], folder, f"{what}{c}")

        starts = []
        for i, one in enumerate(chosen):
            list(one.program.run(place(records // 20, "check", i), 1, checked=True))
            spent = list(one.program.run(place(FEW, "few", i), 3))
            starts.append(
                (
                    statistics.median(s.wall_s for s in spent),
                    statistics.median(s.cpu_s for s in spent),
                )
            )
            print(f"{one.job:6} {one.name:22} right; starts in {starts[-1][0]:.2f} s", flush=True)
        runs = [
            one.program.run(place(int(records * one.share), "run", i), times + 1)
            for i, one in enumerate(chosen)
        ]
        figures = [Figures(int(records * one.share)) for one in chosen]
        for turn in range(times + 1):
            for one, run, start, found in zip(chosen, runs, starts, figures, strict=True):
                spent = next(run)
                n = found.records - FEW
                rate, cpu = n / (spent.wall_s - start[0]), (spent.cpu_s - start[1]) / n * 1e6
                print(
                    f"{'warm' if turn == 0 else turn!s:4} {one.job:6} {one.name:22} "
                    f"{rate / 1000:7.0f} k/s {cpu:6.2f} CPU s/M {spent.peak_mb:6.0f} MB",
                    flush=True,
                )
                if turn:
                    found.rate.append(rate)
                    found.cpu.append(cpu)
                    found.peak.append(spent.peak_mb)
        for run in runs:
            run.close()
        yield from zip(chosen, figures, strict=True)


def main() -> None:
    """Measure what was asked for, and write it as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=4_000_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="under 2 minutes, ratios only")
    parser.add_argument("--only", default="", help="for example both:Playhead,table:Playhead")
    parser.add_argument("--out", type=Path, default=CACHE / "bench.jsonl")
    args = parser.parse_args()
    if args.quick:
        args.records, args.times, args.out = 400_000, 2, CACHE / "bench-quick.jsonl"
        args.only = "both:Playhead,both:hand-written loop,table:Playhead,table:hand-written loop"
    wanted = set(filter(None, args.only.split(",")))
    chosen = [c for c in CONTESTANTS if not wanted or {f"{c.job}:{c.name}", c.job} & wanted]
    build({c.needs for c in chosen})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rates: dict[tuple[str, str], float] = {}
    with args.out.open("w") as out:
        for one, found in measure(chosen, args.records, args.keys, args.times):
            row = {
                "job": one.job,
                "name": one.name,
                "guarantee": one.guarantee,
                "records": found.records,
                "keys": args.keys,
                "partitions": PARTITIONS,
                "rate": found.rate,
                "cpu": found.cpu,
                "peak": found.peak,
            }
            out.write(json.dumps(row) + "\n")
            rates[one.job, one.name] = statistics.median(found.rate)
    for job, least in QUICK.items() if args.quick else ():
        ratio = rates[job, "Playhead"] / rates[job, "hand-written loop"]
        print(f"{job}: {ratio:.2f} times the hand-written loop; at least {least} is expected")
        if ratio < least:
            sys.exit(1)


if __name__ == "__main__":
    main()
