"""The history cache as files: Arrow columns by topic id, partition and range of offsets.

A folder for each topic and way of decoding; in it ``topic.json``, which says what it is and whose
time tells when it was last used, and a file for each range. A file names its range inside, too,
under one checksum with its rows: what was renamed, cut short or changed is seen, and removed. Files
are renamed into place, so readers and writers need no lock; a reader whose file somebody removed
goes on in the log.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from playhead.core.offsets import OffsetRange
from playhead.core.slots import decode, encode
from playhead.errors import StoreFailed
from playhead.ports import Kept, TopicInfo

logger = logging.getLogger("playhead.cache")

FORMAT = 1
_ABOUT = "topic.json"
_ROWS = ".rows"
_LEFT_S = 3600.0
_SMALL = 20_000


@dataclass(frozen=True, slots=True)
class Held:
    """What the cache holds of one topic.

    Attributes:
        topic: Its name.
        id: Its id in the log.
        log: Address of the log.
        ranges: Kept ranges by partition, in order; what touches is one range.
        size: Bytes of the files.
        used_at_s: When it was last used, seconds since 1970.
    """

    topic: str
    id: str
    log: str
    ranges: Mapping[int, Sequence[OffsetRange]]
    size: int
    used_at_s: float

    @property
    def offsets(self) -> int:
        """How many offsets are kept; not a record count (logs have gaps)."""
        return sum(len(one) for ranges in self.ranges.values() for one in ranges)


class _About(msgspec.Struct):
    """What ``topic.json`` says."""

    topic: str
    id: str
    log: str
    decoded: str


class HistoryCache:
    """`Cache` in a folder; never larger than it may be, as far as one process can see to it."""

    def __init__(self, folder: Path, most_bytes: int, log: str) -> None:
        """Keep up to so many bytes of what the log at this address has; 0 keeps nothing."""
        self._folder, self._most, self._log = folder, most_bytes, log
        self._remote = log.startswith("kafka:")  # who may not see a topic's settings is not told

    def topic(
        self, topic: TopicInfo, decoded: str, retained: Mapping[int, OffsetRange]
    ) -> CachedTopic | None:
        """Return what is kept of a topic; None where nothing may be, or records may vanish."""
        policy = topic.config.get("cleanup.policy", "unknown" if self._remote else "delete")
        if not self._most or policy != "delete":
            return None
        about = _About(topic.name, topic.id, self._log, f"{FORMAT} {decoded}")
        content = msgspec.json.encode(about)
        folder = self._folder / hashlib.sha256(content).hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _ABOUT).write_bytes(content)  # as it is, or anew: its time is what counts
        except OSError as error:
            logger.warning("nothing is kept in the history cache: %s", error)
            return None
        return CachedTopic(self, folder, retained)

    def held(self) -> list[Held]:
        """Return what there is, by topic name, the one that was used last first."""
        found = []
        for folder in self._folders():
            try:
                about = msgspec.json.decode((folder / _ABOUT).read_bytes(), type=_About)
                used_at_s = (folder / _ABOUT).stat().st_mtime
            except (OSError, msgspec.MsgspecError):
                continue
            ranges: dict[int, list[OffsetRange]] = {}
            for partition, span, _ in _files(folder):
                spans = ranges.setdefault(partition, [OffsetRange(span.start, span.start)])
                if span.start > spans[-1].end:
                    spans.append(span)
                else:
                    spans[-1] = OffsetRange(spans[-1].start, max(spans[-1].end, span.end))
            size = size_of(folder)
            found.append(Held(about.topic, about.id, about.log, ranges, size, used_at_s))
        return sorted(found, key=lambda one: (one.topic, -one.used_at_s))

    def clear(self) -> int:
        """Remove all of it; return how many bytes that were."""
        size = sum(map(size_of, self._folders()))
        for folder in self._folders():
            shutil.rmtree(folder, ignore_errors=True)
        return size

    def make_room(self, for_bytes: int, own: Path) -> bool:
        """Remove what was used longest ago until so much fits, but nothing of ``own``; say if."""
        sizes = {folder: size_of(folder) for folder in self._folders()}
        free = self._most - sum(sizes.values())
        for folder in sorted(sizes.keys() - {own}, key=_used):
            if free >= for_bytes:
                break
            shutil.rmtree(folder, ignore_errors=True)
            free += sizes[folder]
        return free >= for_bytes

    def _folders(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.iterdir() if path.is_dir())
        except FileNotFoundError:
            return []


class CachedTopic:
    """`KeptTopic` in one folder, as its files were when it was opened."""

    def __init__(
        self, cache: HistoryCache, folder: Path, retained: Mapping[int, OffsetRange]
    ) -> None:
        """Look at what there is, of what is retained."""
        self._cache, self._folder = cache, folder
        for left in folder.glob(f".*{_ROWS}.*"):  # by a writer that was killed
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _LEFT_S:
                    left.unlink()
        self._files: dict[int, list[tuple[OffsetRange, Path]]] = {}
        for partition, span, path in _files(folder):
            held = retained.get(partition)
            if held is not None and span.end <= held.start:
                path.unlink(missing_ok=True)  # the log has none of it any more
            elif held is not None and held.holds(span.start, span.end):
                self._files.setdefault(partition, []).append((span, path))

    def find(self, partition: int, at: int) -> Kept | None:
        """Return what is kept at a position; a file that is damaged is removed, and said."""
        for span, path in self._files.get(partition, ()):
            if not span.start <= at < span.end:
                continue
            rows = _read(path)
            if rows is not None:
                return Kept(span, rows)
        return None

    def _ending_at(self, partition: int, at: int) -> Path | None:
        """Return the file of a small range that ends there."""
        for of, span, path in _files(self._folder):
            if of == partition and span.end == at and len(span) < _SMALL:
                return path
        return None

    def keep(self, partition: int, kept: Kept) -> bool:
        """Write a file; where there is no room for it, or the disk is full, no more is kept.

        What follows a small one is put with it into one: a little now and then makes no many files.
        """
        small = self._ending_at(partition, kept.range.start)
        if small is not None and (before := _read(small)) is not None:
            start = int(small.stem.split("-")[1])
            rows = pl.concat([before, kept.rows], rechunk=True)
            kept = Kept(OffsetRange(start, kept.range.end), rows)
        path = self._folder / f"{partition}-{kept.range.start}-{kept.range.end}{_ROWS}"
        content = encode({_name(path): kept.rows})
        if not self._cache.make_room(len(content), self._folder):
            return False
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            aside.write_bytes(content)
            aside.replace(path)
            if small is not None and small != path:
                small.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("no more is kept in the history cache: %s", error)
            with suppress(OSError):
                aside.unlink()
            return False
        return True


def _read(path: Path) -> pl.DataFrame | None:
    """Return the rows of a file; one that is not what it should be is removed."""
    try:
        rows = decode(path.read_bytes(), f"cached history {path.name}").get(_name(path))
    except FileNotFoundError:  # removed by somebody who needed the room, or put into another one
        return None
    except (StoreFailed, OSError) as error:
        why = error.message if isinstance(error, StoreFailed) else error
        logger.warning("%s; it is removed, and the log is read instead", why)
        rows = None
    if rows is None:
        with suppress(OSError):
            path.unlink()
    return rows


def _name(path: Path) -> str:
    """Return what a file's content is called inside: where it belongs, in all."""
    return f"{path.parent.name}/{path.name}"


def _files(folder: Path) -> list[tuple[int, OffsetRange, Path]]:
    """Return the files of a folder, by partition and range."""
    found = []
    for path in folder.glob(f"*{_ROWS}"):
        with suppress(ValueError):
            partition, start, end = map(int, path.name.removesuffix(_ROWS).split("-"))
            found.append((partition, start, end, path))
    return [(p, OffsetRange(start, end), path) for p, start, end, path in sorted(found)]


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    size = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _used(folder: Path) -> float:
    try:
        return (folder / _ABOUT).stat().st_mtime
    except FileNotFoundError:
        return 0.0
