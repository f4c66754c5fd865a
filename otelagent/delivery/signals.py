"""What the signals differ in behind the seam: names in the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from otelagent.fork_gate import whole_imports
from otelagent.struct import struct

__all__ = ["SIGNALS", "Signal"]


@struct(frozen=True)
class Signal:
    """One signal that can be delivered.

    Source: ``opentelemetry/proto/collector/*/v1/*_service.proto``; OTLP specification, "OTLP/HTTP Request".

    :ivar name: as in `otelagent.delivery.Payload`.
    :ivar service: the gRPC service, without its package.
    :ivar module: Python module of its messages.
    :ivar messages: what the names of its request and its response begin with.
    :ivar items: what one calls its items.
    :ivar rejected: field of its partial success that counts what the server refused.
    :ivar levels: the fields and oneofs of its request that lead to its items, from the outside in.
    """

    name: str
    service: str
    module: str
    messages: str
    items: str
    rejected: str
    levels: tuple[str, ...]

    @property
    def path(self) -> str:
        """Of its endpoint for OTLP/HTTP, unless configured otherwise."""
        return f"/v1/{self.name}"

    @property
    def method(self) -> str:
        """Of its gRPC service."""
        package = self.module.rpartition(".")[0]
        return f"/{package}.{self.service}/Export"

    @property
    def rejected_in_json(self) -> str:
        """The field `rejected` in OTLP/JSON."""
        first, *rest = self.rejected.split("_")
        return first + "".join(word.capitalize() for word in rest)

    def message(self, kind: str) -> Any:
        """The protobuf class of its request or response.

        :param kind: ``Request`` or ``Response``.
        """
        with whole_imports():
            return getattr(import_module(self.module), self.messages + kind)


_COLLECTOR = "opentelemetry.proto.collector"

SIGNALS: Mapping[str, Signal] = {
    "traces": Signal(
        "traces",
        "TraceService",
        f"{_COLLECTOR}.trace.v1.trace_service_pb2",
        "ExportTraceService",
        "spans",
        "rejected_spans",
        ("resource_spans", "scope_spans", "spans"),
    ),
    "metrics": Signal(
        "metrics",
        "MetricsService",
        f"{_COLLECTOR}.metrics.v1.metrics_service_pb2",
        "ExportMetricsService",
        "data points",
        "rejected_data_points",
        ("resource_metrics", "scope_metrics", "metrics", "data", "data_points"),
    ),
    "logs": Signal(
        "logs",
        "LogsService",
        f"{_COLLECTOR}.logs.v1.logs_service_pb2",
        "ExportLogsService",
        "log records",
        "rejected_log_records",
        ("resource_logs", "scope_logs", "log_records"),
    ),
}
