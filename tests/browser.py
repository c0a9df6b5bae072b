"""Debian's chromium, headless: how a page is laid out, measured and photographed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = (
    "chromium is not installed: the layout of reports was checked by their HTML alone "
    "(tests/unit/test_report.py), and not in a browser (apt-get install chromium)"
)
WIDTHS = (1200, 420)
SCHEMES = {"light": 1, "dark": 0}
# What is wider than its room, or cut off: measured in a frame of the asked-for width.
_MEASURE = """
const frame = document.querySelector('iframe');
frame.addEventListener('load', () => {
  const page = frame.contentDocument, root = page.documentElement, wide = [];
  for (const e of page.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect();
    const text = e.tagName + '.' + e.className.toString() + ': ' + e.textContent.slice(0, 60);
    const hidden = frame.contentWindow.getComputedStyle(e).position === 'absolute';
    if (hidden || e.closest('svg') || e.closest('thead') && WIDTH < 700) continue;
    if (box.right > WIDTH + 0.5 || box.left < -0.5) wide.push('outside ' + text);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth) wide.push('clipped ' + text);
  }
  const style = frame.contentWindow.getComputedStyle(page.body);
  const found = {scroll: root.scrollWidth, height: root.scrollHeight, wide: wide,
                 ground: style.backgroundColor, ink: style.color};
  document.querySelector('pre').textContent = JSON.stringify(found);
});
"""


def _frame(html: str, width: int, height: int, script: str = "") -> str:
    framed = f'<iframe width="{width}" height="{height}" style="border:0" srcdoc="{escape(html)}">'
    measured = script.replace("WIDTH", str(width))
    return (
        f'<!doctype html><meta charset="utf-8"><body style="margin:0">{framed}</iframe>'
        f"<pre></pre><script>{measured}</script>"
    )


def _run(folder: Path, page: str, scheme: str, *args: str) -> str:
    """Show a page; its profile lies in the folder, and there is no network."""
    assert CHROMIUM is not None, MISSING
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking",
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", *args, file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def measured(folder: Path, html: str, width: int, scheme: str) -> dict[str, Any]:
    """Return how wide a page gets, what lies outside of it or is cut off, and its colours."""
    page = _frame(html, width, 900, _MEASURE)
    dom = _run(folder, page, scheme, "--virtual-time-budget=5000", "--dump-dom")
    found = re.search(r"<pre>(\{.*\})</pre>", dom, re.DOTALL)
    assert found is not None, dom[-500:]
    told: dict[str, Any] = json.loads(unescape(found[1]))
    return told


def photographed(folder: Path, html: str, size: tuple[int, int], scheme: str, to: Path) -> None:
    """Write a picture of the top of a page, as wide and high as ``size`` says, in pixels."""
    width, height = size
    window = f"--window-size={max(width, 500)},{height}"
    _run(folder, _frame(html, width, height), scheme, window, f"--screenshot={to}")
