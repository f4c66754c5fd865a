"""What the stock provider calls for each span: our batch, then the processors that users added, isolated."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SynchronousMultiSpanProcessor

from otelagent.loss import LossReport
from otelagent.record.guarded_span import GuardedSpan
from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.waiting import left_s

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

    from otelagent.record.batch import Batch
    from otelagent.record.engine import FlushDelivery, LedgerPort
    from otelagent.record.span_queue import SpanQueue

__all__ = ["Pipeline"]

_log = RateLimitedLog(logging.getLogger(__name__))

# What a user's processor may raise without reaching the application. SystemExit is one that calls sys.exit().
_ISOLATED = (Exception, SystemExit)


class Pipeline(SynchronousMultiSpanProcessor):
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
        self._losses = LossReport(lambda: ledger.lost)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Guards the span, then tells the others."""
        GuardedSpan.guard(span)
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
        :returns: whether everything that ended before the call has been flushed by all of them, and no span was lost
            since a flush before this one said so.
        """
        told = self._losses.begin()
        deadline_s = time.monotonic() + timeout_millis / 1000
        done = self._batch.flush(deadline_s)
        if self._flush_delivery is not None:
            done = self._flush_delivery(deadline_s) and done
        for processor in self._span_processors:
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

    def after_fork_in_child(self) -> None:
        """Takes a new lock: the parent's may have been held at the fork."""
        self._lock = threading.Lock()
        self._losses.after_fork_in_child()


def _complain(processor: SpanProcessor) -> None:
    _log.warning(type(processor).__qualname__, "%s failed", type(processor).__qualname__, exc_info=True)
