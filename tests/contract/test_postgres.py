"""What only PostgreSQL can do to a store: rights, passwords, lost connections, settings."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest

from playhead.adapters.postgres_db import PostgresDatabase, cleaned
from playhead.config import Settings
from playhead.core.addresses import postgres_address
from playhead.errors import CheckpointConflict, ConfigError, PlayheadError, Refused, StoreFailed
from playhead.ports import Snapshot
from playhead.project import Project
from servers import PostgresServer, free_ports, postgres_sql
from stores import (
    VALUES,
    Writer,
    a_version,
    everything,
    open_store,
    past,
    place,
    promote,
    rows_of,
    started,
    table,
)
from story import wait_for


@pytest.fixture
def address(postgres: PostgresServer) -> str:
    return postgres.database()


def failure(address: str) -> PlayheadError:
    with pytest.raises(PlayheadError) as raised:
        open_store(address).close()
    return raised.value


def as_role(address: str, role: str, password: str = "") -> str:
    """Return an address for another role."""
    return address.replace("postgres@", f"{role}:{password}@" if password else f"{role}@")


def settings_of(address: str, name: str) -> str:
    db = PostgresDatabase(postgres_address(address))
    try:
        row = db.one("SELECT current_setting(%s)", name)
        assert row is not None
        return str(row[0])
    finally:
        db.close()


# ------------------------------------------------------------------- getting in


def test_a_server_that_is_not_there_is_exit_5_and_may_come_back() -> None:
    (port,) = free_ports(1)
    error = failure(f"postgresql://ann:s3cret@127.0.0.1:{port}/points")
    assert isinstance(error, StoreFailed)
    assert (error.exit_code, error.passing) == (5, True)
    assert f"postgresql://ann:****@127.0.0.1:{port}/points: cannot connect" in error.message
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("wrong", ["no database", "no role", "no password", "wrong password"])
def test_who_is_not_let_in_is_exit_5_and_waiting_does_not_help(
    postgres: PostgresServer, address: str, wrong: str
) -> None:
    with suppress(psycopg.errors.DuplicateObject):
        postgres.sql("CREATE ROLE locked LOGIN PASSWORD 's3cret'")
    error = failure(
        {
            "no database": f"{postgres.url}/nowhere",
            "no role": as_role(address, "nobody_knows"),
            "no password": as_role(address, "locked"),
            "wrong password": as_role(address, "locked", "wr0ng"),
        }[wrong]
    )
    assert isinstance(error, StoreFailed)
    assert (error.exit_code, error.passing) == (5, False)
    assert "wr0ng" not in str(error)
    assert "PGPASSWORD" in str(error)


def test_a_password_comes_from_the_address_or_from_pgpassword(
    postgres: PostgresServer, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(psycopg.errors.DuplicateObject):
        postgres.sql("CREATE ROLE locked LOGIN PASSWORD 's3cret'")
    postgres_sql(address, "GRANT CREATE ON SCHEMA public TO locked")
    with closing(open_store(as_role(address, "locked", "s3cret"))) as store:
        known = store.ledger.id
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    with closing(open_store(as_role(address, "locked"))) as store:
        assert store.ledger.id == known


def test_an_address_that_the_library_cannot_read_is_named_without_its_password() -> None:
    error = failure("postgresql://ann:s3cret@127.0.0.1/points?no_such_option=1")
    assert isinstance(error, ConfigError)
    assert "s3cret" not in str(error)
    assert error.__cause__ is None


def test_what_postgres_says_is_one_line_without_the_password() -> None:
    error = psycopg.OperationalError('no "s3cret"\n  here')
    assert cleaned(error, ["s3cret"]) == 'no "****" here'


def test_an_unknown_kind_of_store_is_named_without_its_password() -> None:
    error = failure("mysql://ann:s3cret@db/points")
    assert isinstance(error, ConfigError)
    assert "postgresql://" in error.message
    assert "s3cret" not in str(error)


def test_without_psycopg_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from playhead.cli.main import main; sys.argv[1:] = sys.argv[1:]; main()"
    )
    command = [sys.executable, "-c", code, "status", "--store", "postgresql://db/points"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: the PostgreSQL store needs psycopg: pip install 'playhead[postgres]'\n"
    )


def test_reading_commands_make_nothing(address: str) -> None:
    project = Project(Settings(Path("/"), store=address))
    for _ in range(2):
        with pytest.raises(PlayheadError, match="nothing has run here yet"):
            project.open_store(must_exist=True)
    assert postgres_sql(address, "SELECT 1 FROM pg_class WHERE relname LIKE 'playhead%'") == []
    open_store(address).close()
    with pytest.raises(PlayheadError, match="nothing has run here yet"):
        project.open_store(must_exist=True)
    with closing(open_store(address)) as store:
        store.catalog.record(a_version())
    project.open_store(must_exist=True).close()


# --------------------------------------------------------------- rights and schemas


def test_a_role_without_create_is_exit_5(postgres: PostgresServer, address: str) -> None:
    with suppress(psycopg.errors.DuplicateObject):
        postgres.sql("CREATE ROLE reader LOGIN")
    error = failure(as_role(address, "reader"))
    assert (error.exit_code, getattr(error, "passing", None)) == (5, False)
    assert "permission denied" in error.message
    assert "docs/POSTGRES.md" in str(error)


def test_analysts_read_the_view_before_and_after_promotions(
    postgres: PostgresServer, address: str
) -> None:
    """A right that was granted on the view stays: it is replaced, not made anew."""
    with suppress(psycopg.errors.DuplicateObject):
        postgres.sql("CREATE ROLE reader LOGIN")
    reader = as_role(address, "reader")
    with closing(open_store(address)) as store:
        base = started(store, version=a_version("a", "live"))
        head = started(store, version=a_version("b", tables=[table("b", columns={
            "k": int, "v": float | None, "more": str | None})]))  # fmt: skip
        base.commit(base.batch(0, (1, 1.0)))
        head.commit(head.batch(0, (1, 2.0, "x")))
        postgres_sql(address, "GRANT SELECT ON t TO reader")
        assert postgres_sql(reader, "SELECT * FROM t") == [(1, 1.0)]
        promote(store, base.version, head.version)
        assert postgres_sql(reader, "SELECT * FROM t") == [(1, 2.0, "x")]
        promote(store, head.version, base.version)
        assert postgres_sql(reader, "SELECT * FROM t") == [(1, 1.0, None)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        postgres_sql(reader, "SELECT * FROM t__a")


def test_two_schemas_are_two_stores(address: str) -> None:
    stores = [open_store(f"{address}?schema={name}") for name in ("one", "Two%20words")]
    try:
        for number, store in enumerate(stores):
            writer = started(store, version=a_version(stage="live"))
            writer.commit(writer.batch(0, (number, 1.0)))
        assert stores[0].ledger.id != stores[1].ledger.id
        assert postgres_sql(address, "SELECT k FROM one.t") == [(0,)]
        assert postgres_sql(address, 'SELECT k FROM "Two words".t') == [(1,)]
    finally:
        for store in stores:
            store.close()


def test_a_column_that_postgres_would_cut_is_refused(address: str) -> None:
    with closing(open_store(address)) as store:
        long = table(columns={"k": int, "ö" * 32: int})
        before = everything(store)
        with pytest.raises(Refused, match="longer than 63 bytes"):
            store.catalog.record(a_version(tables=[long]))
        assert everything(store) == before
        store.catalog.record(a_version(tables=[table(columns={"k": int, "ö" * 31: int})]))


def test_columns_have_the_types_of_postgres(address: str) -> None:
    names = ["bool", "int", "float", "str", "bytes", "date", "datetime", "dict"]
    columns = {name: VALUES[name][0] for name in names}
    with closing(open_store(address)) as store:
        store.catalog.record(a_version(tables=[table(columns={"k": int, **columns})]))
    found = dict(
        postgres_sql(
            address,
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_name = 't__a' AND column_name <> 'k'",
        )
    )
    assert found == {
        "bool": "boolean",
        "int": "bigint",
        "float": "double precision",
        "str": "text",
        "bytes": "bytea",
        "date": "date",
        "datetime": "timestamp with time zone",
        "dict": "json",
        "_partition": "bigint",
        "_offset": "bigint",
    }


# ------------------------------------------------------------- settings of a role


def test_a_commit_is_durable_whatever_the_role_says(address: str) -> None:
    name = address.rpartition("/")[2]
    postgres_sql(address, f"ALTER DATABASE {name} SET synchronous_commit = off")
    assert settings_of(address, "synchronous_commit") == "on"
    postgres_sql(address, f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    assert settings_of(address, "synchronous_commit") == "remote_apply"


def test_results_do_not_depend_on_the_settings_of_a_role(address: str) -> None:
    name = address.rpartition("/")[2]
    for setting in (
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'SQL, DMY'",
        "extra_float_digits = -15",
        "bytea_output = 'escape'",
        "default_transaction_isolation = 'serializable'",
        "standard_conforming_strings = off",
        "search_path = 'elsewhere'",
        "default_transaction_read_only = on",
    ):
        postgres_sql(address, f"ALTER DATABASE {name} SET {setting}")
    kinds = ["float", "bytes", "date", "datetime"]
    with closing(open_store(address)) as store:
        row = table(columns={"k": int} | {kind: VALUES[kind][0] for kind in kinds})
        writer = started(store, version=a_version(tables=[row]))
        columns = [VALUES[kind][1][:4] for kind in kinds]
        writer.commit(writer.batch(0, *(zip(range(4), *columns, strict=True))))
        found = [r[1:5] for r in rows_of(store, row)]
        assert found == list(zip(*columns, strict=True))


# ------------------------------------------------------------------ lost connections


def pids(address: str) -> list[int]:
    sql = (
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'playhead' "
        "AND datname = current_database()"
    )
    return [int(str(pid)) for (pid,) in postgres_sql(address, sql)]


def disconnect(address: str) -> None:
    """End every connection of ours, as a restart or a firewall does."""
    for pid in pids(address):
        postgres_sql(address, f"SELECT pg_terminate_backend({pid}, 10000)")


def test_a_lost_connection_is_passing_and_the_store_stays_closed(address: str) -> None:
    store = open_store(address)
    writer = started(store)
    writer.commit(writer.batch(0, (1, 1.0)))
    disconnect(address)
    move = writer.batch(0, (2, 2.0))
    for _ in range(2):
        with pytest.raises(StoreFailed) as raised:
            writer.commit(move)
        assert raised.value.passing
        assert raised.value.safe is not None
        assert "whether the last commit went through" in raised.value.safe
    store.close()
    with closing(open_store(address)) as again:
        assert again.ledger.standings("p@a")[0].cursor == move.before
        Writer(again, writer.version, writer.epochs, writer.cursors).commit(move)
        assert len(rows_of(again, table())) == 2


@pytest.mark.parametrize("point", ["after compare-and-set", "between delta and rows"])
def test_a_connection_lost_within_a_commit_leaves_nothing(address: str, point: str) -> None:
    store = open_store(address)
    writer = started(store)
    with closing(open_store(address)) as beside:
        before = everything(beside)
    store.ledger.on_step = lambda name: disconnect(address) if name == point else None
    with pytest.raises(StoreFailed) as raised:
        writer.commit(writer.batch(0, (1, 1.0)))
    assert raised.value.passing
    store.close()
    with closing(open_store(address)) as again:
        assert everything(again) == before


def test_a_transaction_that_failed_halfway_is_never_taken_for_a_commit(address: str) -> None:
    open_store(address).close()
    db = PostgresDatabase(postgres_address(address))
    try:
        with pytest.raises(StoreFailed, match="rolled back"):
            swallow(db)
        assert db.one("SELECT count(*) FROM playhead__diff") == (0,)
    finally:
        db.close()


def swallow(db: PostgresDatabase) -> None:
    """Do what no code of ours does: go on after a statement that failed."""
    with db.transaction():
        db.run("INSERT INTO playhead__diff VALUES ('a', 'b')")
        with suppress(StoreFailed):
            db.run("SELECT * FROM nowhere")


def test_a_reader_in_a_long_transaction_keeps_a_promotion_waiting_for_a_while_only(
    address: str,
) -> None:
    with closing(open_store(address)) as store:
        base = started(store, version=a_version("a", "live"))
        head = started(store, version=a_version("b"))
        head.commit(head.batch(0, (1, 2.0)))
        before = everything(store)
        with psycopg.connect(address) as reader:
            reader.execute("SELECT * FROM t")
            began = time.monotonic()
            with pytest.raises(StoreFailed, match="lock timeout") as raised:
                promote(store, base.version, head.version)
            assert time.monotonic() - began > 5
            assert raised.value.passing
            assert everything(store) == before
        assert promote(store, base.version, head.version) == 2


def test_readers_in_the_midst_of_swaps_get_no_error(address: str) -> None:
    with closing(open_store(address)) as store:
        writers = [
            started(store, version=a_version("a", "live")),
            started(store, version=a_version("b")),
        ]
        for value, writer in enumerate(writers):
            writer.commit(writer.batch(0, *((k, float(value)) for k in range(500))))
        seen: set[frozenset[object]] = set()
        errors: list[Exception] = []
        over = threading.Event()

        def poll() -> None:
            try:
                with psycopg.connect(address, autocommit=True) as reader:
                    while not over.is_set():
                        seen.add(frozenset(v for (v,) in reader.execute("SELECT v FROM t")))
            except Exception as error:  # noqa: BLE001  the test fails on it below
                errors.append(error)

        threads = [threading.Thread(target=poll) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for i in range(150):
                promote(store, writers[i % 2].version, writers[1 - i % 2].version)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert errors == []
        assert seen == {frozenset({0.0}), frozenset({1.0})}


def test_a_snapshot_that_is_saved_while_the_cursor_moves_is_refused(address: str) -> None:
    """It waits for whoever moves the cursor, and looks again."""
    with closing(open_store(address)) as store:
        writer = started(store)
        snapshot = Snapshot(place(0), writer.cursors[0], writer.epochs[0], b"all")
        with psycopg.connect(address) as mover, ThreadPoolExecutor(1) as pool:
            mover.execute("UPDATE playhead__cursor SET batch = 9")
            saving = pool.submit(store.history.save, "p@a", snapshot)
            wait_for(lambda: waiting(address), "the snapshot to wait for the cursor")
            mover.commit()
            with pytest.raises(CheckpointConflict):
                saving.result(30)
        assert [content for _, content in past(store, "p@a", 0)] == [b"empty"]


def waiting(address: str) -> bool:
    sql = (
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
        "AND datname = current_database()"
    )
    return postgres_sql(address, sql) != []
