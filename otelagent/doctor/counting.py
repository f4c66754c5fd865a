"""A tracer that is counted. Imported where the application has OpenTelemetry's API anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.util._decorator import _agnosticcontextmanager

__all__ = ["CountingTracer"]

_INCOMING = (trace.SpanKind.SERVER, trace.SpanKind.CONSUMER)


class CountingTracer(trace.Tracer):
    """Starts spans by another tracer, and tells of each.

    :param started: is given the scope, the span, whether it is of an incoming request, and whether its parent is remote
        and not sampled.
    """

    def __init__(self, inner: Any, scope: str, started: Callable[[str, trace.Span, bool, bool], None]) -> None:
        self._inner = inner
        self._scope = scope
        self._started = started

    def __getattr__(self, name: str) -> Any:
        if name.startswith("begin_"):  # the native engine's short ways: who finds none takes `start_span`
            raise AttributeError(name)
        return getattr(self._inner, name)

    def start_span(self, *args: Any, **kwargs: Any) -> trace.Span:
        """As the tracer's."""
        unsampled = _unsampled_parent(args, kwargs)
        span: trace.Span = self._inner.start_span(*args, **kwargs)
        self._started(self._scope, span, _incoming(args, kwargs), unsampled)
        return span

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Iterator[trace.Span]:
        """As the tracer's."""
        unsampled = _unsampled_parent(args, kwargs)
        with self._inner.start_as_current_span(*args, **kwargs) as span:
            self._started(self._scope, span, _incoming(args, kwargs), unsampled)
            yield span


def _incoming(args: Any, kwargs: Any) -> bool:
    return kwargs.get("kind", args[2] if len(args) > 2 else None) in _INCOMING


def _unsampled_parent(args: Any, kwargs: Any) -> bool:
    try:
        parent = trace.get_current_span(kwargs.get("context", args[1] if len(args) > 1 else None)).get_span_context()
    except Exception:  # It is no context, about which the tracer says what it always does.
        return False
    return parent.is_valid and parent.is_remote and not parent.trace_flags.sampled
