"""How far what is live is behind what was live before it: after a rollback that swapped first."""

from __future__ import annotations

from playhead.ports import Store, positions


def catching_up(store: Store) -> dict[str, int]:
    """Return how many offsets each live version has to read until it is where the one before was.

    Versions that are not behind are left out, and those that read another topic than the one
    before: offsets of two topics do not compare.
    """
    rows = {row.name: row for row in store.catalog.versions()}
    found: dict[str, int] = {}
    for row in rows.values():
        pointer = store.catalog.pointer(row.pipeline) if row.stage == "live" else None
        before = rows.get(f"{row.pipeline}@{pointer.previous}") if pointer else None
        if before is None or before.source != row.source:
            continue
        at = positions(store.ledger.standings(row.name))
        was = positions(store.ledger.standings(before.name))
        missing = sum(max(0, end - at.get(p, 0)) for p, end in was.items())
        if missing:
            found[row.name] = missing
    return found
