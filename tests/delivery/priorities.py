"""Payloads of spans and log records by their priority, and a queue that is full of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelagent.delivery import Accepted, Limits, Payload, Result
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import Books, FakeTransport

Filled = Callable[[Payload, int], tuple[Books, "Held"]]

__all__ = ["Filled", "Held", "dropped", "filled", "logs", "severities", "statuses", "traces"]


class Held(FakeTransport):
    """A server that holds the first request until it is told to go on, and takes all."""

    def __init__(self) -> None:
        super().__init__(Accepted())
        self.entered, self.go_on = threading.Event(), threading.Event()

    def send(self, payload: Payload, timeout_s: float) -> Result:
        if not self.sent:
            self.entered.set()
            assert self.go_on.wait(20)
        return super().send(payload, timeout_s)


def traces(*statuses: int, size: int = 1000) -> Payload:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, status in enumerate(statuses):
        span = scope.spans.add(name="x" * size, span_id=(number + 1).to_bytes(8, "big"))
        span.status.code = status  # type: ignore[assignment]
    return Payload("traces", request.SerializeToString(), len(statuses))


def logs(*severities: int, size: int = 1000) -> Payload:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for severity in severities:
        scope.log_records.add(severity_number=severity, event_name="x" * size)
    return Payload("logs", request.SerializeToString(), len(severities))


def severities(payloads: Iterable[Payload]) -> list[list[int]]:
    return [
        [
            record.severity_number
            for resource in ExportLogsServiceRequest.FromString(one.body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        for one in payloads
    ]


def statuses(payloads: Iterable[Payload]) -> list[list[int]]:
    return [
        [
            span.status.code
            for resource in ExportTraceServiceRequest.FromString(one.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        for one in payloads
    ]


@pytest.fixture
def filled(open_books: OpenBooks) -> Iterator[Filled]:
    """Makes destinations whose server holds the first payload, and takes all at the latest at the end of the test."""
    servers: list[Held] = []

    def fill(first: Payload, max_bytes: int) -> tuple[Books, Held]:
        servers.append(Held())
        books = open_books(servers[-1], limits=Limits(queue_max_bytes=max_bytes), signal=first.signal)
        books.submit(first)
        assert servers[-1].entered.wait(10)
        return books, servers[-1]

    yield fill
    for server in servers:
        server.go_on.set()


def dropped(books: Books) -> dict[str, int]:
    return dict(books.ledger.snapshot().dropped)
