"""An engine on a real ledger, with what it delivers decoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otelagent.config import load
from otelagent.delivery.ledger import Ledger
from otelagent.record import Engine, open_engine


class Recorder:
    """An engine, its ledger and its requests. Settings are those of `otelagent.init()`."""

    engine: Any
    """The `Engine`; Any, because tests reach into it."""

    def __init__(
        self,
        flush_delivery: Callable[[float], bool] | None = None,
        engine: str = "sdk",
        third_party_sampler: str | None = None,
        **settings: object,
    ) -> None:
        self.ledger = Ledger("traces")
        self.requests: list[tuple[str, bytes, int]] = []
        config = load({"service_name": "shop", "engine": engine, **settings}, {})
        if third_party_sampler is not None:
            config = replace(config, traces=replace(config.traces, sampler=third_party_sampler))
        opened: Engine = open_engine(
            config,
            self.ledger,
            self.deliver,
            flush_delivery=flush_delivery,
        )
        assert opened.name == engine
        self.engine = opened
        self.tracer = self.engine.provider.get_tracer("scope", "1.0")

    def deliver(self, signal: str, body: bytes, items: int) -> None:
        self.requests.append((signal, body, items))
        self.ledger.delivered(items)

    def flush(self) -> bool:
        return bool(self.engine.flush(time.monotonic() + 10))

    def decoded(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for _, body, _ in self.requests]

    def spans(self) -> list[Span]:
        """Every span delivered, after a flush, in order."""
        assert self.flush()
        return [
            span
            for request in self.decoded()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def dropped(self) -> dict[str, int]:
        return dict(self.ledger.snapshot().dropped)

    def close(self) -> None:
        self.engine.shutdown(time.monotonic() + 10)
        snapshot = self.ledger.snapshot()
        assert snapshot.balanced
        assert snapshot.queued == 0


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    """Protobuf key-values as a dict."""
    return {pair.key: _value(pair.value) for pair in pairs}
