"""Encoded requests with given times and ids, as an engine makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from otelagent.terminal import Span, read_request

__all__ = ["Request", "spans_of"]

START_NS = 1_700_000_000_000_000_000
TRACE = bytes.fromhex("4f3a9c210000000000000000000000aa")

_LOCAL, _REMOTE = 0x100, 0x300


@dataclass
class Request:
    """An ``ExportTraceServiceRequest`` that grows."""

    message: ExportTraceServiceRequest = field(default_factory=ExportTraceServiceRequest)

    def span(
        self,
        name: str,
        number: int,
        parent: int = 0,
        *,
        at_ms: float = 0,
        took_ms: float = 1,
        service: str = "shop",
        kind: str = "INTERNAL",
        remote: bool = False,
        failed: bool = False,
        exception: tuple[str, str] | None = None,
        trace: bytes = TRACE,
        **attributes: Any,
    ) -> Request:
        """Adds a span.

        :param number: its id; `parent` is that of another, 0 for none.
        :param attributes: with ``__`` for each dot.
        """
        group = self.message.resource_spans.add()
        group.resource.attributes.add(key="service.name").value.string_value = service
        span = group.scope_spans.add().spans.add(
            trace_id=trace,
            span_id=number.to_bytes(8, "big"),
            parent_span_id=parent.to_bytes(8, "big") if parent else b"",
            name=name,
            kind=Message.SpanKind.Value(f"SPAN_KIND_{kind}"),
            start_time_unix_nano=START_NS + int(at_ms * 1e6),
            end_time_unix_nano=START_NS + int((at_ms + took_ms) * 1e6),
            flags=_REMOTE if remote else _LOCAL,
        )
        if failed or exception:
            span.status.code = Status.STATUS_CODE_ERROR
        for key, value in attributes.items():
            one = span.attributes.add(key=key.replace("__", ".")).value
            setattr(one, "int_value" if isinstance(value, int) else "string_value", value)
        if exception is not None:
            event = span.events.add(name="exception")
            for key, text in zip(("type", "message"), exception, strict=True):
                event.attributes.add(key=f"exception.{key}").value.string_value = text
        return self

    def spans(self) -> list[Span]:
        """What a terminal reads of it."""
        return read_request(self.message.SerializeToString())


def spans_of(*names: str) -> list[Span]:
    """A root with that many children, the root last."""
    request = Request()
    for number, name in enumerate(names, 2):
        request.span(name, number, 1)
    return request.span("root", 1).spans()
