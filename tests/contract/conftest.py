"""Every store adapter, for the suites of its ports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playhead.ports import Store
from stores import WORLDS, World


@pytest.fixture(params=sorted(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = WORLDS[request.param](tmp_path)
    yield made
    for store in made.opened:
        store.close()


@pytest.fixture
def store(world: World) -> Store:
    return world.open()
