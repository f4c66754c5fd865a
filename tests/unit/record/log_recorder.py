"""What records log records, on a real ledger, with what it delivers decoded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otelagent.config import load
from otelagent.delivery.ledger import Ledger
from otelagent.record import open_engine, open_logs


class LogRecorder:
    """The logs of an engine, their ledger and their requests. Settings are those of `otelagent.init()`."""

    logs: Any
    """The `LogsEngine`; Any, because tests reach into it."""

    def __init__(self, engine: str, flush_delivery: Callable[[float], bool] | None = None, **settings: object) -> None:
        self.ledger = Ledger("logs")
        self.requests: list[tuple[str, bytes, int]] = []
        config = load({"service_name": "shop", "engine": engine, "logs_exporter": "otlp", **settings}, {})
        self.spans_ledger = Ledger("traces")
        self.engine: Any = open_engine(
            config, self.spans_ledger, lambda signal, body, items: self.spans_ledger.delivered(items)
        )
        assert self.engine.name == engine
        self.tracer = self.engine.provider.get_tracer("scope")
        self.logs = open_logs(config, self.engine, self.ledger, self.deliver, flush_delivery=flush_delivery)
        self.logger = self.logs.provider.get_logger("scope", "1.0")

    def deliver(self, signal: str, body: bytes, items: int) -> None:
        self.requests.append((signal, body, items))
        self.ledger.delivered(items)

    def flush(self) -> bool:
        return bool(self.logs.flush(time.monotonic() + 10))

    def decoded(self) -> list[ExportLogsServiceRequest]:
        return [ExportLogsServiceRequest.FromString(body) for _, body, _ in self.requests]

    def records(self) -> list[LogRecord]:
        """Every log record delivered, after a flush, in order."""
        assert self.flush()
        return [
            record
            for request in self.decoded()
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def dropped(self) -> dict[str, int]:
        return dict(self.ledger.snapshot().dropped)

    def close(self) -> None:
        self.engine.shutdown(time.monotonic() + 10)
        self.logs.shutdown(time.monotonic() + 10)
        snapshot = self.ledger.snapshot()
        assert snapshot.balanced
        assert snapshot.queued == 0
