"""The tutorial's own question: miles and kilometres are mixed, and nobody knows which is which."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

import oracle
from playhead.demo import PUBLISHED
from servers import PostgresServer, postgres_sql
from story import Trip

Rows = Sequence[tuple[int | None, float]]
AGAINST = ("--against", "miles,km")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Trip:
    """Give a project with both versions; a scan changes nothing of it."""
    trip = Trip.make(tmp_path_factory.mktemp("scan") / "trip")
    trip.ingest(2)
    trip.run()
    trip.ok("replay", "distance@km")
    return trip


def in_duckdb(path: Path, rows: Rows, kind: str) -> str:
    with closing(duckdb.connect(str(path))) as db:
        db.execute(f"CREATE TABLE dist_calc (track_id INTEGER, distance {kind})")
        db.executemany("INSERT INTO dist_calc VALUES (?, ?)", rows)
    return f"{path}#dist_calc"


def in_sqlite(path: Path, rows: Rows, kind: str) -> str:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE dist_calc (track_id INTEGER, distance {kind})")
        db.executemany("INSERT INTO dist_calc VALUES (?, ?)", rows)
    return f"{path}#dist_calc"


def in_postgres(address: str, rows: Rows, kind: str) -> str:
    postgres_sql(address, f"CREATE TABLE legacy_distances (track_id INTEGER, distance {kind})")
    for track, distance in rows:
        key = "NULL" if track is None else str(track)
        postgres_sql(address, f"INSERT INTO legacy_distances VALUES ({key}, {distance!r})")
    return f"{address}#legacy_distances"


def test_the_table_that_the_tutorial_published_is_neither(both: Trip) -> None:
    """Doubled totals from a stream that was read twice; two cars never came to the table."""
    published = in_duckdb(both.folder / "tutorial.duckdb", list(PUBLISHED.items()), "REAL")
    found = both.json("scan", published, *AGAINST)
    assert (found["rows"], found["both"], found["neither"]) == (8, 0, 8)
    assert found["only"] == {"miles": 0, "km": 0}
    assert found["missing"] == [10, 14]
    assert found["ghosts"] == []
    assert 2.3 < found["ratios"]["km.distance"]["min"] < found["ratios"]["km.distance"]["max"] < 2.8
    assert {s["key"] for s in found["samples"]} == PUBLISHED.keys()
    done = both.ok("scan", "tutorial.duckdb#dist_calc", *AGAINST, "-C", str(both.folder))
    assert "none of 8 rows was made by miles or km" in done.out
    assert "missing here: 10; 14" in done.out


def mixed() -> tuple[Rows, dict[str, object]]:
    """A table with all that can be wrong, and what has to be said of it."""
    miles, km = oracle.totals(oracle.MILES), oracle.totals(oracle.KM)
    rows: list[tuple[int | None, float]] = [(t, miles[t]) for t in (1, 2, 3)]
    rows += [(t, km[t]) for t in (4, 8)]
    rows += [(11, km[11] * 2), (99, 1.0), (14, 0.0), (1, km[1]), (None, 5.0)]
    expected = {
        "rows": 10,
        "only": {"miles": 3, "km": 3},
        "both": 1,  # a car that never moved
        "neither": 3,
        "missing": [10, 12, 13],
        "ghosts": [99],
        "duplicates": 1,
    }
    return rows, expected


@pytest.mark.parametrize("kind", ["DOUBLE", "REAL"])
@pytest.mark.parametrize("where", ["duckdb", "sqlite", "postgres"])
def test_a_mixture_is_told_row_by_row(
    both: Trip, tmp_path: Path, where: str, kind: str, request: pytest.FixtureRequest
) -> None:
    rows, expected = mixed()
    path = tmp_path / "old.db"
    if where == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        subject = in_postgres(server.database(), rows, kind.replace("DOUBLE", "DOUBLE PRECISION"))
    else:
        subject = (in_duckdb if where == "duckdb" else in_sqlite)(path, rows, kind)
    found = both.json("scan", subject, *AGAINST)
    assert {name: found[name] for name in expected} == expected
    assert (found["rtol"]["distance"] == 1e-6) == (kind == "REAL" and where != "sqlite")
    if kind == "REAL" and where != "sqlite":
        exact = both.json("scan", subject, *AGAINST, "--rtol", "1e-12")
        assert (exact["only"], exact["both"]) == ({"miles": 0, "km": 0}, 1)


def test_what_a_scan_reads_it_does_not_change(both: Trip, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    subject = in_sqlite(path, [(1, 1.0)], "REAL")
    before = (path.read_bytes(), both.dump())
    both.ok("scan", subject, *AGAINST)
    assert (path.read_bytes(), both.dump()) == before
    assert not path.with_name("old.db-wal").exists()


def test_a_table_of_the_store_and_a_topic_are_scanned_too(both: Trip) -> None:
    found = both.json("scan", "dist_calc", *AGAINST)
    assert (found["rows"], found["only"], found["both"]) == (10, {"miles": 9, "km": 0}, 1)
    shown = both.json("scan", "dist_calc__km", "--against", "distance@km")
    assert (shown["only"], shown["neither"], shown["missing"]) == ({"distance@km": 10}, 0, [])
    # The first half of the topic in miles, the other in kilometres, and one that is neither.
    miles, km = (both.records(f"distance_calcs.{label}") for label in ("miles", "km"))
    values = [json.loads(r["payload"]) for r in miles[:300]]
    values += [json.loads(r["payload"]) for r in km[300:]]
    values += [{**values[-1], "distance": 1e6}, {"id": 5000, "track_id": 1, "distance": 1.0}]
    lines = "".join(json.dumps(v) + "\n" for v in values) + '{"no": "distance"}\n'
    (both.folder / "old.jsonl").write_text(lines)
    both.ok("ingest", "old.jsonl", "--topic", "old_calcs", "--partitions", "3")
    found = both.json("scan", "--topic", "old_calcs", *AGAINST)
    zero = sum(json.loads(r["payload"])["distance"] == 0 for r in miles)
    assert found["rows"] == len(values) + 1
    assert found["both"] == zero
    assert sum(found["only"].values()) == 681 - zero
    assert found["only"]["miles"] > 250
    assert (found["neither"], found["unreadable"], found["ghost_rows"]) == (3, 1, 1)
    assert found["missing"] == []


def test_what_cannot_be_scanned_is_named(both: Trip) -> None:
    subject = in_duckdb(both.folder / "old.duckdb", [(1, 1.0)], "REAL")
    (both.folder / "text.txt").write_text("text")
    for args, code, said in (
        (("nowhere.db#t", *AGAINST), 2, "there is no file nowhere.db"),
        (("text.txt#t", *AGAINST), 2, "neither a DuckDB nor a SQLite file"),
        ((subject.replace("dist_calc", "other"), *AGAINST), 2, "There are: dist_calc."),
        ((subject, "--against", "miles,feet"), 3, "no version 'feet' is recorded"),
        ((subject, "--against", ","), 2, "--against"),
        (AGAINST, 2, "TABLE, FILE#TABLE, or --topic"),
        (("--topic", "nothing", *AGAINST), 1, "topic nothing does not exist"),
        (("playhead__cursor", *AGAINST), 3, "no table whose key and columns"),
    ):
        done = both.cli("scan", *args)
        assert (done.code, said in done.err) == (code, True), (args, done)
