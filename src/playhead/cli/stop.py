"""Stopping a command that runs on: once after the batch, twice at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

from playhead.cli.options import say

STOP_S = 9.0  # those who stop programs, a service manager for one, wait ten seconds
R = TypeVar("R")


def until_stopped(work: Callable[[threading.Event], R]) -> tuple[R, bool]:
    """Run ``work``; give it an event that Ctrl-C or SIGTERM sets, and return whether it was set.

    The work has a thread of its own, for signals reach Python only in the main thread, and only
    between two of its instructions. The second signal, and a batch that is not done nine seconds
    after the first, end the process at once, as kill −9 would: every batch is committed or was
    never there.
    """
    stop = threading.Event()
    asked: list[float] = []

    def ask(_number: int, _frame: FrameType | None) -> None:
        if asked:
            _leave("stopped at once")
        asked.append(time.monotonic())
        stop.set()
        say("stopping after this batch; once more stops at once")

    results: list[R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(stop))
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="work", daemon=True)
    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if asked and time.monotonic() - asked[0] > STOP_S:
                _leave(f"stopped: the batch was not done within {STOP_S:.0f} s")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if errors:
        raise errors[0]
    return results[0], stop.is_set()


def _leave(why: str) -> NoReturn:
    say(f"{why}; what was not committed is dropped, what was committed stays")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)
