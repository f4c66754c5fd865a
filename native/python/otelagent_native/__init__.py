"""The native engine of otelagent: spans of the OpenTelemetry API, recorded and encoded in Rust.

Used by `otelagent` (engine `native`); no public interface of its own.
"""

from otelagent_native._otelagent_native import (
    CurrentSpan,
    Formats,
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
