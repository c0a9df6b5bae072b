"""Rows put aside on disk in buckets, to be brought together bucket by bucket."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import polars as pl

FLUSH_ROWS = 200_000
BUCKET = "_bucket"


class Spool:
    """Frames of several sides, each row in the bucket that its Int64 column ``_bucket`` says.

    What is in memory is what was added since the last flush, and the bucket that is read.
    """

    def __init__(self) -> None:
        """Make a temporary folder, gone when the spool is closed."""
        self._folder = tempfile.TemporaryDirectory(prefix="playhead-spool-")
        self._files: dict[tuple[str, int], list[Path]] = {}
        self._waiting: dict[str, list[pl.DataFrame]] = {}
        self._n = 0

    def __enter__(self) -> Spool:
        """Return the spool."""
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Remove the folder."""
        self._folder.cleanup()

    def add(self, side: str, rows: pl.DataFrame) -> None:
        """Put rows aside."""
        waiting = self._waiting.setdefault(side, [])
        waiting.append(rows)
        if sum(map(len, waiting)) >= FLUSH_ROWS:
            self._flush(side)

    def _flush(self, side: str) -> None:
        waiting = self._waiting.pop(side, [])
        if not waiting:
            return
        for (bucket,), part in pl.concat(waiting).partition_by(BUCKET, as_dict=True).items():
            self._n += 1
            path = Path(self._folder.name) / f"{self._n}.arrow"
            part.drop(BUCKET).write_ipc(path, compression="lz4")
            self._files.setdefault((side, int(bucket)), []).append(path)

    def buckets(self) -> list[int]:
        """Return the buckets that have rows, in order; what was added before is on disk then."""
        for side in list(self._waiting):
            self._flush(side)
        return sorted({bucket for _, bucket in self._files})

    def read(self, side: str, bucket: int) -> pl.DataFrame | None:
        """Return the rows of a side in a bucket, in the order in which they were added."""
        paths = self._files.get((side, bucket))
        if not paths:
            return None
        return pl.concat([pl.read_ipc(path) for path in paths])
