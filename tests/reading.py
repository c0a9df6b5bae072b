"""Reads pages of the documentation, and types what they say to type."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shell(script: str, folder: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a block in a shell, as a reader would; return what it printed on stdout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", f"{script}\npwd > .here" if "cd " in script else script],
        cwd=folder,
        env={**os.environ, "PATH": path, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def masked(text: str) -> str:
    """Leave out what differs from one code or day to the next."""
    return re.sub(r"digest ([0-9a-f]{16}|…)", "digest …", text.strip())
