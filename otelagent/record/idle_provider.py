"""What applications find in the provider's place where the agent doesn't start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace

from otelagent.record.pipeline import Pipeline

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

__all__ = ["IdleTracerProvider", "stand_in"]


class IdleTracerProvider(trace.ProxyTracerProvider):
    """The API's provider of tracers that record nothing, with what applications call of the stock SDK's besides.

    Still a proxy: a provider that the application sets later takes its place, for tracers made before it as well. The
    processors it is given hear of no span, and are flushed and shut down as the SDK's provider does with its own.
    """

    def __init__(self) -> None:
        self._pipeline = Pipeline(shutdown_on_exit=True)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Takes a processor of the stock SDK's interface."""
        self._pipeline.add_span_processor(span_processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes the processors.

        :param timeout_millis: milliseconds for all together.
        :returns: whether all of them did; true without any.
        """
        return self._pipeline.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shuts the processors down."""
        self._pipeline.shutdown()


def stand_in() -> None:
    """Gives applications that provider for as long as none is set.

    None is set by it: OpenTelemetry allows one for the life of a process, and that one may be the application's own.
    """
    # The API has no other way to answer before a provider is set; where that isn't there any more, nothing changes.
    if type(getattr(trace, "_PROXY_TRACER_PROVIDER", None)) is trace.ProxyTracerProvider:
        trace._PROXY_TRACER_PROVIDER = IdleTracerProvider()
