"""docs/REPAIR.md is followed as it stands, on the example with its bug shipped."""

from __future__ import annotations

from pathlib import Path

from reading import BLOCK, shell

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/REPAIR.md"
SETUP = """\
playhead init .
playhead ingest trackpoints.csv --topic raw_trackpoints --timestamp time \
  --timestamp-format "%m/%d/%Y %H:%M"
playhead run --until-caught-up
"""


def test_the_page_is_followed_from_the_bug_to_the_way_back(tmp_path: Path) -> None:
    shell(SETUP, tmp_path)
    module = (tmp_path / "vehicles.py").read_text(encoding="utf-8")
    told = []
    for language, content in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            assert content in module
        else:
            told.append(shell(content, tmp_path))
    assert any("29.3863" in text for text in told), "kilometres"
    assert "it was worse" in told[-1]
    asked = 'playhead query "SELECT round(sum(distance), 6) AS miles FROM dist_calc"'
    assert "18.25983" in shell(asked, tmp_path)
