"""Process.gone(): True only when the process certainly runs no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from playhead.adapters.process import Process, this_process

SAY_WHO = """
import sys, msgspec
from playhead.adapters.process import this_process
sys.stdout.write(msgspec.json.encode(this_process()).decode() + "\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@contextmanager
def another() -> Iterator[tuple[subprocess.Popen[str], Process]]:
    """Run a process that says who it is and then waits."""
    with subprocess.Popen(
        [sys.executable, "-c", SAY_WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            who = msgspec.json.decode(process.stdout.readline(), type=Process)
            assert who.pid == process.pid
            yield process, who
        finally:
            process.kill()


def wait_for_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + 20
    command = ["ps", "-o", "stat=", "-p", str(pid)]
    shown = ""
    while not shown.startswith(state):
        assert time.monotonic() < deadline, f"it is {shown!r}, never {state}"
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_this_process_is_not_gone() -> None:
    me = this_process()
    assert (me.pid, me.host) == (os.getpid(), os.uname().nodename)
    assert me.boot
    assert me.started
    assert not me.gone()
    assert me == this_process()


def test_a_process_says_pid_and_host() -> None:
    assert str(Process("db1", "b", 42, "7")) == "pid 42 on db1"


def test_a_running_process_is_not_gone_until_it_is_dead() -> None:
    with another() as (process, who):
        assert not who.gone()
        process.send_signal(signal.SIGSTOP)
        wait_for_state(process.pid, "T")
        assert not who.gone(), "frozen is not gone"
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()
        assert who.gone()


def test_a_zombie_is_gone() -> None:
    """A killed worker whose parent does not look after it must not keep its lease."""
    with another() as (process, who):
        process.kill()
        wait_for_state(process.pid, "Z")
        os.kill(process.pid, 0)  # its pid is still taken
        assert who.gone()


def test_a_process_of_another_host_cannot_be_known() -> None:
    with another() as (process, who):
        elsewhere = replace(who, host="elsewhere")
        assert not elsewhere.gone()
        process.kill()
        process.wait()
        assert not elsewhere.gone()
        assert not replace(elsewhere, boot="another").gone()


def test_a_pid_used_again_is_another_process() -> None:
    me = this_process()
    assert replace(me, started=f"{me.started}0").gone()
    assert replace(me, started="").gone()
    assert replace(me, pid=2**22 + 1).gone()  # nobody has it


def test_a_process_of_an_earlier_boot_is_gone() -> None:
    assert replace(this_process(), boot="another").gone()


def test_two_processes_of_one_machine_share_host_and_boot_only() -> None:
    me = this_process()
    with another() as (_, who):
        assert who != me
        assert (who.host, who.boot) == (me.host, me.boot)


def test_a_name_with_spaces_and_brackets_does_not_confuse(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to(sys.executable)
    with subprocess.Popen(
        [odd, "-S", "-c", "import sys; print('ready', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            who = replace(this_process(), pid=process.pid)
            assert who.gone()  # it began at another time than this process
            stat = Path(f"/proc/{process.pid}/stat")
            if stat.exists():
                started = stat.read_text().rpartition(")")[2].split()[19]
                assert not replace(who, started=started).gone()
        finally:
            process.kill()
