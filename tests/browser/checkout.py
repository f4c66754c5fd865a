"""A program with the OpenTelemetry SDK as it comes: two linked traces, an exception, SQL, logs and metrics.

It sends to OTEL_EXPORTER_OTLP_ENDPOINT and prints the ids of its traces.
"""

from __future__ import annotations

import json

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, StatusCode

QUERY = "SELECT price, left_over\n  FROM stock\n WHERE sku = ?"


def charge() -> None:
    """Fails."""
    raise ValueError("the card was declined")


def main() -> None:
    """Two traces."""
    resource = Resource({"service.name": "checkout", "service.version": "1.2.3"})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    records = LoggerProvider(resource=resource)
    records.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=60_000)
    points = MeterProvider([reader], resource=resource)
    tracer, logger, meter = spans.get_tracer("shop", "1"), records.get_logger("shop"), points.get_meter("shop")
    took = meter.create_histogram("checkout.duration", "s", "How long a checkout takes")
    orders = meter.create_counter("checkout.orders", "{order}")
    spare = meter.create_gauge("checkout.shelves")

    with tracer.start_as_current_span("POST /checkout", kind=SpanKind.SERVER) as order:
        order.set_attribute("http.route", "/checkout")
        with tracer.start_as_current_span("SELECT stock", kind=SpanKind.CLIENT) as query:
            query.set_attributes({"db.system.name": "postgresql", "db.namespace": "shop", "db.query.text": QUERY})
        card = tracer.start_span("charge card", kind=SpanKind.CLIENT, attributes={"server.address": "bank.example"})
        card.add_event("asked", {"attempt": 1})
        try:
            charge()
        except ValueError as error:
            card.record_exception(error)
            card.set_status(StatusCode.ERROR, str(error))
            logger.emit(
                severity_number=SeverityNumber.ERROR,
                severity_text="ERROR",
                body="the bank said no",
                attributes={"attempt": 1},
                exception=error,
            )
        card.end()
        with tracer.start_as_current_span("send order", kind=SpanKind.PRODUCER) as sent:
            logger.emit(severity_number=SeverityNumber.INFO, severity_text="INFO", body="order goes to the queue")
        for seconds in (0.02, 0.3, 1.5):
            took.record(seconds, {"payment": "card"})
        orders.add(3, {"payment": "card"})
        orders.add(1, {"payment": "cash"})
        spare.set(7)
    link = Link(sent.get_span_context(), {"queue": "orders"})
    with tracer.start_as_current_span("work off order", kind=SpanKind.CONSUMER, links=[link]) as worked:
        pass
    for provider in (spans, records, points):
        provider.shutdown()
    first, second = (trace.format_trace_id(span.get_span_context().trace_id) for span in (order, worked))
    print(json.dumps({"checkout": first, "worker": second}))


if __name__ == "__main__":
    main()
