"""Promotions and rollbacks while records come in and a worker runs what is live."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from playhead.engine.events import Event, Held, Step
from playhead.errors import PromotionRefused, Refused
from playhead.ops.promote import promote, rollback
from playhead.ops.replay import Request as ReplayRequest
from playhead.ops.replay import replay
from playhead.ops.run import Outcome, Request, run
from proof.project import Site, once, points
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

    @contextmanager
    def running(self) -> Iterator[Running]:
        self._thread.start()
        try:
            yield self
        finally:
            self.stop.set()
            self._thread.join()


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
