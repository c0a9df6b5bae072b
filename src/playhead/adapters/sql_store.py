"""The store over a SQL database: one implementation of ledger, history, catalog and journal."""

from __future__ import annotations

import uuid

from playhead.adapters.sql_catalog import SqlCatalog
from playhead.adapters.sql_database import Database, Sql, check_format
from playhead.adapters.sql_history import SqlHistory
from playhead.adapters.sql_journal import SqlJournal
from playhead.adapters.sql_ledger import SqlLedger
from playhead.adapters.sql_publications import SqlPublications

FORMAT = 2


class SqlStore:
    """The `Store` port; an adapter opens the database and makes the schema."""

    def __init__(self, db: Database) -> None:
        """Take over the connection, and write down what a new store begins with."""
        self._db = db
        sql = Sql(db)
        check_format(sql, FORMAT)
        if sql.meta("ledger") is None:
            facts = {"ledger": uuid.uuid4().hex, "changes": "0", "format": str(FORMAT)}
            with db.transaction():
                sql.run_many("meta.insert", ({"key": k, "value": v} for k, v in facts.items()))
        self.ledger = SqlLedger(sql)
        self.history = SqlHistory(sql)
        self.catalog = SqlCatalog(sql)
        self.journal = SqlJournal(sql)
        self.publications = SqlPublications(sql)

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""
        self._db.close()
