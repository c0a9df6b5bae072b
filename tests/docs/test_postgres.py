"""docs/POSTGRES.md is run as it stands: its roles, on a real server, tell the story."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

import oracle
from playhead.core.addresses import postgres_address
from servers import PostgresServer, postgres_sql
from story import Trip

PAGE = Path(__file__).resolve().parents[2] / "docs/POSTGRES.md"
README = PAGE.parent.parent / "README.md"
SQL = re.compile(r"^```sql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TOML = re.compile(r"^```toml\nstore = \"(postgresql:.*?)\"\n```$", re.MULTILINE)


def test_the_roles_of_the_page_are_enough_and_not_too_much(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (before, after), (address,) = SQL.findall(text), TOML.findall(text)
    assert TOML.findall(README.read_text(encoding="utf-8")) == [address]
    assert postgres_address(address).schema == "trips"
    postgres.sql("CREATE DATABASE points")
    admin = f"{postgres.url}/points"
    postgres_sql(admin, before)
    host = f"127.0.0.1:{postgres.port}"
    trip = Trip.make(tmp_path / "trips", store=address.replace("db.example:5432", host))
    trip.ingest()
    trip.run()
    postgres_sql(admin, after)
    analyst = f"postgresql://analyst@{host}/points"
    rows = "SELECT track_id, distance FROM trips.dist_calc"
    assert {k: round(v, 6) for k, v in postgres_sql(analyst, rows)} == oracle.KNOWN_MILES
    trip.ok("replay", "distance@km")
    trip.ok("promote", "distance@km")
    assert {k: round(v, 6) for k, v in postgres_sql(analyst, rows)} == oracle.KNOWN_KM
    for table in ("dist_calc__km", "playhead__cursor"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            postgres_sql(analyst, f"SELECT * FROM trips.{table}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres_sql(analyst, "DELETE FROM trips.dist_calc")
