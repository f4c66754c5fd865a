"""logging: the ids of the current span in every record, under the names that contrib's instrumentation gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from otelagent.patching import Instrumentation, replace

NO_TRACE, NO_SPAN = "0", "0"


class Logging(Instrumentation):
    """Adds `otelTraceID`, `otelSpanID`, `otelTraceSampled` and `otelServiceName` to each record; no format is changed.

    Without a span the ids are ``"0"`` and `otelTraceSampled` is ``False``, as contrib has it. They are set where
    loggers make their records, after whatever record factory the application has or sets later, and only where they are
    absent: an application that gives them itself, by a factory or by ``extra``, keeps its own. (Set by a factory of
    ours, its ``extra`` would raise: logging lets nothing overwrite what the factory has set.)
    """

    name = "logging"

    def __init__(self, scope_version: str) -> None:
        super().__init__(scope_version)
        self._provider: Any = None
        self._service_name = ""

    @replace("logging", "Logger.makeRecord")
    def record(self, original: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
        """A record of a logger: the span that is current where it is logged."""

        def makeRecord(logger: Any, *args: Any, **kwargs: Any) -> logging.LogRecord:
            record = original(logger, *args, **kwargs)
            if self.on:
                self._correlate(record, trace.get_current_span())
            return record

        return makeRecord

    @replace("logging", "makeLogRecord")
    def received(self, original: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
        """A record made from another process's: it has that process's ids or none, never those of the span here."""

        def makeLogRecord(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = original(*args, **kwargs)
            if self.on:
                self._correlate(record, trace.INVALID_SPAN)
            return record

        return makeLogRecord

    def _correlate(self, record: logging.LogRecord, span: trace.Span) -> None:
        provider = trace._TRACER_PROVIDER  # `get_tracer_provider` may load the SDK
        if provider is not self._provider:
            self._provider, self._service_name = provider, _service_name(provider)
        trace_id, span_id, sampled = NO_TRACE, NO_SPAN, False
        if span is not trace.INVALID_SPAN:
            context = span.get_span_context()
            if context.is_valid:
                trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
                sampled = context.trace_flags.sampled
        fields = record.__dict__
        fields.setdefault("otelTraceID", trace_id)
        fields.setdefault("otelSpanID", span_id)
        fields.setdefault("otelTraceSampled", sampled)
        fields.setdefault("otelServiceName", self._service_name)


def _service_name(provider: Any) -> str:
    """The service name of a provider that has a resource; empty for the API's own."""
    try:
        return str(provider.resource.attributes.get("service.name") or "")
    except AttributeError:
        return ""
