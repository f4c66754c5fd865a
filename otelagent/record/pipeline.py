"""What stands behind a provider of either engine: its batch, and the processors that users added, isolated."""

from __future__ import annotations

import atexit
import time
from typing import TYPE_CHECKING

from otelagent.loss import LossReport
from otelagent.record.isolation import ISOLATED, complain, flush_all, shutdown_all
from otelagent.threads import Lock

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

    from otelagent.record.batch import Batch
    from otelagent.record.engine import FlushDelivery, LedgerPort

__all__ = ["Delivering", "Pipeline"]


class Pipeline:
    """The processors that users added to a provider: called in their order, none can harm another or the application.

    :param active: a processor that takes the later ones itself, as the SDK's `ConcurrentMultiSpanProcessor` does.
    :param shutdown_on_exit: whether they are shut down when the interpreter exits; keeps this object until then.
    """

    def __init__(self, active: SpanProcessor | None = None, *, shutdown_on_exit: bool = False) -> None:
        self._lock = Lock()
        self._active = active
        self._shutdown_on_exit = shutdown_on_exit
        self._processors: tuple[SpanProcessor, ...] = ()
        if active is not None:
            self._append(active)

    @property
    def processors(self) -> tuple[SpanProcessor, ...]:
        """What is called."""
        return self._processors

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Adds a processor of the stock SDK's interface; it hears of spans that start or end from now on."""
        if self._active is None:
            self._append(span_processor)
        else:
            self._active.add_span_processor(span_processor)  # type: ignore[attr-defined]

    def _append(self, processor: SpanProcessor) -> None:
        with self._lock:
            if not self._processors and self._shutdown_on_exit:
                atexit.register(self.shutdown)
            self._processors += (processor,)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Tells of a span that starts."""
        for processor in self._processors:
            try:
                processor.on_start(span, parent_context=parent_context)
            except ISOLATED:
                complain(processor)

    def on_ending(self, span: Span) -> None:
        """Tells of a span that has got its end."""
        for processor in self._processors:
            try:
                processor._on_ending(span)
            except ISOLATED:
                complain(processor)

    def on_end(self, span: ReadableSpan) -> None:
        """Tells of a span that has ended."""
        for processor in self._processors:
            try:
                processor.on_end(span)
            except ISOLATED:
                complain(processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """What `TracerProvider.force_flush` does.

        :param timeout_millis: milliseconds for all together.
        :returns: whether everything that ended before the call has been flushed by all of them.
        """
        return self._flush_others(time.monotonic() + timeout_millis / 1000)

    def _flush_others(self, deadline_s: float) -> bool:
        return flush_all(self._processors, deadline_s)

    def shutdown(self) -> None:
        """What `TracerProvider.shutdown` does: each processor is shut down, once, and hears of nothing any more."""
        for processor in self._take():
            try:
                processor.shutdown()
            except ISOLATED:
                complain(processor)

    def _take(self) -> tuple[SpanProcessor, ...]:
        with self._lock:
            processors, self._processors = self._processors, ()
        if self._shutdown_on_exit:
            atexit.unregister(self.shutdown)
        return processors

    def after_fork_in_child(self) -> None:
        """Takes a new lock: the parent's may have been held at the fork."""
        self._lock = Lock()


class Delivering(Pipeline):
    """The pipeline of an engine, whose batch is flushed and closed before the processors are.

    :param flush_timeout_s: how long the provider's own shutdown may take, seconds.
    :param flush_delivery: continues a flush behind the batch.
    """

    def __init__(
        self, batch: Batch, ledger: LedgerPort, *, flush_timeout_s: float, flush_delivery: FlushDelivery | None
    ) -> None:
        super().__init__()
        self._batch = batch
        self._flush_timeout_s = flush_timeout_s
        self._flush_delivery = flush_delivery
        self._losses = LossReport(lambda: ledger.lost)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes batch, delivery, then the processors, all within the timeout.

        :returns: whether everything that ended before the call has been flushed by all of them, and no span was lost
            since a flush before this one said so.
        """
        told = self._losses.begin()
        deadline_s = time.monotonic() + timeout_millis / 1000
        done = self._batch.flush(deadline_s)
        if self._flush_delivery is not None:
            done = self._flush_delivery(deadline_s) and done
        done = self._flush_others(deadline_s) and done
        return self._losses.end(told) and done

    def shutdown(self) -> None:
        """As `force_flush`, and nothing is taken any more."""
        deadline_s = time.monotonic() + self._flush_timeout_s
        self._batch.shutdown(deadline_s)
        if self._flush_delivery is not None:
            self._flush_delivery(deadline_s)
        self.shutdown_others(deadline_s)

    def shutdown_others(self, deadline_s: float) -> None:
        """Shuts down the processors alone. Half of the time is kept for what comes after them.

        :param deadline_s: a `time.monotonic()` value.
        """
        shutdown_all(self._take(), deadline_s)

    def after_fork_in_child(self) -> None:
        """Starts over in a fork child."""
        super().after_fork_in_child()
        self._losses.after_fork_in_child()
