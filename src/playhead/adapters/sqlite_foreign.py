"""A table of any SQLite file, for ``scan``."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playhead.adapters.sql_foreign import SqlForeign, in_pieces
from playhead.core.naming import quoted
from playhead.errors import StoreFailed

_CASTS = {"int": "INTEGER", "str": "TEXT", "bool": "INTEGER"}


def open_table(path: Path, name: str) -> SqlForeign:
    """Open a file read-only; ``name`` is a table or view.

    Raises:
        StoreFailed: It cannot be opened.
    """
    with _translated(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10, isolation_level=None
        )

    with _translated(path):
        # Each column of each table and view, in order; SQLite has no floats of 32 bits.
        described = connection.execute(
            "SELECT c.name, c.type FROM pragma_table_info(?) AS c ORDER BY c.cid", (name,)
        ).fetchall()
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
            "AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'playhead~_~_%' ESCAPE '~' ORDER BY 1"
        ).fetchall()
    return SqlForeign(
        shown=f"{path}#{name}",
        named=quoted(name),
        described=dict(described),
        tables=[table for (table,) in tables],
        casts=_CASTS,
        text_order=" COLLATE BINARY",
        some=in_pieces(connection.execute, lambda: _translated(path)),
        shut=connection.close,
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreFailed(
            f"{path}: {error}", safe="It was opened to be read, and not changed."
        ) from error
