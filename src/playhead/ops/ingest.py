"""CSV or JSON lines into a topic."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from playhead.core.declare import Topic
from playhead.core.keys import message_key
from playhead.core.naming import checked_topic
from playhead.core.ranges import timestamp_ms
from playhead.core.records import Outgoing, partition_of
from playhead.core.schema import key_of
from playhead.errors import ConfigError, PlayheadError, Refused
from playhead.ops.rows import INFER_ROWS, Header, Row, csv_rows, json_rows
from playhead.ops.versions import topic_config
from playhead.ports import Appender, Log, TopicInfo
from playhead.project import Project

TRANSACTION_ROWS = 1_000_000
CHUNK_ROWS = 10_000
FLUSH_S = 0.2
REJECTED_SHOWN = 20
_TIMES: dict[str, type] = {"date": date, "datetime": datetime}


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for.

    Attributes:
        file: Path, or ``-`` for standard input.
        topic: The topic.
        key: Column or columns that make the message key; None: as declared.
        timestamp: Column that holds the event time; None: now.
        timestamp_format: Python's ``strptime`` format; None: ISO-8601 or epoch.
        rate: Records a second, or None.
        partitions: Count for a topic that is created, or None.
    """

    file: str
    topic: str
    key: str | None = None
    timestamp: str | None = None
    timestamp_format: str | None = None
    rate: float | None = None
    partitions: int | None = None


@dataclass(slots=True)
class Ingested:
    """What came of it.

    Attributes:
        topic: The topic.
        records: Records that were appended.
        rejected: ``line N: why`` for the first of the rows that were skipped.
        rejected_count: How many rows were skipped.
        remarks: What was inferred or left out.
    """

    topic: str
    records: int = 0
    rejected: list[str] = field(default_factory=list)
    rejected_count: int = 0
    remarks: list[str] = field(default_factory=list)

    def reject(self, line: int, why: str) -> None:
        """Count a row that was skipped, and keep the first of them."""
        self.rejected_count += 1
        if len(self.rejected) < REJECTED_SHOWN:
            self.rejected.append(f"line {line}: {why}")


def ingest(
    project: Project, request: Request, say: Callable[[str], None] = lambda _sentence: None
) -> Ingested:
    """Append a file to a topic; a file of up to a million rows is one transaction.

    Raises:
        ConfigError: The file cannot be read, or lacks a column that is needed.
        Refused: The topic does not exist and is not declared, or has other partitions.
    """
    checked_topic(request.topic, "--topic")
    if request.timestamp_format is not None and request.timestamp is None:
        raise ConfigError("--timestamp-format needs --timestamp COL")
    declared = project.app.topics.get(request.topic) if project.settings.app else None
    key = key_of(request.key.split(",") if request.key else None) or (
        declared.key if declared else ()
    )
    result = Ingested(request.topic)
    with _opened(project, request.file) as file:
        needed = tuple(c for c in (*key, request.timestamp) if c is not None)
        rows = _rows(request, declared, file, (needed, result))
        with closing(project.open_log()) as log:
            info = _topic(log, request, declared)
            feed = _Feed(request, info, key, result)
            feed.take_times(declared)
            feed.positive_times = project.settings.log.startswith("kafka:")
            appender = log.appender(request.topic)
            try:
                _append(appender, feed, rows, say)
            finally:
                appender.close()
    return result


def _opened(project: Project, file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    path = project.settings.path(file)
    try:
        return path.open("rb")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _rows(
    request: Request,
    declared: Topic | None,
    file: BinaryIO,
    about: tuple[tuple[str, ...], Ingested],
) -> Iterator[Row]:
    needed, result = about
    name = Path(request.file).name if request.file != "-" else "standard input"
    schema = declared.schema if declared else None
    head = file.peek(1)[:1] if hasattr(file, "peek") else b""
    as_json = name.endswith((".jsonl", ".ndjson", ".json")) or head == b"{"
    if as_json:
        return json_rows(file, declared, result.reject)
    return csv_rows(
        file, Header(name, schema, needed, 1 if request.file == "-" else INFER_ROWS), result
    )


def _topic(log: Log, request: Request, declared: Topic | None) -> TopicInfo:
    info = log.topic(request.topic)
    if info is None:
        if declared is None and request.partitions is None:
            raise Refused(
                f"topic {request.topic} does not exist and is not declared",
                safe="Nothing was written.",
                cure=f"playhead topics create {request.topic}, or give --partitions N.",
            )
        count = request.partitions or (declared.partitions if declared else None) or 1
        return log.create_topic(request.topic, count, topic_config(declared))
    if request.partitions not in {None, info.partitions}:
        raise Refused(
            f"topic {request.topic} has {info.partitions} partitions, not {request.partitions}",
            safe="Nothing was written.",
            cure="Leave --partitions out, or ingest into another topic.",
        )
    return info


class _Feed:
    """Turns rows into records: key, partition, time, value."""

    def __init__(
        self, request: Request, info: TopicInfo, key: Sequence[str], result: Ingested
    ) -> None:
        self._typed: dict[str, Callable[[Any], Any]] = {}  # declared times of JSON are still text
        self.request = request
        self.positive_times = False  # whether the log cannot keep a time before 1970
        self.result = result
        self._info = info
        self._key = key
        self._encode = msgspec.json.Encoder().encode
        self._turn = 0
        self._placed: dict[bytes, int] = {}

    def take_times(self, declared: Topic | None) -> None:
        """Read dates and times of the key by their declared types: JSON has them as text."""
        for column in (declared.schema or ()) if declared else ():
            kind = _TIMES.get(column.kind.name)
            if kind is not None and column.name in self._key:
                self._typed[column.name] = partial(msgspec.convert, type=kind)

    def add(self, row: Row, outgoing: Outgoing) -> None:
        """Append one row as a record, or count it as rejected."""
        try:
            cells = {**row.aside, **row.values} if row.aside else row.values
            key = self._key_of(cells)
            time_ms = self._time_of(cells)
        except (ValueError, ConfigError, msgspec.MsgspecError) as error:
            self.result.reject(row.line, str(error))
            return
        if time_ms <= 0 and self.positive_times:
            why = "Kafka cannot keep a time before 1970-01-01T00:00:00.001Z"
            self.result.reject(row.line, why)
            return
        outgoing.add(self._place(key), key, row.raw or self._encode(row.values), time_ms)
        self.result.records += 1

    def _key_of(self, values: Mapping[str, Any]) -> bytes | None:
        if not self._key:
            return None
        parts = []
        for name in self._key:
            value = values.get(name)
            if value is None:
                absent = "null" if name in values else "not there"
                raise ValueError(f"the key column {name!r} is {absent}")
            parts.append(self._typed[name](value) if name in self._typed else value)
        return message_key(parts)

    def _time_of(self, values: Mapping[str, Any]) -> int:
        name = self.request.timestamp
        if name is None:
            return time.time_ns() // 1_000_000
        value = values.get(name)
        if value is None:
            raise ValueError(f"the timestamp column {name!r} is empty")
        if self.request.timestamp_format is None:
            if isinstance(value, datetime):
                value = value.isoformat()
            return timestamp_ms(str(value))
        moment = datetime.strptime(str(value), self.request.timestamp_format)  # noqa: DTZ007  below
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)

    def _place(self, key: bytes | None) -> int:
        if key is None:
            self._turn += 1
            return self._turn % self._info.partitions
        if key not in self._placed:
            self._placed[key] = partition_of(key, self._info.partitions)
        return self._placed[key]


def _paced(rows: Iterator[Row]) -> Iterator[Row | None]:
    """Yield rows as they come, and None when none came for 200 ms: time to flush what there is."""
    waiting: queue.Queue[Row | BaseException | None] = queue.Queue(CHUNK_ROWS)

    def read() -> None:
        try:
            for row in rows:
                waiting.put(row)
            waiting.put(None)
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits
            waiting.put(error)

    threading.Thread(target=read, name="rows", daemon=True).start()
    while True:
        try:
            item = waiting.get(timeout=FLUSH_S)
        except queue.Empty:
            yield None
            continue
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


def _append(
    appender: Appender, feed: _Feed, rows: Iterator[Row], say: Callable[[str], None]
) -> None:
    """Append in chunks; commit at the end, each million rows, or every 200 ms from a stream."""
    flows = feed.request.file == "-" or feed.request.rate is not None
    begun = flushed = time.monotonic()
    chunk, pending = Outgoing(feed.request.topic), 0
    try:
        for row in _paced(rows) if flows else rows:
            if row is not None:
                feed.add(row, chunk)
            if feed.request.rate:
                ahead_s = feed.result.records / feed.request.rate - (time.monotonic() - begun)
                if ahead_s > 0.001:
                    time.sleep(ahead_s)
            due = flows and time.monotonic() - flushed >= FLUSH_S
            if len(chunk) >= CHUNK_ROWS or (due and len(chunk)):
                appender.append(chunk)
                pending += len(chunk)
                chunk = Outgoing(feed.request.topic)
            if pending and (due or pending >= TRANSACTION_ROWS):
                appender.commit()
                pending, flushed = 0, time.monotonic()
                if row is not None and not flows:
                    say(f"committed up to line {row.line}")
    except PlayheadError:
        if flows and len(chunk):
            appender.append(chunk)
            appender.commit()
        raise
    appender.append(chunk)
    appender.commit()
