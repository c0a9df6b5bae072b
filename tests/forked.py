"""Commands in processes of their own, each forked from one that has everything imported.

To import the same libraries again for each of some hundred commands takes longer than what they do.
What the operating system sees is a process like any other: its own id, files, signals and end.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import playhead

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pyproj",
        "pandas",
        "pyarrow.dataset",
        *(m.name for m in pkgutil.walk_packages(playhead.__path__, "playhead.")),
    ]
)
# A hash seed counts from the first instruction of an interpreter on.
NOT_FORKED = {"PYTHONHASHSEED"}


class Command:
    """One command that runs; what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        args: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        files: tuple[Path | None, Path, Path],
    ) -> None:
        """Start ``playhead`` with arguments; ``files`` are standard input, output and error."""
        paths = [str(path) if path else os.devnull for path in files]
        call = (list(args), str(folder), {**os.environ, **env}, paths)
        self._process = _CONTEXT.Process(target=_become, args=call)
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return how it ended, minus the signal's number where one did that; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("playhead", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _become(args: list[str], folder: str, env: dict[str, str], paths: list[str]) -> None:
    gc.freeze()  # what is shared with the parent stays shared
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    os.chdir(folder)
    kinds = (os.O_RDONLY, *(os.O_WRONLY | os.O_CREAT | os.O_APPEND,) * 2)
    for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
        opened = os.open(path, kind, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1)
    sys.argv = ["playhead", *args]
    importlib.import_module("playhead.cli.main").main()
