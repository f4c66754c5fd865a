"""One trace: its spans as columns for the page, one span in full, all of it as OTLP/JSON."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from otelagent.viewer.rows import state, taken_ns
from otelagent.viewer.store.schema import rows_within
from otelagent.viewer.store.trace_ids import row_of
from otelagent.viewer.store.words import lower

__all__ = ["search", "span", "trace"]

MAX_SPANS = 200_000
"""Of one trace on the page; the rest is left out, and the answer says so."""
MAX_LOGS = 5_000
_MAX_BODY = 300
"""Of a log record's body or a status message, beside the picture; the details have all of it."""
_MAX_RESOURCES_SIZE = 16 * 2**20
_CUT = "… (cut)"
_MAX_LOGS_OF_SPAN, _MAX_LINKED_FROM = 500, 100
_SEARCH_S = 1.0
_MAX_FOUND = 20_000
_MAX_EXACT = 2**53 - 1


def trace(connection: sqlite3.Connection, trace_id: bytes) -> dict[str, Any] | None:
    """A trace without what only its spans' details show; None if there is none.

    Spans are in the order of their start. ``spans`` has a list for each column: ``parent`` holds the parent's position,
    -1 for a root and -2 for a parent that is not there, which ``missing`` then names; ``start`` is in nanoseconds since
    the trace's start. ``states`` has those that haven't ended, by position: ``running``, whose duration is 0, or
    ``lost``, whose duration is the time until it was last heard of.
    """
    key = row_of(connection, trace_id)
    if key is None:
        return None
    start_ns, end_ns, spans, errors = connection.execute(
        "SELECT start_ns, end_ns, spans, errors FROM trace WHERE id = ?", (key,)
    ).fetchone()
    rows = connection.execute(
        "SELECT span.span_id, span.parent_id, span.resource, span.scope, operation.name, operation.kind, span.status,"
        " span.start_ns, span.duration_ns, span.events IS NOT NULL, span.links IS NOT NULL,"
        " substr(span.status_message, 1, ?)"
        # By their rows, which lie as they came: the index's order would read the same pages again and again.
        " FROM span CROSS JOIN operation ON operation.id = span.operation"
        " WHERE span.id IN (SELECT id FROM span WHERE trace = ?) ORDER BY span.start_ns, span.id LIMIT ?",
        (_MAX_BODY, key, MAX_SPANS),
    ).fetchall()
    positions = {one[0]: position for position, one in enumerate(rows)}
    (logs,) = connection.execute("SELECT count(*) FROM log WHERE trace_id = ?", (trace_id,)).fetchone()
    left_out = {"spans": spans - len(rows), "logs": logs - MAX_LOGS}
    names: dict[str, int] = {}
    resources: dict[int, int] = {}
    scopes: dict[int, int] = {}
    missing: dict[int, str] = {}
    parents = []
    for position, one in enumerate(rows):
        parent = one[1]
        if parent is None:
            parents.append(-1)
        elif parent in positions and positions[parent] != position:
            parents.append(positions[parent])
        else:
            parents.append(-2)
            missing[position] = parent.hex()
    _cut_cycles(parents)
    columns = {
        "id": [one[0].hex() for one in rows],
        "parent": parents,
        "name": [names.setdefault(one[4], len(names)) for one in rows],
        "kind": [one[5] for one in rows],
        "status": [one[6] for one in rows],
        "start": [one[7] - start_ns for one in rows],
        "duration": [taken_ns(one[8]) for one in rows],
        "resource": [resources.setdefault(one[2], len(resources)) for one in rows],
        "scope": [scopes.setdefault(one[3], len(scopes)) for one in rows],
        "events": [one[9] for one in rows],
        "links": [one[10] for one in rows],
    }
    return {
        "id": trace_id.hex(),
        "start": str(start_ns),
        "duration": max(end_ns - start_ns, 0),
        "errors": errors,
        "names": list(names),
        "resources": _resources(connection, resources),
        "scopes": [_scope(connection, one) for one in scopes],
        "spans": columns,
        "missing": missing,
        "states": {position: state(one[8]) for position, one in enumerate(rows) if one[8] < 0},
        "messages": {position: one[11] for position, one in enumerate(rows) if one[11]},
        "logs": _logs(connection, trace_id, positions, start_ns),
        "truncated": {what: number for what, number in left_out.items() if number > 0} or None,
    }


def _cut_cycles(parents: list[int]) -> None:
    # Two spans that name each other as parents, as no tracer makes them: the page must not walk in circles.
    checked = bytearray(len(parents))
    for first in range(len(parents)):
        path = []
        at = first
        while at >= 0 and not checked[at]:
            checked[at] = 1
            path.append(at)
            at = parents[at]
        if at >= 0 and checked[at] == 1:
            parents[at] = -1
        for one in path:
            checked[one] = 2


def _logs(
    connection: sqlite3.Connection, trace_id: bytes, positions: dict[bytes, int], start_ns: int
) -> list[tuple[int, int, int, str, int]]:
    """Each log record of the trace as its span's position (-1 for none), time since the start, severity, body, id."""
    rows = connection.execute(
        "SELECT span_id, time_ns, severity, substr(body, 1, :most) || iif(length(body) > :most, '…', ''), id FROM log"
        " WHERE trace_id = :trace ORDER BY time_ns LIMIT :logs",
        {"most": _MAX_BODY, "trace": trace_id, "logs": MAX_LOGS},
    )
    return [(positions.get(span_id, -1), time_ns - start_ns, *rest) for span_id, time_ns, *rest in rows]


def span(connection: sqlite3.Connection, trace_id: bytes, span_id: bytes) -> dict[str, Any] | None:
    """One span with everything that is known of it; None if there is none.

    ``truncated`` names what there is more of: ``logs``, ``linked_from``.
    """
    row = connection.execute(
        "SELECT span.parent_id, operation.name, operation.kind, span.status, span.status_message, span.start_ns,"
        " span.duration_ns, span.attributes, span.events, span.links, span.dropped, span.trace_state, span.resource,"
        " span.scope FROM span JOIN operation ON operation.id = span.operation"
        " WHERE span.trace = ? AND span.span_id = ?",
        (row_of(connection, trace_id), span_id),
    ).fetchone()
    if row is None:
        return None
    parent, name, kind, status, message, start_ns, duration_ns, attributes, events, links, dropped, trace_state, *of = (
        row
    )
    linked_from = _linked_from(connection, trace_id, span_id)
    logs = connection.execute(
        "SELECT time_ns, severity, severity_text, body, attributes FROM log"
        " WHERE trace_id = ? AND span_id = ? ORDER BY time_ns LIMIT ?",
        (trace_id, span_id, _MAX_LOGS_OF_SPAN + 1),
    ).fetchall()
    return {
        "trace": trace_id.hex(),
        "id": span_id.hex(),
        "parent": parent.hex() if parent else None,
        "name": name,
        "kind": kind,
        "status": status,
        "message": message,
        "start": str(start_ns),
        "duration": taken_ns(duration_ns),
        "state": state(duration_ns),
        "attributes": _exact(json.loads(attributes)),
        "events": _exact(json.loads(events)) if events else [],
        "links": _exact(json.loads(links)) if links else [],
        "linked_from": linked_from[:_MAX_LINKED_FROM],
        "dropped": json.loads(dropped) if dropped else {},
        "trace_state": trace_state,
        "resource": _resource(connection, of[0]),
        "scope": _scope(connection, of[1]),
        "logs": [
            {"time": str(time_ns), "severity": severity, "text": text, "body": body, "attributes": json.loads(more)}
            for time_ns, severity, text, body, more in logs[:_MAX_LOGS_OF_SPAN]
        ],
        "truncated": [
            what
            for what, known, most in (
                ("logs", logs, _MAX_LOGS_OF_SPAN),
                ("linked_from", linked_from, _MAX_LINKED_FROM),
            )
            if len(known) > most
        ],
    }


def search(connection: sqlite3.Connection, trace_id: bytes, text: str) -> dict[str, Any] | None:
    """Spans of a trace that hold a text in an attribute or an event, whatever the case; None if there is no trace.

    ``complete`` is false if the search was cut off, after a second or at 20,000 spans.
    """
    key = row_of(connection, trace_id)
    if key is None:
        return None
    # The attributes are JSON, so that the text has to be looked for as JSON writes it.
    wanted = json.dumps(lower(text), ensure_ascii=False)[1:-1]
    found, complete = rows_within(
        connection,
        _SEARCH_S,
        "SELECT span_id FROM span WHERE trace = ? AND (instr(lower(attributes), ?) OR instr(lower(events), ?)) LIMIT ?",
        (key, wanted, wanted, _MAX_FOUND + 1),
    )
    return {
        "spans": [span_id.hex() for (span_id,) in found[:_MAX_FOUND]],
        "complete": complete and len(found) <= _MAX_FOUND,
    }


def _exact(value: Any) -> Any:
    """With whole numbers that JavaScript would round as ``{"$int": text}``."""
    if isinstance(value, int):
        return value if abs(value) <= _MAX_EXACT else {"$int": str(value)}
    if isinstance(value, list):
        return [_exact(one) for one in value]
    if isinstance(value, dict):
        return {key: _exact(one) for key, one in value.items()}
    return value


def _linked_from(connection: sqlite3.Connection, trace_id: bytes, span_id: bytes) -> list[dict[str, str]]:
    rows = connection.execute(
        "SELECT trace.trace_id, span.span_id FROM link JOIN span ON span.id = link.span JOIN trace ON trace.id ="
        " span.trace WHERE link.trace_id = ? AND link.span_id = ? LIMIT ?",
        (trace_id, span_id, _MAX_LINKED_FROM + 1),
    )
    return [{"trace": trace.hex(), "span": span.hex()} for trace, span in rows]


def _resources(connection: sqlite3.Connection, keys: Iterable[int]) -> list[dict[str, Any]]:
    """All of a trace's; those behind many megabytes without attributes, which a span's details have, and marked."""
    size = 0
    found = []
    for key in keys:
        one = _resource(connection, key)
        if size <= _MAX_RESOURCES_SIZE:
            size += len(json.dumps(one["attributes"]))
        else:
            one["attributes"] = {_CUT: len(one["attributes"])}
        found.append(one)
    return found


def _resource(connection: sqlite3.Connection, key: int) -> dict[str, Any]:
    service, attributes = connection.execute("SELECT service, attributes FROM resource WHERE id = ?", (key,)).fetchone()
    return {"service": service, "attributes": json.loads(attributes)}


def _scope(connection: sqlite3.Connection, key: int) -> dict[str, Any]:
    name, version, attributes = connection.execute(
        "SELECT name, version, attributes FROM scope WHERE id = ?", (key,)
    ).fetchone()
    return {"name": name, "version": version, "attributes": json.loads(attributes)}
