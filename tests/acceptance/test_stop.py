"""Ctrl-C and SIGTERM: once after the batch, twice at once, and never in between."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import oracle
from forked import Command
from story import Trip, headers, wait_for

MakeTrip = Callable[[str, int], Trip]
CALL = "    points = metres_so_far(points, state)\n"
# Slow from the second batch on, unless a file says otherwise: the code itself must not change.
SLOW = """\
    if points.height and points["_offset"][-1] >= 90 and not Path("quick").exists():
        Path("begun").touch()
        time.sleep({seconds})
"""
ONCE = "stopping after this batch"
SMALL = {"PLAYHEAD_BATCH_RECORDS": "90"}


@dataclass
class Case:
    """A command that is stopped in its second batch, and how it has to end."""

    trip: Trip
    command: Sequence[str]
    signals: int
    label: str
    within_s: float
    cursor: int
    text: str

    def start(self) -> Command:
        (self.trip.folder / "begun").unlink(missing_ok=True)
        return self.trip.start(*self.command, **SMALL)

    def stop(self, process: Command) -> float:
        """Stop it once a slow batch has begun; return when."""
        wait_for((self.trip.folder / "begun").exists, "a slow batch to begin")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        said = self.trip.folder / "background.log"
        wait_for(lambda: "stopping after this batch" in said.read_text(), "it to hear")
        if self.signals == 2:
            process.send_signal(signal.SIGINT)
        return time.monotonic()

    def check(self, process: Command, stopped: float) -> None:
        assert process.wait(max(0.0, stopped + self.within_s - time.monotonic())) == 130
        said = (self.trip.folder / "background.log").read_text()
        assert self.text in said
        assert "Traceback" not in said
        reached = self.trip.cursor(self.label)
        if self.text == ONCE:  # on a busy machine the signal may meet a later batch
            assert (reached >= self.cursor, reached % 90, reached < 681) == (True, 0, True)
        else:
            assert reached == self.cursor


def slow_trip(make_trip: MakeTrip, seconds: float, *, until: str = "") -> Trip:
    trip = make_trip("local", 1)
    trip.apart = True  # the function looks for its file in the folder that it runs in
    module = trip.folder / "vehicles.py"
    text = module.read_text().replace(CALL, SLOW.format(seconds=seconds) + CALL)
    text = text.replace("import polars as pl", "import time\nfrom pathlib import Path\n\n" + IMPORT)
    module.write_text(text)
    if until:
        (trip.folder / "quick").touch()
        trip.run()
        if until == "rewind":
            reset = ("--group", trip.group, "--to-offset", "300", "--execute")
            trip.ok("groups", "reset", *reset)
        (trip.folder / "quick").unlink()
    return trip


IMPORT = "import polars as pl"


def test_a_stop_ends_a_command_in_time_and_leaves_it_consistent(make_trip: MakeTrip) -> None:
    run, replay = ("run",), ("replay", "distance@km")
    dropped = "the batch was not done within 9 s"
    cases = [
        Case(slow_trip(make_trip, 3), run, 1, "miles", 10, 180, ONCE),
        Case(slow_trip(make_trip, 60), run, 2, "miles", 2, 90, "stopped at once"),
        Case(slow_trip(make_trip, 60), run, 1, "miles", 10, 90, dropped),
        Case(slow_trip(make_trip, 3, until="live"), replay, 1, "km", 10, 180, ONCE),
        Case(slow_trip(make_trip, 60, until="rewind"), run, 1, "miles", 10, 681, dropped),
    ]
    processes = [case.start() for case in cases]
    try:
        with ThreadPoolExecutor() as pool:
            stopped = list(pool.map(Case.stop, cases, processes))
        order = sorted(range(len(cases)), key=lambda i: stopped[i] + cases[i].within_s)
        for i in order:
            cases[i].check(processes[i], stopped[i])
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for case in cases:
        (case.trip.folder / "quick").touch()
        case.trip.run()
        assert {k: round(v, 6) for k, v in case.trip.totals().items()} == oracle.KNOWN_MILES
        told = [headers(r) for r in case.trip.records("distance_calcs.miles")]
        first = [h for h in told if h["playhead-generation"] == "1"]
        assert len(first) == len({h["playhead-source"] for h in first}) == 681
        assert len(told) == (1062 if case.cursor == 681 else 681)
    committed = cases[3].trip.cursor("km")
    resumed = cases[3].trip.json("replay", "distance@km")["replays"][0]
    assert (resumed["resumed"], resumed["records"]) == (True, 681 - committed)
    assert cases[3].trip.json("diff", "distance")["unexplained"] == 0
