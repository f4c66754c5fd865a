"""OTLP requests as the types of this package. Whatever is captured or received comes this way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from otelagent.delivery.signals import SIGNALS
from otelagent.testing.measured import MetricPoint
from otelagent.testing.types import Event, Link, LogRecord, Point, Scope, Span

__all__ = ["decode", "read"]

# Numbers that the protocol doesn't know are taken for what it has where nothing is said.
_KINDS = {2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
_STATUSES = {1: "OK", 2: "ERROR"}
_CUMULATIVE = 2


def read(signal: str, body: bytes, *, json: bool = False) -> list[Any]:
    """What a request holds: spans, log records or metric points.

    :param signal: ``traces``, ``logs`` or ``metrics``.
    :param json: whether the body is OTLP/JSON; protobuf otherwise.
    :raises ValueError: it can't be read.
    """
    from google.protobuf.message import DecodeError

    request = SIGNALS[signal].message("Request")()
    if json:
        # Without the viewer's extra: this module stands on protobuf alone.
        from otelagent.viewer.ingest.json_request import message_of

        message_of(body, request)
    else:
        try:
            request.ParseFromString(body)
        except DecodeError as error:
            raise ValueError(f"no OTLP request of {signal}: {error}") from None
    return list(decode(signal, request))


def decode(signal: str, request: Any) -> Iterator[Any]:
    """The same of a protobuf message.

    :param request: an ``Export*ServiceRequest``, or the data message of the same fields.
    """
    resources, scopes, items = SIGNALS[signal].levels[:3]
    make = _MAKE[signal]
    for of_resource in getattr(request, resources):
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in getattr(of_resource, scopes):
            scope = Scope(of_scope.scope.name, of_scope.scope.version, _attributes(of_scope.scope.attributes))
            for item in getattr(of_scope, items):
                yield from make(item, scope, resource)


def _span(span: Any, scope: Scope, resource: dict[str, Any]) -> Iterator[Span]:
    yield Span(
        name=span.name,
        kind=_KINDS.get(span.kind, "INTERNAL"),
        status=_STATUSES.get(span.status.code, "UNSET"),
        status_message=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(Event(one.name, _attributes(one.attributes), one.time_unix_nano) for one in span.events),
        links=tuple(Link(one.trace_id.hex(), one.span_id.hex(), _attributes(one.attributes)) for one in span.links),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        scope=scope,
        resource=resource,
    )


def _log_record(record: Any, scope: Scope, resource: dict[str, Any]) -> Iterator[LogRecord]:
    yield LogRecord(
        body=_value(record.body),
        severity=record.severity_text,
        severity_number=record.severity_number,
        attributes=_attributes(record.attributes),
        event_name=record.event_name,
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
        scope=scope,
        resource=resource,
    )


def _metric(metric: Any, scope: Scope, resource: dict[str, Any]) -> Iterator[MetricPoint]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    levels = kind == "gauge" or getattr(data, "aggregation_temporality", _CUMULATIVE) == _CUMULATIVE
    for point in data.data_points:
        attributes = _attributes(point.attributes)
        yield MetricPoint(
            metric.name,
            kind,
            metric.unit,
            metric.description,
            scope,
            resource,
            levels,
            _POINTS.get(kind, _distribution)(point, attributes),
        )


def _number(point: Any, attributes: dict[str, Any]) -> Point:
    return Point(attributes=attributes, value=getattr(point, point.WhichOneof("value") or "as_int"))


def _distribution(point: Any, attributes: dict[str, Any]) -> Point:
    return Point(
        attributes=attributes,
        value=point.sum,
        count=point.count,
        minimum=_optional(point, "min"),
        maximum=_optional(point, "max"),
        bounds=tuple(getattr(point, "explicit_bounds", ())),
        counts=tuple(getattr(point, "bucket_counts", ())),
    )


def _optional(message: Any, name: str) -> float | None:
    return getattr(message, name) if name in message.DESCRIPTOR.fields_by_name and message.HasField(name) else None


_POINTS: dict[str, Callable[[Any, dict[str, Any]], Point]] = {"gauge": _number, "sum": _number}
_MAKE: dict[str, Callable[[Any, Scope, dict[str, Any]], Iterator[Any]]] = {
    "traces": _span,
    "logs": _log_record,
    "metrics": _metric,
}


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [_value(one) for one in content.values]
    if kind == "kvlist_value":
        return _attributes(content.values)
    return content
