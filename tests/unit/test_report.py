"""The report of a diff: one HTML file that needs nothing else, the same as Markdown and JSON."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

import browser
from playhead.core.checkpoint import Cursor
from playhead.core.diff import Sides, compare
from playhead.core.offsets import OffsetRange
from playhead.core.schema import schema_of
from playhead.ops.diff import Difference, Stood
from playhead.ops.history import Entry
from playhead.ops.report import Ran, Report, Stretch
from playhead.render import as_json
from playhead.render_html import html_report
from playhead.render_report import markdown_report, report_content

NASTY = '<script>alert("1")</script> & | `x` ' + "long" * 60
VOID = {"meta", "rect"}


def frame(rows, columns):
    dtypes = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "date": pl.Date,
              "bytes": pl.Binary, "bool": pl.Boolean}  # fmt: skip
    schema = {c.name: dtypes[c.kind.name] for c in schema_of(columns, "")}
    made = pl.DataFrame(rows, schema, orient="row")
    return made.with_columns(
        _partition=pl.lit(0, pl.Int32), _offset=pl.int_range(len(rows), dtype=pl.Int64)
    )


def a_report(state: str, name: str = "totals") -> Report:
    """Return a report: everything explained, or much that is not, with names that need care."""
    columns = {"k": str, "v": float | None, "when": date, "raw": bytes}
    n = 60 if state != "nothing" else 0
    day = date(2026, 1, 1)
    base = [(f"{i:03}{NASTY if i == 7 else ''}", float(i * i), day, b"\xff") for i in range(n)]
    factor = 1.609344 if state == "explained" else 1.7
    head = [(k, v * factor, day, b"\xff") for k, v, *_ in base]
    if state == "unexplained":
        head = [(f"new{i}", None, day, b"x") for i in range(40)] + head[3:]
        head[50] = (head[50][0], 1e300, date(2027, 1, 1), b"\0")
    expected = ["v = base.v * 1.609344", "k = 'it''s <b>'"]
    schema = schema_of(columns, "")
    sides = Sides(frame(base, columns), frame(head, columns), ("k",), schema, schema, {0: 500})
    cursors = {p: Cursor(120 + p, 2, 4) for p in range(3)}
    stood = tuple(Stood(f"p@{v}", f"{v}1234567890abcdef", "some.topic" * 8, cursors)
                  for v in ("a", "b"))  # fmt: skip
    tables = {name: compare(sides, expected)}
    found = Difference("p@a", "p@b", tables, "0123456789abcdef", tuple(expected), stood)
    read = [
        Stretch(p, OffsetRange(20, c.next), 2, OffsetRange(0, 900), 1_700_000_000_000, None)
        for p, c in cursors.items()
    ]
    ran = [
        Ran(s, stage, {"python": "3.11"}, read)
        for s, stage in zip(stood, ("live", "shadow"), strict=True)
    ]
    entry = Entry("replay", "p@b", "2026-01-01T00:00:00Z", None, reason=f"why {NASTY}")
    return Report(found, ran, [entry], datetime(2026, 1, 1, tzinfo=UTC), "0.1")


class Page(HTMLParser):
    """Checks that tags close each other, and gathers text, tags and attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


STATES = ("explained", "unexplained", "nothing")


@pytest.mark.parametrize("state", STATES)
def test_the_page_is_whole_and_needs_nothing_from_outside(state):
    html = html_report(report_content(a_report(state, name=NASTY[:30])))
    page = Page(html)
    tags = [tag for tag, _ in page.seen]
    assert not {"script", "link", "img", "iframe", "b>"} & set(tags)
    assert tags.count("h1") == tags.count("title") == tags.count("style") == 1
    given = [(name, value or "") for _, attrs in page.seen for name, value in attrs.items()]
    assert not [name for name, _ in given if name in {"src", "href"} or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", html)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html
    # Each cell has its heading beside it: a narrow screen shows no row of headings.
    assert all(attrs.get("data-label") for tag, attrs in page.seen if tag == "td")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("explained", "All 59 rows that differ are explained."),
        ("unexplained", "100 of 100 rows that differ are not explained."),
        ("nothing", "No row differs."),
    ],
)
def test_the_verdict_comes_first_and_in_each_form(state, said):
    content = report_content(a_report(state))
    text = " ".join(" ".join(Page(html_report(content)).text).split())
    assert text.index(said) < 150
    assert said in markdown_report(content)[:200]
    assert content["verdict"] == {"state": state, "text": said[0].lower() + said[1:-1]}
    assert said[0].lower() + said[1:-1] in as_json(content)


def test_html_and_markdown_hold_what_json_holds():
    content = report_content(a_report("unexplained"))
    html = " ".join(" ".join(Page(html_report(content)).text).split())
    markdown = markdown_report(content).replace("\\", "")
    some = [
        content["digest"],
        "p@a", "p@b", "a1234567890", "b1234567890",
        "explains nothing", "v = base.v * 1.609344", "k = 'it''s <b>'",
        "000", "001", "002",  # ghosts
        "new0", "new19", "and 20 more",
        "1e+300", "[0]@13, 50", "logarithmic",
        "2023-11-14T22:13:20Z", "replay", "python 3.11",
    ]  # fmt: skip
    for what in some:
        assert what in html, what
        if what != "logarithmic":
            assert what in markdown, what
    assert "(days)" in html, "a date differs by days"


def test_what_is_long_is_cut_in_a_report_and_whole_in_json():
    content = report_content(a_report("unexplained"))
    assert NASTY not in markdown_report(content)
    assert "…" in markdown_report(content)
    assert "long" * 60 in as_json(content)


def test_markdown_tables_keep_their_columns_whatever_a_value_holds():
    lines = markdown_report(report_content(a_report("unexplained"))).splitlines()
    width = 0
    for line in lines:
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("| ") else 0
        assert not (width and cells) or cells == width, line
        width = cells


if browser.CHROMIUM:  # tests/conftest.py says at the end of a run that it is missing

    @pytest.mark.parametrize("width", browser.WIDTHS)
    @pytest.mark.parametrize("scheme", browser.SCHEMES)
    def test_nothing_is_cut_off_or_wider_than_the_screen(tmp_path: Path, width, scheme):
        html = html_report(report_content(a_report("unexplained", name=NASTY)))
        found = browser.measured(tmp_path, html, width, scheme)
        assert found["wide"] == []
        assert found["scroll"] <= width
        ground, ink = (
            sum(map(int, re.findall(r"\d+", found[which])[:3])) for which in ("ground", "ink")
        )
        assert (ground > 600 and ink < 150) if scheme == "light" else (ground < 150 and ink > 600)

    def test_what_is_wider_than_the_screen_is_found(tmp_path: Path):
        html = html_report(report_content(a_report("explained")))
        spoilt = html.replace("<footer>", '<footer style="width:3000px">').replace(
            "<h1>", '<h1 style="white-space:nowrap;overflow:hidden;width:20px">'
        )
        found = browser.measured(tmp_path, spoilt, 420, "light")
        assert found["scroll"] > 420
        assert {w.split()[0] for w in found["wide"]} == {"outside", "clipped"}
