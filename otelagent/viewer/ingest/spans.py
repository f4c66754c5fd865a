"""Requests of traces as rows."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelagent.viewer.ingest.bounds import MAX_ITEMS
from otelagent.viewer.ingest.origin import add_resource, add_scope
from otelagent.viewer.ingest.shallow import Request
from otelagent.viewer.ingest.values import (
    MAX_ATTRIBUTES,
    MAX_INT64,
    attributes_of,
    name_of,
    text_of,
    to_json,
    value_of,
)
from otelagent.viewer.rows import RUNNING, Batch

__all__ = ["add_spans"]

_MAX_PARTS = 1024
"""Events or links of one span."""
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_KNOWN = 20_000
_KNOWN_BYTES = 256
"""Of one attribute that is remembered: the memory's bound is the product."""


class _Attributes(dict[bytes, tuple[str, str]]):
    """Encoded attribute -> its key, and the member of a JSON object that it is; made when it is first asked for."""

    def __missing__(self, encoded: bytes) -> tuple[str, str]:
        pair = KeyValue.FromString(encoded)
        key, text = pair.key, pair.value.string_value
        known = key, f"{to_json(key)}:{to_json(text_of(text) if text else value_of(pair.value))}"
        if len(encoded) <= _KNOWN_BYTES:
            if len(self) >= _KNOWN:
                self.clear()
            self[encoded] = known
        return known


_member = _Attributes().__getitem__


def add_spans(batch: Batch, body: bytes) -> None:
    """Appends the spans of a request.

    :param body: of an ``ExportTraceServiceRequest``.
    :raises google.protobuf.message.DecodeError: it is none.
    """
    for of_resource in Request.FromString(body).resource_spans:
        scopes = [one for one in of_resource.scope_spans if one.spans]
        if not scopes:
            continue
        resource = add_resource(batch, ResourceMessage.FromString(of_resource.resource))
        for of_scope in scopes:
            scope = add_scope(batch, InstrumentationScope.FromString(of_scope.scope))
            _add(batch, of_scope.spans, resource, scope)


def _add(batch: Batch, spans: Any, resource: int, scope: int) -> None:
    # The one loop of the viewer that runs for every span: what is rare is behind one question each.
    put, put_running, note = batch.spans.append, batch.running.append, batch.members.update
    for span in islice(spans, batch.room("spans", len(spans), MAX_ITEMS - len(batch.spans) - len(batch.running))):
        trace_id, span_id, parent = span.trace_id, span.span_id, span.parent_span_id
        if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE or span_id == _NO_SPAN:
            batch.reject("spans with an invalid id")
            continue
        start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
        if start_ns > MAX_INT64:
            batch.reject("spans with an impossible time")
            continue
        attributes, events, links, encoded = span.attributes, span.events, span.links, span.status
        left_out = None
        if (
            span.dropped_attributes_count
            or span.dropped_events_count
            or span.dropped_links_count
            or max(len(attributes) - MAX_ATTRIBUTES, len(events) - _MAX_PARTS, len(links) - _MAX_PARTS) > 0
        ):
            left_out = _left_out(span)
            attributes = attributes[:MAX_ATTRIBUTES]
        status, message = (_known_status if len(encoded) <= _KNOWN_BYTES else _status)(encoded)
        members = dict(map(_member, attributes))
        note(members)
        note(members.values())
        # An end of 0 is what the protocol has for none; without a start either, the span has no times at all.
        ended = end_ns or not start_ns
        (put if ended else put_running)(
            (
                trace_id,
                span_id,
                parent if len(parent) == 8 else None,
                resource,
                scope,
                name_of(span.name),
                span.kind,
                status,
                message,
                start_ns,
                (end_ns if end_ns <= MAX_INT64 else MAX_INT64) - start_ns
                if end_ns > start_ns
                else 0
                if ended
                else RUNNING,
                "{" + ",".join(members.values()) + "}",
                to_json([_event(Span.Event.FromString(one)) for one in islice(events, _MAX_PARTS)]) if events else None,
                to_json([_link(Span.Link.FromString(one)) for one in islice(links, _MAX_PARTS)]) if links else None,
                left_out,
                text_of(span.trace_state) or None,
            )
        )


def _left_out(span: Any) -> str:
    known = {
        "attributes": max(len(span.attributes) - MAX_ATTRIBUTES, 0) + span.dropped_attributes_count,
        "events": max(len(span.events) - _MAX_PARTS, 0) + span.dropped_events_count,
        "links": max(len(span.links) - _MAX_PARTS, 0) + span.dropped_links_count,
    }
    return to_json({name: count for name, count in known.items() if count})


def _status(encoded: bytes) -> tuple[int, str | None]:
    status = Status.FromString(encoded)
    return status.code, text_of(status.message) or None


_known_status = lru_cache(256)(_status)


def _event(event: Any) -> dict[str, Any]:
    attributes, dropped = attributes_of(event.attributes)
    known: dict[str, Any] = {"name": name_of(event.name), "time": str(event.time_unix_nano), "attributes": attributes}
    if dropped := dropped + event.dropped_attributes_count:
        known["dropped"] = dropped
    return known


def _link(link: Any) -> dict[str, Any]:
    attributes, dropped = attributes_of(link.attributes)
    known: dict[str, Any] = {
        "trace": link.trace_id[:16].hex(),
        "span": link.span_id[:8].hex(),
        "attributes": attributes,
    }
    if link.trace_state:
        known["trace_state"] = text_of(link.trace_state)
    if dropped := dropped + link.dropped_attributes_count:
        known["dropped"] = dropped
    return known
