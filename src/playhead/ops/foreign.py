"""What belongs to somebody else: topics that the catalog does not know, groups of another store."""

from __future__ import annotations

from playhead.core.naming import witness_of
from playhead.errors import Refused, StoreLost
from playhead.ports import Log, Store, VersionRow


def refuse_unknown_topics(log: Log, store: Store, row: VersionRow) -> None:
    """Refuse to write to a topic that is there and that the catalog does not know.

    Raises:
        Refused: There is one.
    """
    shared = {physical for r in store.catalog.versions() for _, physical in r.topics}
    for _, physical in row.topics:
        if log.topic(physical) is not None and physical not in shared:
            raise Refused(
                f"topic {physical} exists, but the catalog does not know it",
                safe="It was not written to.",
                cure="Use another label, or the store that belongs to it.",
            )


def refuse_lost_store(log: Log, store: Store, row: VersionRow) -> None:
    """Refuse to record a version that the log knows from another ledger.

    Raises:
        StoreLost: Its group or its witness carries checkpoints of another ledger.
    """
    groups = (row.group, witness_of(row.group))
    for place, at in ((p, a) for g in groups for p, a in sorted(log.committed(g).items())):
        seen = at.checkpoint
        if seen is not None and (seen.ledger, seen.version) != (store.ledger.id, row.name):
            raise StoreLost(
                f"group {row.group} was committed at {at.offset} for {seen.version} by another "
                f"store (ledger {seen.ledger[:8]}), and this store (ledger {store.ledger.id[:8]}) "
                f"knows nothing of {row.name}: the store is gone, or this is another one",
                where=str(place),
                safe="Nothing was changed.",
                cure="Restore the store from a backup, or name the right one with --store. If it "
                "is gone for good, begin anew: "
                f"playhead rewind {row.name} --to-earliest --execute.",
            )
