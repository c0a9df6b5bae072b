"""The crash matrix: kill −9 at every point between durable effects, restart, ask the oracle.

A cell is one point, in one command, on one log and one store. ``make test`` runs every point once
on SQLite and the local log, those that concern Kafka or PostgreSQL there, too; with
``PLAYHEAD_PROOF=long`` every point runs early and late, on both logs and both stores, and dies
twice in a row.
"""

from __future__ import annotations

import ast
import re
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from playhead.engine.events import STEPS
from proof import figures
from proof.project import Site, once, points
from story import LOCAL_STORE, wait_for

SRC = Path(__file__).resolve().parents[2] / "src/playhead"
RECORDS = 300 if figures.LONG else 180
REWOUND = 40
IN_BATCH = STEPS[: STEPS.index("after advisory commit")]
IN_LOG = STEPS[STEPS.index("begin") : STEPS.index("after log commit") + 1]
IN_STORE = STEPS[STEPS.index("before store commit") : STEPS.index("after advisory commit") + 1]
IN_SNAPSHOT = ("before snapshot", "after snapshot")
IN_RESTORE = ("before restore", "after restore")
IN_REWIND = (
    *IN_RESTORE,
    "rewind intent",
    "after compare-and-set",
    "between delta and rows",
    "rewind stored",
)
IN_SWAP = STEPS[STEPS.index("hold asked") : STEPS.index("mirror built") + 1]
IN_CLEAN = ("groups removed", "topics removed")
IN_ROLLBACK = ("live stands", "before swap", "after swap")
IN_DIFFERENCE = ("before difference kept", "after difference kept")
IN_END = ("before epoch over", "after epoch over")
# A public topic, which a promotion corrects; version two loses a key.
PUBLIC = ("COLUMNS, public=False", "COLUMNS")
CHANGED = (
    ("COLUMNS, public=False", 'COLUMNS, on_promote="changed"'),
    ('* 2.0")', '* 2.0 OR total IS NULL")'),
    (
        'with_columns(pl.col("total") * 2.0)',
        "filter(pl.col('key') != 3).with_columns(pl.col(\"total\") * 2.0)",
    ),
)
# Between two statements of one store transaction, or of none: what the log is matters not.
INSIDE_STORE = {
    "after compare-and-set", "between delta and rows", *IN_SNAPSHOT, *IN_RESTORE, *IN_DIFFERENCE,
}  # fmt: skip
# The log's transaction is committed, and the store's is not.
WITNESS_AHEAD = STEPS[STEPS.index("after log commit") : STEPS.index("after store commit")]


@dataclass(frozen=True)
class Cell:
    """Where a process is killed.

    Attributes:
        act: What it is doing; a method of `Crash`.
        step: The point.
        nth: The how manieth time that it comes there.
        log: ``local`` or ``kafka``.
        again: Whether the next process is killed too, at the first such point that it reaches.
        store: ``sqlite`` or ``postgres``.
    """

    act: str
    step: str
    nth: int = 1
    log: str = "local"
    again: bool = False
    store: str = "sqlite"

    def __str__(self) -> str:
        twice = "-twice" if self.again else ""
        return f"{self.log}-{self.store}-{self.act}-{self.step.replace(' ', '_')}-{self.nth}{twice}"


def short() -> list[Cell]:
    """Return the cells of ``make test``."""
    return [
        *[Cell("batches", step, 3) for step in IN_BATCH],
        *[Cell("batches", step, 3, "kafka") for step in IN_LOG],
        *[Cell("batches", step, 2) for step in IN_SNAPSHOT],
        Cell("batches", "group advised"),
        *[Cell("advised", step, 3) for step in ("computed", *IN_STORE)],
        Cell("advised", "after store commit", 3, "kafka"),
        *[Cell("rewind", step) for step in IN_REWIND],
        *[Cell("reset", step) for step in IN_REWIND],
        *[Cell("reset", step, 1, "kafka") for step in ("rewind intent", "rewind stored")],
        Cell("skip", "skip intent"),
        *[Cell("batches", step, 3, store="postgres") for step in IN_STORE[:-1]],
        *[Cell("batches", step, 2, store="postgres") for step in IN_SNAPSHOT],
        *[Cell("reset", step, store="postgres") for step in IN_REWIND],
        *[Cell("promote", step, store="postgres") for step in ("before swap", "after swap")],
        *[Cell("promote", step) for step in IN_SWAP],
        *[Cell("hand_over", step) for step in ("live stands", "after swap")],
        *[Cell("rollback", step) for step in IN_ROLLBACK],
        *[Cell("clean", step) for step in IN_CLEAN],
        *[Cell("forward", "after log commit", 3, log) for log in ("local", "kafka")],
        *[Cell("appended", step) for step in ("after log commit", IN_END[0])],
        *[Cell("changed", step) for step in ("after log commit", *IN_DIFFERENCE)],
        *[Cell("changed", step, 2) for step in IN_END],
        *[Cell("changed", step, store="postgres") for step in (IN_DIFFERENCE[1], IN_END[0])],
    ]


def long() -> list[Cell]:
    """Return the cells of ``make test-long``: the full product, where the point concerns Kafka."""
    found: list[Cell] = []
    for log in ("local", "kafka"):
        for nth in (1, 12):
            found += [Cell("batches", step, nth, log) for step in IN_BATCH]
            found += [Cell("advised", step, nth, log) for step in ("computed", *IN_STORE)]
        for act in ("batches", "advised"):
            found += [Cell(act, step, nth, log) for step in IN_SNAPSHOT for nth in (1, 2, 3)]
            found += [Cell(act, "group advised", nth, log) for nth in (1, 2)]
        found += [Cell("batches", step, 4, log, again=True) for step in IN_BATCH]
        found += [Cell("advised", step, 4, log, again=True) for step in IN_STORE]
        found += [Cell("replay", step, 5, log) for step in IN_BATCH]
        for act in ("rewind", "reset"):
            found += [Cell(act, step, nth, log) for step in IN_REWIND for nth in (1, 2)]
            found += [Cell(act, step, 1, log, again=True) for step in IN_RESTORE]
        found += [Cell("skip", step, 1, log) for step in ("skip intent", *IN_STORE[:4])]
        for act in ("promote", "hand_over", "rollback"):
            found += [Cell(act, step, 1, log) for step in IN_SWAP]
        found += [Cell("clean", step, 1, log) for step in IN_CLEAN]
        for act in ("forward", "appended"):
            found += [Cell(act, step, 2, log) for step in IN_BATCH]
        found += [Cell("changed", step, 1, log) for step in IN_BATCH]  # the difference is one batch
        for act, steps in (("appended", IN_END), ("changed", (*IN_DIFFERENCE, *IN_END))):
            found += [Cell(act, step, 1, log) for step in steps]
        found += [Cell("appended", IN_END[0], 1, log, again=True)]  # what is over stays so
        found += [Cell("changed", step, 1, log, again=True) for step in (IN_DIFFERENCE[0], *IN_END)]
    found = [cell for cell in found if cell.log == "local" or concerns_kafka(cell)]
    return found + [replace(cell, store="postgres") for cell in found]


def concerns_kafka(cell: Cell) -> bool:
    """Say whether a point is another one where the log is Kafka."""
    if cell.again:
        return cell.step in IN_LOG
    if cell.act in {"batches", "advised"} and cell.step in IN_BATCH and cell.nth == 1:
        return False  # a later batch says the same, and more
    if cell.act in {"replay", "forward", "appended", "changed"} and cell.step in IN_STORE:
        return False  # as in any other batch
    return cell.step not in INSIDE_STORE


CELLS = long() if figures.LONG else short()


class Sites:
    """Projects to crash in: copies of a few that were prepared once, on Kafka new ones."""

    def __init__(self, folder: Path, server: Callable[[str], Any]) -> None:
        self._folder = folder
        self._server = server
        self._ready: dict[tuple[str, ...], Site] = {}
        self._made = 0

    def get(
        self, cell: Cell, *before: tuple[str, ...], edits: tuple[tuple[str, str], ...] = ()
    ) -> Site:
        """Return a project of its own, edited, in which these commands were run."""
        self._made += 1
        folder = self._folder / f"cell{self._made}"
        log = f"kafka://{self._server('kafka').bootstrap}" if cell.log == "kafka" else None
        store = self._server("postgres").database() if cell.store == "postgres" else LOCAL_STORE
        if log or cell.store == "postgres":
            return self._fresh(Site.build(folder, log, store), before, edits)
        key = tuple(" ".join(words) for words in (*before, *edits))
        if key not in self._ready:
            ready = Site.build(self._folder / f"ready{len(self._ready)}")
            self._ready[key] = self._fresh(ready, before, edits)
        return Site.copy(self._ready[key], folder)

    def _fresh(
        self, site: Site, before: tuple[tuple[str, ...], ...], edits: tuple[tuple[str, str], ...]
    ) -> Site:
        for old, new in edits:
            site.edit(old, new)
        site.produce(points(RECORDS))
        for command in before:
            site.ok(*command)
        return site


@pytest.fixture(scope="module")
def sites(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sites:
    folder = tmp_path_factory.mktemp("matrix")
    return Sites(folder, request.getfixturevalue)


class Crash:
    """One cell: prepare, kill, start again, compare with the oracle."""

    RUN = ("run", "total", "--until-caught-up")

    def __init__(self, sites: Sites, cell: Cell) -> None:
        self.sites = sites
        self.cell = cell
        self.site: Site

    def batches(self) -> None:
        """Batches with a topic and a table."""
        self.site = self.sites.get(self.cell)
        self._die(*self.RUN)
        finished = self.site.ok(*self.RUN)
        if self.cell.step in WITNESS_AHEAD:
            assert "was published but not stored: redo" in finished.err
        self._same("total", "one")

    def advised(self) -> None:
        """Batches with a table alone: the group's offset follows, as advice."""
        run = ("run", "quiet", "--until-caught-up")
        self.site = self.sites.get(self.cell)
        self._die(*run)
        self._never_ahead(f"{self.site.prefix}quiet.one")
        self.site.ok(*run)
        self._same("quiet", "one")

    def _never_ahead(self, group: str) -> None:
        """The group's offset follows the store: it never says more than what is stored."""
        project = self.site.project
        with closing(project.open_store()) as store, closing(project.open_log()) as log:
            at = {p: s.cursor.next for p, s in store.ledger.standings("quiet@one").items()}
            told = {p.partition: c.offset for p, c in log.committed(group).items()}
        assert all(offset <= at[p] for p, offset in told.items())

    def replay(self) -> None:
        """A replay into a shadow; live is not touched."""
        self.site = self.sites.get(self.cell, self.RUN)
        before = self.site.found("total", "one")
        self._die("replay", "total@two")
        self.site.ok("replay", "total@two")
        self._same("total", "two")
        assert self.site.found("total", "one") == before

    def reset(self) -> None:
        """A rewind that somebody else began, with Kafka's own means."""
        self.site = self.sites.get(self.cell, self.RUN)
        group = f"{self.site.prefix}total.one"
        back = ("--to-offset", str(REWOUND), "--execute")
        self.site.ok("groups", "reset", "--group", group, *back)
        self._die(*self.RUN)
        self.site.ok(*self.RUN)
        self._rewound(2)

    def rewind(self) -> None:
        """Our own rewind; killed, it is begun again, and moves on from what was done."""
        self.site = self.sites.get(self.cell, self.RUN)
        command = ("rewind", "total", "--to-offset", str(REWOUND), "--execute")
        self._die(*command)
        self.site.ok(*command)
        self.site.ok(*self.RUN)
        self._rewound(3)

    def _rewound(self, last: int) -> None:
        """Each offset was published by the first generation, and again from the rewind on."""
        expected, found = self.site.expected(), self.site.found()
        for partition, records in expected["topic"].items():
            again = [r for r in records if r["source"] >= REWOUND]
            here = found["topic"][partition]
            newest = max(r["generation"] for r in here)
            assert again
            assert 1 < newest <= last
            once_more = once({partition: again}, newest)[partition]
            expected["topic"][partition] = once({partition: records})[partition] + once_more
        assert found == expected

    def skip(self) -> None:
        """The record that stopped a pipeline is set aside; killed, the same command does it."""
        self.site = self.sites.get(self.cell)
        self.site.edit(', on_error="dead_letter"', "")
        stopped = self.site.cli(*self.RUN)
        place = re.search(r"\S*points\[\d+\]@\d+", stopped.err)
        assert place is not None, stopped.err
        command = ("dead-letters", "total", "--skip", place.group(), "--reason", "a proof")
        self._die(*command)
        self.site.cli(*command)  # refused where it was done already
        self.site.edit('total.one"', 'total.one", on_error="dead_letter"')
        self.site.ok(*self.RUN)
        self._same("total", "one")

    def promote(self) -> None:
        """The swap of a promotion: wholly done or not at all."""
        self.site = self.sites.get(self.cell, self.RUN, ("replay", "total@two"))
        self._swap(("promote", "total@two"), "one", "two")

    def rollback(self) -> None:
        """The swap back."""
        before = (self.RUN, ("replay", "total@two"), ("promote", "total@two"))
        self.site = self.sites.get(self.cell, *before)
        self._swap(("rollback", "total"), "two", "one")

    def _swap(self, command: tuple[str, ...], old: str, new: str) -> None:
        self._die(*command)
        stood = self._stood(old, new)
        assert self._public() == self.site.expected(stood)["table"]
        if stood == old:
            self.site.ok(*command)
        assert self._public() == self.site.expected(new)["table"]
        assert self.site.json(*self.RUN)["pipelines"][0]["version"] == new
        for label in ("one", "two"):
            self._same("total", label)

    def clean(self) -> None:
        """An old version goes; killed in the midst, the same command removes the rest."""
        self.site = self.sites.get(self.cell, self.RUN, ("replay", "total@two"))
        command = ("clean", "total@two", "--execute")
        self._die(*command)
        assert [r["version"] for r in self.site.json(*command)["removed"]] == ["total@two"]
        assert self.site.json("clean")["removed"] == []
        prefix = self.site.prefix
        with closing(self.site.project.open_log()) as log:
            assert log.topic(f"{prefix}sums.two") is None
            assert not {f"{prefix}total.two", f"{prefix}total.two.witness"} & set(log.groups())
        self.site.ok("replay", "total@two")
        for label in ("one", "two"):
            self._same("total", label)

    def _stood(self, old: str, new: str) -> str:
        """Return which of the two is live after the kill."""
        return old if IN_SWAP.index(self.cell.step) < IN_SWAP.index("after swap") else new

    def hand_over(self) -> None:
        """The promotion of a version while a worker runs live, which goes on either way."""
        site = self.site = self.sites.get(self.cell, self.RUN, ("replay", "total@two"))
        worker = site.start("run", "total")
        try:
            wait_for(lambda: self._runs("one"), "the worker to run")
            self._die("promote", "total@two")
            site.produce(points(RECORDS, seed=1))
            stood = self._stood("one", "two")
            wait_for(lambda: self._caught_up(stood), "the worker to go on")
            if stood == "one":
                site.ok("promote", "total@two")
                wait_for(lambda: self._runs("two"), "the worker to run what was promoted")
            site.produce(points(RECORDS, seed=2))
            wait_for(lambda: self._caught_up("two"), "the worker to run on")
            assert worker.poll() is None
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
        site.ok("rollback", "total")
        for label in ("one", "two"):
            self._same("total", label)

    def _runs(self, label: str) -> bool:
        with closing(self.site.project.open_store()) as store:
            lease = store.ledger.lease(f"worker/total@{label}/0")
            return lease is not None and lease.note.startswith("running") and lease.in_force

    def _caught_up(self, label: str) -> bool:
        with closing(self.site.project.open_store()) as store:
            standings = store.ledger.standings(f"total@{label}")
            at = {str(p): s.cursor.next for p, s in standings.items()}
        return at == self.site.expected(label)["cursor"]

    def forward(self) -> None:
        """The first epoch of a public topic, when all that it forwards is there."""
        self.site = self.sites.get(self.cell, self.RUN)
        self.site.edit(*PUBLIC)
        self._die(*self.RUN)
        self.site.ok(*self.RUN)
        assert self._shown() == [(1, r) for r in self._physical("one")]

    def appended(self) -> None:
        """A promotion that appends: the old epoch ends, the new one shows everything."""
        before = (self.RUN, ("replay", "total@two"), ("promote", "total@two"))
        self.site = self.sites.get(self.cell, *before, edits=(PUBLIC,))
        self._die(*self.RUN)
        self.site.ok(*self.RUN)
        old, new = ([(n, r) for r in self._physical(v)] for n, v in ((1, "one"), (2, "two")))
        assert self._shown() == sorted([*old, *new], key=lambda r: (r[1]["partition"], r[0]))

    def changed(self) -> None:
        """A promotion that says what changes, and no more."""
        before = (self.RUN, ("replay", "total@two"), ("promote", "total@two"))
        self.site = self.sites.get(self.cell, *before, edits=CHANGED)
        self._die(*self.RUN)
        self.site.ok(*self.RUN)
        old, new = (_last(self._physical(label)) for label in ("one", "two"))
        assert old.keys() - new.keys() == {"3"}
        shown = self._shown()
        assert [r for n, r in shown if n == 1] == self._physical("one")
        said = {r["key"]: r["value"] for n, r in shown if n == 2}
        assert len(said) == len([r for n, r in shown if n == 2]), "a key was said twice"
        wanted = {key: value for key, value in new.items() if old[key] != value}
        assert said == wanted | {"3": None}

    def _physical(self, label: str) -> list[dict[str, Any]]:
        """Return what a version's own topic has, without its offsets."""
        dump = self.site.topic_dump(f"{self.site.prefix}sums.{label}")
        return [{k: v for k, v in record.items() if k != "offset"} for record in dump]

    def _shown(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the public topic: epoch, and the record as the version's own topic has it."""
        found = []
        for record in self.site.topic_dump(f"{self.site.prefix}sums"):
            headers = dict(record["headers"])
            epoch = int(headers.pop("playhead-epoch"))
            plain = {k: v for k, v in record.items() if k != "offset"} | {"headers": headers}
            found.append((epoch, plain))
        return found

    def _public(self) -> list[list[Any]]:
        answered = self.site.json("query", "SELECT key, total, before, n FROM totals ORDER BY key")
        shown = answered["rows"]
        label = answered["versions"]["totals"].rpartition("@")[2]
        table: list[list[Any]] = self.site.found("total", label)["table"]
        assert [(r[0], float.fromhex(r[1])) for r in table] == [(r[0], r[1]) for r in shown]
        return table

    def _die(self, *command: str) -> None:
        cell = self.cell
        killed = self.site.cli(*command, PLAYHEAD_CRASH=f"{cell.step}:{cell.nth}")
        assert killed.code == -signal.SIGKILL, f"{cell} was never reached\n{killed.err}"
        if cell.again:
            killed = self.site.cli(*command, PLAYHEAD_CRASH=cell.step)
            assert killed.code == -signal.SIGKILL, f"{cell} was not reached again\n{killed.err}"

    def _same(self, pipeline: str, label: str) -> None:
        expected = self.site.expected(label)
        expected["topic"] = once(expected["topic"])
        if pipeline == "quiet":
            del expected["topic"]
        assert self.site.found(pipeline, label) == expected


def _last(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the last value of each key."""
    return {record["key"]: record["value"] for record in records}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_process_killed_there_leaves_no_trace(sites: Sites, cell: Cell) -> None:
    getattr(Crash(sites, cell), cell.act)()
    figures.count("crash cells", f"{cell.act}, {cell.log} log, {cell.store} store")


def test_a_point_that_is_never_reached_is_no_proof(sites: Sites) -> None:
    with pytest.raises(AssertionError, match="was never reached"):
        Crash(sites, Cell("batches", "no such point")).batches()
    with pytest.raises(AssertionError, match="was never reached"):
        Crash(sites, Cell("batches", "computed", 1000)).batches()


def test_the_matrix_has_every_point_of_the_code() -> None:
    """A point that is added to the code has to be added to `STEPS`, and with it to the matrix."""
    assert told_in_code() == set(STEPS)
    assert {cell.step for cell in short() if cell.log == "local"} == set(STEPS)
    assert {cell.step for cell in long() if cell.log == "local"} == set(STEPS)
    assert {cell.step for cell in long() if cell.log == "kafka"} == set(STEPS) - INSIDE_STORE
    assert {cell.act for cell in short()} | {"replay"} == {cell.act for cell in long()}


def told_in_code() -> set[str]:
    """Return the names of the points in the source: arguments of ``Step`` and ``_step``."""
    found = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                last = node.args[-1]
                if name in {"Step", "_step"} and isinstance(last, ast.Constant):
                    found.add(last.value)
    return found
