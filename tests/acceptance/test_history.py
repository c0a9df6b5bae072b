"""``history``: every run and decision, by whom, why, over which offsets, with which code."""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from story import Trip, wait_for, words

MakeTrip = Callable[..., Trip]
Entry = dict[str, Any]


@pytest.fixture
def trip(make_trip: MakeTrip) -> Trip:
    return make_trip("local")


def me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def entries(trip: Trip, *args: str) -> list[Entry]:
    """Return what the history says, oldest first."""
    found: list[Entry] = trip.json("history", *args)["entries"]
    return found[::-1]


def kinds(trip: Trip, *args: str) -> list[str]:
    return [e["kind"] for e in entries(trip, *args)]


def at(trip: Trip, offset: int) -> dict[str, int]:
    return {f"{trip.topic}[0]": offset}


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_everything_that_was_done_is_told(make_trip: MakeTrip, store: str) -> None:
    trip = make_trip("local", 1, store)
    before = datetime.now(UTC)
    trip.run()
    trip.ok("replay", "distance@km", "--reason", "should have been km")
    digest = trip.json("diff", "distance")["digest"]
    trip.ok("promote", "distance@km", "--reason", "agreed in #12")
    trip.ok("rollback", "distance", "--reason", "oops", PLAYHEAD_PERSON="Jane Doe")
    trip.ok("rewind", "distance", "--to-offset", "400", "--execute", "--reason", "once more")
    trip.run()
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "100", "--execute")
    trip.run()
    trip.edit("points = metres_so_far(points, state)", "points = metres_so_far( points, state)")
    trip.edit("def metres_so_far(points, state)", "def metres_so_far(points, state, unused=0)")
    trip.ok("adopt", "distance@miles", "--reason", "an argument more")
    trip.ingest_again()
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "1000", "--execute")
    trip.ok("run", "--until-caught-up", "--accept-gap", "--reason", "it was test data")

    found = entries(trip)
    assert [e["kind"] for e in found] == [
        "run", "replay", "promote", "rollback", "rewind", "run", "run", "reset", "adopt", "run",
        "gap",
    ]  # fmt: skip
    run, replay, promote, rollback, rewind, again, moved, reset, adopt, last, gap = found
    fingerprints = {
        v["version"]: v["fingerprint"] for v in trip.json("status")["pipelines"][0]["versions"]
    }
    assert [e["person"] for e in found] == [me()] * 3 + ["Jane Doe"] + [me()] * 7
    assert [e["reason"] for e in (replay, promote, rollback, rewind, adopt, last, gap)] == [
        "should have been km", "agreed in #12", "oops", "once more", "an argument more",
        "it was test data", "it was test data",
    ]  # fmt: skip
    assert (run["from_offsets"], run["to_offsets"]) == ({}, at(trip, 681))
    assert replay["to_offsets"] == promote["to_offsets"] == rollback["to_offsets"] == at(trip, 681)
    assert (rewind["from_offsets"], rewind["to_offsets"]) == (at(trip, 681), at(trip, 400))
    assert (again["from_offsets"], again["to_offsets"]) == (at(trip, 400), at(trip, 681))
    assert (reset["from_offsets"], reset["to_offsets"]) == (at(trip, 681), at(trip, 100))
    assert (moved["from_offsets"], moved["to_offsets"]) == (at(trip, 681), at(trip, 681))
    assert (gap["from_offsets"], gap["to_offsets"]) == (at(trip, 681), at(trip, 1000))
    assert (adopt["to_offsets"], last["to_offsets"]) == (at(trip, 681), at(trip, 1362))
    assert replay["fingerprint"] == promote["fingerprint"] == fingerprints["km"]
    assert adopt["fingerprint"] == last["fingerprint"] == fingerprints["miles"]
    assert run["fingerprint"] == rollback["fingerprint"] == adopt["detail"]["previous"]
    assert run["fingerprint"] != adopt["fingerprint"]
    assert promote["digest"] == digest
    assert len(rollback["digest"]) == 16
    assert {e["outcome"] for e in found} == {"done"}
    for e in found:
        begun, ended = (datetime.fromisoformat(e[k]) for k in ("started_at", "finished_at"))
        assert before - timedelta(seconds=1) <= begun <= ended <= datetime.now(UTC)


def test_what_failed_and_what_was_killed(trip: Trip) -> None:
    process = trip.start("run", "--until-caught-up", PLAYHEAD_CRASH="after log commit:1")
    assert process.wait(60) == -signal.SIGKILL
    assert [(e["outcome"], e["finished_at"]) for e in entries(trip)] == [("unfinished", None)]
    trip.run()
    trip.edit('distance=pl.col("total") * MILES', "distance=1 / 0 *")
    assert trip.cli("run", "--until-caught-up").code == 3, "refused before it ran: no run at all"
    trip.edit("distance=1 / 0 *", 'distance=pl.col("total") * MILES')
    trip.ingest_again()
    trip.ok("groups", "reset", "--group", trip.group, "--to-offset", "700", "--execute")
    assert trip.cli("run", "--until-caught-up").code == 3
    failed = entries(trip)[-1]
    assert (failed["kind"], failed["outcome"]) == ("run", "failed")
    assert "would be skipped" in failed["detail"]["result"]["error"]
    assert failed["to_offsets"] == at(trip, 681)
    trip.ok("run", "--until-caught-up", "--accept-gap")
    with trip.running():
        wait_for(lambda: entries(trip)[-1]["outcome"] == "running", "the run to be told")
    assert entries(trip)[-1]["outcome"] == "done"


def test_a_skipped_record_is_told_with_its_place_and_reason(trip: Trip) -> None:
    trip.edit(
        '"""Total distance of each car so far, in miles: what was shipped."""\n',
        'if (points["id"] == 13).any():\n        raise ValueError("unlucky")\n',
    )
    assert trip.cli("run", "--until-caught-up").code == 1
    where = f"{trip.topic}[0]@12"
    trip.ok("dead-letters", "distance", "--skip", where, "--reason", "a broken sensor")
    skip = entries(trip, "--kind", "skip")[0]
    assert (skip["version"], skip["reason"]) == ("miles", "a broken sensor")
    assert skip["to_offsets"] == at(trip, 12)


def test_what_people_read_and_choose(trip: Trip) -> None:
    nothing = trip.cli("history")
    assert (nothing.code, "nothing has run here yet" in nothing.err) == (1, True)
    trip.run()
    trip.ok("replay", "distance@km", "--reason", "two\nlines")
    trip.run()
    head, last, replay, _ = words(trip.ok("history").out)
    assert head == ["STARTED", "KIND", "VERSION", "BY", "OUTCOME", "OFFSETS", "REASON"]
    assert last[1:4] == ["run", "distance@miles", me()]
    assert replay[-2:] == ["two", "lines"]
    wide = words(trip.ok("history", "-o", "wide").out)
    assert wide[0][-4:] == ["ENDED", "FINGERPRINT", "DIGEST", "RUN"]
    assert trip.ok("history", "-o", "csv").out.startswith("started,kind,version,by,outcome")
    assert kinds(trip, "--kind", "replay", "--kind", "promote") == ["replay"]
    assert kinds(trip, "distance@miles") == ["run", "run"]
    assert kinds(trip, "distance") == ["run", "replay", "run"]
    short = trip.ok("history", "--limit", "1")
    assert len(words(short.out)) == 2
    assert "2 older: --limit 3" in short.err
    second = entries(trip)[1]["started_at"]
    assert kinds(trip, "--since", second) == ["replay", "run"]
    assert kinds(trip, "--since", "1h") == kinds(trip, "--since", "@-1h") == kinds(trip)
    assert kinds(trip, "--since", "2031-01-01") == []
    for args, said in (
        (("--kind", "promotion"), "Kinds are run, replay"),
        (("--since", "yesterday"), "neither ISO-8601 nor an epoch"),
        (("distanc",), "nothing is recorded of distanc"),
        (("distance@",), "nothing is recorded of distance@"),
    ):
        wrong = trip.cli("history", *args)
        assert (wrong.code, said in wrong.err) == (2, True), wrong


def test_it_needs_no_module_and_writes_nothing(trip: Trip) -> None:
    trip.run()
    told = trip.json("history")
    (trip.folder / "vehicles.py").unlink()
    store = trip.folder / ".playhead/store.db"
    before = store.read_bytes()
    assert trip.json("history") == told
    assert store.read_bytes() == before


def test_who_did_it_is_one_short_line(trip: Trip) -> None:
    trip.ok("run", "--until-caught-up", PLAYHEAD_PERSON=" Jané\x1b[2J\nDoe" + "x" * 200)
    (person,) = {e["person"] for e in entries(trip)}
    assert person.startswith("Jané[2JDoexxx")
    assert len(person) == 100


def test_a_line_of_before_people_were_written_down_is_told(trip: Trip) -> None:
    trip.run()
    old = json.dumps({"bound": {"0": 7}, "reason": None})
    trip.ok("status")
    assert trip.sql("SELECT count(*) FROM playhead__run") == [(1,)]
    trip.sql(
        "INSERT INTO playhead__run (id, kind, subject, intent, started_at) VALUES "
        f"('a', 'replay', 'distance@km', CAST('{old}' AS BLOB), '2026-01-01T00:00:00.000Z')"
    )
    first = entries(trip)[0]
    assert (first["person"], first["reason"], first["outcome"]) == (None, None, "unfinished")
    assert first["to_offsets"] == {"[0]": 7}, "of a version that is not recorded: no topic"
    assert kinds(trip, "distance@km") == ["replay"], "what was removed keeps its history"
    trip.sql(
        "INSERT INTO playhead__audit (at, kind, subject, detail) VALUES "
        "('2026-01-02T00:00:00.000Z', 'clean', 'distance@km', CAST('{}' AS BLOB))"
    )
    assert kinds(trip, "distance@km") == ["replay", "clean"]
