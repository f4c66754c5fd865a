"""OTLP requests for the viewer's tests."""

from __future__ import annotations

import os
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Status

START_NS = 1_700_000_000_000_000_000
"""Long ago: what is imported may be old."""


def put(attributes: Any, values: dict[str, Any]) -> None:
    """Fills a repeated KeyValue."""
    for key, value in values.items():
        one = attributes.add(key=key)
        if isinstance(value, bool):
            one.value.bool_value = value
        elif isinstance(value, int):
            one.value.int_value = value
        elif isinstance(value, float):
            one.value.double_value = value
        elif isinstance(value, bytes):
            one.value.bytes_value = value
        elif isinstance(value, list):
            for item in value:
                one.value.array_value.values.add(string_value=item)
        else:
            one.value.string_value = value


class Traces:
    """A request of spans, one after the other a microsecond apart.

    :param start_ns: of the first, since the epoch.
    """

    def __init__(self, service: str = "shop", start_ns: int = START_NS) -> None:
        self._start_ns = start_ns
        self.request = ExportTraceServiceRequest()
        resource = self.request.resource_spans.add()
        put(resource.resource.attributes, {"service.name": service})
        self._scope = resource.scope_spans.add()
        self._scope.scope.name = "test"
        self._scope.scope.version = "1"

    def span(
        self,
        name: str = "work",
        *,
        trace: bytes | None = None,
        parent: bytes = b"",
        start_us: int | None = None,
        duration_us: int = 10,
        error: bool = False,
        kind: int = 1,
        **attributes: Any,
    ) -> Any:
        """Adds a span and returns its message."""
        spans = self._scope.spans
        start_ns = self._start_ns + 1000 * (len(spans) if start_us is None else start_us)
        span = spans.add(
            trace_id=trace or os.urandom(16),
            span_id=os.urandom(8),
            parent_span_id=parent,
            name=name,
            kind=kind,
            start_time_unix_nano=start_ns,
            end_time_unix_nano=start_ns + 1000 * duration_us,
        )
        if error:
            span.status.code = Status.STATUS_CODE_ERROR
        put(span.attributes, {key.replace("__", "."): value for key, value in attributes.items()})
        return span

    @property
    def body(self) -> bytes:
        """The protobuf bytes."""
        return self.request.SerializeToString()


def logs(
    *bodies: str,
    service: str = "shop",
    severity: int = 9,
    trace: bytes = b"",
    span: bytes = b"",
    start_ns: int = START_NS,
) -> bytes:
    """A request of log records, one after the other a nanosecond apart."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    put(resource.resource.attributes, {"service.name": service})
    records = resource.scope_logs.add().log_records
    for number, body in enumerate(bodies):
        record = records.add(time_unix_nano=start_ns + number, severity_number=severity, severity_text="X")
        record.trace_id, record.span_id = trace, span
        record.body.string_value = body
    return request.SerializeToString()


def metrics(start_ns: int = START_NS) -> bytes:
    """A request with a sum and a histogram.

    :param start_ns: of the first point; a store gives up old ones soon.
    """
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    put(resource.resource.attributes, {"service.name": "shop"})
    scope = resource.scope_metrics.add()
    total = scope.metrics.add(name="orders", unit="{order}")
    total.sum.is_monotonic = True
    total.sum.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    for number in range(3):
        point = total.sum.data_points.add(time_unix_nano=start_ns + number, as_int=number)
        put(point.attributes, {"tier": "gold"})
    histogram = scope.metrics.add(name="latency", unit="s")
    spread = histogram.histogram.data_points.add(time_unix_nano=start_ns, count=3, sum=6.0, min=1.0, max=3.0)
    spread.explicit_bounds.extend([1.0, 2.0])
    spread.bucket_counts.extend([1, 1, 1])
    return request.SerializeToString()
