"""Log records of the `native` engine: recorded and encoded by `otelagent_native`, behind our own batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, cast

from opentelemetry._logs import Logger, LoggerProvider

import otelagent_native
from otelagent.loss import LossReport
from otelagent.record.batch import Batch
from otelagent.record.native_provider import complain, fit_scope
from otelagent.threads import RLock

if TYPE_CHECKING:
    from opentelemetry.util.types import Attributes

    from otelagent.config import Config
    from otelagent.record.engine import Deliver, FlushDelivery, LedgerPort

__all__ = ["NativeLogs"]

Logger.register(otelagent_native.LoggerBase)


class NativeLogs:
    """Records without the stock SDK.

    :param resource: gives the resource attributes of this process as they are now.
    """

    def __init__(
        self,
        config: Config,
        resource: Callable[[], Mapping[str, object]],
        ledger: LedgerPort,
        deliver: Deliver,
        *,
        flush_delivery: FlushDelivery | None = None,
    ) -> None:
        logs = config.logs
        self._resource = resource
        self._recorder = otelagent_native.Recorder(
            # Nothing is sampled here, and a log record has neither events nor links.
            sampler="always_on",
            ratio=1.0,
            parent_based=False,
            limits=[logs.attribute_count, logs.attribute_value_length, 0, 0, 0, 0, 0],
            max_queue_size=logs.batch.max_queue_size,
            max_queue_bytes=logs.batch.queue_max_bytes,
            max_batch_items=min(logs.batch.max_export_batch_size, logs.batch.max_queue_size),
            complain=complain,
        )
        self._batch = Batch(
            self._recorder,
            ledger,
            deliver,
            schedule_delay_s=logs.batch.schedule_delay_ms / 1000,
            signal="logs",
        )
        self._recorder.set_batch(self._batch)
        ledger.include(self._recorder.counts)
        self._recorder.set_resource(cast("Mapping[str, str]", resource()))
        self._provider = NativeLoggerProvider(
            self._recorder, self._batch, ledger, logs.batch.export_timeout_ms / 1000, flush_delivery
        )

    @property
    def provider(self) -> LoggerProvider:
        """The provider."""
        return self._provider

    def pause(self) -> None:
        """Log records are not recorded until `resume`."""
        self._recorder.pause()

    def resume(self) -> None:
        """Ends a pause."""
        self._recorder.resume()

    def flush(self, deadline_s: float) -> bool:
        """See `LogsEngine.flush`."""
        return self._batch.flush(deadline_s)

    def shutdown(self, deadline_s: float) -> bool:
        """See `LogsEngine.shutdown`."""
        self._recorder.close()
        return self._batch.shutdown(deadline_s)

    def after_fork_in_child(self) -> None:
        """See `LogsEngine.after_fork_in_child`."""
        self._recorder.set_resource(cast("Mapping[str, str]", self._resource()))
        self._provider.after_fork_in_child()
        self._batch.after_fork_in_child()


class NativeLoggerProvider(LoggerProvider):
    """Makes loggers; each scope has one.

    :param flush_timeout_s: how long `shutdown` may take, seconds.
    :param flush_delivery: continues a flush behind the batch.
    """

    def __init__(
        self,
        recorder: otelagent_native.Recorder,
        batch: Batch,
        ledger: LedgerPort,
        flush_timeout_s: float,
        flush_delivery: FlushDelivery | None,
    ) -> None:
        self._recorder = recorder
        self._batch = batch
        self._flush_timeout_s = flush_timeout_s
        self._flush_delivery = flush_delivery
        self._losses = LossReport(lambda: ledger.lost)
        self._lock = RLock()
        self._loggers: dict[object, Logger] = {}

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Logger:
        """The logger of an instrumentation scope."""
        fit = fit_scope(name, version, schema_url, attributes)
        kept = fit[3]
        key = (*fit[:3], repr(sorted(kept.items(), key=repr)) if kept else "")
        if (logger := self._loggers.get(key)) is not None:
            return logger
        # Reentrant: a signal handler or a `__del__` may log in here.
        with self._lock:
            if key not in self._loggers:
                # Registered with the API's Logger, which a type checker can't see.
                made = cast("Logger", otelagent_native.Logger(self._recorder, *fit))
                self._loggers.setdefault(key, made)
        return self._loggers[key]

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flushes batch and delivery within the timeout.

        :param timeout_millis: milliseconds.
        :returns: whether everything that was emitted before the call has arrived, and nothing was lost since a flush
            before this one said so.
        """
        told = self._losses.begin()
        deadline_s = time.monotonic() + timeout_millis / 1000
        done = self._batch.flush(deadline_s)
        if self._flush_delivery is not None:
            done = self._flush_delivery(deadline_s) and done
        return self._losses.end(told) and done

    def shutdown(self) -> None:
        """As `force_flush`, and nothing is taken any more."""
        deadline_s = time.monotonic() + self._flush_timeout_s
        self._recorder.close()
        self._batch.shutdown(deadline_s)
        if self._flush_delivery is not None:
            self._flush_delivery(deadline_s)

    def after_fork_in_child(self) -> None:
        """Takes a new lock: the parent's may have been held at the fork."""
        self._lock = RLock()
        self._losses.after_fork_in_child()
