"""Traces as OTLP/JSON, made from the store's rows; what `ingest` makes of it is the same rows again."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from typing import Any

from otelagent.viewer.store.trace_ids import row_of

__all__ = ["TooLarge", "traces_data"]

_MAX_SPANS = 100_000
_MAX_SIZE = 32 * 2**20
"""Characters of attributes, events and links. What is within both can be imported again."""


class TooLarge(ValueError):
    """The trace can't be one file; the text says why."""


def traces_data(connection: sqlite3.Connection, trace_id: bytes) -> dict[str, Any] | None:
    """A trace as an OTLP/JSON ``TracesData``; None if there is none.

    :raises TooLarge: it would take more memory than is good.

    Source: OTLP specification, "JSON Protobuf Encoding".
    """
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    size = 0
    rows = connection.execute(
        "SELECT span.span_id, span.parent_id, operation.name, operation.kind, span.status, span.status_message,"
        " span.start_ns, span.duration_ns, span.attributes, span.events, span.links, span.dropped, span.trace_state,"
        " span.resource, span.scope FROM span JOIN operation ON operation.id = span.operation"
        " WHERE span.trace = ? ORDER BY span.start_ns, span.id",
        (row_of(connection, trace_id),),
    )
    for position, row in enumerate(rows):
        size += sum(len(one) for one in row[8:11] if one)
        if position >= _MAX_SPANS or size > _MAX_SIZE:
            raise TooLarge(f"the trace has more than {_MAX_SPANS} spans or {_MAX_SIZE} bytes: it is not exported")
        groups.setdefault((row[13], row[14]), []).append(_span(trace_id, row))
    if not groups:
        return None
    resources: dict[int, dict[str, Any]] = {}
    for (resource, scope), its_spans in groups.items():
        if resource not in resources:
            (attributes,) = connection.execute("SELECT attributes FROM resource WHERE id = ?", (resource,)).fetchone()
            resources[resource] = {"resource": {"attributes": _attributes(json.loads(attributes))}, "scopeSpans": []}
        name, version, attributes = connection.execute(
            "SELECT name, version, attributes FROM scope WHERE id = ?", (scope,)
        ).fetchone()
        known = {"name": name, "version": version, "attributes": _attributes(json.loads(attributes))}
        resources[resource]["scopeSpans"].append({"scope": known, "spans": its_spans})
    return {"resourceSpans": list(resources.values())}


def _span(trace_id: bytes, row: tuple[Any, ...]) -> dict[str, Any]:
    (
        span_id,
        parent,
        name,
        kind,
        status,
        message,
        start_ns,
        duration_ns,
        attributes,
        events,
        links,
        dropped,
        state,
        *_,
    ) = row
    left_out = json.loads(dropped) if dropped else {}
    known: dict[str, Any] = {
        "traceId": trace_id.hex(),
        "spanId": span_id.hex(),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + duration_ns if duration_ns >= 0 else 0),
        "attributes": _attributes(json.loads(attributes)),
        "events": [
            {
                "timeUnixNano": event["time"],
                "name": event["name"],
                "attributes": _attributes(event["attributes"]),
                "droppedAttributesCount": event.get("dropped", 0),
            }
            for event in (json.loads(events) if events else ())
        ],
        "links": [
            {
                "traceId": link["trace"],
                "spanId": link["span"],
                "traceState": link.get("trace_state", ""),
                "attributes": _attributes(link["attributes"]),
                "droppedAttributesCount": link.get("dropped", 0),
            }
            for link in (json.loads(links) if links else ())
        ],
        "status": {"code": status, **({"message": message} if message else {})},
        "droppedAttributesCount": left_out.get("attributes", 0),
        "droppedEventsCount": left_out.get("events", 0),
        "droppedLinksCount": left_out.get("links", 0),
    }
    if parent:
        known["parentSpanId"] = parent.hex()
    if state:
        known["traceState"] = state
    return known


def _attributes(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    # A sender's map may look like one of these, and is a map then.
    if list(value) == ["$bytes"] and _is_base64(value["$bytes"]):
        return {"bytesValue": value["$bytes"]}
    if list(value) == ["$double"] and value["$double"] in ("nan", "inf", "-inf"):
        return {"doubleValue": {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[value["$double"]]}
    return {"kvlistValue": {"values": _attributes(value)}}


def _is_base64(value: Any) -> bool:
    try:
        return isinstance(value, str) and b64encode(b64decode(value, validate=True)).decode() == value
    except ValueError:
        return False
