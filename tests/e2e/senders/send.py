"""An application that the stock OpenTelemetry Python SDK observes: sends all signals and prints its spans' ids."""

from __future__ import annotations

import json
import os

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_traces
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_traces
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.types import AnyValue

grpc = os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] == "grpc"
traces = TracerProvider()
traces.add_span_processor(
    BatchSpanProcessor(grpc_traces.OTLPSpanExporter() if grpc else http_traces.OTLPSpanExporter())
)
logs = LoggerProvider()
logs.add_log_record_processor(
    BatchLogRecordProcessor(grpc_logs.OTLPLogExporter() if grpc else http_logs.OTLPLogExporter())
)
metrics = MeterProvider(
    [PeriodicExportingMetricReader(grpc_metrics.OTLPMetricExporter() if grpc else http_metrics.OTLPMetricExporter())]
)

told = {}
tracer = traces.get_tracer("senders")
with tracer.start_as_current_span("parent", kind=trace.SpanKind.SERVER) as parent:
    attributes: dict[str, AnyValue] = {"number": 2**60, "list": ["a", "b"], "ratio": 0.5}
    with tracer.start_as_current_span("child", attributes=attributes) as child:
        logs.get_logger("senders").emit(LogRecord(severity_number=SeverityNumber.WARN, body="in the child"))
    metrics.get_meter("senders").create_counter("orders").add(5)
for span, above in ((parent, None), (child, parent)):
    ids = span.get_span_context()
    over = trace.format_span_id(above.get_span_context().span_id) if above is not None else None
    told[span.name] = [trace.format_trace_id(ids.trace_id), trace.format_span_id(ids.span_id), over]  # type: ignore[attr-defined]
for provider in (traces, logs, metrics):
    provider.shutdown()
print(json.dumps(told))
