"""The TracerProvider of native spans."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.trace import TracerProvider

from otelagent.import_hooks import when_imported
from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.record.readable import Scope, register_with_sdk
from otelagent.threads import RLock

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import AnyValue, Attributes

    from otelagent.record.open_spans import OpenSpans
    from otelagent.record.pipeline import Pipeline
    from otelagent_native import Recorder, Span

__all__ = ["NativeProvider", "complain", "fit_scope"]

_logger = logging.getLogger(__name__)
_log = RateLimitedLog(_logger)


class NativeProvider(TracerProvider):
    """Makes tracers; each scope has one.

    :param recorder: records their spans.
    :param pipeline: the processors that users add, and what is flushed with them.
    :param resource: gives the resource of this process as it is now. It must not hold the provider.
    :param open_spans: hears of each span's start and end.
    """

    def __init__(
        self,
        recorder: Recorder,
        pipeline: Pipeline,
        resource: Callable[[], Resource],
        open_spans: OpenSpans | None = None,
    ) -> None:
        self._recorder = recorder
        self._pipeline = pipeline
        self._resource = resource
        self._open_spans = open_spans
        self._lock = RLock()
        self._tracers: dict[object, Tracer] = {}
        when_imported("opentelemetry.sdk.trace", register_with_sdk)
        if pipeline.processors or open_spans is not None:
            self._listen()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """The tracer of an instrumentation scope."""
        name, version, url, attributes = fit_scope(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        if not name:
            _logger.error("get_tracer called without a module name")
        key = (name, version, url, repr(sorted(attributes.items(), key=repr)) if attributes else "")
        if (tracer := self._tracers.get(key)) is not None:
            return tracer
        # Reentrant: a signal handler or a `__del__` may start a span in here.
        with self._lock:
            if key not in self._tracers:
                scope = Scope(name, version, url, attributes, self._resource)
                # Registered with the API's Tracer, which a type checker can't see.
                made = cast("Tracer", self._recorder.tracer(name, version, url, attributes, scope))
                self._tracers.setdefault(key, made)
        return self._tracers[key]

    @property
    def resource(self) -> Resource:
        """The resource as the stock SDK has it."""
        return self._resource()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds a processor of the stock SDK's interface; it hears of spans that start or end from now on.

        Its `on_start` gets the span itself, its `on_end` a `ReadableSpan`. Spans cost about as much as the stock SDK's
        as soon as there is one.
        """
        self._pipeline.add_span_processor(span_processor)
        self._listen()

    def _listen(self) -> None:
        if self._open_spans is None:
            self._recorder.set_listener(_Listener(self._pipeline))
        else:
            self._recorder.set_listener(_OpenListener(self._pipeline, self._open_spans))

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes what is delivered and the processors that others added, all within the timeout.

        :param timeout_millis: milliseconds.
        :returns: whether everything that ended before the call has been flushed by all of them, and no span was lost
            since a flush before this one said so.
        """
        return self._pipeline.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """As `force_flush`, and nothing is taken any more."""
        self._recorder.close()
        self._pipeline.shutdown()
        self._recorder.set_listener(None)

    def after_fork_in_child(self) -> None:
        """Takes new locks: the parent's may have been held at the fork. Ids start over."""
        self._lock = RLock()
        self._recorder.reseed()
        self._pipeline.after_fork_in_child()


class _Listener:
    """What a recorder calls for each of its spans."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.on_start = pipeline.on_start
        self.on_ending = pipeline.on_ending
        self._on_end = pipeline.on_end

    def on_end(self, span: Span) -> None:
        """Makes of the span what exporters expect."""
        self._on_end(span._readable_span())


class _OpenListener:
    """The same, and notes which spans are open; makes what exporters expect only where somebody does."""

    def __init__(self, pipeline: Pipeline, open_spans: OpenSpans) -> None:
        self.on_ending = pipeline.on_ending
        self._pipeline = pipeline
        self._started, self._ended = open_spans.started, open_spans.ended

    def on_start(self, span: Any, context: Context | None = None) -> None:
        """Notes the span, then tells the others."""
        self._started(id(span), span)
        self._pipeline.on_start(span, context)

    def on_end(self, span: Span) -> None:
        """Forgets the span, then tells the others."""
        self._ended(id(span))
        if self._pipeline.processors:
            self._pipeline.on_end(span._readable_span())


def fit_scope(
    name: object, version: object, schema_url: object, attributes: object
) -> tuple[str, str, str, dict[str, AnyValue] | None]:
    """What an instrumentation scope is made of, as it can be kept and told from others."""
    parts: Any = name, version, schema_url
    if attributes is None and all(part is None or type(part) is str for part in parts):
        return parts[0] or "", parts[1] or "", parts[2] or "", None
    # Imported for what is seldom given.
    from otelagent.record import values

    fit_name, fit_version, fit_url, fit_attributes = values.fit_scope(name, version, schema_url, attributes)
    return fit_name, fit_version or "", fit_url or "", fit_attributes


def complain(topic: str, message: str, error: BaseException | None) -> None:
    """What a recorder says when something went wrong in a span: logged, of each topic once a minute."""
    _log.warning(topic, "%s", message, exc_info=error)
