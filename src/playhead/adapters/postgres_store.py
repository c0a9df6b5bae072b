"""The PostgreSQL store: opens a schema, and makes what is missing in it."""

from __future__ import annotations

from playhead.adapters.postgres_db import DIALECT, PostgresDatabase
from playhead.adapters.sql_store import SqlStore
from playhead.core.addresses import PostgresAddress
from playhead.errors import PlayheadError

NOTHING_YET = "nothing has run here yet; next: playhead run"


class PostgresStore(SqlStore):
    """The `Store` port over one schema of a PostgreSQL database."""

    def __init__(self, address: PostgresAddress, *, must_exist: bool = False) -> None:
        """Connect, and make schema and tables if they are missing.

        Args:
            address: The database and its schema.
            must_exist: Make nothing: for commands that only read.

        Raises:
            PlayheadError: Nothing has run here yet, and it must have.
            StoreFailed: It cannot be reached, or the role may not do this; exit code 5.
        """
        db = PostgresDatabase(address)
        try:
            if db.one(DIALECT.queries["postgres.ready"].sql) is None:
                if must_exist:
                    raise PlayheadError(NOTHING_YET)
                _create(db, address.schema)
            super().__init__(db)
        except BaseException:
            db.close()
            raise


def _create(db: PostgresDatabase, schema: str) -> None:
    """Make schema and tables; of several that do so at once one comes first."""
    with db.transaction():
        db.one(DIALECT.queries["postgres.lock_schema"].sql)
        if db.one(DIALECT.queries["postgres.ready"].sql) is not None:
            return
        if db.one("SELECT to_regnamespace(quote_ident(%s))", schema) == (None,):
            db.run(f"CREATE SCHEMA {DIALECT.quoted(schema)}")
        for statement in DIALECT.queries["schema"].sql.split(";\n"):
            db.run(statement)
