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
        span: trace.Span = self._inner.start_span(*args, **kwargs)
        self._tell(span, args, kwargs)
        return span

    @_agnosticcontextmanager
    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Iterator[trace.Span]:
        """As the tracer's."""
        context = kwargs.get("context", args[1] if len(args) > 1 else None)
        parent = trace.get_current_span(context).get_span_context()
        with self._inner.start_as_current_span(*args, **kwargs) as span:
            self._tell(span, args, kwargs, parent)
            yield span

    def _tell(self, span: trace.Span, args: Any, kwargs: Any, parent: trace.SpanContext | None = None) -> None:
        if parent is None:
            context = kwargs.get("context", args[1] if len(args) > 1 else None)
            parent = trace.get_current_span(context).get_span_context()
        kind = kwargs.get("kind", args[2] if len(args) > 2 else None)
        unsampled = parent.is_valid and parent.is_remote and not parent.trace_flags.sampled
        self._started(self._scope, span, kind in _INCOMING, unsampled)
