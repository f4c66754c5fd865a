"""The native engine of otelagent: spans and log records of the OpenTelemetry API, recorded and encoded in Rust.

Used by `otelagent` (engine `native`); no public interface of its own.
"""

from otelagent_native._otelagent_native import (
    CurrentSpan,
    Formats,
    Logger,
    LoggerBase,
    Recorder,
    Span,
    SpanBase,
    Tracer,
    TracerBase,
    __version__,
    format_b3,
    format_traceparent,
    parse_b3,
    parse_b3_multi,
    parse_traceparent,
    parse_tracestate,
)
from otelagent_native._otelagent_native import Formats as formats

__all__ = [
    "CurrentSpan",
    "Formats",
    "Logger",
    "LoggerBase",
    "Recorder",
    "Span",
    "SpanBase",
    "Tracer",
    "TracerBase",
    "__version__",
    "format_b3",
    "format_traceparent",
    "formats",
    "parse_b3",
    "parse_b3_multi",
    "parse_traceparent",
    "parse_tracestate",
]
