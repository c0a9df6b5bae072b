"""The ends of a pipeline: topics and tables."""

from __future__ import annotations

from dataclasses import dataclass

from playhead.core.schema import Schema


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic with its key and the columns of its values (None: bytes as they are).

    With ``tombstones`` a null value is a row that says its key is gone; else it is a bad record.
    ``public`` and ``on_promote`` say what readers of the topic itself see; results do not depend
    on them, and neither do fingerprints.
    """

    name: str
    key: tuple[str, ...] = ()
    schema: Schema | None = None
    partitions: int | None = None
    config: tuple[tuple[str, str], ...] = ()
    tombstones: bool = False
    public: bool = True
    on_promote: str = "append"

    def __hash__(self) -> int:
        """Return the name's: cheap, for each row of ``per="row"`` is put under its output."""
        return hash(self.name)

    def physical(self, label: str) -> str:
        """Return the topic that one version writes."""
        return f"{self.name}.{label.replace('+', '.')}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table that keeps the last row of each key (columns None: found by a dry run)."""

    name: str
    key: tuple[str, ...]
    schema: Schema | None = None

    def __hash__(self) -> int:
        """Return the name's."""
        return hash(self.name)

    def physical(self, label: str) -> str:
        """Return the table that one version writes."""
        return f"{self.name}__{label.replace('+', '__')}"


Output = Topic | Table
