"""Consumer groups of the local log, asked, reset and deleted from outside."""

from __future__ import annotations

from collections.abc import Mapping

from playhead.adapters.local_session import living_members
from playhead.adapters.sqlite_file import SqliteFile
from playhead.core.checkpoint import Committed
from playhead.core.offsets import TopicPartition
from playhead.errors import Refused
from playhead.ports import GroupInfo


class LocalGroups:
    """What `Log` asks about consumer groups, and does to them."""

    def __init__(self, db: SqliteFile) -> None:
        """Keep the file."""
        self._db = db

    def groups(self) -> list[str]:
        """Return the names of all groups, sorted."""
        rows = self._db.all("SELECT grp FROM committed UNION SELECT grp FROM member ORDER BY 1")
        return [name for (name,) in rows]

    def describe_group(self, group: str) -> GroupInfo:
        """Return state and living members."""
        members = tuple(str(process) for process in living_members(self._db, group))
        if members:
            return GroupInfo(group, "Stable", members)
        return GroupInfo(group, "Empty" if self.committed(group) else "Dead", ())

    def committed(self, group: str) -> dict[TopicPartition, Committed]:
        """Return every offset that the group has committed."""
        rows = self._db.all(
            "SELECT topic, partition, offset, metadata FROM committed WHERE grp = ?", group
        )
        return {TopicPartition(t, p): Committed(o, m) for t, p, o, m in rows}

    def reset(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the group's offsets, clearing their metadata, unless it has members."""
        with self._db.transaction():
            self._refuse_members(group)
            for place in offsets:
                there = "SELECT 1 FROM partition WHERE topic = ? AND partition = ?"
                if not self._db.one(there, place.topic, place.partition):
                    raise Refused(f"{place} does not exist", safe="No offset was changed.")
            # A member that no longer counts is out for good: when it wakes, it overwrites nothing.
            self._db.run("DELETE FROM member WHERE grp = ?", group)
            self._db.run_many(
                "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?, '')",
                [(group, p.topic, p.partition, offset) for p, offset in offsets.items()],
            )

    def delete_group(self, group: str) -> None:
        """Delete a group with its offsets, unless it has members."""
        with self._db.transaction():
            self._refuse_members(group)
            for table, column in (("committed", "grp"), ("member", "grp"), ("grp", "name")):
                self._db.run(f"DELETE FROM {table} WHERE {column} = ?", group)

    def _refuse_members(self, group: str) -> None:
        members = living_members(self._db, group)
        if members:
            raise Refused(
                f"group {group} has an active member: {', '.join(map(str, members))}",
                safe="No offset was changed.",
                cure="Stop it first.",
            )
