"""Epochs of public topics over a SQL database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from playhead.adapters.sql_database import Sql
from playhead.adapters.sql_ledger import in_lock_order
from playhead.core.epochs import OVER, Begun, Epoch, follows
from playhead.errors import CheckpointConflict


def begin_epochs(sql: Sql, begun: Sequence[Begun]) -> None:
    """Begin epochs inside the caller's transaction, which holds the catalog's lock."""
    for one in begun:
        for row in follows(_epochs(sql), one):
            _put(sql, row)


def check_leases(sql: Sql, leases: Mapping[str, int]) -> None:
    """Compare leases, and keep them as they are until the transaction ends.

    Raises:
        CheckpointConflict: One is another's now.
    """
    for name in in_lock_order(leases):
        if sql.one("lease.lock", name=name) != (leases[name],):
            raise CheckpointConflict(f"lease {name} was taken by another process")


def _epochs(sql: Sql) -> list[Epoch]:
    return [
        replace(msgspec.json.decode(content, type=Epoch), stage=stage)
        for stage, content in sql.all("epochs.all")
    ]


def _put(sql: Sql, row: Epoch) -> None:
    sql.run(
        "epochs.put",
        publisher=row.of.publisher,
        label=row.label,
        stage=row.stage,
        content=msgspec.json.encode(row),
    )


class SqlPublications:
    """The `Publications` port."""

    def __init__(self, sql: Sql) -> None:
        """Keep the connection."""
        self._sql = sql

    def epochs(self) -> list[Epoch]:
        """Return every row of every publisher, in the order in which they began."""
        return _epochs(self._sql)

    def begin(self, begun: Sequence[Begun]) -> None:
        """Begin epochs outside a swap."""
        with self._sql.transaction():
            self._sql.one("catalog.lock")
            begin_epochs(self._sql, begun)

    def made(self, topic: str, topic_id: str) -> None:
        """Remember the id of a public topic that was made."""
        with self._sql.transaction():
            self._sql.one("catalog.lock")
            for row in _epochs(self._sql):
                if row.of.topic == topic:
                    _put(self._sql, replace(row, topic_id=topic_id))

    def over(self, epoch: Epoch, leases: Mapping[str, int]) -> None:
        """End a row under its leases, and forget its difference."""
        with self._sql.transaction():
            row = self._locked(epoch, leases)
            _put(self._sql, replace(row, stage=OVER))
            self._sql.run("difference.forget", name=epoch.name)

    def keep(
        self, epoch: Epoch, parts: Mapping[int, Sequence[bytes]], leases: Mapping[str, int]
    ) -> Epoch:
        """Keep the difference under the row's leases; one that is kept already stays."""
        with self._sql.transaction():
            row = self._locked(epoch, leases)
            if row.sizes is None:
                for partition, records in sorted(parts.items()):
                    self._sql.run_many(
                        "difference.put",
                        (
                            {
                                "name": epoch.name,
                                "partition": partition,
                                "number": number,
                                "content": content,
                            }
                            for number, content in enumerate(records)
                        ),
                    )
                row = replace(row, sizes={p: len(records) for p, records in parts.items()})
                _put(self._sql, row)
        return row

    def _locked(self, epoch: Epoch, leases: Mapping[str, int]) -> Epoch:
        self._sql.one("catalog.lock")
        check_leases(self._sql, leases)
        return next(row for row in _epochs(self._sql) if row.name == epoch.name)

    def kept(self, epoch: Epoch, partition: int, begin: int, most: int) -> list[bytes]:
        """Return the records of a difference from an index on."""
        rows = self._sql.all(
            "difference.some", name=epoch.name, partition=partition, begin=begin, end=begin + most
        )
        return [content for (content,) in rows]
