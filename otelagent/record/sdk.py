"""The `sdk` engine: the stock TracerProvider and encoder of the OpenTelemetry SDK behind our own batch."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor as SpanProcessors
from opentelemetry.sdk.trace.id_generator import IdGenerator

from otelagent.record.batch import Batch
from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.record.resource import static_attributes
from otelagent.record.sampling import CountingSampler, build_sampler
from otelagent.record.sdk_resource import ProcessResource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.sampling import Sampler

    from otelagent.config import Config
    from otelagent.record.engine import Deliver, FlushDelivery, LedgerPort

__all__ = ["SdkEngine", "SpanQueue"]

_log = RateLimitedLog(logging.getLogger(__name__))

# What a third party's code may raise without reaching the application. SystemExit is a plugin that calls sys.exit().
_ISOLATED = (Exception, SystemExit)


class SdkEngine:
    """Records with the stock SDK. Every argument of the SDK is given, so that it reads no environment.

    :param reason: why this engine was chosen.
    """

    name = "sdk"

    def __init__(
        self,
        config: Config,
        ledger: LedgerPort,
        deliver: Deliver,
        *,
        reason: str,
        flush_delivery: FlushDelivery | None = None,
    ) -> None:
        self.reason = reason
        self._resource = ProcessResource(static_attributes(config))
        self._ids = ProcessIdGenerator()
        sampler_source = str(config.sources.get("sampler", "the configuration"))
        sampler = build_sampler(config.traces.sampler, config.traces.sampler_arg, sampler_source)
        self._sampler = CountingSampler(sampler, ledger)
        self._queue = SpanQueue(ledger, config.batch.max_queue_size)
        self._batch = Batch(
            self._queue,
            ledger,
            deliver,
            schedule_delay_s=config.batch.schedule_delay_ms / 1000,
            max_batch_items=min(config.batch.max_export_batch_size, config.batch.max_queue_size),
        )
        flush_timeout_s = config.batch.export_timeout_ms / 1000
        self._pipeline = Pipeline(self._queue, self._batch, ledger, flush_timeout_s, flush_delivery)
        self._provider = Provider(self._sampler, self._resource, self._pipeline, self._ids, _span_limits(config))

    @property
    def provider(self) -> TracerProvider:
        """The stock SDK's provider; users may `add_span_processor` to it."""
        return self._provider

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
        self._pipeline.shutdown_others()
        return done

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child; see `Engine.after_fork_in_child`."""
        self._resource.renew()
        self._ids.reseed()
        self._batch.after_fork_in_child()


class Provider(TracerProvider):
    """The stock provider without its reading of the environment and with our way through a fork."""

    def __init__(
        self,
        sampler: Sampler,
        resource: Resource,
        pipeline: Pipeline,
        ids: IdGenerator,
        limits: SpanLimits,
    ) -> None:
        super().__init__(
            sampler=sampler,
            resource=resource,
            shutdown_on_exit=False,
            active_span_processor=pipeline,
            id_generator=ids,
            span_limits=limits,
            # The ledger counts spans; the SDK would make its own metrics if an environment variable told it to.
            meter_provider=NoOpMeterProvider(),
        )
        # The constructor reads OTEL_SDK_DISABLED, but whether otelagent runs was decided when this was called.
        self._disabled = False

    def _handle_fork(self) -> None:
        # The stock hook reads the environment, may scan entry points, runs detectors on new threads and merges another
        # instance id over ours, all in every fork child. ProcessResource is renewed by the engine instead, so this
        # and the engine's hook may run in either order.
        self._tracers_lock = threading.Lock()


class ProcessIdGenerator(IdGenerator):
    """Random ids from a generator of its own, seeded by the system.

    The stock one draws from the `random` module's shared state, so that an application which calls `random.seed(1)`
    makes the same trace ids in every process.
    """

    def __init__(self) -> None:
        self.reseed()

    def reseed(self) -> None:
        """Starts a new sequence from the system's entropy: a fork child must not repeat its parent's ids."""
        self._bits: Callable[[int], int] = random.Random().getrandbits

    def generate_span_id(self) -> int:
        """A random non-zero 64-bit integer."""
        return self._bits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """A random non-zero 128-bit integer."""
        return self._bits(128) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """True: the W3C random-trace-id flag may be set."""
        return True


class SpanQueue:
    """Ended spans that wait to be encoded: the batch's source.

    No lock: appending to and popping from a deque are atomic. Each is popped once, so each is counted once. The limit
    is checked before the append, so that n threads ending spans at the same instant may exceed it by n - 1.

    :param ledger: hears of spans refused and of spans that can't be encoded.
    :param max_items: most spans that wait; the newest is refused when full.
    """

    def __init__(self, ledger: LedgerPort, max_items: int) -> None:
        self._ledger = ledger
        self._max_items = max_items
        self._spans: deque[ReadableSpan] = deque()

    def offer(self, span: ReadableSpan) -> int:
        """Takes a span, or drops it as `queue_full`.

        :returns: how many wait now, 0 when it was refused.
        """
        pending = len(self._spans)
        if pending >= self._max_items:
            self._ledger.dropped(1, "queue_full")
            return 0
        self._spans.append(span)
        return pending + 1

    def pending(self) -> int:
        """How many spans wait."""
        return len(self._spans)

    def drain(self, max_items: int) -> tuple[bytes, int] | None:
        """Takes and encodes up to `max_items`; a span that can't be encoded is dropped alone, as `encode_error`."""
        while spans := self._take(max_items):
            try:
                return _encode(spans), len(spans)
            except _ISOLATED:
                pass
            good = [span for span in spans if self._encodable(span)]
            if not good:
                continue
            try:
                return _encode(good), len(good)
            except _ISOLATED:
                # Each can be encoded and all together can't: 2 GiB of protobuf, or no memory.
                self._ledger.dropped(len(good), "encode_error")
                _log.warning("batch", "A batch of %d spans can't be encoded", len(good), exc_info=True)
        return None

    def discard(self, reason: str) -> None:
        """Drops every waiting span under `reason`."""
        while spans := self._take(512):
            self._ledger.dropped(len(spans), reason)

    def forget(self) -> None:
        """Lets go of every waiting span uncounted."""
        self._spans = deque()

    def _take(self, max_items: int) -> list[ReadableSpan]:
        taken: list[ReadableSpan] = []
        try:
            while len(taken) < max_items:
                taken.append(self._spans.popleft())
        except IndexError:
            pass
        return taken

    def _encodable(self, span: ReadableSpan) -> bool:
        try:
            _encode([span])
        except _ISOLATED as error:
            self._ledger.dropped(1, "encode_error")
            _log.warning("encode", "A span can't be encoded and is dropped: %s", type(error).__name__, exc_info=True)
            return False
        return True


class Pipeline(SpanProcessors):
    """What the provider calls: our batch first, then the processors that others added, which can't harm it.

    :param flush_timeout_s: how long the provider's own shutdown may take, seconds.
    :param flush_delivery: continues a flush behind the batch.
    """

    def __init__(
        self,
        spans: SpanQueue,
        batch: Batch,
        ledger: LedgerPort,
        flush_timeout_s: float,
        flush_delivery: FlushDelivery | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue = spans
        self._batch = batch
        self._ledger = ledger
        self._flush_timeout_s = flush_timeout_s
        self._flush_delivery = flush_delivery

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tells the others."""
        for processor in self._span_processors:
            try:
                processor.on_start(span, parent_context=parent_context)
            except _ISOLATED:
                _complain(processor)

    def _on_ending(self, span: Span) -> None:
        for processor in self._span_processors:
            try:
                processor._on_ending(span)
            except _ISOLATED:
                _complain(processor)

    def on_end(self, span: ReadableSpan) -> None:
        """Counts the span and puts it into the batch. Takes no lock but the ledger's."""
        if not span.context.trace_flags & 1:
            self._ledger.sampled_out(1)  # Recorded for the processors that others added (RECORD_ONLY), never exported.
        else:
            self._ledger.ended(1)
            if self._batch.closed:
                self._ledger.dropped(1, "shutdown")
            elif pending := self._queue.offer(span):
                self._batch.added(pending)
        for processor in self._span_processors:
            try:
                processor.on_end(span)
            except _ISOLATED:
                _complain(processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """What `TracerProvider.force_flush` does: batch, delivery, then the others, all within the timeout.

        :param timeout_millis: milliseconds.
        :returns: whether everything that ended before the call has been flushed by all of them.
        """
        deadline_s = time.monotonic() + timeout_millis / 1000
        done = self._batch.flush(deadline_s)
        if self._flush_delivery is not None:
            done = self._flush_delivery(deadline_s) and done
        for processor in self._span_processors:
            left_ms = int((deadline_s - time.monotonic()) * 1000)
            if left_ms <= 0:
                return False
            try:
                done = processor.force_flush(left_ms) is not False and done
            except _ISOLATED:
                _complain(processor)
                done = False
        return done

    def shutdown(self) -> None:
        """What `TracerProvider.shutdown` does: as `force_flush`, and nothing is taken any more."""
        deadline_s = time.monotonic() + self._flush_timeout_s
        self._batch.shutdown(deadline_s)
        if self._flush_delivery is not None:
            self._flush_delivery(deadline_s)
        self.shutdown_others()

    def shutdown_others(self) -> None:
        """Shuts down the processors that others added, once."""
        with self._lock:
            processors, self._span_processors = self._span_processors, ()
        for processor in processors:
            try:
                processor.shutdown()
            except _ISOLATED:
                _complain(processor)


def _complain(processor: SpanProcessor) -> None:
    _log.warning(type(processor).__qualname__, "%s failed", type(processor).__qualname__, exc_info=True)


def _encode(spans: Sequence[ReadableSpan]) -> bytes:
    # Imported at the first batch: protobuf costs tens of milliseconds that the application's start shouldn't pay.
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return encode_spans(spans).SerializeToString()


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
