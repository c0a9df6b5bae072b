"""The seed's story through the installed command: both logs and stores, one and four partitions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb
import pytest

import oracle
from servers import KafkaServer
from story import Trip, headers, in_full, wait_for, words

PLACES = [
    ("local", 1, "sqlite"),
    ("local", 4, "sqlite"),
    ("local", 4, "postgres"),
    ("kafka", 1, "sqlite"),
    ("kafka", 4, "sqlite"),
    ("kafka", 1, "postgres"),
]
QUICK = [PLACES[2], PLACES[4]]
GROUP_COMMAND = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


@pytest.fixture(
    params=in_full(PLACES, but=QUICK), ids=[f"{log}-{n}-{store}" for log, n, store in PLACES]
)
def trip(request: pytest.FixtureRequest, make_trip: Callable[..., Trip]) -> Trip:
    return make_trip(*request.param)


def near(found: dict[int, float], unit: float) -> bool:
    expected = oracle.totals(unit)
    return found.keys() == expected.keys() and all(
        abs(found[track] - expected[track]) < 1e-6 for track in expected
    )


@contextmanager
def readers(trip: Trip) -> Iterator[list[str]]:
    """Poll view and mirror all the while; give a list of what was wrong with what they saw."""
    wrong: list[str] = []
    seen = {"view": 0, "view again": 0, "mirror": 0}
    stop = threading.Event()

    def judge(source: str, rows: list[tuple[int, float]]) -> None:
        seen[source] += 1
        if not (near(dict(rows), oracle.MILES) or near(dict(rows), oracle.KM)):
            wrong.append(f"{source} showed {rows}")

    def poll(source: str) -> None:
        try:
            while not stop.is_set():
                if source != "mirror":
                    rows = trip.sql("SELECT track_id, distance FROM dist_calc")
                else:
                    with duckdb.connect(trip.folder / "warehouse.duckdb", read_only=True) as mirror:
                        rows = mirror.execute("SELECT track_id, distance FROM dist_calc").fetchall()
                judge(source, rows)
                stop.wait(0.02)
        except Exception as error:  # noqa: BLE001  any error is a finding
            wrong.append(f"{source}: {error}")

    threads = [threading.Thread(target=poll, args=(source,)) for source in seen]
    for thread in threads:
        thread.start()
    try:
        yield wrong
        wait_for(lambda: wrong or min(seen.values()) > 10, "the readers to look")
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_from_ingest_to_rollback(trip: Trip) -> None:
    trip.apart = True  # not where the readers are, as a user's are not
    first = trip.run()
    assert [p["records"] for p in first["pipelines"]] == [681]
    miles = trip.totals()
    assert near(miles, oracle.MILES)
    assert {k: round(v, 6) for k, v in miles.items()} == oracle.KNOWN_MILES
    again = trip.ok("run", "--until-caught-up")
    assert "distance@km: declared, not replayed; next: playhead plan distance" in again.err
    assert [p["records"] for p in trip.run()["pipelines"]] == [0]

    with readers(trip) as wrong:
        plan = trip.json("plan", "distance")
        assert [step["kind"] for step in plan["steps"]] == ["record", "replay"]
        replayed = trip.json("replay", "distance@km")["replays"]
        assert [r["records"] for r in replayed] == [681]
        assert trip.json("plan", "distance")["steps"] == []
        found = trip.json("diff", "distance")
        assert (found["same"], found["changed"], found["unexplained"]) == (1, 9, 0)
        assert [e["holds"] for e in found["expectations"]] == [10]
        assert near(trip.totals(), oracle.MILES)
        promoted = trip.json("promote", "distance@km")
        assert (promoted["version"], promoted["previous"]) == ("km", "miles")
        km = trip.totals()
        assert near(km, oracle.KM)
        assert {k: round(v, 6) for k, v in km.items()} == oracle.KNOWN_KM
        assert trip.run()["pipelines"][0]["version"] == "km"
        rolled = trip.json("rollback", "distance")
        assert (rolled["version"], rolled["previous"]) == ("miles", "km")
        assert trip.totals() == miles
    assert wrong == []


def test_topics_hold_every_record_with_its_origin_and_event_time(trip: Trip) -> None:
    trip.run()
    trip.ok("replay", "distance@km")
    sources = {(r["partition"], r["offset"]): r for r in trip.records("raw_trackpoints")}
    for label in ("miles", "km"):
        records = trip.records(f"distance_calcs.{label}")
        assert len(records) == 681
        origins = set()
        for record in records:
            told = headers(record)
            assert told["playhead-pipeline"] == "distance"
            assert told["playhead-version"] == label
            assert told["playhead-generation"] == "1"
            place, _, offset = told["playhead-source"].rpartition("@")
            partition = int(place.rpartition("[")[2].rstrip("]"))
            source = sources[partition, int(offset)]
            assert (record["ts"], record["key"]) == (source["ts"], source["key"])
            assert str(record["ts"]).startswith("14")  # 2014, as the CSV says
            origins.add((partition, int(offset)))
        assert len(origins) == 681


@pytest.mark.parametrize("tool", ["playhead", "kafka"])
def test_a_rewind_from_outside_takes_the_state_with_it(
    trip: Trip, tool: str, request: pytest.FixtureRequest
) -> None:
    if tool == "kafka" and trip.log.startswith("local:"):
        tool = "the local log has no tools but ours: the same again, to 100"
    trip.run()
    miles = trip.totals()
    if tool == "kafka":
        server: KafkaServer = request.getfixturevalue("kafka")
        server.tool(
            GROUP_COMMAND, "--group", trip.group, "--topic", trip.topic,
            "--reset-offsets", "--to-offset", "0", "--execute",
        )  # fmt: skip
    else:
        moved = trip.json("groups", "reset", "--group", trip.group, "--to-offset", "0", "--execute")
        assert {p["new_offset"] for p in moved["partitions"]} == {0}
    ran = trip.ok("run", "--until-caught-up")
    assert "somebody moved the playhead back" in ran.err
    assert trip.totals() == miles
    generations = [headers(r)["playhead-generation"] for r in trip.records("distance_calcs.miles")]
    assert (generations.count("1"), generations.count("2")) == (681, 681)


def test_a_skip_is_refused_until_it_is_accepted(trip: Trip) -> None:
    trip.run()
    miles = trip.totals()
    trip.ingest_again()
    trip.ok("groups", "reset", "--group", trip.group, "--to-latest", "--execute")
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "would be skipped" in refused.err
    assert "--accept-gap" in refused.err
    assert trip.totals() == miles
    accepted = trip.ok("run", "--until-caught-up", "--accept-gap", "-o", "json").json
    assert [p["records"] for p in accepted["pipelines"]] == [0]
    assert trip.totals() == miles
    assert trip.json("status")["pipelines"][0]["versions"][0]["generation"] == 2
    assert [p["records"] for p in trip.run()["pipelines"]] == [0]


def test_nothing_is_run_or_reset_under_a_running_worker(trip: Trip) -> None:
    trip.run()
    trip.ok("replay", "distance@km")
    before = trip.json("groups", "describe", "--group", trip.group)["groups"][0]["partitions"]
    with trip.running() as worker:
        for command in (
            ("groups", "reset", "--group", trip.group, "--to-offset", "0", "--execute"),
            ("run", "--until-caught-up"),
        ):
            refused = trip.cli(*command)
            assert refused.code == 3, refused
            assert str(worker.pid) in refused.err or "rdkafka" in refused.err, refused.err
        after = trip.json("groups", "describe", "--group", trip.group)["groups"][0]
        assert after["partitions"] == before
        assert after["members"]
        stages = {v["version"]: v["stage"] for v in trip.json("status")["pipelines"][0]["versions"]}
        assert stages == {"miles": "live", "km": "shadow"}
    assert near(trip.totals(), oracle.MILES)


def test_a_replay_runs_beside_live_and_stops_where_live_stands(trip: Trip) -> None:
    with trip.running():
        wait_for(lambda: near(trip.totals(), oracle.MILES), "live to catch up")
        replayed = trip.json("replay", "distance@km")["replays"][0]
        assert replayed["records"] == 681
        lines = (trip.folder / "trackpoints.csv").read_text().splitlines()
        (trip.folder / "more.csv").write_text("\n".join([lines[0], lines[1]]) + "\n")
        trip.ok("ingest", "more.csv", "--topic", trip.topic)
        wait_for(
            lambda: trip.json("status")["pipelines"][0]["versions"][0]["lag"] == 0,
            "live to read the new record",
        )
        assert trip.json("replay", "distance@km")["replays"][0]["records"] == 1
    found = trip.json("diff", "distance")
    assert (found["unexplained"], found["in_flight"]) == (0, 0)


def test_groups_are_shown_as_kafka_shows_them(trip: Trip, request: pytest.FixtureRequest) -> None:
    trip.run()
    shown = words(trip.ok("groups", "describe", "--group", trip.group).out)
    assert shown[0][:6] == [
        "GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG",
    ]  # fmt: skip
    assert all(row[5] == "0" for row in shown[1:])
    if trip.log.startswith("kafka:"):
        server: KafkaServer = request.getfixturevalue("kafka")
        theirs = words(server.tool(GROUP_COMMAND, "--describe", "--group", trip.group))
        rows = [row for row in theirs if row[0] == trip.group]
        ours = {tuple(row[:6]) for row in shown[1:]}
        assert {tuple(row[:6]) for row in rows} == ours


def test_without_the_expectation_the_diff_is_not_explained(trip: Trip) -> None:
    trip.edit(', expect="distance = base.distance * 1.609344"', "")
    trip.run()
    trip.ok("replay", "distance@km")
    found = trip.cli("diff", "distance", "-o", "json")
    assert (found.code, found.json["unexplained"]) == (4, 9)
    refused = trip.cli("promote", "distance@km")
    assert refused.code == 4
    assert near(trip.totals(), oracle.MILES)
    expected = ("--expect", "distance = base.distance * 1.609344")
    explained = trip.json("diff", "distance", *expected)
    assert explained["digest"] != found.json["digest"]
    assert "explained" in trip.ok("diff", "distance", *expected).out
    trip.ok("promote", "distance@km", "--accept-diff", explained["digest"])
    assert near(trip.totals(), oracle.KM)
    trip.ok("rollback", "distance")
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km", "--accept-diff", found.json["digest"])
    assert near(trip.totals(), oracle.KM)


def test_a_first_version_that_has_committed_nothing_may_be_corrected(trip: Trip) -> None:
    first = 'shipped."""\n'
    trip.edit(first, first + "    assert not len(points), 'no good'\n")
    failed = trip.cli("run", "--until-caught-up")
    assert failed.code == 1
    assert "no good" in failed.err
    trip.edit("    assert not len(points), 'no good'\n", "")
    assert [p["records"] for p in trip.run()["pipelines"]] == [681]
    assert near(trip.totals(), oracle.MILES)


def test_after_a_promotion_there_is_nothing_to_plan(trip: Trip) -> None:
    trip.run()
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    assert (trip.json("plan")["steps"], trip.json("plan")["promotions"]) == ([], [])
    trip.ok("rollback", "distance")
    assert (trip.json("plan")["steps"], trip.json("plan")["promotions"]) == ([], [])
