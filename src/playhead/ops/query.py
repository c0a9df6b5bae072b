"""Ask the mirror."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from playhead.errors import StoreFailed
from playhead.ops.catching_up import catching_up
from playhead.ops.mirror import refresh
from playhead.project import Project


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer and how old it is.

    Attributes:
        names: Column names.
        types: DuckDB's type names.
        rows: Values.
        versions: Which version each public table shows.
        as_of: Next offsets that it shows, by source topic.
        age_s: Seconds since the mirror was built.
        behind: How many offsets a live version has to read until it is where the one before it
            was, after a rollback that swapped first.
    """

    names: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    versions: Mapping[str, str]
    as_of: Mapping[str, list[int]]
    age_s: float
    behind: Mapping[str, int] = field(default_factory=dict)


def query(project: Project, sql: str) -> Answered:
    """Run one query over the mirror, building it first when it is older than the store.

    Raises:
        PlayheadError: Nothing has run here yet, or DuckDB refuses the query.
    """
    from playhead.adapters.duckdb_mirror import ask, inspect

    with closing(project.open_store(must_exist=True)) as store:
        late = catching_up(store)
        refresh(project, store)
    path = project.settings.path(project.settings.mirror)
    built = inspect(path)
    if built is None:
        raise StoreFailed(f"the mirror {path.name} is not readable", cure="Remove it; ask again.")
    answer = ask(path, sql)
    age_s = round(max(0.0, time.time() - built.built_at_s), 3)
    return Answered(
        answer.names, answer.types, answer.rows, built.versions, built.as_of, age_s, late
    )
