"""A table of any PostgreSQL database, for ``scan``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from playhead.adapters.postgres_db import DIALECT, PostgresDatabase
from playhead.adapters.sql_foreign import Rows, SqlForeign
from playhead.core.addresses import PostgresAddress
from playhead.core.naming import quoted
from playhead.ports.foreign import FLOAT32

_CASTS = {"int": "BIGINT", "str": "TEXT", "bool": "BOOLEAN", "date": "DATE"} | {
    "datetime": "TIMESTAMPTZ"
}


def open_table(address: PostgresAddress, name: str) -> SqlForeign:
    """Connect; ``name`` is a table or view, maybe with its schema in front.

    Raises:
        StoreFailed: It cannot be reached, or may not be read; exit code 5.
    """
    db = PostgresDatabase(address)
    opened = ExitStack()
    opened.callback(db.close)
    try:
        opened.enter_context(db.snapshot())
        schema, _, table = name.rpartition(".")
        schema = schema or address.schema
        columns = DIALECT.queries["foreign.columns"]
        described = db.all(columns.sql, *columns.values({"schema": schema, "name": table}))
        tables = db.all(DIALECT.queries["foreign.tables"].sql)
    except BaseException:
        opened.close()
        raise

    def some(sql: str, rows: int) -> Iterator[Rows]:
        return db.some(sql.replace("%", "%%"), rows)

    return SqlForeign(
        shown=f"{address.shown}#{name}",
        named=f"{quoted(schema)}.{quoted(table)}",
        described={c: FLOAT32 if kind == "real" else str(kind) for c, kind in described},
        tables=[t if s == address.schema else f"{s}.{t}" for s, t in tables],
        casts=_CASTS,
        text_order=DIALECT.text_order,
        some=some,
        shut=opened.close,
    )
