"""Requests of the three signals, decoded by the protobuf library, as rows.

Everything is bounded: the caller bounds the bytes, `values` bounds what one item may hold, and what is left out is
counted with the item or in `Batch.rejected`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import islice
from typing import Any

from otelagent.viewer.ingest.json_request import BrokenJson, message_of
from otelagent.viewer.ingest.metrics import add_metrics
from otelagent.viewer.ingest.values import attributes_of, to_json, value_of
from otelagent.viewer.rows import Batch, Resource, Scope

__all__ = ["SIGNALS", "Malformed", "decode", "empty_response"]

_MAX_PARTS = 1024
"""Events or links of one span."""
_MAX_NAME = 1024
_MAX_INT64 = 2**63 - 1


class Malformed(ValueError):
    """The body is no such request; the exception's text says why, for the answer."""


def decode(signal: str, body: bytes, *, json: bool = False) -> Batch:
    """The rows of a request.

    :param signal: ``traces``, ``logs`` or ``metrics``.
    :param body: of an ``Export*ServiceRequest``, decompressed; an exported file's `TracesData` is the same on the wire.
    :param json: whether it is OTLP/JSON.
    :raises Malformed: it can't be read.
    """
    request = _message(signal, "Request")
    if json:
        try:
            message_of(body, request)
        except BrokenJson as error:
            raise Malformed(str(error)) from None
    else:
        from google.protobuf.message import DecodeError

        try:
            request.ParseFromString(body)
        except (DecodeError, UnicodeDecodeError):
            raise Malformed(f"it is no OTLP request of {signal}") from None
    batch = Batch(size=len(body))
    SIGNALS[signal][2](batch, request)
    return batch


def empty_response(signal: str, batch: Batch | None = None) -> Any:
    """The protobuf answer to a request, with what was not taken of it."""
    response = _message(signal, "Response")
    if batch is not None and batch.rejected:
        partial = response.partial_success
        setattr(partial, SIGNALS[signal][3], sum(batch.rejected.values()))
        partial.error_message = ", ".join(f"{count} {reason}" for reason, count in batch.rejected.items())
    return response


def _message(signal: str, kind: str) -> Any:
    module, prefix, _, _ = SIGNALS[signal]
    return getattr(import_module(f"opentelemetry.proto.collector.{module}"), f"Export{prefix}Service{kind}")()


def _traces(batch: Batch, request: Any) -> None:
    for of_resource in request.resource_spans:
        resource = _resource(batch, of_resource.resource)
        for of_scope in of_resource.scope_spans:
            scope = _scope(batch, of_scope.scope)
            for span in of_scope.spans:
                _span(batch, span, resource, scope)


def _span(batch: Batch, span: Any, resource: int, scope: int) -> None:
    trace_id, span_id = span.trace_id, span.span_id
    if len(trace_id) != 16 or len(span_id) != 8 or not any(trace_id) or not any(span_id):
        batch.reject("spans with an invalid id")
        return
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    if start_ns > _MAX_INT64:
        batch.reject("spans with an impossible time")
        return
    attributes, dropped = attributes_of(span.attributes)
    left_out = {}
    if dropped := dropped + span.dropped_attributes_count:
        left_out["attributes"] = dropped
    events = links = None
    if span.events:
        events = to_json([_event(event) for event in islice(span.events, _MAX_PARTS)])
    if dropped := max(len(span.events) - _MAX_PARTS, 0) + span.dropped_events_count:
        left_out["events"] = dropped
    if span.links:
        links = to_json([_link(link) for link in islice(span.links, _MAX_PARTS)])
    if dropped := max(len(span.links) - _MAX_PARTS, 0) + span.dropped_links_count:
        left_out["links"] = dropped
    status = span.status
    batch.spans.append(
        (
            trace_id,
            span_id,
            span.parent_span_id or None,
            resource,
            scope,
            span.name[:_MAX_NAME],
            span.kind,
            status.code,
            status.message or None,
            start_ns,
            max(min(end_ns, _MAX_INT64) - start_ns, 0),
            to_json(attributes),
            events,
            links,
            to_json(left_out) if left_out else None,
            span.trace_state or None,
        )
    )


def _event(event: Any) -> dict[str, Any]:
    attributes, dropped = attributes_of(event.attributes)
    known: dict[str, Any] = {"name": event.name, "time": str(event.time_unix_nano), "attributes": attributes}
    if dropped := dropped + event.dropped_attributes_count:
        known["dropped"] = dropped
    return known


def _link(link: Any) -> dict[str, Any]:
    attributes, dropped = attributes_of(link.attributes)
    known: dict[str, Any] = {"trace": link.trace_id.hex(), "span": link.span_id.hex(), "attributes": attributes}
    if link.trace_state:
        known["trace_state"] = link.trace_state
    if dropped := dropped + link.dropped_attributes_count:
        known["dropped"] = dropped
    return known


def _logs(batch: Batch, request: Any) -> None:
    for of_resource in request.resource_logs:
        resource = _resource(batch, of_resource.resource)
        for of_scope in of_resource.scope_logs:
            scope = _scope(batch, of_scope.scope)
            for record in of_scope.log_records:
                attributes, dropped = attributes_of(record.attributes)
                body = value_of(record.body)
                batch.logs.append(
                    (
                        record.trace_id if len(record.trace_id) == 16 else None,
                        record.span_id if len(record.span_id) == 8 else None,
                        resource,
                        scope,
                        min(record.time_unix_nano or record.observed_time_unix_nano, _MAX_INT64),
                        record.severity_number,
                        record.severity_text,
                        record.event_name,
                        body if isinstance(body, str) else "" if body is None else to_json(body),
                        to_json(attributes),
                        dropped + record.dropped_attributes_count,
                    )
                )


def _metrics(batch: Batch, request: Any) -> None:
    for of_resource in request.resource_metrics:
        resource = _resource(batch, of_resource.resource)
        for of_scope in of_resource.scope_metrics:
            add_metrics(batch, of_scope.metrics, resource, _scope(batch, of_scope.scope))


def _resource(batch: Batch, resource: Any) -> int:
    attributes, _ = attributes_of(resource.attributes)
    service = attributes.get("service.name")
    name = service if isinstance(service, str) and service else "unknown_service"
    batch.resources.append(Resource(name[:_MAX_NAME], to_json(attributes)))
    return len(batch.resources) - 1


def _scope(batch: Batch, scope: Any) -> int:
    attributes, _ = attributes_of(scope.attributes)
    batch.scopes.append(Scope(scope.name[:_MAX_NAME], scope.version[:_MAX_NAME], to_json(attributes)))
    return len(batch.scopes) - 1


SIGNALS: Mapping[str, tuple[str, str, Callable[[Batch, Any], None], str]] = {
    "traces": ("trace.v1.trace_service_pb2", "Trace", _traces, "rejected_spans"),
    "logs": ("logs.v1.logs_service_pb2", "Logs", _logs, "rejected_log_records"),
    "metrics": ("metrics.v1.metrics_service_pb2", "Metrics", _metrics, "rejected_data_points"),
}
"""Signal -> module of its service, how its messages' names begin, its decoder, its partial success's field."""
