"""Public topics: what readers outside see of each epoch, whatever is promoted and killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from playhead.config import load
from playhead.project import Project
from story import Trip, delete_topic, headers, in_full, wait_for

MakeTrip = Callable[..., Trip]
PUBLIC = "distance_calcs"
KEYED = 'value={"id": int, "track_id": int, "distance": float}'
KM = 'return points.with_columns(distance=pl.col("total") * KM_PER_METRE)'
LOSES_TRACK_10 = KM.replace("points.", 'points.filter(pl.col("track_id") != 10).')
EXPECTED = ', expect="distance = base.distance * 1.609344"'


def declare(trip: Trip, **options: Any) -> None:
    """Give the public topic these options."""
    told = "".join(f", {name}={value!r}" for name, value in options.items())
    trip.edit(KEYED, KEYED + told)


def published(trip: Trip) -> list[tuple[int, str, str, int, int]]:
    """Return epoch, version, generation, partition and offset of the source of each record."""
    found = []
    for record in trip.records(PUBLIC):
        told = headers(record)
        place, _, offset = told["playhead-source"].rpartition("@")
        partition = int(place.rpartition("[")[2].rstrip("]"))
        which = (told["playhead-version"], told["playhead-generation"])
        found.append((int(told["playhead-epoch"]), *which, partition, int(offset)))
    return found


def of_epoch(trip: Trip, epoch: int) -> list[tuple[int, int]]:
    """Return the places of the source that an epoch has shown, each of them once."""
    places = [(partition, offset) for e, _, _, partition, offset in published(trip) if e == epoch]
    assert len(places) == len(set(places)), "a record was shown twice in an epoch"
    return sorted(places)


def begins_at(trip: Trip, publisher: str) -> int:
    """Return where the publisher of an epoch has begun in its only partition."""
    with closing(Project(load(trip.folder, {})).open_store()) as store:
        return store.ledger.generations(publisher)[0][0].start


def compacted(trip: Trip, topic: str) -> dict[str, str]:
    """Return what a reader has who keeps the last value of each key."""
    found: dict[str, str] = {}
    for record in sorted(trip.records(topic), key=lambda r: (r["partition"], r["offset"])):
        found[record["key"]] = record["payload"]
    return {key: value for key, value in found.items() if value is not None}


def in_order(trip: Trip) -> None:
    """Check that epochs follow each other, and in each one the records of a key their sources."""
    last: dict[tuple[str, int], tuple[int, int]] = {}
    epochs: dict[int, int] = {}
    for record in sorted(trip.records(PUBLIC), key=lambda r: (r["partition"], r["offset"])):
        told = headers(record)
        epoch = int(told["playhead-epoch"])
        assert epochs.setdefault(record["partition"], epoch) <= epoch
        epochs[record["partition"]] = epoch
        at = (int(told["playhead-generation"]), int(told["playhead-source"].rpartition("@")[2]))
        assert last.get((record["key"], epoch), (0, -1)) < at
        last[record["key"], epoch] = at


def ready(trip: Trip) -> None:
    """Run live, and bring the shadow to where it stands."""
    trip.run()
    trip.ok("replay", "distance@km")


def promote(trip: Trip) -> None:
    """Promote the shadow, whatever differs."""
    digest = trip.cli("diff", "distance", "-o", "json").json["digest"]
    trip.ok("promote", "distance@km", "--accept-diff", digest)


@pytest.mark.parametrize(
    ("log", "partitions", "store"),
    in_full(
        [("local", 1, "sqlite"), ("local", 4, "postgres"), ("kafka", 4, "sqlite")],
        but=[("local", 1, "sqlite"), ("kafka", 4, "sqlite")],
        several=True,
    ),
)
def test_a_promotion_appends_the_corrected_history(
    make_trip: MakeTrip, log: str, partitions: int, store: str
) -> None:
    trip = make_trip(log, partitions, store)
    ran = trip.run()
    assert ran["public"] == [
        {
            "topic": trip.prefix + PUBLIC,
            "pipeline": "distance",
            "version": "miles",
            "epoch": 1,
            "records": 681,
        }
    ]
    assert len(of_epoch(trip, 1)) == len(trip.records(PUBLIC)) == 681
    assert [p["records"] for p in trip.run()["public"]] == [0]
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    assert len(trip.records(PUBLIC)) == 681
    assert [(p["epoch"], p["records"]) for p in trip.run()["public"]] == [(2, 681)]
    assert len(trip.records(PUBLIC)) == 2 * 681
    assert of_epoch(trip, 1) == of_epoch(trip, 2)
    assert compacted(trip, PUBLIC) == compacted(trip, f"{PUBLIC}.km")
    in_order(trip)
    stamps = {(r["key"], r["ts"]) for r in trip.records(f"{PUBLIC}.km")}
    assert {(r["key"], r["ts"]) for r in trip.records(PUBLIC)} == stamps
    trip.ok("rollback", "distance")
    trip.run()
    assert of_epoch(trip, 3) == of_epoch(trip, 1)
    assert compacted(trip, PUBLIC) == compacted(trip, f"{PUBLIC}.miles")
    in_order(trip)
    shown = trip.json("status")["public"]
    assert [(s["epoch"], s["stage"], s["records"], s["lag"]) for s in shown] == [
        (1, "over", 681, None),
        (2, "over", 681, None),
        (3, "live", 681, 0),
    ]
    group = f"{trip.prefix}{PUBLIC}.public.e3"
    described = trip.json("groups", "describe", "--group", group)["groups"][0]
    assert [p["lag"] for p in described["partitions"]] == [0] * partitions


@pytest.mark.parametrize(
    ("log", "partitions"), in_full([("local", 1), ("kafka", 4)], but=[("local", 1)], several=True)
)
def test_a_promotion_may_publish_only_what_changes(
    make_trip: MakeTrip, log: str, partitions: int
) -> None:
    trip = make_trip(log, partitions)
    declare(trip, on_promote="changed")
    trip.edit(KM, LOSES_TRACK_10)
    trip.edit(EXPECTED, "")
    ready(trip)
    promote(trip)
    trip.ingest_again()
    ran = trip.run()["public"]
    assert [(p["epoch"], p["records"]) for p in ran] == [(1, 0), (2, 9 + 678)]
    said = [r for r in trip.records(PUBLIC) if headers(r)["playhead-epoch"] == "2"]
    gone = [r for r in said if r["payload"] is None]
    assert [(r["key"], headers(r)["playhead-version"]) for r in gone] == [("10", "km")]
    # Eight cars that moved, and the ghost; car 14 never did: 0 miles are 0 kilometres.
    before = of_epoch(trip, 1)
    again = [r for r in said if int(headers(r)["playhead-source"].rpartition("@")[2]) <= max(
        offset for _, offset in before)]  # fmt: skip
    if partitions == 1:
        assert {r["key"] for r in again} == {"1", "2", "3", "4", "8", "10", "11", "12", "13"}
    assert compacted(trip, PUBLIC) == compacted(trip, f"{PUBLIC}.km")
    assert [p["records"] for p in trip.run()["public"]] == [0]
    trip.ok("rollback", "distance")
    ran = trip.run()["public"]
    assert [(p["epoch"], p["records"]) for p in ran] == [(2, 0), (3, 9)]
    assert compacted(trip, PUBLIC) == compacted(trip, f"{PUBLIC}.miles")
    in_parts = [(s["epoch"], s["part"], s["stage"]) for s in trip.json("status")["public"]]
    assert in_parts[-2:] == [(3, "changed", "over"), (3, "records", "live")]


@pytest.mark.parametrize("log", in_full(["local", "kafka"], but=["local"]))
def test_a_promotion_may_leave_the_past_alone_without_gap_or_overlap(
    make_trip: MakeTrip, log: str
) -> None:
    trip = make_trip(log, 4)
    declare(trip, on_promote="none")
    ready(trip)
    trip.ingest_again()
    trip.edit("on_promote='none'", "on_promote='none', public=False")
    trip.run()  # live goes on, and its publisher lags behind
    assert len(trip.records(PUBLIC)) == 681
    trip.edit("on_promote='none', public=False", "on_promote='none'")
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    trip.ingest_again()
    ran = trip.run()["public"]
    assert [(p["epoch"], p["version"], p["records"]) for p in ran] == [
        (1, "miles", 681),
        (2, "km", 681),
    ]
    places = of_epoch(trip, 1) + of_epoch(trip, 2)
    source = [(r["partition"], r["offset"]) for r in trip.records("raw_trackpoints")]
    assert sorted(places) == sorted(source)
    first, second = dict(of_epoch(trip, 1)), dict(reversed(of_epoch(trip, 2)))
    assert all(first[p] < second[p] for p in first), "each ends where the other begins"
    in_order(trip)
    trip.ok("rollback", "distance")
    trip.ingest_again()
    trip.run()
    assert len(published(trip)) == len(set(published(trip))) == 4 * 681
    source = [(r["partition"], r["offset"]) for r in trip.records("raw_trackpoints")]
    assert sorted(p[3:] for p in published(trip)) == sorted(source)


def test_an_epoch_ends_where_its_topic_ended_whatever_is_written_to_it_later(
    make_trip: MakeTrip,
) -> None:
    trip = make_trip("local", 1)
    declare(trip, on_promote="none")
    ready(trip)
    for swap in (("promote", "distance@km"), ("rollback", "distance")):
        trip.edit("on_promote='none'", "on_promote='none', public=False")
        trip.ingest_again()
        trip.run()  # nobody forwards it
        trip.edit("on_promote='none', public=False", "on_promote='none'")
        if swap[0] == "promote":
            trip.ok("replay", "distance@km")
        trip.ok(*swap)
    trip.ingest_again()
    # The rollback has made miles write what km was live for: that is no record of epoch 1.
    assert len(trip.records(f"{PUBLIC}.miles")) == 3 * 681
    ran = trip.run()["public"]
    assert [(p["epoch"], p["version"], p["records"]) for p in ran] == [
        (1, "miles", 681),
        (2, "km", 681),
        (3, "miles", 681),
    ]
    assert of_epoch(trip, 1) + of_epoch(trip, 2) + of_epoch(trip, 3) == [
        (0, offset) for offset in range(4 * 681)
    ]
    in_order(trip)
    begun = {name: begins_at(trip, f"{PUBLIC}.public@{name}") for name in ("e1", "e2", "e3")}
    assert begun == {"e1": 0, "e2": 2 * 681, "e3": 3 * 681}, "none reads what it does not forward"


def test_an_epoch_shows_what_its_version_had_made_beyond_where_live_stood(
    make_trip: MakeTrip,
) -> None:
    trip = make_trip("local", 1)
    declare(trip, on_promote="none")
    ready(trip)
    trip.ok("promote", "distance@km")
    trip.ok("rewind", "distance", "--to-offset", "300", "--execute")
    trip.ok("rollback", "distance", "--now")
    ran = trip.run()["public"]
    assert [(p["epoch"], p["records"]) for p in ran if p["records"]] == [(3, 381)]
    assert of_epoch(trip, 3) == [(0, offset) for offset in range(300, 681)]


def test_what_a_version_makes_up_for_was_shown_by_the_one_before(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    declare(trip, on_promote="none")
    ready(trip)
    trip.ok("promote", "distance@km")
    trip.ingest_again()
    trip.run()
    trip.ok("rollback", "distance", "--now")  # miles has not seen what came since
    trip.ingest_again()
    trip.run()
    assert of_epoch(trip, 2) == [(0, offset) for offset in range(681, 2 * 681)]
    assert of_epoch(trip, 3) == [(0, offset) for offset in range(2 * 681, 3 * 681)]
    in_order(trip)


def test_what_the_publisher_has_not_said_yet_is_not_said_after_an_append(
    make_trip: MakeTrip,
) -> None:
    trip = make_trip("local", 1)
    declare(trip, public=False)
    ready(trip)
    trip.edit(", public=False", "")
    trip.run()  # the publisher begins
    trip.ingest_again()
    trip.edit(KEYED, KEYED + ", public=False")
    trip.run()
    trip.edit(", public=False", "")
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    ran = trip.run()["public"]
    assert [(p["epoch"], p["records"]) for p in ran] == [(2, 2 * 681)]
    assert len(of_epoch(trip, 1)) == 681, "the old epoch stops where it is"
    in_order(trip)


def test_a_rewind_of_live_shows_its_new_generation(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    ready(trip)
    trip.ok("rewind", "distance", "--to-offset", "600", "--execute")
    assert [p["records"] for p in trip.run()["public"]] == [81]
    told = [(g, offset) for _, _, g, _, offset in published(trip)]
    assert told == [("1", o) for o in range(681)] + [("2", o) for o in range(600, 681)]
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    trip.ok("rollback", "distance")
    assert [p["records"] for p in trip.run()["public"]] == [681]
    again = [(g, offset) for epoch, _, g, _, offset in published(trip) if epoch == 3]
    assert again == [("1", o) for o in range(600)] + [("2", o) for o in range(600, 681)]


def test_without_public_there_is_none(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    declare(trip, public=False)
    assert trip.run()["public"] == []
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    topics = [t["topic"] for t in trip.json("topics", "list")["topics"]]
    assert topics == ["distance_calcs.km", "distance_calcs.miles", "raw_trackpoints"]
    assert trip.json("status")["public"] == []
    trip.edit(", public=False", "")
    assert [(p["epoch"], p["records"]) for p in trip.run()["public"]] == [(2, 681)]


def test_a_topic_that_is_not_ours_is_never_written_to(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.ok("topics", "create", PUBLIC)
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert f"topic {PUBLIC} exists, but the catalog does not know it" in refused.err
    assert "public=False" in refused.err
    assert trip.records(PUBLIC) == []
    declare(trip, public=False)
    ready(trip)
    trip.edit(", public=False", "")
    refused = trip.cli("promote", "distance@km")
    assert refused.code == 3
    assert trip.json("status")["pipelines"][0]["versions"][0]["stage"] == "live"
    assert trip.records(PUBLIC) == []


def test_a_public_topic_that_was_deleted_is_not_made_again_silently(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    delete_topic(trip, PUBLIC)
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 3
    assert "was deleted" in refused.err
    assert "playhead rewind" not in refused.err, refused.err
    assert PUBLIC not in [t["topic"] for t in trip.json("topics", "list")["topics"]]


TWO = """

@app.pipeline(trackpoints, to=[distances], version="miles")
def halves(points, state):
    points = metres_so_far(points, state)
    return points.with_columns(distance=pl.col("total") * 0.5)
"""


def test_two_pipelines_fill_one_public_topic_each_with_epochs_of_its_own(
    make_trip: MakeTrip,
) -> None:
    trip = make_trip("local", 4)
    with (trip.folder / "vehicles.py").open("a") as module:
        module.write(TWO)
    ran = trip.run()["public"]
    assert [(p["pipeline"], p["epoch"], p["records"]) for p in ran] == [
        ("distance", 1, 681),
        ("halves", 1, 681),
    ]
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    ran = trip.run()["public"]
    assert [(p["pipeline"], p["epoch"], p["records"]) for p in ran] == [
        ("distance", 2, 681),
        ("halves", 1, 0),
    ]
    by_writer: dict[tuple[str, str], int] = {}
    for record in trip.records(PUBLIC):
        told = headers(record)
        which = (told["playhead-pipeline"], told["playhead-epoch"])
        by_writer[which] = by_writer.get(which, 0) + 1
    assert by_writer == {("distance", "1"): 681, ("distance", "2"): 681, ("halves", "1"): 681}
    groups = {s["group"] for s in trip.json("status")["public"]}
    assert groups == {
        f"{PUBLIC}.public.{name}" for name in ("distance.e1", "distance.e2", "halves.e1")
    }
    declare(trip, on_promote="none")
    refused = trip.cli("run", "--until-caught-up")
    assert refused.code == 2
    assert "is written by distance and halves" in refused.err


def test_it_goes_on_with_what_arrives_and_stops_cleanly(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    with trip.running() as worker:

        def shown() -> int:
            assert worker.poll() is None, (trip.folder / "background.log").read_text()
            return len(trip.cli("topics", "tail", PUBLIC).out.splitlines())

        wait_for(lambda: shown() == 681, "the publisher to catch up")
        trip.ingest_again()
        wait_for(lambda: shown() == 2 * 681, "it to go on")
        running = trip.json("status")["public"][0]["running"]
        assert str(worker.pid) in running
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 130
    assert [p["records"] for p in trip.run()["public"]] == [0]


@pytest.mark.parametrize("policy", ["append", "changed", "none"])
def test_a_promotion_beside_a_running_worker_is_followed_at_once(
    make_trip: MakeTrip, policy: str
) -> None:
    trip = make_trip("local", 4)
    declare(trip, on_promote=policy)
    ready(trip)
    with trip.running(PLAYHEAD_BATCH_RECORDS="50"):
        trip.ingest_again()
        trip.ok("promote", "distance@km")
        trip.ingest_again()
        wait_for(lambda: lags(trip) == [0], "the new epoch to catch up")
    assert [p["records"] for p in trip.run()["public"]] == [0]
    in_order(trip)
    source = sorted((r["partition"], r["offset"]) for r in trip.records("raw_trackpoints"))
    if policy == "append":
        assert of_epoch(trip, 2) == source
    else:
        shown = of_epoch(trip, 1) + of_epoch(trip, 2)
        assert sorted(shown if policy == "none" else set(shown)) == source
    if policy != "none":
        assert compacted(trip, PUBLIC) == compacted(trip, f"{PUBLIC}.km")


def lags(trip: Trip) -> list[int | None]:
    """Return how far the epochs that are not over are behind; also while live is."""
    status = trip.json("status")
    live = [v["lag"] for p in status["pipelines"] for v in p["versions"] if v["stage"] == "live"]
    open_now = [s["lag"] for s in status["public"] if s["stage"] != "over"]
    return open_now if live == [0] else live


def test_keys_of_several_columns_are_corrected_too(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 4)
    trip.edit(f'"{PUBLIC}", key="track_id"', f'"{PUBLIC}", key=["track_id", "id"]')
    declare(trip, on_promote="changed")
    ready(trip)
    trip.ok("promote", "distance@km")
    before, after = compacted(trip, f"{PUBLIC}.miles"), compacted(trip, f"{PUBLIC}.km")
    changed = sum(before[key] != after[key] for key in after)
    assert 600 < changed < len(after) == 681
    assert [p["records"] for p in trip.run()["public"]] == [0, changed]
    assert compacted(trip, PUBLIC) == after


def test_records_without_a_key_of_their_own_stay_in_their_partition(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 4)
    trip.edit(f'"{PUBLIC}", key="track_id"', f'"{PUBLIC}"')
    trip.run()
    own = [(r["partition"], r["offset"], r["key"]) for r in trip.records(f"{PUBLIC}.miles")]
    assert sorted((r["partition"], r["offset"], r["key"]) for r in trip.records(PUBLIC)) == sorted(
        own
    )
    assert {partition for partition, *_ in own} == {0, 1, 2, 3}


def test_its_group_moved_back_by_hand_shows_the_epoch_again(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    group = f"{PUBLIC}.public.e1"
    trip.ok("groups", "reset", "--group", group, "--to-offset", "600", "--execute")
    ran = trip.ok("run", "--until-caught-up")
    assert "somebody moved the playhead back" in ran.err
    assert len(trip.records(PUBLIC)) == 681 + 81


def test_what_readers_will_see_is_planned(make_trip: MakeTrip) -> None:
    trip = make_trip("local", 1)
    trip.run()
    shown = trip.ok("plan", "distance")
    assert "once distance@km is live, readers outside see in distance_calcs: its whole history" in (
        shown.out + shown.err
    )
