"""What is given up when the store is full or things are old: whole traces, the oldest first."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG

__all__ = ["Retention"]

_NEVER = 2**31 - 1
_FILLED = 0.95
_TRACES = 500
"""In one transaction, so that new spans never wait long."""
_ROUNDS = 40


# The names of its operations and of its services, as `Tables` has put them.
_ITS_OPERATIONS = """
SELECT operation FROM span WHERE trace = :trace UNION
SELECT service.id FROM span JOIN operation ON operation.id = span.operation
JOIN operation AS service ON service.service = operation.service AND service.name = '' WHERE span.trace = :trace
"""
_OF_TRACE = (
    f"DELETE FROM word WHERE rowid IN"
    f" (SELECT id * {KINDS} + {EXCEPTION} FROM span WHERE trace = :trace AND status = 2)",
    f"DELETE FROM trace_operation WHERE trace = :trace AND operation IN ({_ITS_OPERATIONS})",
    "DELETE FROM link WHERE span IN (SELECT id FROM span WHERE trace = :trace AND links IS NOT NULL)",
    "DELETE FROM span WHERE trace = :trace",
    f"DELETE FROM word WHERE rowid IN (SELECT id * {KINDS} + {LOG} FROM log WHERE trace_id = :trace_id)",
    "DELETE FROM log WHERE trace_id = :trace_id",
    "DELETE FROM trace WHERE id = :trace",
)
_OF_TIME = (
    f"DELETE FROM word WHERE rowid IN (SELECT id * {KINDS} + {LOG} FROM log WHERE arrived_s < :until_s)",
    "DELETE FROM log WHERE arrived_s < :until_s",
    "DELETE FROM point WHERE time_ns / 1000000000 < :until_s",
)


@dataclass
class Retention:
    """The store's bounds.

    :param max_age_s: seconds since a trace came; when it began says nothing, it may be imported.
    :param max_bytes: of the database, without what is free inside it.
    :ivar given_up: traces that were deleted for it.
    """

    max_age_s: float
    max_bytes: int
    given_up: int = 0

    def prune(self, connection: sqlite3.Connection) -> bool:
        """Deletes what is too old or too much; bounded, the next call goes on. Whether anything was deleted."""
        deleted = False
        for _ in range(_ROUNDS):
            if not (self._delete_old(connection) or self._delete_much(connection)):
                return deleted
            deleted = True
        return deleted

    def _delete_old(self, connection: sqlite3.Connection) -> int:
        return self._delete(connection, int(time.time() - self.max_age_s), _TRACES)

    def _delete_much(self, connection: sqlite3.Connection) -> int:
        used = used_bytes(connection)
        if used <= self.max_bytes:
            return 0
        low, high = connection.execute("SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM trace").fetchone()
        # Of as many traces as make up what is too much, if they are alike; a little more, so that it lasts.
        share = 1 - _FILLED * self.max_bytes / used
        return self._delete(connection, _NEVER, max(1, min(_TRACES, int(share * (high - low + 1)))))

    def _delete(self, connection: sqlite3.Connection, before_s: int, limit: int) -> int:
        rows = connection.execute(
            "SELECT id, trace_id, arrived_s FROM trace WHERE arrived_s < ? ORDER BY id LIMIT ?", (before_s, limit)
        ).fetchall()
        # What belongs to no trace goes with those that came with it.
        until_s = before_s if before_s != _NEVER else rows[-1][2] if rows else _NEVER
        connection.execute("BEGIN IMMEDIATE")
        try:
            before = connection.total_changes
            for trace, trace_id, _ in rows:
                for statement in _OF_TRACE:
                    connection.execute(statement, {"trace": trace, "trace_id": trace_id})
            for statement in _OF_TIME:
                connection.execute(statement, {"until_s": until_s})
            changes = connection.total_changes - before
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        self.given_up += len(rows)
        return changes


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the database holds, without the pages that are free."""
    page, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return int(page * (pages - free))
