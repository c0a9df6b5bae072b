"""Tables of results, and the views that show them: identifiers are quoted, values bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from playhead.adapters.sql_database import Sql
from playhead.core.codec import TOMBSTONE
from playhead.core.offsets import TopicPartition
from playhead.core.schema import Column, Schema
from playhead.errors import FunctionFailed, Refused
from playhead.ports import TableRow

ORIGIN = ("_partition", "_offset")
_PIECE = 5_000


def exists(sql: Sql, name: str) -> bool:
    """Say whether the database has anything of this name."""
    return sql.one("tables.exists", name=name) is not None


def create(sql: Sql, table: TableRow) -> None:
    """Make a physical table.

    Raises:
        Refused: There is one of that name, or a column's name is too long for the database.
    """
    if exists(sql, table.physical):
        raise Refused(
            f"table {table.physical} exists, but the catalog does not know it",
            safe="It was not touched.",
            cure="Rename it, or use another label.",
        )
    most = sql.dialect.name_max
    for column in table.schema:
        if most is not None and len(column.name.encode()) > most:
            raise Refused(
                f"column {column.name!r} of {table.name} is longer than {most} bytes, "
                f"where {sql.dialect.name} cuts names",
                safe="Nothing was changed.",
                cure="Give it a shorter name.",
            )
    quoted, whole = sql.dialect.quoted, sql.dialect.words["int"]
    columns = ", ".join(_declared(sql, c) for c in table.schema)
    key = ", ".join(map(quoted, table.key))
    sql.db.run(
        f"CREATE TABLE {quoted(table.physical)} ({columns}, _partition {whole} NOT NULL, "
        f"_offset {whole} NOT NULL, PRIMARY KEY ({key}))"
        f"{sql.dialect.table_options}"
    )


def _declared(sql: Sql, column: Column) -> str:
    null = "" if column.nullable else " NOT NULL"
    return f"{sql.dialect.quoted(column.name)} {sql.dialect.type_of(column)}{null}"


def drop(sql: Sql, table: TableRow, *, shown: bool) -> None:
    """Drop a physical table; ``shown``: and the view that shows it."""
    if shown:
        hide(sql, table)
    sql.db.run(f"DROP TABLE {sql.dialect.quoted(table.physical)}")


def hide(sql: Sql, table: TableRow) -> None:
    """Drop the public view of a table."""
    sql.db.run(f"DROP VIEW IF EXISTS {sql.dialect.quoted(table.name)}")


def show(sql: Sql, table: TableRow, columns: Schema) -> None:
    """Make the public view of a table; a column that it lacks is there, null.

    Where the database can replace a view it does: readers in the midst of it see no gap, and
    rights that were granted on it stay.
    """
    quoted = sql.dialect.quoted
    own = {c.name for c in table.schema}
    chosen = ", ".join(
        quoted(c.name)
        if c.name in own
        else f"CAST(NULL AS {sql.dialect.type_of(c)}) AS {quoted(c.name)}"
        for c in columns
    )
    if sql.dialect.drop_view:
        hide(sql, table)
    create = "CREATE VIEW" if sql.dialect.drop_view else "CREATE OR REPLACE VIEW"
    sql.db.run(f"{create} {quoted(table.name)} AS SELECT {chosen} FROM {quoted(table.physical)}")


def read_pieces(sql: Sql, table: TableRow, rows: int) -> Iterator[pl.DataFrame]:
    """Yield a physical table in the order of its key, so many rows at a time."""
    kinds = {c.name: c.kind.name for c in table.schema}
    order = ", ".join(
        sql.dialect.quoted(k) + sql.dialect.text_order * (kinds[k] == "str") for k in table.key
    )
    for content in sql.db.some(f"{_select(sql, table)} ORDER BY {order}", rows):
        yield _frame(sql, table, content)


def read_rows(sql: Sql, table: TableRow, partition: int | None) -> pl.DataFrame:
    """Return a physical table, or one partition's rows of it, with their origin."""
    text, of = _select(sql, table), [] if partition is None else [partition]
    if of:
        text += f" WHERE _partition = {sql.dialect.mark}"
    # In pieces: their objects stay in the processor's cache, which is half the time.
    pieces = [_frame(sql, table, some) for some in sql.db.some(text, _PIECE, *of)]
    return pl.concat(pieces, rechunk=True) if pieces else _frame(sql, table, [])


def read_since(sql: Sql, table: TableRow, positions: Mapping[int, int]) -> pl.DataFrame:
    """Return the rows that come of records at or after a position of each partition."""
    mark = sql.dialect.mark
    found = [
        _frame(sql, table, sql.db.all(
            f"{_select(sql, table)} WHERE _partition = {mark} AND _offset >= {mark}", *place
        ))
        for place in sorted(positions.items())
    ]  # fmt: skip
    return pl.concat(found) if found else _frame(sql, table, [])


def count(sql: Sql, table: TableRow) -> int:
    """Return how many rows a physical table has."""
    ((rows,),) = sql.db.all(f"SELECT count(*) FROM {sql.dialect.quoted(table.physical)}")
    return int(rows)


def _select(sql: Sql, table: TableRow) -> str:
    quoted = sql.dialect.quoted
    names = [*(c.name for c in table.schema), *ORIGIN]
    return f"SELECT {', '.join(map(quoted, names))} FROM {quoted(table.physical)}"


def _frame(sql: Sql, table: TableRow, content: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    names = [*(c.name for c in table.schema), *ORIGIN]
    columns = list(zip(*content, strict=True)) if content else [()] * len(names)
    given = dict(zip(names, columns, strict=True))
    loaded = {c.name: sql.db.loaded(c, list(given[c.name])) for c in table.schema}
    loaded["_partition"] = pl.Series(given["_partition"], dtype=pl.Int32)
    loaded["_offset"] = pl.Series(given["_offset"], dtype=pl.Int64)
    return pl.DataFrame(loaded)


def delete_partition(sql: Sql, table: str, place: TopicPartition) -> None:
    """Delete every row of a partition."""
    sql.db.run(
        f"DELETE FROM {sql.dialect.quoted(table)} WHERE _partition = {sql.dialect.mark}",
        place.partition,
    )


def write_rows(sql: Sql, table: str, rows: pl.DataFrame, place: TopicPartition) -> None:
    """Upsert folded rows and delete those that are gone; a row never moves to another partition.

    Raises:
        FunctionFailed: A key was written from another partition, or a value cannot be stored.
    """
    key = [name for (name,) in sql.all("tables.key", name=table)]
    if TOMBSTONE in rows.columns:
        _delete_rows(sql, table, key, (rows.filter(TOMBSTONE), place))
        rows = rows.filter(~pl.col(TOMBSTONE).fill_null(value=False)).drop(TOMBSTONE)
    if not len(rows):
        return
    _check_storable(sql, table, rows, place)
    quoted = sql.dialect.quoted
    updates = ", ".join(f"{quoted(c)} = excluded.{quoted(c)}" for c in rows.columns if c not in key)
    # In the order of the key: neighbours lie on one page, which is then looked for once.
    written = sql.db.insert(
        table,
        rows.sort(key),
        f"ON CONFLICT ({', '.join(map(quoted, key))}) DO UPDATE SET {updates} "
        f"WHERE {quoted(table)}._partition = excluded._partition",
    )
    if written != len(rows):
        staged = sql.db.stage(table, rows)
        raise _clash(sql, table, (staged, key), place) or FunctionFailed(
            f"{table}: a key belongs to one partition", where=str(place)
        )


def _check_storable(sql: Sql, table: str, rows: pl.DataFrame, place: TopicPartition) -> None:
    refused = sql.db.refused(rows)
    if refused is not None:
        at, why = refused
        raise FunctionFailed(
            f"{table}: {why}",
            where=place.at(rows["_offset"][at]),
            safe="Nothing of this batch was stored.",
            cure="Take it out in the function.",
        )


def _delete_rows(
    sql: Sql, table: str, key: Sequence[str], gone: tuple[pl.DataFrame, TopicPartition]
) -> None:
    """Delete rows by their keys; one that another partition wrote is not this one's to delete."""
    rows, place = gone
    rows = rows.select(*key, *ORIGIN)
    _check_storable(sql, table, rows, place)
    staged = sql.db.stage(table, rows)
    conflict = _clash(sql, table, (staged, key), place)
    if conflict is not None:
        raise conflict
    keys = ", ".join(map(sql.dialect.quoted, key))
    sql.db.run(
        f"DELETE FROM {sql.dialect.quoted(table)} WHERE ({keys}) IN (SELECT {keys} FROM {staged})"
    )


def _clash(
    sql: Sql, table: str, written: tuple[str, Sequence[str]], place: TopicPartition
) -> FunctionFailed | None:
    """Return the error of the first staged key that another partition wrote."""
    staged, key = written
    quoted = sql.dialect.quoted
    match = " AND ".join(f"t.{quoted(k)} = s.{quoted(k)}" for k in key)
    row = sql.db.one(
        f"SELECT s._offset, t._partition, t._offset, {', '.join(f's.{quoted(k)}' for k in key)} "
        f"FROM {staged} AS s JOIN {quoted(table)} AS t ON {match} "
        f"WHERE t._partition <> {sql.dialect.mark} ORDER BY s._offset LIMIT 1",
        place.partition,
    )
    if row is None:
        return None
    offset, partition, at, *values = row
    shown = ", ".join(f"{k}={v!r}" for k, v in zip(key, values, strict=True))
    there = TopicPartition(place.topic, partition).at(at)
    return FunctionFailed(
        f"{table}: key {shown} was written from {there} before: a key belongs to one partition",
        where=place.at(offset),
        safe="Nothing of this batch was stored.",
        cure="Key the source topic by the table's key, or forward it into a topic that is.",
    )


def nested_json(value: object) -> str:
    """Return a nested value as the stores keep it."""
    plain = value.to_list() if isinstance(value, pl.Series) else value
    return msgspec.json.encode(plain).decode()
