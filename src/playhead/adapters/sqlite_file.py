"""One SQLite file, opened the way design asks: WAL, synchronous=FULL, explicit transactions.

With ``synchronous=NORMAL`` a power cut takes back a commit that the other file has already
answered to. The driver is in autocommit; a writing transaction is ``BEGIN IMMEDIATE``.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playhead.errors import PlayheadError

BUSY_TIMEOUT_S = 10.0
_NOT_WRITTEN = frozenset(
    {sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE}
)
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SqliteFile:
    """A connection to one file; belongs to one thread.

    Args:
        path: The file; folders above it are created.
        schema: Statements that create what is missing.
        failed: Error class that SQLite's own errors become.
    """

    def __init__(self, path: Path, schema: str, failed: type[PlayheadError]) -> None:
        """Open the file, creating it if needed."""
        self.path = path
        self._failed = failed
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
            self._begin_wal()
            self._connection.execute("PRAGMA synchronous=FULL")
            self._create(schema)

    def _begin_wal(self) -> None:
        """Switch a new file to WAL; SQLite does not wait for others who do the same."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _create(self, schema: str) -> None:
        """Create what is missing, unless it is all there: readers need no write lock."""
        wanted = schema.count("CREATE TABLE")
        have = self._connection.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN "
            f"({','.join('?' * wanted)})",
            [line.split()[5].rstrip("(") for line in schema.splitlines() if "CREATE TABLE" in line],
        ).fetchone()[0]
        if have < wanted:
            self._connection.executescript(f"BEGIN IMMEDIATE;{schema};COMMIT;")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error | OSError) -> PlayheadError:
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & 0xFF
        full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in _NO_ROOM
        if full or extended in _NOT_WRITTEN:
            what = "is full" if full else "cannot be written to: it is full, or it fails"
            return self._failed(
                f"{self.path}: the disk {what} ({error})",
                safe="What was committed before is unchanged.",
                cure="Make room, then run again: it goes on exactly where it stood.",
            )
        return self._failed(
            f"{self.path}: {error}",
            safe="What was committed before is unchanged.",
            cure="Check that the file can be written and the disk has room, then run again.",
            passing=code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED},
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in one writing transaction: all of it, or none."""
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Run the block in one reading transaction: it sees one moment."""
        with self._translated():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                with suppress(sqlite3.Error):
                    self._connection.execute("COMMIT")

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401
        """Return every row."""
        with self._translated():
            return self._connection.execute(sql, values).fetchall()

    def some(self, sql: str, rows: int, *values: Any) -> Iterator[list[tuple[Any, ...]]]:  # noqa: ANN401
        """Yield the rows of a query, so many at a time."""
        with self._translated():
            cursor = self._connection.execute(sql, values)
            try:
                while found := cursor.fetchmany(rows):
                    yield found
            finally:
                cursor.close()

    def one(self, sql: str, *values: Any) -> tuple[Any, ...] | None:  # noqa: ANN401
        """Return the first row, or None."""
        with self._translated():
            found: tuple[Any, ...] | None = self._connection.execute(sql, values).fetchone()
            return found

    def run(self, sql: str, *values: Any) -> int:  # noqa: ANN401
        """Run one statement; return how many rows it changed."""
        with self._translated():
            return self._connection.execute(sql, values).rowcount

    def run_many(self, sql: str, rows: Iterator[Sequence[Any]] | Sequence[Sequence[Any]]) -> int:
        """Run one statement for each row; return how many rows it changed."""
        with self._translated():
            return self._connection.executemany(sql, rows).rowcount

    def close(self) -> None:
        """Close the connection; safe to call twice."""
        self._connection.close()
