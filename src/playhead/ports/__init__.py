"""What the engine asks of a log and of a store, in the engine's own words.

An offset is always the *next* one to read; ranges are half open. Adapters translate their
vendor's errors into `LogFailed`, `StoreFailed`, `SessionLost`, `Refused`: no vendor exception
crosses these modules. An adapter object belongs to one thread; open another one for another.
"""

from playhead.core.lineage import Generation
from playhead.ports.cache import Cache, Kept, KeptTopic
from playhead.ports.history import SKIPPED, DeadLetter, History, Snapshot
from playhead.ports.journal import AuditRow, Journal, RunRow
from playhead.ports.log import BATCH_BYTES, Appender, GroupInfo, Log, Member, Reader, TopicInfo
from playhead.ports.moment import (
    NOTHING,
    Cut,
    Moment,
    Since,
    Stand,
    TableRow,
    VersionRow,
    shown_columns,
)
from playhead.ports.publications import Publications
from playhead.ports.store import (
    Catalog,
    Lease,
    Ledger,
    Move,
    Orders,
    Pointer,
    Standing,
    Store,
    Swap,
    positions,
)

__all__ = [
    "BATCH_BYTES",
    "NOTHING",
    "SKIPPED",
    "Appender",
    "AuditRow",
    "Cache",
    "Catalog",
    "Cut",
    "DeadLetter",
    "Generation",
    "GroupInfo",
    "History",
    "Journal",
    "Kept",
    "KeptTopic",
    "Lease",
    "Ledger",
    "Log",
    "Member",
    "Moment",
    "Move",
    "Orders",
    "Pointer",
    "Publications",
    "Reader",
    "RunRow",
    "Since",
    "Snapshot",
    "Stand",
    "Standing",
    "Store",
    "Swap",
    "TableRow",
    "TopicInfo",
    "VersionRow",
    "positions",
    "shown_columns",
]
