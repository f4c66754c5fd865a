"""The `sdk` engine: the stock TracerProvider and encoder of the OpenTelemetry SDK behind our own batch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator

from otelagent.record import headers
from otelagent.record.batch import Batch
from otelagent.record.guarded_span import GuardedSpan, GuardedTracer
from otelagent.record.ids import ProcessIdGenerator
from otelagent.record.pipeline import Delivering, Pipeline
from otelagent.record.rate_limited_log import RateLimitFilter
from otelagent.record.resource import static_attributes
from otelagent.record.sampling import CountingSampler, build_sampler
from otelagent.record.sdk_resource import ProcessResource
from otelagent.record.span_queue import SpanQueue
from otelagent.record.values import fit_scope
from otelagent.threads import RLock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry import trace as api
    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.util.types import Attributes

    from otelagent.config import Config
    from otelagent.record.engine import Deliver, FlushDelivery, LedgerPort
    from otelagent.record.headers import Codec
    from otelagent.record.open_spans import OpenSpans

__all__ = ["SdkEngine"]


# The SDK says so for each attribute that it cuts to the length limit, which is what the limit is for.
_attributes_log = logging.getLogger("opentelemetry.attributes")
_attributes_log_filter = RateLimitFilter()


class SdkEngine:
    """Records with the stock SDK. Every argument of the SDK is given, so that it reads no environment.

    :param reason: why this engine was chosen.
    """

    name = "sdk"
    codec: Codec = headers

    def __init__(
        self,
        config: Config,
        ledger: LedgerPort,
        deliver: Deliver,
        *,
        reason: str,
        flush_delivery: FlushDelivery | None = None,
        open_spans: OpenSpans | None = None,
    ) -> None:
        self.reason = reason
        _attributes_log.addFilter(_attributes_log_filter)
        self._resource = ProcessResource(static_attributes(config))
        sampler_source = str(config.sources.get("sampler", "the configuration"))
        sampler = build_sampler(config.traces.sampler, config.traces.sampler_arg, sampler_source)
        self._sampler = CountingSampler(sampler, ledger)
        self._queue = SpanQueue(
            ledger,
            max_items=config.batch.max_queue_size,
            max_bytes=config.batch.queue_max_bytes,
            max_batch_items=config.batch.max_export_batch_size,
        )
        self._batch = Batch(
            self._queue,
            ledger,
            deliver,
            schedule_delay_s=config.batch.schedule_delay_ms / 1000,
        )
        self._pipeline = Delivering(
            self._batch,
            ledger,
            flush_timeout_s=config.batch.export_timeout_ms / 1000,
            flush_delivery=flush_delivery,
        )
        self._feed = Feed(self._queue, self._batch, ledger, self._pipeline)
        if open_spans is not None:
            self._feed = OpenFeed(self._queue, self._batch, ledger, self._pipeline, open_spans)
        self._provider = Provider(self._sampler, self._resource, self._feed, ProcessIdGenerator(), _span_limits(config))

    @property
    def provider(self) -> TracerProvider:
        """The stock SDK's provider; users may `add_span_processor` to it."""
        return self._provider

    @property
    def span_processor(self) -> SpanProcessor:
        """Feeds the batch; for a provider that the application set before the agent started."""
        return self._feed

    @property
    def resource(self) -> Mapping[str, object]:
        """The resource attributes as they are now."""
        return self._resource.attributes

    def pause(self) -> None:
        """New spans are not recorded until `resume`."""
        self._sampler.paused = True

    def resume(self) -> None:
        """Ends a pause."""
        self._sampler.paused = False

    def flush(self, deadline_s: float) -> bool:
        """Hands on every span that ended before the call; see `Engine.flush`."""
        return self._batch.flush(deadline_s)

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes and closes the batch, then shuts down the processors that others added; see `Engine.shutdown`."""
        done = self._batch.shutdown(deadline_s)
        self._pipeline.shutdown_others(deadline_s)
        return done

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child; see `Engine.after_fork_in_child`."""
        self._resource.renew()
        self._pipeline.after_fork_in_child()
        self._batch.after_fork_in_child()


class Calls(SpanProcessor):
    """What the stock provider calls: guards its spans and tells a pipeline.

    :param pipeline: the processors that users add.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.add_span_processor = pipeline.add_span_processor

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Guards the span, then tells the others."""
        GuardedSpan.guard(span)
        self._pipeline.on_start(span, parent_context)

    def _on_ending(self, span: Span) -> None:
        self._pipeline.on_ending(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Tells the others."""
        self._pipeline.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """See `Pipeline.force_flush`."""
        return self._pipeline.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """See `Pipeline.shutdown`."""
        self._pipeline.shutdown()


class Feed(Calls):
    """Puts the spans into the engine's batch besides."""

    def __init__(self, spans: SpanQueue, batch: Batch, ledger: LedgerPort, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self._queue = spans
        self._batch = batch
        self._ledger = ledger

    def on_end(self, span: ReadableSpan) -> None:
        """Counts the span and puts it into the batch, then tells the others. Takes no lock but the ledger's."""
        if not span.context.trace_flags & 1:
            self._ledger.sampled_out(1)  # Recorded for the processors that others added (RECORD_ONLY), never exported.
        else:
            self._ledger.ended(1)
            if self._batch.closed:
                self._ledger.dropped(1, "shutdown")
            elif (enough := self._queue.offer(span)) is not None:
                self._batch.added(enough)
        self._pipeline.on_end(span)


class OpenFeed(Feed):
    """The same, and notes which spans are open."""

    def __init__(
        self, spans: SpanQueue, batch: Batch, ledger: LedgerPort, pipeline: Pipeline, open_spans: OpenSpans
    ) -> None:
        super().__init__(spans, batch, ledger, pipeline)
        self._open = open_spans

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Notes the span, then does what is done with every one."""
        self._open.started(span.context.span_id, span)
        super().on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Forgets the span, then does what is done with every one."""
        self._open.ended(span.context.span_id)
        super().on_end(span)


class Provider(TracerProvider):
    """The stock provider without its reading of the environment and with our way through a fork."""

    def __init__(
        self,
        sampler: Sampler,
        resource: Resource,
        calls: Calls,
        ids: IdGenerator,
        limits: SpanLimits,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            active_span_processor=calls,  # type: ignore[arg-type]
            id_generator=ids,
            span_limits=limits,
            # The ledger counts spans; the SDK would make its own metrics if an environment variable told it to.
            meter_provider=meter_provider or NoOpMeterProvider(),
        )
        # The constructor reads OTEL_SDK_DISABLED, but whether otelagent runs was decided when this was called.
        self._disabled = False
        self._renew_lock()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> api.Tracer:
        """A tracer whose spans keep their troubles from the application."""
        tracer = super().get_tracer(
            *fit_scope(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        )
        if type(tracer) is Tracer:
            tracer.__class__ = GuardedTracer
        return tracer

    def _handle_fork(self) -> None:
        # The stock hook reads the environment, may scan entry points, runs detectors on new threads and merges another
        # instance id over ours, all in every fork child. ProcessResource is renewed by the engine instead, so this
        # and the engine's hook may run in either order.
        self._renew_lock()

    def _renew_lock(self) -> None:
        # The stock one isn't reentrant: a span of a signal handler or a `__del__` on a thread that is getting a tracer
        # would wait for itself.
        self._tracers_lock = RLock()


def _span_limits(config: Config) -> SpanLimits:
    def given(limit: int | None) -> int:
        # None would make the SDK read its environment variable.
        return SpanLimits.UNSET if limit is None else limit

    limits = config.limits
    return SpanLimits(
        max_attributes=given(limits.attribute_count),
        max_events=given(limits.event_count),
        max_links=given(limits.link_count),
        max_span_attributes=given(limits.attribute_count),
        max_event_attributes=given(limits.event_attribute_count),
        max_link_attributes=given(limits.link_attribute_count),
        max_attribute_length=given(limits.attribute_value_length),
        max_span_attribute_length=given(limits.attribute_value_length),
    )
