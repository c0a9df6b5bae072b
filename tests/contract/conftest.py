"""Every store adapter, for the suites of its ports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playhead.ports import Store
from stores import World, postgres_world, sqlite_world


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "postgres":
        made = postgres_world(request.getfixturevalue("postgres").database())
    else:
        made = sqlite_world(tmp_path)
    yield made
    for store in made.opened:
        store.close()


@pytest.fixture
def store(world: World) -> Store:
    return world.open()
