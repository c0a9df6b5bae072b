"""Promotions and rollbacks while records come in and a worker runs what is live."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from playhead.engine.events import Event, Held, Step
from playhead.errors import PromotionRefused, Refused
from playhead.ops.promote import promote, rollback
from playhead.ops.replay import Request as ReplayRequest
from playhead.ops.replay import replay
from playhead.ops.run import Outcome, Request, run
from proof.project import BAD, Given, Site, once, points
from story import wait_for


class Running:
    """``playhead run`` in a thread of this process."""

    def __init__(self, site: Site, tell: Callable[[Event], None] | None = None) -> None:
        self.site = site
        self.events: list[Event] = []
        self.said: list[str] = []
        self.stop = threading.Event()
        self.outcome: list[Outcome | BaseException] = []
        self._tell = tell or (lambda _event: None)
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        def tell(event: Event) -> None:
            self.events.append(event)
            self._tell(event)

        request = Request(("total",))
        try:
            self.outcome.append(run(self.site.project, request, self.stop, tell, self.said.append))
        except BaseException as error:  # noqa: BLE001  asked for at the end
            self.outcome.append(error)

    @property
    def held(self) -> int:
        """How often it has stood still."""
        return sum(isinstance(e, Held) for e in self.events)

    def caught_up(self, label: str) -> None:
        """Wait until this version has processed everything, and nothing went wrong."""
        wanted = self.site.expected(label)["cursor"]

        def done() -> bool:
            assert not self.outcome, self.outcome
            with closing(self.site.project.open_store()) as store:
                at = {
                    str(p): s.cursor.next
                    for p, s in store.ledger.standings(f"total@{label}").items()
                }
                return at == wanted and store.ledger.orders(f"total@{label}").stage == "live"

        wait_for(done, f"{label} to be live and to have caught up")

    def _runs(self) -> bool:
        with closing(self.site.project.open_store()) as store:
            lease = store.ledger.lease(f"worker/total@{live(self.site)}/0")
            return lease is not None and lease.note.startswith("running")

    @contextmanager
    def running(self) -> Iterator[Running]:
        self._thread.start()
        try:
            wait_for(self._runs, "the worker to run")
            yield self
        finally:
            self.stop.set()
            self._thread.join()


def good_points(count: int, seed: int) -> list[Given]:
    """Points without bad records: twenty of them in one batch would be too many."""
    return [p for p in points(count, seed) if p[1] not in BAD]


def live(site: Site) -> str:
    with closing(site.project.open_store()) as store:
        pointer = store.catalog.pointer("total")
    return pointer.label if pointer else ""


def processed_once(site: Site, *labels: str) -> None:
    """Each version's table, state and topic are those of one pass over what it has read."""
    for label in labels:
        expected = site.expected(label)
        expected["topic"] = once(expected["topic"])
        assert site.found("total", label) == expected


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A project with something replayed into its shadow."""
    site = Site.build(tmp_path / "site")
    site.produce(points(100))
    run(site.project, Request(("total",), until_caught_up=True), threading.Event())
    replay(site.project, ReplayRequest(("total@two",)), threading.Event())
    return site


def test_a_worker_that_runs_live_goes_on_with_what_was_promoted(site: Site) -> None:
    with Running(site).running() as worker:
        site.produce(points(60, seed=1))
        worker.caught_up("one")
        done = promote(site.project, "total@two")
        assert done.paused_s < 5
        site.produce(points(60, seed=2))
        worker.caught_up("two")
        rollback(site.project, "total")
        site.produce(points(60, seed=3))
        worker.caught_up("one")
        assert worker.held == 2
        assert worker.said[-2:] == [
            "total@one was retired by the promotion of total@two (epoch 2); total@two is run "
            "from here on",
            "total@two was retired by the promotion of total@one (epoch 3); total@one is run "
            "from here on",
        ]
    (outcome,) = worker.outcome
    assert isinstance(outcome, Outcome), outcome
    assert [r.version for r in outcome.pipelines] == ["total@one", "total@two", "total@one"]
    processed_once(site, "one")


def test_live_that_does_not_stand_still_in_time_is_left_alone(site: Site) -> None:
    go_on = threading.Event()
    reached = threading.Event()

    def tell(event: Event) -> None:
        if event == Step("before store commit"):
            reached.set()
            go_on.wait(60)

    with Running(site, tell).running() as worker:
        site.produce(points(60, seed=1))
        assert reached.wait(60)
        before = site.found("total", "two")
        with pytest.raises(PromotionRefused, match=r"did not stop at a batch within 0\.3 s"):
            promote(site.project, "total@two", hold_timeout_s=0.3)
        with closing(site.project.open_store()) as store:
            assert store.ledger.lease("hold/total") is None
        assert live(site) == "one"
        assert site.found("total", "two") == before
        go_on.set()
        worker.caught_up("one")
        assert worker.held == 0
    processed_once(site, "one")


def test_a_promotion_that_was_frozen_while_live_went_on_swaps_nothing(site: Site) -> None:
    """Its hold expires; live takes its leases back in a new session; then it wakes up."""
    frozen, wake = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def tell(event: Event) -> None:
        if event == Step("before swap"):
            frozen.set()
            wake.wait(60)

    def promoting() -> None:
        try:
            promote(site.project, "total@two", tell=tell)
        except Refused as error:
            failed.append(error)

    with Running(site).running() as worker:
        thread = threading.Thread(target=promoting)
        thread.start()
        assert frozen.wait(60)
        assert worker.held == 1
        with closing(sqlite3.connect(site.folder / ".playhead/store.db")) as store, store:
            store.execute("UPDATE playhead__lease SET expires_s = 1 WHERE name = 'hold/total'")
        site.produce(points(60, seed=1))
        worker.caught_up("one")
        wake.set()
        thread.join()
        (error,) = failed
        assert isinstance(error, PromotionRefused)
        assert "went on before the swap" in error.message
        assert live(site) == "one"
    processed_once(site, "one")


def test_a_second_promotion_is_refused_while_one_is_under_way(site: Site) -> None:
    refused: list[BaseException] = []

    def tell(event: Event) -> None:
        if event == Step("live stands"):
            try:
                rollback(site.project, "total")
            except PromotionRefused as error:
                refused.append(error)

    promote(site.project, "total@two")
    rollback(site.project, "total", tell=tell)
    (error,) = refused
    assert "another promotion of total is under way" in str(error)
    assert live(site) == "one"


def test_a_rollback_that_swaps_first_says_how_far_it_is_behind(site: Site) -> None:
    promote(site.project, "total@two")
    site.produce(points(200, seed=1))
    run(site.project, Request(("total",), until_caught_up=True), threading.Event())
    seen: list[Any] = []

    def tell(event: Event) -> None:
        if event == Step("mirror built"):
            (pipeline,) = [p for p in site.json("status")["pipelines"] if p["pipeline"] == "total"]
            seen.append({v["version"]: (v["stage"], v["behind"]) for v in pipeline["versions"]})
            seen.append(site.json("query", "SELECT count(*) FROM totals")["behind"])
            seen.append(site.ok("query", "SELECT count(*) FROM totals").err)

    rollback(site.project, "total", now=True, tell=tell)
    behind = sum(site.expected("one")["cursor"].values()) - 100
    assert behind == 200
    assert seen[0]["one"] == ("live", 200)
    assert seen[0]["two"] == ("retired", 0)
    assert seen[1] == {"total@one": 200}
    assert "total@one is 200 offsets behind" in seen[2]
    assert site.json("query", "SELECT count(*) FROM totals")["behind"] == {}
    processed_once(site, "one", "two")


def test_after_ten_thousand_more_records_a_rollback_under_load_is_whole(site: Site) -> None:
    settings = site.folder / "playhead.toml"
    settings.write_text(settings.read_text().replace("batch_records = 20", "batch_records = 2000"))
    promote(site.project, "total@two")
    with Running(site).running() as worker:
        for part in range(5):
            site.produce(good_points(2200, seed=part))
        worker.caught_up("two")
        producing = threading.Thread(target=lambda: site.produce(good_points(2200, seed=9)))
        producing.start()
        done = rollback(site.project, "total")
        producing.join()
        worker.caught_up("one")
        assert worker.held == 1
        assert sum(done.cursor) >= 10_000
    processed_once(site, "one")


# ---------------------------------------------------------------------------------- clean


def test_clean_removes_what_nothing_needs_and_says_why_the_rest_stays(site: Site) -> None:
    replay(site.project, ReplayRequest(("total@same",)), threading.Event())
    found = site.json("clean")
    assert (found["executed"], found["removed"]) == (False, [])
    assert {k["version"]: k["why"] for k in found["kept"]} == {
        "total@one": "is live",
        "total@two": "is a shadow that is declared",
        "total@same": "is a shadow that is declared",
    }
    promote(site.project, "total@two")
    promote(site.project, "total@same", accept_diff=accepted(site, "total@same"))
    before = site.found("total", "same"), site.found("total", "two")
    planned = site.json("clean")
    assert [r["version"] for r in planned["removed"]] == ["total@one"]
    assert site.found("total", "one")["table"], "a dry run removed something"
    done = site.json("clean", "--execute", "--reason", "a test")
    assert done["removed"] == planned["removed"] == [
        {
            "version": "total@one",
            "stage": "retired",
            "tables": ["totals__one"],
            "topics": ["sums.one"],
            "groups": ["total.one", "total.one.witness"],
        }
    ]  # fmt: skip
    with closing(site.project.open_log()) as log, closing(site.project.open_store()) as store:
        assert [t.name for t in log.topics()] == ["points", "sums.same", "sums.two"]
        assert not [g for g in log.groups() if g.startswith("total.one")]
        assert {v.name for v in store.catalog.versions()} == {"total@two", "total@same"}
    assert site.json("clean")["removed"] == []
    assert (site.found("total", "same"), site.found("total", "two")) == before
    (entry,) = [e for e in site.json("history")["entries"] if e["kind"] == "clean"]
    assert (entry["pipeline"], entry["version"], entry["reason"]) == ("total", "one", "a test")
    rollback(site.project, "total")
    assert live(site) == "two"


def test_clean_refuses_what_is_needed_and_what_runs(site: Site) -> None:
    promote(site.project, "total@two")
    for name, why in (
        ("total@two", "is live"),
        ("total@one", "is what a rollback goes back to"),
    ):
        refused = site.cli("clean", name, "--execute")
        assert refused.code == 3
        assert f"{name} {why}" in refused.err
    assert site.cli("clean", "total@other").code == 2
    replay(site.project, ReplayRequest(("total@same",)), threading.Event())
    with closing(site.project.open_store()) as store:
        epoch = store.ledger.take_free("worker/total@same/0", "running")
        assert site.cli("clean", "total@same", "--execute").code == 3
        store.ledger.release({"worker/total@same/0": epoch})
    assert site.json("clean", "total@same", "--execute")["removed"][0]["stage"] == "shadow"
    processed_once(site, "one", "two")


def accepted(site: Site, name: str) -> str:
    """Return the digest of the diff between what is live and a version."""
    done = site.cli("diff", "total", "--head", name.partition("@")[2], "-o", "json")
    digest: str = done.json["digest"]
    return digest
