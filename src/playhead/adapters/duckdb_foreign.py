"""A table of any DuckDB file, for ``scan``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from playhead.adapters.sql_foreign import SqlForeign, in_pieces
from playhead.core.naming import quoted
from playhead.errors import StoreFailed
from playhead.ports.foreign import FLOAT32

_CLOSED: dict[str, Any] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_CASTS = {"int": "BIGINT", "str": "VARCHAR", "bool": "BOOLEAN", "date": "DATE"} | {
    "datetime": "TIMESTAMP"
}


def open_table(path: Path, name: str) -> SqlForeign:
    """Open a file read-only; ``name`` is a table or view, maybe with its schema in front.

    Raises:
        StoreFailed: It cannot be opened: another process may be writing to it.
    """
    with _translated(path):
        connection = duckdb.connect(str(path), read_only=True, config=_CLOSED)

    some = in_pieces(lambda sql: connection.cursor().execute(sql), lambda: _translated(path))
    schema, _, table = name.rpartition(".")
    found: dict[str, dict[str, str]] = {}
    listed = (
        "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY column_index"
    )
    for piece in some(listed, 10_000):
        for in_schema, in_table, column, kind in piece:
            full = in_table if in_schema == "main" else f"{in_schema}.{in_table}"
            found.setdefault(full, {})[column] = FLOAT32 if kind == "FLOAT" else kind
    return SqlForeign(
        shown=f"{path}#{name}",
        named=".".join(quoted(part) for part in (schema, table) if part),
        described=found.get(name.removeprefix("main."), {}),
        tables=sorted(found),
        casts=_CASTS,
        text_order="",
        some=some,
        shut=connection.close,
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise StoreFailed(
            f"{path}: {str(error).strip().splitlines()[0]}",
            safe="It was opened to be read, and not changed.",
            cure="If another process writes to it: end that, or scan a copy.",
        ) from error
