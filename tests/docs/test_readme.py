"""README is run as it stands: what it says to type is typed, what it shows must appear."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reading import BLOCK, masked, shell
from servers import KafkaServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULE = (ROOT / "src/playhead/example/vehicles.py").read_text(encoding="utf-8")


def blocks(section: str) -> list[tuple[str, str]]:
    begin = README.index(f"\n## {section}\n")
    end = README.find("\n## ", begin + 4)
    return BLOCK.findall(README[begin : end if end > 0 else None])


def test_the_story_as_a_newcomer_types_it(tmp_path: Path) -> None:
    folder, printed, compared = tmp_path, "", 0
    for language, content in blocks("The story"):
        if language == "sh":
            printed = shell(content, folder)
            if "cd trips" in content:
                folder = tmp_path / "trips"
        elif language == "text":
            assert masked(printed) == masked(content)
            compared += 1
        elif language == "python":
            assert content in MODULE, "README shows code that the example does not have"
    assert compared >= 9


def test_the_same_against_kafka(tmp_path: Path, kafka: KafkaServer) -> None:
    (script,) = [content for language, content in blocks("The same against Kafka")]
    (tmp_path / "trips").mkdir()
    printed = shell(script.replace("localhost:9092", kafka.bootstrap), tmp_path / "trips")
    assert "8.403679" in printed
    assert re.search(r"distance_calcs\.km +4 ", printed)


def test_the_test_that_readme_shows(tmp_path: Path) -> None:
    shown = [content for language, content in blocks("What you write") if language == "python"]
    (tmp_path / "vehicles.py").write_text(MODULE)
    (tmp_path / "test_shown.py").write_text("\n".join(shown))
    subprocess.run([sys.executable, "test_shown.py"], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize("target", ["demo", "test", "lint"])
def test_the_makefile_has_what_readme_names(target: str) -> None:
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
