"""Who a process is, so that another process can tell whether it still runs.

A pid alone is not enough: pids are used again. A process is its boot, its pid and its start.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process on one machine, since one boot."""

    host: str
    boot: str
    pid: int
    started: str

    def __str__(self) -> str:
        """Return host and pid, as refusals name it."""
        return f"pid {self.pid} on {self.host}"

    def gone(self) -> bool:
        """Say whether the process certainly runs no more; False when it cannot be known."""
        me = this_process()
        if self.host != me.host:
            return False
        now = _started(self.pid)
        return self.boot != me.boot or not now or now != self.started


@cache
def _host() -> str:
    return socket.gethostname()


@cache
def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    if path.exists():
        return path.read_text().strip()
    return _output("sysctl", "-n", "kern.bootsessionuuid")


def _started(pid: int) -> str:
    """Return when the process began, in the system's own words; empty when there is none."""
    if not Path("/proc/self/stat").exists():
        return _output("ps", "-o", "lstart=", "-p", str(pid))
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in {"Z", "X"} else fields[19]


def ended(pid: int) -> bool:
    """Say whether no process of this machine has that id now."""
    return not _started(pid)


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def person() -> str:
    """Return who runs this, for the audit: ``PLAYHEAD_PERSON``, else the system's user name.

    One line without control characters, at most 100 characters.
    """
    named = os.environ.get("PLAYHEAD_PERSON", "").strip()
    if not named:
        try:
            named = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container may run under a number that has no name
            named = f"uid {os.getuid()}"
    return "".join(c for c in named if c.isprintable())[:100]


def this_process() -> Process:
    """Return the process that runs this."""
    pid = os.getpid()
    return Process(_host(), _boot(), pid, _started(pid))
