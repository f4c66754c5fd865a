"""The TracerProvider of the `native` engine, and what the SpanProcessors that users add to it see."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.trace import TracerProvider

from otelagent.loss import LossReport
from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.waiting import left_s

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
    from opentelemetry.trace import Tracer
    from opentelemetry.util.types import Attributes

    from otelagent.record.batch import Batch
    from otelagent.record.engine import FlushDelivery, LedgerPort
    from otelagent_native import Recorder, Span

__all__ = ["NativeProvider"]

_log = logging.getLogger(__name__)
_seldom = RateLimitedLog(_log)

# What a user's processor may raise without reaching the application. SystemExit is one that calls sys.exit().
_ISOLATED = (Exception, SystemExit)


class NativeProvider(TracerProvider):
    """Makes tracers; each scope has one.

    :param resource: gives the resource attributes of this process as they are now.
    :param flush_timeout_s: how long `shutdown` may take, seconds.
    :param flush_delivery: continues a flush behind the batch.
    """

    def __init__(
        self,
        recorder: Recorder,
        batch: Batch,
        ledger: LedgerPort,
        resource: Callable[[], Mapping[str, str | int]],
        *,
        flush_timeout_s: float,
        flush_delivery: FlushDelivery | None,
    ) -> None:
        self._recorder = recorder
        self._batch = batch
        self._resource_attributes = resource
        self._flush_timeout_s = flush_timeout_s
        self._flush_delivery = flush_delivery
        self._losses = LossReport(lambda: ledger.lost)
        self._lock = threading.Lock()
        self._tracers: dict[object, Tracer] = {}
        self._processors: tuple[SpanProcessor, ...] = ()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """The tracer of an instrumentation scope."""
        if not instrumenting_module_name:
            _log.error("get_tracer called without a module name")
        name, version, url = instrumenting_module_name or "", instrumenting_library_version or "", schema_url or ""
        key = (name, version, url, repr(sorted(attributes.items(), key=repr)) if attributes else "")
        with self._lock:
            tracer = self._tracers.get(key)
            if tracer is None:
                scope = Scope(name, version, url, attributes)
                # Registered with the API's Tracer, which a type checker can't see.
                tracer = cast("Tracer", self._recorder.tracer(name, version, url, attributes, scope))
                self._tracers[key] = tracer
        return tracer

    @property
    def resource(self) -> Resource:
        """The resource as the stock SDK has it."""
        from opentelemetry.sdk.resources import Resource

        return Resource(dict(self._resource_attributes()))

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds a processor of the stock SDK's interface; it hears of spans that start from now on.

        Its `on_start` gets the span itself, its `on_end` a `ReadableSpan`. Spans cost about as much as the stock SDK's
        as soon as there is one.
        """
        with self._lock:
            self._processors += (span_processor,)
        self._recorder.set_listener(self)

    def on_start(self, span: Span, parent_context: Context | None) -> None:
        """What the recorder calls."""
        for processor in self._processors:
            try:
                processor.on_start(span, parent_context=parent_context)  # type: ignore[arg-type]
            except _ISOLATED:
                _complain(processor)

    def on_end(self, span: Span) -> None:
        """What the recorder calls."""
        readable = self._readable(span)
        for processor in self._processors:
            try:
                processor.on_end(readable)
            except _ISOLATED:
                _complain(processor)

    def _readable(self, span: Span) -> ReadableSpan:
        from opentelemetry.attributes import BoundedAttributes
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.sdk.util import BoundedList
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        def bounded(values: Mapping[str, Any], dropped: int) -> BoundedAttributes:
            attributes = BoundedAttributes(attributes=values)
            attributes.dropped = dropped
            return attributes

        events: BoundedList[Event] = BoundedList(None)
        for name, values, timestamp, dropped in span.events:
            events.append(Event(name, bounded(values, dropped), timestamp))
        events.dropped = span.dropped_events
        links: BoundedList[Any] = BoundedList(None)
        links.extend(span.links)
        links.dropped = span.dropped_links
        scope: Scope = span.instrumentation_scope
        return ReadableSpan(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=self.resource,
            attributes=bounded(span.attributes, span.dropped_attributes),
            events=events,
            links=links,
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=InstrumentationScope(scope.name, scope.version, scope.schema_url, scope.attributes),
        )

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes batch, delivery, then the processors that others added, all within the timeout.

        :param timeout_millis: milliseconds.
        :returns: whether everything that ended before the call has been flushed by all of them, and no span was lost
            since a flush before this one said so.
        """
        told = self._losses.begin()
        deadline_s = time.monotonic() + timeout_millis / 1000
        done = self._batch.flush(deadline_s)
        if self._flush_delivery is not None:
            done = self._flush_delivery(deadline_s) and done
        for processor in self._processors:
            left_ms = int(left_s(deadline_s, time.monotonic()) * 1000)
            if left_ms <= 0:
                done = False
                break
            try:
                done = processor.force_flush(left_ms) is not False and done
            except _ISOLATED:
                _complain(processor)
                done = False
        return self._losses.end(told) and done

    def shutdown(self) -> None:
        """As `force_flush`, and nothing is taken any more."""
        deadline_s = time.monotonic() + self._flush_timeout_s
        self._recorder.close()
        self._batch.shutdown(deadline_s)
        if self._flush_delivery is not None:
            self._flush_delivery(deadline_s)
        self.shutdown_others()

    def shutdown_others(self) -> None:
        """Shuts down the processors that others added, once."""
        with self._lock:
            processors, self._processors = self._processors, ()
        self._recorder.set_listener(None)
        for processor in processors:
            try:
                processor.shutdown()
            except _ISOLATED:
                _complain(processor)

    def after_fork_in_child(self) -> None:
        """Takes a new lock: the parent's may have been held at the fork."""
        self._lock = threading.Lock()
        self._losses.after_fork_in_child()


class Scope:
    """An instrumentation scope: name, version, schema URL, attributes."""

    def __init__(self, name: str, version: str, schema_url: str, attributes: Attributes) -> None:
        self.name = name
        self.version = version
        self.schema_url = schema_url
        self.attributes = attributes


def _complain(processor: SpanProcessor) -> None:
    _seldom.warning(type(processor).__qualname__, "%s failed", type(processor).__qualname__, exc_info=True)
