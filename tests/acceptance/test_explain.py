"""``explain``: one record, its key's state before and after, its rows; and nothing is changed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import oracle
from playhead.adapters.local_log import LocalLog
from story import Trip, add_partition, delete_topic, headers

MakeTrip = Callable[[str, int], Trip]


@pytest.fixture
def trip(ran: Trip, tmp_path: Path) -> Trip:
    return Trip.copy(ran, tmp_path / "ran")


@pytest.fixture
def new(make_trip: MakeTrip) -> Trip:
    return make_trip("local", 1)


def told(trip: Trip, offset: int, name: str = "distance", partition: int = 0) -> dict[str, Any]:
    return trip.json("explain", name, f"{trip.topic}[{partition}]@{offset}")


def bytes_of(trip: Trip) -> dict[str, str]:
    """Return the SHA-256 of every file that log, store and mirror are made of."""
    files = [*(trip.folder / ".playhead").rglob("*"), *trip.folder.glob("warehouse*")]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def total(account: dict[str, Any], when: str) -> float | None:
    rows = account[when]["running_sum.total"]
    return rows[0]["_total"] if rows else None


def published(trip: Trip, label: str) -> dict[str, list[dict[str, Any]]]:
    """Return what is in a version's topic by the place that it was made from."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in trip.records(f"distance_calcs.{label}"):
        found.setdefault(headers(record)["playhead-source"], []).append(record)
    return found


@pytest.mark.parametrize(("log", "every"), [("local", 85), ("kafka", 110)])
def test_state_and_rows_are_those_of_one_pass_for_every_version(
    make_trip: MakeTrip, log: str, every: int
) -> None:
    trip = make_trip(log, 1 if log == "local" else 3)
    trip.ok("run", "--until-caught-up")
    trip.ok("replay", "distance@km")
    ways = {number: (track, metres) for number, track, metres in oracle.steps()}
    made = {label: published(trip, label) for label in ("miles", "km")}
    before: dict[tuple[str, int], float] = {}
    seen = 0
    for record in trip.records("raw_trackpoints"):
        number = json.loads(record["payload"])["id"]
        track, metres = ways[number]
        if record["offset"] % every == 0:
            found = told(trip, record["offset"], partition=record["partition"])
            assert found["input"]["value"] == record["payload"]
            assert found["input"]["timestamp"].startswith("2014-") == (record["ts"] < 1.42e12)
            for label, unit in (("miles", oracle.MILES), ("km", oracle.KM)):
                account = found["versions"][label]
                assert account["fate"] == "processed"
                assert total(account, "before") == pytest.approx(before.get((label, track)))
                assert total(account, "after") == pytest.approx(metres, abs=1e-6)
                topic, table = account["output"]
                assert table["row"]["distance"] == pytest.approx(metres / unit, abs=1e-9)
                (there,) = made[label][f"{trip.topic}[{record['partition']}]@{record['offset']}"]
                assert topic["row"] == json.loads(there["payload"]), (
                    "what was published, bit by bit"
                )
                assert topic["physical"].endswith(f"distance_calcs.{label}[{there['partition']}]")
            seen += 1
        before.update({(label, track): metres for label in ("miles", "km")})
    assert seen >= 6


def test_it_changes_nothing(trip: Trip) -> None:
    trip.ok("replay", "distance@km")
    trip.ok("query", "SELECT 1")
    before = bytes_of(trip)
    told(trip, 300)
    assert (
        "distance@km (shadow, gen. 1): processed"
        in trip.ok("explain", "distance@km", f"{trip.topic}[0]@680").out
    )
    assert trip.cli("explain", "distance", f"{trip.topic}[0]@681").code == 3
    assert bytes_of(trip) == before
    assert len(before) == 5  # log, store, mirror; and what the replay has kept, with its label


def test_what_people_read(trip: Trip) -> None:
    done = trip.ok("explain", "distance", f"{trip.topic}[0]@12")
    assert done.out.startswith("raw_trackpoints[0]@12  2014-09-13T07:25:00Z\nkey    1\nvalue  {")
    lines = done.out.splitlines()
    assert "distance@miles (live, gen. 1): processed" in lines
    (line,) = [line for line in lines if line.startswith("running_sum.total")]
    assert line.split() == [
        "running_sum.total", "track_id=1", "total=496.0949150374594", "total=544.2086176692072",
    ]  # fmt: skip
    assert "dist_calc__miles         track_id=1 distance=0.3381555575869467" in lines
    assert "distance@km: declared, not replayed; next: playhead plan distance" in done.err


WRONG = [
    (("distanc", "raw_trackpoints[0]@1"), 2, "Did you mean distance?"),
    (("distance@kn", "raw_trackpoints[0]@1"), 2, "distance has distance@miles, distance@km"),
    (("distance@km", "raw_trackpoints[0]@1"), 2, "distance@km has not run yet"),
    (("distance", "raw_trackpoints@1"), 2, "topic[partition]@offset"),
    (("distance", "distance_calcs.miles[0]@1"), 2, "It reads raw_trackpoints"),
    (("distance", "raw_trackpoints[3]@1"), 2, "partitions 0 to 0"),
    (("distance", "raw_trackpoints[0]@681"), 3, "not in the log yet (the topic holds [0, 681)"),
]


def test_what_cannot_be_is_named(new: Trip) -> None:
    nothing = new.cli("explain", "distance", "raw_trackpoints[0]@1")
    assert nothing.code == 1
    assert "nothing has run here yet" in nothing.err
    new.ok("run", "--until-caught-up")
    for args, code, said in WRONG:
        done = new.cli("explain", *args)
        assert (done.code, said in done.err) == (code, True), done


def test_a_record_ahead_of_the_cursor_and_the_one_that_comes_next(trip: Trip) -> None:
    trip.ok("replay", "distance@km", "--to", "400")
    found = told(trip, 500)["versions"]
    assert found["miles"]["fate"] == "processed"
    assert found["km"]["fate"] == "unavailable"
    assert "stands at 400, and [400, 500) comes before it" in found["km"]["error"]["message"]
    assert trip.cli("explain", "distance@km", f"{trip.topic}[0]@500").code == 3
    coming = told(trip, 400)["versions"]
    assert coming["km"]["fate"] == "next"
    assert coming["km"]["before"] == coming["miles"]["before"]
    assert coming["km"]["output"][1]["row"]["distance"] == pytest.approx(
        coming["miles"]["output"][1]["row"]["distance"] * 1.609344
    )


def test_where_neither_history_nor_log_reach_the_missing_range_is_named(new: Trip) -> None:
    new.ok("run", "--until-caught-up", PLAYHEAD_BATCH_RECORDS="100")
    with closing(LocalLog(new.folder / ".playhead/log.db")) as log:
        log.delete_records(new.topic, {0: 300})
    assert told(new, 350)["versions"]["miles"]["fate"] == "processed", "deltas reach"
    gone = new.cli("explain", "distance", f"{new.topic}[0]@299")
    assert gone.code == 3
    assert "offset 299 is no longer retained (the topic holds [300, 681))" in gone.err
    with closing(sqlite3.connect(new.folder / ".playhead/store.db")) as store, store:
        store.execute("DELETE FROM playhead__past")
    unknown = new.cli("explain", "distance", f"{new.topic}[0]@350")
    assert unknown.code == 3
    assert "state as of 350 cannot be had: [0, 350) is needed" in unknown.err
    assert "the topic holds [300, 681)" in unknown.err


def test_a_rewind_begins_a_generation_and_what_it_undid_is_not_told(trip: Trip) -> None:
    first = told(trip, 250)["versions"]["miles"]
    trip.ok("rewind", "distance", "--to-offset", "200", "--execute")
    undone = trip.cli("explain", "distance", f"{trip.topic}[0]@250")
    assert undone.code == 3
    assert "stands at 200" in undone.err
    trip.ok("run", "--until-caught-up")
    again = told(trip, 250)["versions"]["miles"]
    assert (first.pop("generation"), again.pop("generation")) == (1, 2)
    assert first == again
    assert told(trip, 199)["versions"]["miles"]["generation"] == 1


def test_a_gap_that_was_accepted_was_never_read(trip: Trip) -> None:
    trip.ingest_again()
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "700", "--execute")
    trip.ok("run", "--until-caught-up", "--accept-gap")
    account = told(trip, 690)["versions"]["miles"]
    assert (account["fate"], account["output"]) == ("skipped", [])
    assert account["error"]["message"] == "a gap was accepted there: [681, 700)"
    assert told(trip, 700)["versions"]["miles"]["fate"] == "processed"


def test_a_retired_version_is_told_too_and_code_that_changed_is_not(trip: Trip) -> None:
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    found = told(trip, 12)["versions"]
    assert {v: (a["stage"], a["fate"]) for v, a in found.items()} == {
        "miles": ("retired", "processed"),
        "km": ("live", "processed"),
    }
    trip.edit('distance=pl.col("total") * MILES', 'distance=pl.col("total") * 2 * MILES')
    changed = told(trip, 12)["versions"]
    assert changed["miles"]["fate"] == "unavailable"
    assert "its code has changed" in changed["miles"]["error"]["message"]
    assert changed["km"] == found["km"]
    module = (trip.folder / "vehicles.py").read_text()
    (trip.folder / "vehicles.py").write_text(module.replace('version="miles"', 'version="mi"'))
    gone = trip.cli("explain", "distance", f"{trip.topic}[0]@12", "-o", "json").json
    assert "recorded but not declared here" in gone["versions"]["miles"]["error"]["message"]


def test_a_topic_that_was_made_again_holds_other_records(trip: Trip) -> None:
    add_partition(trip, trip.topic)
    assert trip.cli("explain", "distance", f"{trip.topic}[0]@1").code == 3
    delete_topic(trip, trip.topic)
    gone = trip.cli("explain", "distance", f"{trip.topic}[0]@1")
    assert gone.code == 1
    assert "does not exist" in gone.err
    trip.ingest()
    again = trip.cli("explain", "distance", f"{trip.topic}[0]@1")
    assert again.code == 3
    assert "was deleted and created again" in again.err


ROWS = """
import playhead as ph

app = ph.App("fares")
fares = app.topic("raw_trackpoints", key="car", value={"car": int, "fare": int, "hour": int})
odd = app.topic("odd", key="car", value={"car": int, "fare": int})
totals = app.table("totals", key="car", columns={"car": int, "sum": int})


@app.pipeline(fares, to=[totals, odd], version="v1", per="row", on_error="dead_letter")
def rows(row, state):
    state["sum"] = state.get("sum", 0) + row["fare"]
    if row["fare"] == 13:
        raise ValueError("unlucky")
    if row["fare"] == 4:
        return {totals: {"car": row["car"], "_tombstone": True}}
    return {totals: {"car": row["car"], "sum": state["sum"]}} if row["fare"] != 2 else None


hours = app.table("hours", key=["car", "hour"])


@app.pipeline(fares, to=[hours], version="v1")
def by_hour(rows, state):
    return state.running_sum(rows, by="hour", total="fare")
"""
FARES = [1, 2, 13, 4, 5, 6]


@pytest.fixture
def fares(tmp_path: Path) -> Trip:
    trip = Trip.make(tmp_path / "trip")
    (trip.folder / "vehicles.py").write_text(ROWS)
    lines = [f'{{"car": 7, "fare": {fare}, "hour": {i // 2}}}' for i, fare in enumerate(FARES)]
    (trip.folder / "fares.jsonl").write_text("\n".join(lines) + "\n")
    trip.ok("ingest", "fares.jsonl", "--topic", trip.topic)
    return trip


def test_row_by_row_state_is_the_dict_and_a_row_may_give_nothing(fares: Trip) -> None:
    fares.run()

    def account(offset: int) -> dict[str, Any]:
        found: dict[str, Any] = told(fares, offset, "rows")["versions"]["v1"]
        return found

    first, none, dead, deletes, last = map(account, (0, 1, 2, 3, 5))
    assert first["before"] == {"row": []}
    assert first["after"] == {"row": [{"car": 7, "_state": {"sum": 1}}]}
    assert first["output"][0]["row"] == {"car": 7, "sum": 1}
    assert (none["output"], none["fate"]) == ([], "processed")
    assert none["after"]["row"][0]["_state"] == {"sum": 3}
    assert (dead["fate"], dead["output"]) == ("dead_letter", [])
    assert "unlucky" in dead["error"]["message"]
    assert dead["before"] == dead["after"] == none["after"], "a row that raises changes nothing"
    assert [(w["row"], w["deletes"]) for w in deletes["output"]] == [({"car": 7}, True)]
    assert last["after"]["row"][0]["_state"] == {"sum": 18}
    shown = fares.ok("explain", "rows", f"{fares.topic}[0]@1").out
    assert "row    car=7  sum=1   sum=3" in shown
    assert "no output" in shown
    assert "deleted: car=7" in fares.ok("explain", "rows", f"{fares.topic}[0]@3").out


def test_state_per_key_and_hour_is_that_of_the_hour(fares: Trip) -> None:
    fares.run()
    account = told(fares, 3, "by_hour")["versions"]["v1"]
    assert account["before"] == {"running_sum.total": [{"car": 7, "hour": 1, "_total": 13}]}
    assert account["after"] == {"running_sum.total": [{"car": 7, "hour": 1, "_total": 17}]}


def test_the_record_that_stops_a_version_and_one_that_was_skipped(fares: Trip) -> None:
    module = (fares.folder / "vehicles.py").read_text()
    (fares.folder / "vehicles.py").write_text(module.replace(', on_error="dead_letter"', ""))
    assert fares.cli("run", "rows", "--until-caught-up").code == 1
    where = f"{fares.topic}[0]@2"
    stopped = told(fares, 2, "rows")["versions"]["v1"]
    assert (stopped["fate"], stopped["output"]) == ("next", [])
    assert "unlucky" in stopped["error"]["message"]
    assert stopped["before"] == {"row": [{"car": 7, "_state": {"sum": 3}}]}
    fares.ok("dead-letters", "rows", "--skip", where, "--reason", "a broken meter")
    skipped = told(fares, 2, "rows")["versions"]["v1"]
    assert skipped["fate"] == "dead_letter"
    assert skipped["error"]["message"] == "skipped: a broken meter"
    assert "a dead letter" in fares.ok("explain", "rows", where).out


def test_in_a_chain_what_a_rewind_superseded_is_skipped_and_the_maker_named(new: Trip) -> None:
    new.edit("to=[distances, dist_calc]", "to=[distances]")
    with (new.folder / "vehicles.py").open("a") as module:
        module.write(
            '\n\ncount = app.table("count", key="track_id")\n\n'
            '@app.pipeline(distances, to=[count], version="v1")\n'
            "def counted(rows, state):\n"
            '    rows = state.running_count(rows, n="id")\n'
            '    return rows.select(ph.origin, "track_id", "n")\n'
        )
    new.run()
    place = "distance_calcs.miles[0]"
    first = new.ok("explain", "counted", f"{place}@640")
    assert "distance@miles made it from raw_trackpoints[0]@640" in first.err
    assert "playhead-generation  1" in first.out
    new.ok("rewind", "distance", "--to-offset", "600", "--execute")
    new.ok("run", "distance", "--until-caught-up")
    new.ok("rewind", "counted", "--to-earliest", "--execute")
    new.ok("run", "--until-caught-up")

    def account(offset: int) -> dict[str, Any]:
        found = new.json("explain", "counted", f"{place}@{offset}")
        account: dict[str, Any] = found["versions"]["v1"]
        return account

    old, again = account(640), account(681 + 40)
    assert (old["fate"], old["output"]) == ("superseded", [])
    assert again["fate"] == "processed"
    n = again["before"]["running_count.n"][0]["_count"]
    assert again["after"]["running_count.n"][0]["_count"] == n + 1
    assert account(599)["fate"] == "processed"


def test_on_kafka_a_marker_is_no_record_and_the_next_one_is_named(make_trip: MakeTrip) -> None:
    trip = make_trip("kafka", 1)
    trip.ingest_again()
    trip.run()
    marker = trip.cli("explain", "distance", f"{trip.topic}[0]@681")
    assert marker.code == 2
    assert "a transaction's marker" in marker.err
    assert f"The next record is {trip.topic}[0]@682." in marker.err
    assert told(trip, 682)["versions"]["miles"]["fate"] == "processed"
    group = trip.json("groups", "describe", "--group", trip.group)["groups"][0]
    assert group["partitions"][0]["current_offset"] == 1364, "the group was not touched"
