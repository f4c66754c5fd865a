"""The list of traces: the latest or the slowest first, filtered, always in bounded time.

What is asked is looked up for blocks of candidates. When the time is over, the answer says so and how far the search
came.
"""

from __future__ import annotations

import heapq
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence
from typing import Any

from otelagent.viewer.rows import RUNNING
from otelagent.viewer.store.candidates import Late, Least, blocks
from otelagent.viewer.store.filters import (
    AttributeFilter,
    AttributePlaces,
    Bounds,
    TraceFilter,
    attribute_filter,
    id_list,
)
from otelagent.viewer.store.trace_ids import row_of

__all__ = ["AttributeFilter", "TraceFilter", "attribute_filter", "latest", "slowest", "summary", "traces"]

_TIME_S = 0.2
_MAX_ID = 2**63 - 1


def traces(
    connection: sqlite3.Connection, asked: TraceFilter, limit: int = 50, before: int | None = None
) -> dict[str, Any]:
    """A page of the list.

    :param before: `next` of the page before this one.
    :returns: ``traces``, ``next`` (None at the end), ``complete`` (false when a bound ended the search) and
        ``searched_to`` (start of the last trace looked at, as text; None if none was).
    """
    until_s = time.monotonic() + _TIME_S
    found: list[dict[str, Any]] = []
    last: int | None = None
    complete = True
    try:
        for lowest, rows in _matching(connection, asked, _MAX_ID if before is None else before, until_s):
            for row in rows:
                if len(found) == limit:
                    return _page(found, last, True, connection)
                found.append(_summary(connection, row))
                last = row[0]
            last = lowest if len(found) < limit else last
            if time.monotonic() > until_s:
                complete = False
                break
        else:
            last = None
    except Late as late:
        last, complete = late.lowest, False
    return _page(found, last, complete, connection)


def slowest(connection: sqlite3.Connection, asked: TraceFilter, limit: int = 50) -> dict[str, Any]:
    """The traces that took longest, the slowest first; one that runs takes until now.

    :returns: as `traces`, without a next page. Where ``complete`` is false the time was over: there may be slower ones
        that came before ``searched_to``, or, where that is None, at any time.
    """
    until_s = time.monotonic() + _TIME_S
    found: list[tuple[int, int, tuple[Any, ...]]] = []
    least = Least()
    last: int | None = None
    complete = True
    try:
        for lowest, rows in _matching(connection, asked, _MAX_ID, until_s, least):
            for row in rows:
                heapq.heappush(found, (row[-1], row[0], row))
                if len(found) > limit:
                    heapq.heappop(found)
            if len(found) == limit:
                least.ns = found[0][0] + 1
            if time.monotonic() > until_s:
                last, complete = lowest, False
                break
    except Late as late:
        last, complete = late.lowest, False
    traces = [_summary(connection, row) for _, _, row in sorted(found, reverse=True)]
    # Without names it doesn't go back in time.
    return {**_page(traces, last if asked.by_name else None, complete, connection), "next": None}


def latest(connection: sqlite3.Connection, from_ns: int, to_ns: int) -> Iterator[int]:
    """The rows of the traces that began in a time, the latest first."""
    for _, rows in _matching(connection, TraceFilter(from_ns=from_ns, to_ns=to_ns), _MAX_ID, math.inf):
        for row in rows:
            yield row[0]


def summary(connection: sqlite3.Connection, trace_id: bytes) -> dict[str, Any] | None:
    """One trace as the list has it; None if there is none."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM trace WHERE id = ?", (row_of(connection, trace_id),)).fetchone()
    return _summary(connection, row) if row is not None else None


def _page(
    found: list[dict[str, Any]], last: int | None, complete: bool, connection: sqlite3.Connection
) -> dict[str, Any]:
    start = None
    if last is not None:
        row = connection.execute("SELECT start_ns FROM trace WHERE id >= ? ORDER BY id LIMIT 1", (last,)).fetchone()
        start = str(row[0]) if row else None
    return {"traces": found, "next": last, "complete": complete, "searched_to": start}


def _matching(
    connection: sqlite3.Connection, asked: TraceFilter, before: int, until_s: float, least: Least | None = None
) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """Rows of traces that are as asked with what they took, in blocks; with each the lowest id that was looked at.

    :param least: see `blocks`.
    """
    bounds = Bounds(connection, asked, slowest=least is not None)
    attributes = [AttributePlaces(connection, one, (time.monotonic() + until_s) / 2) for one in asked.attributes]
    for lowest, block in blocks(connection, asked, bounds, attributes, before, until_s, least):
        conditions = [block, *bounds.of_trace, *([f"{bounds.took} >= {least.ns}"] if least is not None else ())]
        sql = f"SELECT {_COLUMNS}, {bounds.took} FROM trace WHERE {' AND '.join(conditions)} ORDER BY id DESC"
        rows = connection.execute(sql, bounds.values).fetchall()
        if asked.text and (asked.service or asked.operation):
            rows = _with_operation(connection, asked, rows)
        for one in attributes:
            rows = _keep(connection, rows, "span", one.condition, one.values)
        yield lowest, rows


def _with_operation(
    connection: sqlite3.Connection, asked: TraceFilter, rows: list[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    known = (("operation.service = ?", asked.service), ("operation.name = ?", asked.operation))
    conditions = [one for one in known if one[1]]
    return _keep(
        connection,
        rows,
        "span JOIN operation ON operation.id = span.operation",
        " AND ".join(condition for condition, _ in conditions),
        [value for _, value in conditions],
    )


def _keep(
    connection: sqlite3.Connection,
    rows: list[tuple[Any, ...]],
    table: str,
    condition: str,
    values: Sequence[object] = (),
) -> list[tuple[Any, ...]]:
    if not rows:
        return rows
    sql = f"SELECT DISTINCT trace FROM {table} WHERE trace IN ({id_list([row[0] for row in rows])}) AND {condition}"
    kept = {row[0] for row in connection.execute(sql, values)}
    return [row for row in rows if row[0] in kept]


_COLUMNS = "id, trace_id, start_ns, end_ns, spans, errors, root, first, services"


def _summary(connection: sqlite3.Connection, row: tuple[Any, ...]) -> dict[str, Any]:
    key, trace_id, start_ns, end_ns, spans, errors, root, first, services, *_ = row
    running, open_spans = connection.execute(
        "SELECT total(duration_ns = ?), count(*) FROM span WHERE trace = ? AND duration_ns < 0", (RUNNING, key)
    ).fetchone()
    if running:
        end_ns = max(end_ns, time.time_ns())
    operation = connection.execute(
        "SELECT service, name, kind FROM operation WHERE id = ?", (first if root is None else root,)
    ).fetchone() or ("", "", 0)
    return {
        "id": trace_id.hex(),
        "service": operation[0],
        "name": operation[1],
        "kind": operation[2],
        "root": root is not None,
        "start": str(start_ns),
        "duration": max(end_ns - start_ns, 0),
        "spans": spans,
        "errors": errors,
        "running": int(running),
        "lost": open_spans - int(running),
        "services": sorted(json.loads(services).items(), key=lambda one: (-one[1], one[0])),
    }
