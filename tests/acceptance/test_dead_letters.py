"""Bad records through the command line: named one by one, set aside, never lost, never counted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proof import figures
from story import Trip, in_full

MODULE = """
import os

import polars as pl
import playhead as ph

app = ph.App("{app}")
fares = app.topic("{topic}", key="car", value={{"car": int, "fare": float}})
sums = app.topic("{prefix}sums", key="car")
totals = app.table("totals", key="car")


@app.pipeline(fares, to=[sums, totals], version="v1", group="{prefix}total.v1"{options})
def total(rows, state):
    if (rows["fare"] == float(os.environ.get("UNLUCKY", "13"))).any():
        raise ValueError("unlucky")
    rows = state.running_sum(rows, total="fare")
    return rows.select(ph.origin, "car", total=pl.when(pl.col("fare") == 99).then(
        float("nan")).otherwise(pl.col("total")))
"""
GOOD = [f'{{"car": {i % 3}, "fare": {i}}}' for i in range(1, 41)]
GOOD[12] = '{"car": 1, "fare": 3}'
ASIDE = ', on_error="dead_letter"'


def fares(trip: Trip, lines: list[str], options: str = "", partitions: int = 1) -> None:
    """Write a module and a topic with these values; what is no JSON too, key and all."""
    declare(trip, options)
    trip.ok("topics", "create", trip.topic, "--partitions", str(partitions))
    append(trip, lines)


def declare(trip: Trip, options: str) -> None:
    text = MODULE.format(
        app=(trip.prefix + "fares").replace(".", "_").replace("-", "_").strip("_") or "fares",
        topic=trip.topic, prefix=trip.prefix, options=options,
    )  # fmt: skip
    (trip.folder / "vehicles.py").write_text(text)


def append(trip: Trip, lines: Sequence[str | bytes]) -> None:
    from playhead.config import load
    from playhead.core.records import Outgoing, partition_of
    from playhead.project import Project

    with closing(Project(load(trip.folder, {"log": trip.log})).open_log()) as log:
        topic = log.topic(trip.topic)
        assert topic is not None
        out = Outgoing(trip.topic)
        for i, line in enumerate(lines):
            key = b"%d" % ((i + 1) % 3)
            value = line if isinstance(line, bytes) else line.encode()
            value = None if value == b"null" else value
            out.add(partition_of(key, topic.partitions), key, value, 1_700_000_000_000 + i)
        with closing(log.appender(f"test-{trip.folder.name}")) as appender:
            appender.append(out)
            appender.commit()


def bad(*at: tuple[int, str]) -> list[str]:
    lines = list(GOOD)
    for i, line in at:
        lines[i] = line
    return lines


FAULTS = {
    "no JSON": ("{", "cannot be decoded as JSON"),
    "another type": ('{"car": 1, "fare": "much"}', "cannot be decoded as JSON"),
    "a null value": ("null", "the value is null"),
    "the function raises": ('{"car": 1, "fare": 13}', "unlucky"),
    "an output that cannot be": ('{"car": 1, "fare": 99}', "NaN or infinite"),
}


def expected(lines: list[str], without: set[int]) -> dict[int, float]:
    found: dict[int, float] = {}
    for i, line in enumerate(lines):
        if i not in without:
            row = json.loads(line)
            found[row["car"]] = found.get(row["car"], 0.0) + row["fare"]
    return found


def totals(trip: Trip) -> dict[int, float]:
    return dict(trip.json("query", "SELECT car, total FROM totals")["rows"])


def letters(trip: Trip, version: str = "total") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = trip.json("dead-letters", version)["dead_letters"]
    return found


def set_aside(trip: Trip) -> int:
    """Return how many dead letters the counters of the first version say, by lineage."""
    return int(trip.json("status")["pipelines"][0]["versions"][0]["dead_letters"])


@pytest.fixture
def make_trip_empty(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Trip]:
    """Make a project without any records, on ``local`` or ``kafka``."""

    def make(log: str) -> Trip:
        url = None
        if log == "kafka":
            url = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
        return Trip.make(tmp_path / "trip", url)

    return make


@pytest.fixture
def fresh(make_trip_empty: Callable[[str], Trip]) -> Trip:
    return make_trip_empty("local")


@pytest.mark.parametrize(
    ("log", "fault"),
    [("local", fault) for fault in FAULTS] + [("kafka", "the function raises")],
)
def test_a_stop_names_the_record_and_it_can_be_set_aside(
    make_trip_empty: Callable[[str], Trip], log: str, fault: str
) -> None:
    value, said = FAULTS[fault]
    lines = bad((10, value))
    fresh = make_trip_empty(log)
    fares(fresh, lines)
    where = f"{fresh.topic}[0]@10"
    stopped = fresh.cli("run", "--until-caught-up")
    assert stopped.code == 1, stopped
    assert said in stopped.err
    assert f'--skip "{where}"' in stopped.err
    assert totals(fresh) == expected(lines[:10], set()), "what comes before it is committed"
    assert fresh.cli("run", "--until-caught-up").code == 1, "it does not go away"
    assert letters(fresh) == []
    done = fresh.json("dead-letters", "total", "--skip", where, "--reason", "a test")
    assert [(d["partition"], d["offset"], d["error"]) for d in done["dead_letters"]] == [
        (0, 10, "skipped: a test")
    ]
    ran = fresh.run()["pipelines"][0]
    assert (ran["records"], ran["dead_letters"]) == (29, 0)
    assert totals(fresh) == expected(lines, {10})
    status = fresh.json("status")["pipelines"][0]["versions"][0]
    assert status["dead_letters"] == 1


@pytest.mark.parametrize("log", in_full(["local", "kafka"], but=["local"]))
@pytest.mark.parametrize("batch", ["1", "7", "1000"])
def test_with_dead_letter_all_go_on_and_nothing_is_lost(
    make_trip_empty: Callable[[str], Trip], log: str, batch: str
) -> None:
    trip = make_trip_empty(log)
    at = {3: "{", 4: "null", 17: '{"car": 1, "fare": 13}', 39: '{"car": 1, "fare": 99}'}
    lines = bad(*at.items())
    fares(trip, lines, ASIDE)
    ran = trip.run(PLAYHEAD_BATCH_RECORDS=batch)["pipelines"][0]
    assert (ran["records"], ran["dead_letters"]) == (36, 4), "n_in = n_processed + n_dead"
    found = letters(trip)
    assert [(d["offset"], d["value"]) for d in found] == [
        (o, None if v == "null" else v) for o, v in at.items()
    ]
    assert [d["key"] for d in found] == [str((o + 1) % 3) for o in at]
    assert found[0]["timestamp"].startswith("2023-11-14T")
    assert totals(trip) == expected(lines, set(at))
    published = trip.records("sums.v1")
    assert len(published) == 36
    trip.ok("rewind", "total", "--to-offset", "17", "--execute")
    assert [d["offset"] for d in letters(trip)] == [3, 4], "those ahead count no more"
    trip.run()
    assert [(d["offset"], d["generation"]) for d in letters(trip)] == [
        (3, 1), (4, 1), (17, 2), (39, 2),
    ]  # fmt: skip
    assert totals(trip) == expected(lines, set(at))


STEPS = ("computed", "produced", "group offsets sent", "before log commit", "after log commit",
         "before store commit", "between delta and rows", "after store commit")  # fmt: skip
CRASHES = [("local", step) for step in (STEPS if figures.LONG else STEPS[3:7])] + [
    ("kafka", "after log commit"),
    ("kafka", "before store commit"),
]


@pytest.mark.parametrize(("log", "step"), CRASHES)
def test_a_crash_with_a_dead_letter_in_the_batch_is_redone_alike(
    make_trip_empty: Callable[[str], Trip], log: str, step: str
) -> None:
    trip = make_trip_empty(log)
    lines = bad((3, "{"), (17, '{"car": 1, "fare": 13}'), (19, '{"car": 1, "fare": 99}'))
    fares(trip, lines, ASIDE)
    died = trip.cli(
        "run", "--until-caught-up", PLAYHEAD_CRASH=f"{step}:2", PLAYHEAD_BATCH_RECORDS="15"
    )
    assert died.code == -9
    trip.run(PLAYHEAD_BATCH_RECORDS="15")
    assert [d["offset"] for d in letters(trip)] == [3, 17, 19]
    assert totals(trip) == expected(lines, {3, 17, 19})
    assert len(trip.records("sums.v1")) == 37
    assert set_aside(trip) == 3


@pytest.mark.parametrize("step", STEPS if figures.LONG else STEPS[4:7:2])
def test_a_crash_in_what_comes_before_a_stop(fresh: Trip, step: str) -> None:
    lines = bad((10, "{"))
    fares(fresh, lines)
    assert fresh.cli("run", "--until-caught-up", PLAYHEAD_CRASH=step).code == -9
    stopped = fresh.cli("run", "--until-caught-up")
    assert (stopped.code, f"{fresh.topic}[0]@10: " in stopped.err) == (1, True), stopped
    assert totals(fresh) == expected(lines[:10], set())
    assert len(fresh.records("sums.v1")) == 10
    assert set_aside(fresh) == 0


def test_a_redo_follows_what_was_published_whatever_on_error_says_now(fresh: Trip) -> None:
    lines = bad((3, "{"))
    fares(fresh, lines, ASIDE)
    crash = {"PLAYHEAD_CRASH": "before store commit"}
    assert fresh.cli("run", "--until-caught-up", **crash).code == -9
    declare(fresh, "")
    fresh.run()
    assert [d["offset"] for d in letters(fresh)] == [3]
    assert totals(fresh) == expected(lines, {3})
    assert len(fresh.records("sums.v1")) == 39


@pytest.mark.parametrize("after", [ASIDE, ""])
def test_a_past_that_is_computed_again_has_the_same_dead_letters(fresh: Trip, after: str) -> None:
    """More than 20 in one piece of the log, which no batch had; and one that is no longer bad."""
    at = dict.fromkeys(range(2, 30), "{") | {31: '{"car": 1, "fare": 14}'}
    lines = bad(*at.items())
    fares(fresh, lines, ASIDE)
    fresh.run(PLAYHEAD_BATCH_RECORDS="3", UNLUCKY="14")
    assert [d["offset"] for d in letters(fresh)] == list(at)
    declare(fresh, after)
    forget_deltas(fresh)
    append(fresh, GOOD[:5])
    assert fresh.run()["pipelines"][0]["records"] == 5
    lines = [*lines, *GOOD[:5]]
    assert totals(fresh) == expected(lines, set(at))
    fresh.ok("rewind", "total", "--to-offset", "35", "--execute")
    assert totals(fresh) == expected(lines[:35], set(at))
    assert set_aside(fresh) == len(at)
    fresh.ok("rewind", "total", "--to-offset", "10", "--execute")
    assert set_aside(fresh) == 8


def test_what_was_processed_is_not_set_aside_when_it_is_computed_again(fresh: Trip) -> None:
    fares(fresh, GOOD, ASIDE)
    fresh.run()
    before = totals(fresh)
    forget_deltas(fresh)
    refused = fresh.cli("run", "--until-caught-up", UNLUCKY="14")
    assert refused.code == 3, refused
    assert f"{fresh.topic}[0]@13: total@v1 has processed this before, and now cannot" in refused.err
    assert "--skip" not in refused.err
    assert fresh.run()["pipelines"][0]["records"] == 0
    assert totals(fresh) == before
    assert letters(fresh) == []


def forget_deltas(trip: Trip) -> None:
    """Lose what each batch changed, so that the log is read again."""
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store, store:
        lost = store.execute("DELETE FROM playhead__past WHERE NOT whole OR batch > 0").rowcount
    assert lost > 0


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_other_partitions_go_on_to_their_end(
    make_trip_empty: Callable[[str], Trip], log: str
) -> None:
    trip = make_trip_empty(log)
    fares(trip, GOOD, partitions=2)
    from playhead.core.records import partition_of

    of = [partition_of(b"%d" % ((i + 1) % 3), 2) for i in range(len(GOOD))]
    assert {0, 1} == set(of)
    fine = trip.run()["pipelines"][0]["cursor"][trip.topic]
    append(trip, [*GOOD[:6], "{", *GOOD[7:12]])
    stopped = trip.cli("run", "--until-caught-up")
    assert stopped.code == 1
    status = trip.json("status")["pipelines"][0]["versions"][0]
    stuck, free = of[6], 1 - of[6]
    before = sum(1 for i in range(6) if of[i] == stuck)
    moved = [b - a for a, b in zip(fine, status["cursor"][trip.topic], strict=True)]
    assert moved[free] >= sum(1 for i in range(12) if of[i] == free)
    assert moved[stuck] - before in (0, 1), "and perhaps a transaction's marker on Kafka"
    assert totals(trip) == expected(
        [*GOOD, *GOOD[:12]], {40 + i for i in range(6, 12) if of[i] == stuck}
    )


def test_a_skip_waits_for_what_was_published_and_leaves_it(fresh: Trip) -> None:
    """Set aside afterwards, the batch could never be redone as it was published."""
    fares(fresh, GOOD)
    crash = {"PLAYHEAD_CRASH": "before store commit"}
    assert fresh.cli("run", "--until-caught-up", **crash).code == -9
    skip = ("dead-letters", "total", "--skip", f"{fresh.topic}[0]@10", "--reason", "a test")
    refused = fresh.cli(*skip)
    assert (refused.code, "processed it already" in refused.err) == (3, True), refused
    assert fresh.run()["pipelines"][0]["records"] == 0
    assert totals(fresh) == expected(GOOD, set())
    assert letters(fresh) == []


def test_a_check_does_not_try_what_was_set_aside(fresh: Trip) -> None:
    fares(fresh, bad((10, "{")))
    assert fresh.cli("check", "total").code == 1
    where = f"{fresh.topic}[0]@10"
    fresh.cli("run", "--until-caught-up")
    fresh.ok("dead-letters", "total", "--skip", where, "--reason", "a test")
    assert fresh.json("check", "total")["records"] == 39


def test_versions_have_dead_letters_of_their_own(fresh: Trip) -> None:
    lines = bad((10, "{"), (20, "{"))
    fares(fresh, lines)
    second = '@total.version("v2", on_error="dead_letter")\ndef total_v2(rows, state):\n    return '
    module = fresh.folder / "vehicles.py"
    with module.open("a") as file:
        file.write(f"\n\n{second}total.versions['v1'].function(rows, state)\n")
    assert fresh.cli("run", "--until-caught-up").code == 1
    (ran,) = fresh.json("replay", "total@v2")["replays"]
    assert (ran["records"], ran["dead_letters"]) == (10, 0)
    assert letters(fresh) == letters(fresh, "total@v2") == []
    skip = ("dead-letters", "--reason", "a test", "--skip", f"{fresh.topic}[0]@10")
    refused = fresh.cli(*skip, "total@v2")
    assert (refused.code, "a shadow never passes live" in refused.err) == (3, True), refused
    fresh.ok(*skip, "total")
    assert fresh.cli("run", "--until-caught-up").code == 1, "there is another one"
    done = fresh.ok("replay", "total@v2", "-o", "json")
    (ran,) = done.json["replays"]
    assert (ran["records"], ran["dead_letters"]) == (9, 1)
    assert f"{fresh.topic}[0]@10: cannot be decoded" in done.err
    assert "playhead dead-letters total@v2" in done.err
    (of_live,), (of_shadow,) = letters(fresh), letters(fresh, "total@v2")
    assert (of_live["error"], of_live["skipped"]) == ("skipped: a test", True)
    assert ("cannot be decoded" in of_shadow["error"], of_shadow["skipped"]) == (True, False)
    assert fresh.cli("diff", "total").code == 0, "both left out the same record"
    fresh.ok("promote", "total@v2")
    refused = fresh.cli(*skip[:-1], f"{fresh.topic}[0]@20", "total@v1")
    assert (refused.code, "is retired" in refused.err) == (3, True), refused
    ran = fresh.ok("run", "--until-caught-up")
    assert "1 set aside" in ran.err
    assert totals(fresh) == expected(lines, {10, 20})


def test_bytes_that_are_no_text_are_shown_as_such(fresh: Trip) -> None:
    fares(fresh, GOOD, ASIDE)
    append(fresh, [b"\xff\x00"])
    fresh.run()
    (found,) = letters(fresh)
    assert (found["value"], found["key"]) == ({"base64": "/wA="}, "1")
    shown = fresh.ok("dead-letters", "total").out.splitlines()
    assert shown[0].split() == ["TOPIC", "PARTITION", "OFFSET", "GENERATION", "TIME", "ERROR"]
    assert len(shown) == 2
    heading = fresh.ok("status").out.splitlines()[0]
    assert "DEAD-LETTERS" in heading


def test_what_the_function_lacks_sets_nothing_aside(fresh: Trip) -> None:
    fares(fresh, GOOD, ASIDE)
    module = fresh.folder / "vehicles.py"
    text = module.read_text().replace('raise ValueError("unlucky")', 'open("model.json")')
    module.write_text(text)
    append(fresh, ['{"car": 1, "fare": 13}'])
    stopped = fresh.cli("run", "--until-caught-up")
    assert (stopped.code, "FileNotFoundError" in stopped.err) == (1, True), stopped
    assert letters(fresh) == []
    assert set_aside(fresh) == 0


def test_what_lies_before_a_skip_is_processed_first_and_may_stop_it(fresh: Trip) -> None:
    lines = bad((10, "{"), (20, "{"))
    fares(fresh, lines)
    skip = ("dead-letters", "total", "--reason", "a test", "--skip")
    assert fresh.cli("run", "--until-caught-up").code == 1
    stopped = fresh.cli(*skip, f"{fresh.topic}[0]@20")
    assert (stopped.code, f"{fresh.topic}[0]@10: " in stopped.err) == (1, True), stopped
    assert letters(fresh) == []
    fresh.ok(*skip, f"{fresh.topic}[0]@10")
    assert [d["offset"] for d in letters(fresh)] == [10]
    fresh.run()
    assert [d["offset"] for d in letters(fresh)] == [10, 20], "it was written down"
    assert totals(fresh) == expected(lines, {10, 20})


@pytest.mark.parametrize("step", ["skip intent", "before store commit", "after store commit"])
def test_a_crash_inside_a_skip_is_finished_by_the_next_run(fresh: Trip, step: str) -> None:
    lines = bad((10, "{"))
    fares(fresh, lines)
    assert fresh.cli("run", "--until-caught-up").code == 1
    where = f"{fresh.topic}[0]@10"
    skip = ("dead-letters", "total", "--skip", where, "--reason", "a test")
    assert fresh.cli(*skip, PLAYHEAD_CRASH=step).code == -9
    fresh.run()
    assert [(d["offset"], d["error"]) for d in letters(fresh)] == [(10, "skipped: a test")]
    assert totals(fresh) == expected(lines, {10})


def test_more_than_twenty_in_a_batch_stop(fresh: Trip) -> None:
    lines = bad(*[(i, "{") for i in range(5, 26)])
    fares(fresh, lines, ASIDE)
    stopped = fresh.cli("run", "--until-caught-up")
    assert stopped.code == 1
    assert "more than 20 records of one batch" in stopped.err
    assert totals(fresh) == expected(lines[:5], set())


def test_the_two_settings_are_one_code(fresh: Trip) -> None:
    fares(fresh, GOOD)
    fresh.run()
    declare(fresh, ASIDE)
    append(fresh, ["{", *GOOD[:2]])
    ran = fresh.run()["pipelines"][0]
    assert (ran["records"], ran["dead_letters"]) == (2, 1)


def test_what_cannot_be_skipped_is_said(fresh: Trip) -> None:
    fares(fresh, GOOD)
    fresh.run()
    before = fresh.json("status")
    for place, reason, code, said in [
        (f"{fresh.topic}[0]@5", "x", 3, "processed it already"),
        (f"{fresh.topic}[0]@40", "x", 2, "no such record"),
        (f"{fresh.topic}[7]@5", "x", 2, "not raw_trackpoints[7]"),
        ("somewhere", "x", 2, "topic[partition]@offset"),
        (f"{fresh.topic}[0]@5", " ", 2, "--reason"),
    ]:
        done = fresh.cli("dead-letters", "total", "--skip", place, "--reason", reason)
        assert (done.code, said in done.err) == (code, True), done
    assert fresh.cli("dead-letters", "total", "--skip", "x[0]@1").code == 2
    assert fresh.cli("dead-letters", "nope").code == 2
    assert fresh.json("status") == before
    with closing(sqlite3.connect(fresh.folder / ".playhead/store.db")) as store:
        assert store.execute("SELECT count(*) FROM playhead__skip").fetchone() == (0,)


def test_what_was_set_aside_stays_so_when_state_is_computed_again(fresh: Trip) -> None:
    lines = bad((3, "{"), (17, '{"car": 1, "fare": 13}'))
    fares(fresh, lines, ASIDE)
    fresh.run()
    declare(fresh, "")  # from now on it stops
    with closing(sqlite3.connect(fresh.folder / ".playhead/store.db")) as store, store:
        store.execute("DELETE FROM playhead__past WHERE NOT whole")
    fresh.ok("rewind", "total", "--to-offset", "20", "--execute")
    assert totals(fresh) == expected(lines[:20], {3, 17})
    fresh.run()
    assert totals(fresh) == expected(lines, {3, 17})
