"""Requests of the three signals, decoded by the protobuf library, as rows.

Everything is bounded: the caller bounds the bytes, `values` bounds what one item may hold, and what is left out is
counted with the item or in `Batch.rejected`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import islice
from time import time_ns
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otelagent.viewer.ingest.bounds import MAX_ITEMS, check_json, check_protobuf
from otelagent.viewer.ingest.json_request import BrokenJson, message_of
from otelagent.viewer.ingest.metrics import add_metrics
from otelagent.viewer.ingest.origin import add_resource, add_scope
from otelagent.viewer.ingest.spans import add_spans
from otelagent.viewer.ingest.values import MAX_INT64, attributes_of, name_of, to_json, value_of
from otelagent.viewer.rows import Batch

__all__ = ["SIGNALS", "Malformed", "decode", "empty_response"]


class Malformed(ValueError):
    """The body is no such request; the exception's text says why, for the answer."""


def decode(signal: str, body: bytes, *, json: bool = False) -> Batch:
    """The rows of a request.

    :param signal: ``traces``, ``logs`` or ``metrics``.
    :param body: of an ``Export*ServiceRequest``, decompressed; an exported file's `TracesData` is the same on the wire.
    :param json: whether it is OTLP/JSON.
    :raises Malformed: it can't be read.
    :raises TooMuch: it is made of more than is good for memory.
    """
    batch = Batch(size=len(body))
    if json:
        check_json(body)
        try:
            body = message_of(body, _message(signal, "Request")).SerializeToString()
        except BrokenJson as error:
            raise Malformed(str(error)) from None
    else:
        check_protobuf(body)
    try:
        SIGNALS[signal][2](batch, body)
    except (DecodeError, UnicodeDecodeError):
        raise Malformed(f"it is no OTLP request of {signal}") from None
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


def _logs(batch: Batch, body: bytes) -> None:
    # Whoever takes a record is its observer, if nobody was before (logs data model, "ObservedTimestamp").
    now_ns = time_ns()
    for of_resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        scopes = [one for one in of_resource.scope_logs if one.log_records]
        if not scopes:
            continue
        resource = add_resource(batch, of_resource.resource)
        for of_scope in scopes:
            room = batch.room("log records", len(of_scope.log_records), MAX_ITEMS - len(batch.logs))
            scope = add_scope(batch, of_scope.scope)
            for record in islice(of_scope.log_records, room):
                attributes, dropped = attributes_of(record.attributes)
                body = value_of(record.body)
                batch.logs.append(
                    (
                        record.trace_id if len(record.trace_id) == 16 else None,
                        record.span_id if len(record.span_id) == 8 else None,
                        resource,
                        scope,
                        min(record.time_unix_nano or record.observed_time_unix_nano or now_ns, MAX_INT64),
                        record.severity_number,
                        name_of(record.severity_text),
                        name_of(record.event_name),
                        body if isinstance(body, str) else "" if body is None else to_json(body),
                        to_json(attributes),
                        dropped + record.dropped_attributes_count,
                    )
                )


def _metrics(batch: Batch, body: bytes) -> None:
    for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        scopes = [one for one in of_resource.scope_metrics if one.metrics]
        if not scopes:
            continue
        resource = add_resource(batch, of_resource.resource)
        for of_scope in scopes:
            add_metrics(batch, of_scope.metrics, resource, add_scope(batch, of_scope.scope))


SIGNALS: Mapping[str, tuple[str, str, Callable[[Batch, bytes], None], str]] = {
    "traces": ("trace.v1.trace_service_pb2", "Trace", add_spans, "rejected_spans"),
    "logs": ("logs.v1.logs_service_pb2", "Logs", _logs, "rejected_log_records"),
    "metrics": ("metrics.v1.metrics_service_pb2", "Metrics", _metrics, "rejected_data_points"),
}
"""Signal -> module of its service, how its messages' names begin, its decoder, its partial success's field."""
