"""logging: the ids of the current span in every record, under the names that contrib's instrumentation gives them; and
every record that is logged, as a log record of OpenTelemetry where those are exported."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import context as context_api
from opentelemetry import trace

from otelagent.patching import Instrumentation, replace
from otelagent.patching.switch import SWITCH

if TYPE_CHECKING:
    from opentelemetry._logs import Logger

_log = logging.getLogger("otelagent.instrumentation")

NO_TRACE, NO_SPAN = "0", "0"
CORRELATION = ("otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName")


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

    @replace("logging", "Logger.callHandlers")
    def handled(self, original: Callable[..., None]) -> Callable[..., None]:
        """A record that its logger's level and filters let through, whoever handles it.

        No handler is added for it: an application's `logging.basicConfig` does nothing where the root logger has one,
        its `dictConfig` takes it away, and loggers that don't propagate never come to it.
        """
        if SWITCH.log_level is None:
            return original
        bridge = LogBridge()

        def callHandlers(logger: Any, record: logging.LogRecord) -> None:
            level = SWITCH.log_level
            if level is not None and self.on and record.levelno >= level:
                bridge.emit(record)
            original(logger, record)

        return callHandlers

    def _correlate(self, record: logging.LogRecord, span: trace.Span) -> None:
        provider = trace._TRACER_PROVIDER  # `get_tracer_provider` may load the SDK
        if provider is not self._provider:
            try:
                self._provider, self._service_name = provider, _service_name(provider)
            except Exception:  # Asked again at the next record: a resource may need an import, and that a descriptor.
                self._provider, self._service_name = None, ""
        trace_id, span_id, sampled = NO_TRACE, NO_SPAN, False
        if span is not trace.INVALID_SPAN:
            context = span.get_span_context()
            if context.is_valid:
                trace_id, span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
                sampled = context.trace_flags.sampled
        fields = record.__dict__
        # The names are CORRELATION's.
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


# What every record has, and what formatters and we add; all else came with `extra` or from a filter.
_KNOWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
    *CORRELATION,
}

# Messages that are sent as they are, not as their text.
_STRUCTURES = (bool, int, float, bytes, Sequence, Mapping)

# As OpenTelemetry calls them; other levels have their own names.
_SEVERITY_TEXTS = {"WARNING": "WARN", "CRITICAL": "FATAL"}

# What a message's or a value's own code may raise.
_ISOLATED = (Exception, SystemExit)


class LogBridge:
    """Gives what is logged by `logging` to the OpenTelemetry Logs API, under loggers of the same names.

    Source: semantic conventions, "Code" and "Exceptions in logs"; logs data model, "SeverityNumber".

    Left out is what exporting logs itself: the agent and OpenTelemetry by name, their clients by the context in which
    they are called. Each exported record would be the cause of the next.
    """

    def __init__(self) -> None:
        from opentelemetry import _logs

        self._get_logger = _logs.get_logger
        # None: never exported.
        self._loggers: dict[str, Logger | None] = {}
        self._severities = [_logs.SeverityNumber(number) for number in range(25)]
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Emits a record. Raises nothing but what stops a program."""
        try:
            try:
                logger = self._loggers[record.name]
            except KeyError:
                logger = self._logger(record.name)
            if logger is None or context_api.get_value(context_api._SUPPRESS_INSTRUMENTATION_KEY):
                return
            fields = record.__dict__
            attributes: dict[str, Any] = {
                "code.file.path": record.pathname,
                "code.function.name": record.funcName,
                "code.line.number": record.lineno,
            }
            if more := fields.keys() - _KNOWN:
                # In the order in which they were given.
                attributes.update((name, fields[name]) for name in fields if name in more)
            if record.exc_info:
                attributes.update(_exception(record.exc_info))
            name = record.levelname
            logger.emit(
                timestamp=int(record.created * 1e9),
                context=_origin(record),
                severity_number=self._severities[_severity(record.levelno)],
                severity_text=_SEVERITY_TEXTS.get(name, name),
                body=_body(record),
                attributes=attributes,
            )
        except _ISOLATED:
            if not self._failed:
                self._failed = True
                _log.warning(
                    "A record of %r can't be exported; further ones aren't told of", record.name, exc_info=True
                )

    def _logger(self, name: str) -> Logger | None:
        own = name.partition(".")[0] in ("otelagent", "opentelemetry")
        logger = self._loggers[name] = None if own else self._get_logger(name)
        return logger


def _severity(level: int) -> int:
    """The SeverityNumber of a level: four to each of logging's own levels, above the highest and below the lowest one
    too; 0 without a level."""
    if level < logging.DEBUG:
        return 1 if level > 0 else 0
    ten = min(level // 10, 5)
    return 1 + 4 * ten + min(level - 10 * ten, 3)


def _body(record: logging.LogRecord) -> Any:
    message = record.msg
    try:
        if record.args:
            return record.getMessage()
        return message if isinstance(message, (str, *_STRUCTURES)) or message is None else str(message)
    except _ISOLATED:
        # logging's own handlers tell of it. The text is what can be had.
        return message if isinstance(message, str) else None


def _exception(exc_info: Any) -> dict[str, str]:
    from otelagent.patching.exception_text import event_attributes

    error = exc_info[1] if isinstance(exc_info, tuple) and len(exc_info) > 1 else None
    if not isinstance(error, BaseException):
        return {}
    try:
        attributes = event_attributes(error, None)
        del attributes["exception.escaped"]  # of a span's event only
        return attributes
    except _ISOLATED:
        return {"exception.type": type(error).__qualname__}


def _origin(record: logging.LogRecord) -> context_api.Context | None:
    """The context a record was made in: None for the current one.

    A record of another thread or process has the ids of its span in its fields, see `Logging`.
    """
    if record.thread in (None, threading.get_ident()) and record.process in (None, os.getpid()):
        return None
    try:
        fields = record.__dict__
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if fields["otelTraceSampled"] is True else 0)
        ids = int(fields["otelTraceID"], 16), int(fields["otelSpanID"], 16)
        span: trace.Span = trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=False, trace_flags=flags))
    except (KeyError, TypeError, ValueError):
        span = trace.INVALID_SPAN
    return trace.set_span_in_context(span, context_api.Context())
