"""Whether a function gives the same bits, however the log is cut, wherever it runs. Read-only."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from playhead.core.declare import Version
from playhead.core.lineage import Upstream
from playhead.core.offsets import OffsetRange, TopicPartition
from playhead.core.records import Records
from playhead.core.sameness import Unlike, first_unlike
from playhead.core.slots import Slots, decode
from playhead.engine.reading import read_all
from playhead.engine.upstream import fresh, known_now
from playhead.errors import PlayheadError
from playhead.ops.check_child import Job, Raised
from playhead.ops.versions import Known, existing_topic
from playhead.ports import Log
from playhead.project import Project

READ_RECORDS = 10_000
CUTS = ("whole", "again", "halves", "random", "7", "1")
SEEDS = (1, 2, 3)
# 26 hours apart: whatever the time is, it is another day in at least one of them.
ZONES = ("Pacific/Kiritimati", "Etc/GMT+12")
_TOLD = {
    "whole": "one batch",
    "again": "one batch, a second time in the same process",
    "halves": "two halves",
    "random": "random batches",
    "7": "batches of 7",
    "1": "batches of 1",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        version: ``pipeline@label``, or a pipeline: every version that is declared.
        records: Most records to read of each partition.
        newest: Take the newest ones; else the oldest that are retained.
    """

    version: str
    records: int = READ_RECORDS
    newest: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One pass over the sample: how it was cut, and the process that it ran in."""

    cut: str = "whole"
    seed: int = 0
    zone: str | None = None

    def __str__(self) -> str:
        """Return what tells it from the others."""
        if self.seed:
            return f"PYTHONHASHSEED={self.seed}"
        return f"TZ={self.zone}" if self.zone else _TOLD[self.cut]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two runs that differ: where first, and what usually does that.

    Attributes:
        runs: The two.
        where: ``topic[partition]@offset``, or the partition, or empty.
        unlike: The values, or None where one of the two raised.
        raised: The error of each, or None.
        hint: Likely causes, each with its cure.
    """

    runs: tuple[Run, Run]
    where: str
    unlike: Unlike | None
    raised: tuple[str | None, str | None]
    hint: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        version: ``pipeline@label``.
        topic: The topic that the sample is from.
        sample: Records read, and the range they were read in, by partition.
        runs: The runs that were compared with the first one, itself included.
        rtol: The tolerance that the pipeline declares for floats.
        difference: The first difference, or None.
    """

    version: str
    topic: str
    sample: Mapping[int, tuple[int, OffsetRange]]
    runs: Sequence[Run]
    rtol: float
    difference: Disagreement | None

    @property
    def records(self) -> int:
        """Records of the sample in all partitions."""
        return sum(count for count, _ in self.sample.values())


def check(
    project: Project, request: Request, say: Callable[[str], None] = lambda _sentence: None
) -> list[Checked]:
    """Run functions over a sample of history in several ways, and compare.

    One a version, in declared order; the first in which two runs differ is the last.

    Joins no group, and touches neither topics nor tables: what comes out is compared and dropped.

    Raises:
        ConfigError: No such version is declared.
        LogFailed: Its source topic does not exist.
        PlayheadError: The function raises in every run, or there is nothing to run it on.
    """
    done = []
    for subject in _chosen(project, request.version):
        done.append(_check(project, request, subject, say))
        if done[-1].difference is not None:
            break
    return done


def _check(
    project: Project,
    request: Request,
    subject: _Subject,
    say: Callable[[str], None],
) -> Checked:
    version, source = subject.version, subject.source
    with closing(project.open_log()) as log:
        existing_topic(log, source)
        records = [subject.counted(some) for some in _sample(log, source, request)]
    if not any(map(len, records)):
        raise PlayheadError(
            f"topic {source} holds no records: there is nothing to check {version.name} on",
            cure=f"Fill it: playhead ingest FILE --topic {source}.",
        )
    rtol = float(version.options.get("rtol", 0.0))
    sample = {r.source.partition: (len(r), OffsetRange(*_bounds(r))) for r in records if len(r)}
    total = sum(map(len, records))
    say(f"{version.name}: {total} records of {source}, run in other ways; nothing is written")
    with tempfile.TemporaryDirectory(prefix="playhead-check-") as folder:
        job = Job(str(project.root), project.settings.app or "", version.name, source, records)
        (Path(folder) / "job").write_bytes(msgspec.msgpack.encode(job))
        keys = {f"table/{t.name}": t.key for t in version.tables}
        runs, difference = _Bench(Path(folder), source, keys, rtol).compare()
    return Checked(version.name, source, sample, runs, rtol, difference)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A version to check: the physical topic that it reads, and what of it does not count.

    ``skipped`` has the offsets that somebody set aside, by partition; ``starts`` the generations of
    the versions that write the topic.
    """

    version: Version
    source: str
    skipped: Mapping[int, Collection[int]] = field(default_factory=dict)
    starts: Upstream = field(default_factory=dict)

    def counted(self, records: Records) -> Records:
        """Return the records that a run would hand to the function."""
        skipped = self.skipped.get(records.source.partition, ())
        if skipped:
            records = records.where([offset not in skipped for offset in records.offsets])
        return fresh(records, self.starts) if self.starts else records


def _chosen(project: Project, name: str) -> list[_Subject]:
    """Return the versions that are meant; what has run already, and what not, the store says."""
    known = Known(project.app, {})
    pipeline, at, _ = name.partition("@")
    chosen = [known.version(name)] if at else list(known.pipeline(pipeline).versions.values())
    try:
        store = project.open_store(must_exist=True)
    except PlayheadError as error:
        if type(error) is not PlayheadError:  # it has run, and the store cannot be asked
            raise
        return [_Subject(version, known.source(version)) for version in chosen]
    with closing(store):
        known, found = Known.read(project, store), []
        for version in chosen:
            source = known.source(version)
            writers = known.writers_of(source)
            skipped = store.history.skips(version.name)
            found.append(_Subject(version, source, skipped, known_now(store.ledger, writers)))
        return found


def _sample(log: Log, topic: str, request: Request) -> Iterator[Records]:
    """Yield what is read of each partition; never more than was asked for."""
    for partition, held in sorted(log.retained(topic).items()):
        place = TopicPartition(topic, partition)
        start = max(held.start, held.end - request.records) if request.newest else held.start
        whole = Records(place, [], [], [], [], start)
        for records in read_all(log, place, OffsetRange(start, held.end), request.records):
            whole = whole.followed_by(_first(records, request.records - len(whole)))
            if len(whole) == request.records:
                break
        yield whole


def _first(records: Records, count: int) -> Records:
    return records if len(records) <= count else records.before(records.offsets[count])


def _bounds(records: Records) -> tuple[int, int]:
    return records.offsets[0], records.offsets[-1] + 1


@dataclass(frozen=True, slots=True)
class _Bench:
    """Runs the sample in processes of their own and compares each run with the first."""

    folder: Path
    source: str
    keys: Mapping[str, Sequence[str]]
    rtol: float

    def compare(self) -> tuple[list[Run], Disagreement | None]:
        """Return the runs that were compared and the first difference.

        Cuts first, in one process; where they agree, other seeds and zones, each in its own.
        """
        cuts = [Run(cut) for cut in CUTS]
        done = self._process("cuts", cuts)
        errors = [raised for raised, _ in done]
        if all(errors) and errors[0]:
            first = errors[0]
            raise PlayheadError(
                first.message,
                where=first.where,
                safe="Nothing was written: a check only reads.",
                cure=first.cure,
                exit_code=first.exit_code,
            )
        runs = [*cuts]
        found = self._first(list(zip(cuts, done, strict=True)), done[0])
        if found is None:
            others = [Run(seed=s) for s in SEEDS] + [Run(zone=z) for z in ZONES]
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                started = [
                    pool.submit(self._process, f"other{i}", [r]) for i, r in enumerate(others)
                ]
                found = self._first(
                    [(r, f.result()[0]) for r, f in zip(others, started, strict=True)], done[0]
                )
            runs += others
        return runs, found

    def _first(self, done: Sequence[tuple[Run, _Result]], base: _Result) -> Disagreement | None:
        for run, result in done:
            found = self._unlike((Run(), base), (run, result))
            if found is not None:
                return found
        return None

    def _unlike(self, one: tuple[Run, _Result], two: tuple[Run, _Result]) -> Disagreement | None:
        runs, (raised, left), (other, right) = (one[0], two[0]), one[1], two[1]
        if raised is not None or other is not None:
            if raised is not None and other is not None:
                return None
            texts = (_text(raised), _text(other))
            where = (raised or other or Raised("")).where or ""
            return Disagreement(runs, where, None, texts, _hint(two[0], None))
        if left == right:
            return None
        unlike = first_unlike(_frames(left), _frames(right), self.keys, self.rtol)
        if unlike is None:
            return None
        place = "" if unlike.partition is None else f"{self.source}[{unlike.partition}]"
        where = place if unlike.offset is None else f"{place}@{unlike.offset}"
        return Disagreement(runs, where, unlike, (None, None), _hint(two[0], unlike))

    def _process(self, name: str, runs: Sequence[Run]) -> list[_Result]:
        environment = {**os.environ, "PYTHONHASHSEED": str(runs[0].seed)}
        if runs[0].zone:
            environment["TZ"] = runs[0].zone
        cuts = ",".join(run.cut for run in runs)
        command = [sys.executable, "-P", "-m", "playhead.ops.check_child"]
        ended = subprocess.run(
            [*command, str(self.folder), name, cuts],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        answer = self.folder / name
        if ended.returncode or not answer.exists():
            lines = ended.stderr.decode(errors="replace").strip().splitlines()
            raise PlayheadError(
                f"the process that ran {runs[0]} ended with {ended.returncode}: "
                f"{lines[-1] if lines else 'it said nothing'}",
                safe="Nothing was written: a check only reads.",
            )
        raised = msgspec.msgpack.decode(answer.read_bytes(), type=list[Raised | None])
        return [
            (error, b"" if error else (self.folder / f"{name}-{i}").read_bytes())
            for i, error in enumerate(raised)
        ]


_Result = tuple[Raised | None, bytes]


def _frames(blob: bytes) -> Slots:
    return decode(blob, "what a run gave")


def _text(raised: Raised | None) -> str | None:
    return None if raised is None else raised.message


def _hint(run: Run, unlike: Unlike | None) -> str:
    """Return what usually makes a run like this one differ, and the cure of each."""
    if run.cut == "again":
        return (
            "The same batch twice in one process. Likely: a module-level list, dict or counter "
            '(keep it in the state operators, or in state with per="row"); the clock, such as '
            "datetime.now() (use _timestamp, or a column); random (derive it from the record, for "
            "example from a hash of its key)."
        )
    if run.seed:
        return (
            "Likely: the order of a set, or hash() of text, which differ from process to process: "
            "use sorted(…), or a hash of hashlib."
        )
    if run.zone:
        return (
            "Likely: local time, such as datetime.now(), fromtimestamp() or astimezone() without a "
            "zone: name the zone, for example UTC."
        )
    if unlike is not None and unlike.close:
        return (
            "Arithmetic that depends on the height of a batch. Likely: x / constant in polars "
            "(multiply instead: x * (1 / constant)); polars' rolling kernels (use "
            "state.rolling_mean and its kin); sum, cum_sum or differences over the batch (use "
            "state.running_sum); matrix products of numpy (multiply and add column by column). If "
            "the last digits do not matter, declare rtol=1e-9."
        )
    return (
        "What a row gives depends on the rows that share its batch. Likely: rows collected until "
        "there are enough (emit each at once); polars' rolling kernels, shift, rank, mean or a row "
        "number over the batch (use the state operators: state.rolling_mean, previous, "
        "running_count, …); head, tail, unique or sort across rows."
    )
