"""What is given up when the store is full or things are old: whole traces, the oldest first."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass

from otelagent.viewer.store.schema import first_and_last
from otelagent.viewer.store.summaries import ZONE_BITS
from otelagent.viewer.store.trace_ids import SEGMENT_BITS
from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG

__all__ = ["Retention", "used_bytes"]

_FILLED = 0.95
"""Of the bytes, when enough has been given up."""
_ITEMS = 5_000
"""Spans of one slice, about: new ones wait for as long as it takes."""

_OF_TRACES = (
    f"DELETE FROM word WHERE rowid IN (SELECT id * {KINDS} + {EXCEPTION} FROM span"
    " WHERE trace <= :last AND status = 2)",
    "DELETE FROM link WHERE span IN (SELECT id FROM span WHERE trace <= :last AND links IS NOT NULL)",
    "DELETE FROM span WHERE trace <= :last",
    f"DELETE FROM word WHERE rowid IN (SELECT log.id * {KINDS} + {LOG} FROM trace CROSS JOIN log"
    " ON log.trace_id = trace.trace_id WHERE trace.id <= :last)",
    "DELETE FROM log WHERE trace_id IN (SELECT trace_id FROM trace WHERE id <= :last)",
    "DELETE FROM trace WHERE id <= :last",
    # These go when the last of their traces does.
    f"DELETE FROM zone WHERE id < (:last + 1) >> {ZONE_BITS}",
    f"DELETE FROM member WHERE highest < (:last + 1) >> {ZONE_BITS}",
    f"DELETE FROM trace_key WHERE segment < (:last + 1) >> {SEGMENT_BITS}",
)
_POSTINGS = "DELETE FROM posting WHERE operation IN (SELECT id FROM operation) AND last <= :last RETURNING operation"
_WITHOUT_TRACES = (
    "DELETE FROM posting RETURNING operation",
    "DELETE FROM zone",
    "DELETE FROM member",
    "DELETE FROM trace_key",
)
# In the order they came: no index is kept for it.
_OLD_LOGS = "SELECT id FROM (SELECT id, arrived_s FROM log ORDER BY id LIMIT :items) WHERE arrived_s < :until_s"
_OF_TIME = (
    f"DELETE FROM word WHERE rowid IN (SELECT id * {KINDS} + {LOG} FROM ({_OLD_LOGS}))",
    f"DELETE FROM log WHERE id IN ({_OLD_LOGS})",
)
_POINTS = (
    "DELETE FROM point WHERE (series, time_ns) IN"
    " (SELECT series, time_ns FROM point WHERE arrived_s < :until_s ORDER BY arrived_s LIMIT :items)"
    " RETURNING series"
)
# What nothing refers to any more: a name that has a number in it, a series of a process that is gone.
_UNUSED_OPERATION = (
    "DELETE FROM name WHERE rowid = :id AND NOT EXISTS (SELECT 1 FROM posting WHERE operation = :id)",
    "DELETE FROM operation WHERE id = :id AND NOT EXISTS (SELECT 1 FROM posting WHERE operation = :id)",
)
_UNUSED_SERIES = (
    "DELETE FROM series WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM point WHERE series = ?1) RETURNING metric"
)
_UNUSED_METRIC = "DELETE FROM metric WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM series WHERE metric = ?1)"
_UNUSED_RESOURCE = (
    "DELETE FROM resource WHERE id IN (SELECT id FROM resource_use WHERE"
    " last_trace < (SELECT coalesce(min(id), ?1) FROM trace) AND last_log < (SELECT coalesce(min(id), ?1) FROM log))"
    " AND NOT EXISTS (SELECT 1 FROM metric WHERE metric.resource = resource.id) RETURNING id"
)
_UNUSED_USE = "DELETE FROM resource_use WHERE id = ?"
# The rows of an empty table begin at 1 again when the file is opened again.
_NO_USE = tuple(
    f"UPDATE resource_use SET last_{table} = 0 WHERE last_{table} > 0 AND NOT EXISTS (SELECT 1 FROM {table})"
    for table in ("trace", "log")
)
# For a store without traces: when the oldest of what else there is came.
_OLDEST_S = (
    "SELECT min(arrived_s) FROM (SELECT arrived_s FROM log ORDER BY id LIMIT 1)",
    "SELECT min(arrived_s) FROM point",
)


@dataclass
class Retention:
    """The store's bounds.

    :param max_age_s: seconds since a trace came; when it began says nothing, it may be imported.
    :param max_bytes: of the database, without what is free inside it.
    :ivar given_up: traces that were deleted for it.
    :ivar last: the row of the latest of them.
    """

    max_age_s: float
    max_bytes: int
    given_up: int = 0
    last: int = 0
    _full: bool = False

    def prune(self, connection: sqlite3.Connection, put: int = 0) -> bool:
        """Deletes a slice of what is too old or too much, the oldest first. Whether there was any: call it again.

        :param put: items since the slice before: of a full store more than those goes, however much comes at once.
        """
        used = used_bytes(connection)
        self._full = used > self.max_bytes * (_FILLED if self._full else 1)
        items = (
            min(max(_ITEMS, 2 * put), 1 + int(_spans(connection) * (1 - _FILLED * self.max_bytes / used)))
            if self._full
            else _ITEMS
        )
        until_s = int(time.time() - self.max_age_s)
        last, traces, spans = 0, 0, 0
        for row, count, arrived_s in connection.execute(
            "SELECT id, spans, arrived_s FROM trace ORDER BY id LIMIT ?", (items,)
        ):
            if spans >= items or not (self._full or arrived_s < until_s):
                break
            last, traces, spans = row, traces + 1, spans + count
            # What belongs to no trace goes with the traces that it came with.
            until_s = max(until_s, arrived_s)
        if self._full and not traces:
            known = [row[0] for sql in _OLDEST_S if (row := connection.execute(sql).fetchone())[0] is not None]
            until_s = max([until_s, *(one + 1 for one in known)])
        connection.execute("BEGIN IMMEDIATE")
        try:
            before = connection.total_changes
            if traces:
                for statement in _OF_TRACES:
                    connection.execute(statement, {"last": last})
                operations = _each(connection.execute(_POSTINGS, {"last": last}))
                if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM trace)").fetchone()[0]:
                    for statement in _WITHOUT_TRACES:
                        operations |= _each(connection.execute(statement))
                for statement in _UNUSED_OPERATION:
                    connection.executemany(statement, [{"id": one} for one in operations])
            for statement in _OF_TIME:
                connection.execute(statement, {"until_s": until_s, "items": _ITEMS})
            metrics = set()
            for one in _each(connection.execute(_POINTS, {"until_s": until_s, "items": _ITEMS})):
                metrics |= _each(connection.execute(_UNUSED_SERIES, (one,)))
            connection.executemany(_UNUSED_METRIC, [(one,) for one in metrics])
            changes = connection.total_changes - before
            if changes:
                for statement in _NO_USE:
                    connection.execute(statement)
                resources = _each(connection.execute(_UNUSED_RESOURCE, (2**63 - 1,)))
                connection.executemany(_UNUSED_USE, [(one,) for one in resources])
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        self.given_up += traces
        self.last = max(self.last, last)
        return changes > 0


def _each(rows: Iterable[tuple[int]]) -> set[int]:
    return {one for (one,) in rows}


def _spans(connection: sqlite3.Connection) -> int:
    low, high = first_and_last(connection, "span")
    return high - low + 1


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the database holds, without the pages that are free."""
    page, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return int(page * (pages - free))
