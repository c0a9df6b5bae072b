"""Calculator → topic → db writer, as in the seed: live, rewound, handed over as a whole."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing

import pytest

import oracle
from story import Trip, headers, in_full, wait_for

MakeTrip = Callable[[str, int], Trip]
PLACES = [("local", 1), ("local", 4), ("kafka", 1), ("kafka", 4)]
QUICK = [("local", 4)]  # and on Kafka, as an example
SMALL = {"PLAYHEAD_BATCH_RECORDS": "7"}


@pytest.fixture(params=in_full(PLACES, but=QUICK), ids=[f"{log}-{n}" for log, n in PLACES])
def chain(request: pytest.FixtureRequest, make_trip: MakeTrip) -> Trip:
    """Give the example with its table behind the topic: distance → distance_calcs → db_writer."""
    return chained(make_trip(*request.param))


def chained(trip: Trip) -> Trip:
    trip.edit("to=[distances, dist_calc]", "to=[distances]")
    group = f', group="{trip.prefix}db_writer.v1"' if trip.prefix else ""
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(
            "\n\ndb_writer = app.pipeline(\n"
            f'    distances, to=[dist_calc], name="db_writer", version="v1"{group}\n)\n'
        )
    return trip


def writer_group(trip: Trip) -> str:
    return f"{trip.prefix}db_writer.v1"


def near(found: dict[int, float], unit: float) -> bool:
    expected = oracle.totals(unit)
    return found.keys() == expected.keys() and all(
        abs(found[track] - expected[track]) < 1e-6 for track in expected
    )


def table(trip: Trip) -> list[tuple[int, float]]:
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db")) as store:
        return store.execute(
            "SELECT track_id, distance FROM dist_calc__v1 ORDER BY track_id"
        ).fetchall()


def lag(trip: Trip) -> dict[str, int]:
    """Return how far each live version is behind."""
    return {
        f"{p['pipeline']}@{v['version']}": v["lag"]
        for p in trip.json("status")["pipelines"]
        for v in p["versions"]
        if v["stage"] == "live"
    }


def positions(trip: Trip) -> dict[str, int]:
    """Return how many records of its source each version's cursor and group have behind them."""
    found = {}
    for group in (trip.group, writer_group(trip)):
        described = trip.json("groups", "describe", "--group", group)["groups"][0]
        found[group] = sum(p["current_offset"] for p in described["partitions"])
    return found


def test_a_run_goes_through_them_in_order(chain: Trip) -> None:
    ran = chain.run()["pipelines"]
    assert [(p["pipeline"], p["version"], p["records"]) for p in ran] == [
        ("distance", "miles", 681),
        ("db_writer", "v1", 681),
    ]
    assert list(ran[1]["cursor"]) == [f"{chain.prefix}distance_calcs.miles"]
    assert {k: round(v, 6) for k, v in chain.totals().items()} == oracle.KNOWN_MILES
    assert [p["records"] for p in chain.run()["pipelines"]] == [0, 0]
    assert lag(chain) == {"distance@miles": 0, "db_writer@v1": 0}
    last = max(
        (r for r in chain.records("distance_calcs.miles") if r["key"] == "13"),
        key=lambda r: r["offset"],
    )
    assert json.loads(last["payload"])["distance"] == dict(table(chain))[13]


def test_the_order_is_the_topics_not_the_modules(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.edit("to=[distances, dist_calc]", "to=[distances]")
    trip.edit(
        "\n\n@app.pipeline(trackpoints",
        '\ndb_writer = app.pipeline(distances, to=[dist_calc], name="db_writer", version="v1")'
        "\n\n\n@app.pipeline(trackpoints",
    )
    ran = trip.run()["pipelines"]
    assert [(p["pipeline"], p["records"]) for p in ran] == [("distance", 681), ("db_writer", 681)]
    assert near(trip.totals(), oracle.MILES)


def test_each_may_run_alone(chain: Trip) -> None:
    ran = chain.json("run", "distance", "--until-caught-up")["pipelines"]
    assert [(p["pipeline"], p["records"]) for p in ran] == [("distance", 681)]
    ran = chain.json("run", "db_writer", "--until-caught-up")["pipelines"]
    assert [(p["pipeline"], p["records"]) for p in ran] == [("db_writer", 681)]
    assert near(chain.totals(), oracle.MILES)


def test_the_second_alone_says_that_the_first_has_to_run_before(make_trip: MakeTrip) -> None:
    trip = chained(make_trip("local", 1))
    done = trip.cli("run", "db_writer", "--until-caught-up")
    assert done.code != 0
    assert "distance_calcs.miles" in done.err
    assert "Traceback" not in done.err
    assert "ingest" not in done.err, "nobody fills a physical topic by hand"
    assert near(trip.totals() if trip.run() else {}, oracle.MILES)


def test_a_rewind_of_the_first_is_followed_by_the_second(chain: Trip) -> None:
    chain.run()
    miles = table(chain)
    reset = ("groups", "reset", "--group", chain.group, "--to-offset", "0")
    chain.ok(*reset, "--execute")
    ran = chain.json("run", "--until-caught-up")["pipelines"]
    assert [p["records"] for p in ran] == [681, 681]
    assert table(chain) == miles
    assert near(chain.totals(), oracle.MILES)
    records = chain.records("distance_calcs.miles")
    told = [headers(r) for r in records]
    generations = [h["playhead-generation"] for h in told]
    assert (generations.count("1"), generations.count("2")) == (681, 681)
    assert len(records) == 1362
    by_generation = [
        sorted((h["playhead-source"], r["payload"]) for h, r in zip(told, records, strict=True)
               if h["playhead-generation"] == g)
        for g in "12"
    ]  # fmt: skip
    assert by_generation[0] == by_generation[1]
    versions = {
        p["pipeline"]: v
        for p in chain.json("status")["pipelines"]
        for v in p["versions"]
        if v["stage"] == "live"
    }
    assert (versions["distance"]["generation"], versions["db_writer"]["generation"]) == (2, 1)
    assert [p["records"] for p in chain.run()["pipelines"]] == [0, 0]


STATEFUL = """

@app.pipeline(distances, to=[dist_calc], version="v1"{group})
def db_writer(rows, state):
    return state.running_count(rows, seen="id").with_columns(distance=pl.col("seen").cast(float))
"""


@pytest.mark.parametrize("log", ["local", "kafka"])
def test_a_second_that_has_state_does_not_count_twice_what_was_said_twice(
    make_trip: MakeTrip, log: str
) -> None:
    trip = make_trip(log, 1)
    trip.edit("to=[distances, dist_calc]", "to=[distances]")
    group = f', group="{trip.prefix}db_writer.v1"' if trip.prefix else ""
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(STATEFUL.format(group=group))
    trip.run()
    counts = table(trip)
    points = [track for _, track, _ in oracle.steps()]
    assert dict(counts) == {track: float(points.count(track)) for track in set(points)}

    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "0", "--execute")
    done = trip.cli("run", "--until-caught-up")
    assert table(trip) == counts, "it counted again what it had counted"
    assert done.code == 3, done  # design 5: refuses, and names its own rewind
    assert "playhead rewind db_writer@v1 --to-earliest --execute" in done.err
    assert len(trip.records("distance_calcs.miles")) == 1362


def test_a_rewind_of_the_second_is_its_own_affair(chain: Trip) -> None:
    chain.run()
    miles = table(chain)
    chain.ok("groups", "reset", "--group", writer_group(chain), "--to-earliest", "--execute")
    ran = chain.json("run", "--until-caught-up")["pipelines"]
    assert [p["records"] for p in ran] == [0, 681]
    assert table(chain) == miles
    assert len(chain.records("distance_calcs.miles")) == 681


def stages(trip: Trip) -> dict[str, str]:
    return {
        f"{p['pipeline']}@{v['version']}": v["stage"]
        for p in trip.json("status")["pipelines"]
        for v in p["versions"]
    }


def test_a_chain_is_promoted_and_rolled_back_in_one_swap(chain: Trip) -> None:
    chain.run()
    miles = table(chain)
    planned = chain.json("plan", "distance")["promotions"]
    chain.ok("replay", "distance@km")
    assert chain.json("plan", "distance")["promotions"] == planned, "known before there is a shadow"
    assert (
        "next: playhead diff distance; playhead promote distance@km, which takes the place of "
        "distance@miles, and db_writer@v1+km that of db_writer@v1\n"
    ) in chain.ok("plan", "distance").out
    done = chain.json("promote", "distance@km")
    assert planned == [
        {
            "kind": "promote",
            "version": f"{done['pipeline']}@{done['version']}",
            "base": f"{done['pipeline']}@{done['previous']}",
            "behind": [
                {
                    "version": f"{d['pipeline']}@{d['version']}",
                    "base": f"{d['pipeline']}@{d['previous']}",
                }
                for d in done["behind"]
            ],
        }
    ], "what promote does is what plan says"
    assert chain.json("plan", "distance")["promotions"] == []
    assert [(d["version"], d["previous"], d["epoch"]) for d in (done, *done["behind"])] == [
        ("km", "miles", 2),
        ("v1+km", "v1", 2),
    ]
    assert near(chain.totals(), oracle.KM)
    assert [(p["version"], p["records"]) for p in chain.run()["pipelines"]] == [
        ("km", 0),
        ("v1+km", 0),
    ]
    chain.ingest_again()
    assert [p["records"] for p in chain.run()["pipelines"]] == [681, 681]
    assert table(chain) == miles, "what is retired moves no more"
    back = chain.ok("rollback", "distance")
    assert "db_writer@v1 is live (epoch 3); db_writer@v1+km is retired" in back.out
    assert stages(chain) == {
        "distance@miles": "live",
        "db_writer@v1": "live",
        "distance@km": "retired",
        "db_writer@v1+km": "retired",
    }
    assert lag(chain) == {"distance@miles": 0, "db_writer@v1": 0}
    twice = dict(table(chain))
    assert twice.keys() == dict(miles).keys()
    assert all(twice[track] >= 2 * total for track, total in miles)


def test_a_chain_is_not_handed_over_by_halves(chain: Trip) -> None:
    chain.run()
    chain.ok("replay", "distance@km")
    for command in (("promote", "db_writer@v1+km"), ("rollback", "db_writer")):
        done = chain.cli(*command)
        assert done.code == 3, done
        assert "Nothing was changed" in done.err
    chain.ok("promote", "distance@km")
    done = chain.cli("rollback", "db_writer")
    assert done.code == 3, done
    assert "playhead rollback distance" in done.err
    assert near(chain.totals(), oracle.KM)


def test_what_behind_a_shadow_differs_unexplained_stops_the_whole_chain(
    make_trip: MakeTrip,
) -> None:
    trip = chained(make_trip("local", 2))
    trip.edit(', expect="distance = base.distance * 1.609344"', "")
    trip.run()
    trip.ok("replay", "distance@km")
    before = stages(trip)
    done = trip.cli("promote", "distance@km")
    assert done.code == 4, done
    assert "(dist_calc)" in done.err
    assert stages(trip) == before
    digest = done.err.split()[-1].rstrip(".")
    trip.ok("promote", "distance@km", "--accept-diff", digest)
    assert near(trip.totals(), oracle.KM)


def test_a_chain_is_handed_over_under_its_workers(make_trip: MakeTrip) -> None:
    trip = chained(make_trip("local", 2))
    trip.run()
    trip.ok("replay", "distance@km")
    with trip.running() as worker:
        trip.ingest_again()
        trip.ok("promote", "distance@km")
        trip.ingest_again()
        wait_for(lambda: lag(trip) == {"distance@km": 0, "db_writer@v1+km": 0}, "both to catch up")
        assert worker.poll() is None
        trip.ok("rollback", "distance")
        wait_for(lambda: lag(trip) == {"distance@miles": 0, "db_writer@v1": 0}, "both to catch up")
    assert len(trip.records("distance_calcs.km")) == 3 * 681
    assert len(trip.records("distance_calcs.miles")) == 3 * 681


def test_a_chain_is_not_rolled_back_by_halves(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(
            '\n\ncopies = app.table("copies", key="track_id", columns={"distance": float,'
            ' "track_id": int})\n'
            'app.pipeline(distances, to=[copies], name="db_writer", version="v1")\n'
        )
    ran = trip.run()["pipelines"]
    assert [(p["version"], p["records"]) for p in ran] == [("km", 0), ("v1", 681)]

    def picture() -> tuple[object, ...]:
        copies = trip.json("query", "SELECT track_id, distance FROM copies ORDER BY 1")["rows"]
        return copies, trip.totals(), trip.json("status")["pipelines"]

    before = picture()
    assert near(dict(before[0]), oracle.KM)
    done = trip.cli("rollback", "distance")
    assert done.code == 3, done
    assert "db_writer" in done.err
    assert "Nothing was changed" in done.err
    assert picture() == before
    assert near(trip.totals(), oracle.KM)


def test_a_shadow_of_the_first_writes_nothing_that_the_second_reads(chain: Trip) -> None:
    chain.run()
    miles = table(chain)
    chain.ok("replay", "distance@km")
    assert len(chain.records("distance_calcs.km")) == 681
    assert [p["records"] for p in chain.run()["pipelines"]] == [0, 0]
    assert table(chain) == miles


def test_both_run_at_once_and_stop_cleanly(chain: Trip) -> None:
    with chain.running(**SMALL) as worker:
        wait_for(
            lambda: worker.poll() is not None or (chain.cursor() > 0 and writer_began(chain)),
            "both to commit",
        )
        assert worker.poll() is None, (chain.folder / "background.log").read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 130
    said = (chain.folder / "background.log").read_text()
    assert "Traceback" not in said, said
    stopped = {f"{p['pipeline']}": v for p in chain.json("status")["pipelines"]
               for v in p["versions"] if v["stage"] == "live"}  # fmt: skip
    assert [v["running"] for v in stopped.values()] == [None, None]
    assert positions(chain) == {
        chain.group: sum(stopped["distance"]["cursor"][chain.topic]),
        writer_group(chain): sum(*stopped["db_writer"]["cursor"].values()),
    }
    # What the table holds is what the topic said up to db_writer's cursor: no more, no less.
    cursor = next(iter(stopped["db_writer"]["cursor"].values()))
    expected: dict[int, float] = {}
    for record in chain.records("distance_calcs.miles"):
        if record["offset"] < cursor[record["partition"]]:
            row = json.loads(record["payload"])
            expected[row["track_id"]] = row["distance"]
    assert dict(table(chain)) == expected
    ran = chain.json("run", "--until-caught-up")["pipelines"]
    assert [p["pipeline"] for p in ran] == ["distance", "db_writer"]
    assert near(chain.totals(), oracle.MILES)
    told = [headers(r) for r in chain.records("distance_calcs.miles")]
    assert len(told) == len({h["playhead-source"] for h in told}) == 681


def writer_began(trip: Trip) -> bool:
    with closing(sqlite3.connect(trip.folder / ".playhead/store.db", timeout=10)) as store:
        row = store.execute(
            "SELECT sum(next) FROM playhead__cursor WHERE version = 'db_writer@v1'"
        ).fetchone()
    return bool(row[0])


def test_both_go_on_with_what_arrives(make_trip: MakeTrip) -> None:
    trip = chained(make_trip("local", 1))
    worker = trip.start("run")
    try:
        wait_for(lambda: trip.cursor() == 681, "the first to catch up")
        trip.ingest()
        wait_for(lambda: lag(trip) == {"distance@miles": 0, "db_writer@v1": 0} and
                 trip.cursor() == 1362, "both to catch up")  # fmt: skip
        time.sleep(0.3)
        assert len(table(trip)) == 10
        refused = trip.cli("run", "db_writer", "--until-caught-up")
        assert refused.code == 3
        assert str(worker.pid) in refused.err
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == 130
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    assert len(trip.records("distance_calcs.miles")) == 1362


def test_a_bad_record_in_the_middle_stops_both_and_is_named(make_trip: MakeTrip) -> None:
    trip = chained(make_trip("local", 1))
    trip.edit(
        'app.table("dist_calc", key="track_id", columns={"track_id": int, "distance": float})',
        'app.table("dist_calc", key="track_id", columns={"track_id": int, "distance": int})',
    )
    done = trip.cli("run", "--until-caught-up")
    assert done.code in {1, 2}, done
    assert "dist_calc" in done.err
    assert "Traceback" not in done.err
