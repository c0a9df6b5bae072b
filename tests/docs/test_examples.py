"""Each example is run as its README says, on both logs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reading import BLOCK, masked, shell
from servers import KafkaServer
from story import in_full

LOGS = ("local", "kafka")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

CASES = [(p.name, log) for p in sorted(EXAMPLES.iterdir()) if p.is_dir() for log in LOGS]
QUICK = [(name, log) for name, log in CASES if log == "local" or name == "vehicles"]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker of their own: an example's names are not prefixed."""
    server = KafkaServer(tmp_path_factory.mktemp("examples"))
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize(("example", "log"), in_full(CASES, but=QUICK, several=True))
def test_an_example_does_what_it_says(
    example: str, log: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = shutil.copytree(EXAMPLES / example, tmp_path / example)
    env = {}
    if log == "kafka":
        env["PLAYHEAD_LOG"] = f"kafka://{request.getfixturevalue('broker').bootstrap}"
    printed, compared = "", 0
    for language, content in BLOCK.findall((folder / "README.md").read_text(encoding="utf-8")):
        if language == "sh":
            printed = shell(content, folder, env)
        elif language == "text":
            assert masked(printed).endswith(masked(content))
            compared += 1
    assert compared


def test_the_reader_is_thirty_lines() -> None:
    lines = (EXAMPLES / "sensor/read_ds18b20.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 35
