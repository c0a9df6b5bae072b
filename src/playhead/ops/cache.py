"""See what the history cache holds, and clear it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from playhead.project import Project

if TYPE_CHECKING:
    from playhead.adapters.history_cache import Held


@dataclass(frozen=True, slots=True)
class Contents:
    """What the cache holds.

    Attributes:
        topics: One for each topic and way of decoding; of a cleared cache what it held.
        most_bytes: How large it may become.
        cleared_bytes: How much was removed; None where nothing was to be.
    """

    topics: Sequence[Held]
    most_bytes: int
    cleared_bytes: int | None = None


def cache(project: Project, *, clear: bool = False) -> Contents:
    """Return what the history cache holds, and remove it if so asked.

    A replay that is reading it goes on in the log.
    """
    found = project.cache()
    held = found.held()
    return Contents(held, project.settings.cache_bytes, found.clear() if clear else None)
