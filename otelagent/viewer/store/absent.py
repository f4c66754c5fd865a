"""What the store should have and hasn't."""

from __future__ import annotations

import sqlite3
from collections import Counter

from otelagent.viewer.store.trace_ids import row_of

__all__ = ["logs_without_spans"]

# The latest, so that the answer is quick however many there are.
_LOOKED_AT = 2_000


def logs_without_spans(connection: sqlite3.Connection, before_s: int) -> dict[str, int]:
    """By service, log records of a trace of which there is no span.

    :param before_s: Unix time: what came since doesn't count, because its spans may be on their way.
    """
    rows = connection.execute(
        "SELECT resource.service, late.trace_id, count(*) FROM"
        " (SELECT trace_id, resource, arrived_s FROM log ORDER BY id DESC LIMIT ?) AS late"
        " JOIN resource ON resource.id = late.resource"
        " WHERE late.trace_id IS NOT NULL AND late.arrived_s <= ?"
        " GROUP BY 1, 2",
        (_LOOKED_AT, before_s),
    )
    found: Counter[str] = Counter()
    for service, trace_id, records in rows.fetchall():
        if row_of(connection, trace_id) is None:
            found[service] += records
    return dict(found.most_common(20))
