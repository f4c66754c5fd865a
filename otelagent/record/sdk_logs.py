"""Log records of the `sdk` engine: the stock LoggerProvider and encoder of the OpenTelemetry SDK behind our own batch.

What is put right here (seen with opentelemetry-sdk 1.45.2), as in `otelagent.record.guarded_span`:

- A value whose own code raises, or that nests without end, raises into the application or costs its whole batch. Here
  every value, name and time is made fit (`otelagent.record.values`).
- A severity by its number is none.
- Over the limit of attributes the stock record gives up the oldest; the specification has the newest refused.
- A record object that the application gives is changed, and encoded later with what the application makes of it
  meanwhile. Here it is copied.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from opentelemetry._logs import Logger as ApiLogger
from opentelemetry._logs import LoggerProvider as ApiLoggerProvider
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordLimits, ReadWriteLogRecord
from opentelemetry.sdk._logs._internal import SynchronousMultiLogRecordProcessor
from opentelemetry.trace import TraceFlags

from otelagent.fork_gate import whole_imports
from otelagent.loss import LossReport
from otelagent.record.batch import Batch
from otelagent.record.guarded_attributes import GuardedAttributes, exception_attributes
from otelagent.record.isolation import ISOLATED, complain, flush_all, shutdown_all
from otelagent.record.rate_limited_log import RateLimitedLog, RateLimitFilter
from otelagent.record.span_queue import EncoderMissing, SpanQueue
from otelagent.record.values import clean, complain_of, fit_scope, text, time_of, truthy
from otelagent.record.weight import weigh_log_record
from otelagent.threads import Lock, RLock

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.util.types import AnyValue, Attributes

    from otelagent.config import Config
    from otelagent.record.engine import Deliver, FlushDelivery, LedgerPort

__all__ = ["SdkLogs"]

_log = RateLimitedLog(logging.getLogger(__name__))


class SdkLogs:
    """Records with the stock SDK. Every argument of the SDK is given, so that it reads no environment.

    :param resource: the engine's, which follows its process through a fork.
    """

    def __init__(
        self,
        config: Config,
        resource: Resource,
        ledger: LedgerPort,
        deliver: Deliver,
        *,
        flush_delivery: FlushDelivery | None = None,
    ) -> None:
        logs = config.logs
        queue = SpanQueue(
            ledger,
            max_items=logs.batch.max_queue_size,
            max_bytes=logs.batch.queue_max_bytes,
            max_batch_items=logs.batch.max_export_batch_size,
            weigh=weigh_log_record,
            encode=_encode,
            item="log record",
        )
        self._batch = Batch(
            queue,
            ledger,
            deliver,
            schedule_delay_s=logs.batch.schedule_delay_ms / 1000,
            signal="logs",
        )
        flush_timeout_s = logs.batch.export_timeout_ms / 1000
        self._pipeline = LogPipeline(queue, self._batch, ledger, flush_timeout_s, flush_delivery)
        length = logs.attribute_value_length
        limits = LogRecordLimits(
            max_attributes=logs.attribute_count,
            # None would make the SDK read its environment variable.
            max_attribute_length=LogRecordLimits.UNSET if length is None else length,
            max_log_record_attributes=logs.attribute_count,
            max_log_record_attribute_length=LogRecordLimits.UNSET if length is None else length,
        )
        self._provider = Provider(resource, self._pipeline, limits)

    @property
    def provider(self) -> ApiLoggerProvider:
        """The stock SDK's provider; users may `add_log_record_processor` to it."""
        return self._provider

    def pause(self) -> None:
        """Log records are not recorded until `resume`."""
        self._pipeline.paused = True

    def resume(self) -> None:
        """Ends a pause."""
        self._pipeline.paused = False

    def flush(self, deadline_s: float) -> bool:
        """See `LogsEngine.flush`."""
        return self._batch.flush(deadline_s)

    def shutdown(self, deadline_s: float) -> bool:
        """See `LogsEngine.shutdown`."""
        done = self._batch.shutdown(deadline_s)
        self._pipeline.shutdown_others(deadline_s)
        return done

    def after_fork_in_child(self) -> None:
        """See `LogsEngine.after_fork_in_child`."""
        self._pipeline.after_fork_in_child()
        self._batch.after_fork_in_child()


class Provider(LoggerProvider):
    """The stock provider without its reading of the environment and with our way through a fork."""

    def __init__(self, resource: Resource, pipeline: LogPipeline, limits: LogRecordLimits) -> None:
        super().__init__(
            resource=resource,
            shutdown_on_exit=False,
            multi_log_record_processor=pipeline,
            # The ledger counts log records; the SDK would make its own metrics if an environment variable told it to.
            meter_provider=NoOpMeterProvider(),
            log_record_limits=limits,
        )
        # The constructor reads OTEL_SDK_DISABLED, but whether otelagent runs was decided when this was called.
        self._disabled = False
        self._renew_locks()

    def get_logger(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> ApiLogger:
        """A logger that keeps its troubles from the application."""
        logger = super().get_logger(*fit_scope(name, version, schema_url, attributes))
        if type(logger) is Logger:
            logger.__class__ = GuardedLogger
        return logger

    def _handle_fork(self) -> None:
        # The stock hook merges another instance id over ours. The engine renews the resource.
        self._renew_locks()

    def _renew_locks(self) -> None:
        # The stock ones aren't reentrant, see `otelagent.record.sdk.Provider`.
        self._logger_cache_lock = RLock()
        self._active_loggers_lock = RLock()


class GuardedLogRecord(ReadWriteLogRecord):
    """A stock record whose attributes refuse the newest when full, and drop what they can't keep."""

    def __post_init__(self) -> None:
        self._kept = GuardedAttributes(
            maxlen=self.limits.max_log_record_attributes,
            immutable=False,
            max_value_len=self.limits.max_log_record_attribute_length,
        )
        self.log_record.attributes = self._kept

    def fill(self, attributes: Attributes, exception: BaseException | None) -> None:
        """Sets the attributes, those of the exception first: the caller's win."""
        if exception is not None:
            self._kept._set_items(exception_attributes(exception))
        if attributes is not None:
            self._kept._set_items(attributes)


class GuardedLogger(Logger):
    """A stock logger that doesn't raise."""

    def emit(
        self,
        record: LogRecord | ReadWriteLogRecord | None = None,
        *,
        timestamp: int | None = None,
        observed_timestamp: int | None = None,
        context: Context | None = None,
        severity_number: SeverityNumber | None = None,
        severity_text: str | None = None,
        body: AnyValue | None = None,
        attributes: Attributes = None,
        event_name: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """As the API says."""
        pipeline = cast("LogPipeline", self._multi_log_record_processor)
        if pipeline.left_out():
            return
        try:
            if record is None:
                made = _made(
                    Parts(timestamp, observed_timestamp, severity_number, severity_text, body, event_name), context
                )
                given = attributes
            else:
                given_record = record.log_record if isinstance(record, ReadWriteLogRecord) else record
                made = _copy(given_record)
                given, exception = given_record.attributes, getattr(given_record, "exception", None)
            taken = GuardedLogRecord(made, self._resource, self._instrumentation_scope, self._log_record_limits)
            taken.fill(given, exception)
        except ISOLATED:
            pipeline.refused()
            return
        pipeline.on_emit(taken)


class LogPipeline(SynchronousMultiLogRecordProcessor):
    """What loggers call: our batch first, then the processors that others added, which can't harm it.

    :param flush_timeout_s: how long the provider's own shutdown may take, seconds.
    :param flush_delivery: continues a flush behind the batch.
    """

    def __init__(
        self,
        records: SpanQueue,
        batch: Batch,
        ledger: LedgerPort,
        flush_timeout_s: float,
        flush_delivery: FlushDelivery | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paused = False
        self._queue = records
        self._batch = batch
        self._ledger = ledger
        self._flush_timeout_s = flush_timeout_s
        self._flush_delivery = flush_delivery
        self._losses = LossReport(lambda: ledger.lost)

    def left_out(self) -> bool:
        """Whether a record isn't wanted now; counts it then."""
        if self.paused:
            self._ledger.sampled_out(1)
        return self.paused

    def refused(self) -> None:
        """Counts a record that can't even be made."""
        self._ledger.ended(1)
        self._ledger.dropped(1, "encode_error")
        _log.warning("record", "A log record can't be made", exc_info=True)

    def enabled(self, **what: Any) -> bool:
        """Whether a record would be taken."""
        return not self.paused

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Counts the record and puts it into the batch. Takes no lock but the ledger's."""
        self._ledger.ended(1)
        if self._batch.closed:
            self._ledger.dropped(1, "shutdown")
        elif (enough := self._queue.offer(log_record)) is not None:
            self._batch.added(enough)
        for processor in self._log_record_processors:
            try:
                processor.on_emit(log_record)
            except ISOLATED:
                complain(processor)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """What `LoggerProvider.force_flush` does: batch, delivery, then the others, all within the timeout.

        :param timeout_millis: milliseconds.
        :returns: whether everything that was emitted before the call has been flushed by all of them, and nothing was
            lost since a flush before this one said so.
        """
        told = self._losses.begin()
        deadline_s = time.monotonic() + timeout_millis / 1000
        done = self._batch.flush(deadline_s)
        if self._flush_delivery is not None:
            done = self._flush_delivery(deadline_s) and done
        done = flush_all(self._log_record_processors, deadline_s) and done
        return self._losses.end(told) and done

    def shutdown(self) -> None:
        """What `LoggerProvider.shutdown` does: as `force_flush`, and nothing is taken any more."""
        deadline_s = time.monotonic() + self._flush_timeout_s
        self._batch.shutdown(deadline_s)
        if self._flush_delivery is not None:
            self._flush_delivery(deadline_s)
        self.shutdown_others(deadline_s)

    def shutdown_others(self, deadline_s: float) -> None:
        """Shuts down the processors that others added, once. Half of the time is kept for what comes after them.

        :param deadline_s: a `time.monotonic()` value.
        """
        with self._lock:
            processors, self._log_record_processors = self._log_record_processors, ()
        shutdown_all(processors, deadline_s)

    def after_fork_in_child(self) -> None:
        """Takes a new lock: the parent's may have been held at the fork."""
        self._lock = Lock()
        self._losses.after_fork_in_child()


class Parts(NamedTuple):
    """What a log record is made of, as it was given."""

    timestamp: object
    observed_timestamp: object
    severity_number: object
    severity_text: object
    body: object
    event_name: object


def _made(parts: Parts, context: Context | None) -> LogRecord:
    try:
        record = LogRecord(context=context if context is not None and truthy(context) else None)
    except ISOLATED as error:
        _log.warning("context", "A log record is kept without its context", exc_info=error)
        record = LogRecord(context=Context())
    _fill(record, parts)
    return record


def _copy(record: LogRecord) -> LogRecord:
    names = Parts._fields
    copy = LogRecord(context=Context())
    _fill(copy, Parts(*(getattr(record, name, None) for name in names)))
    copy.trace_id = _number(record.trace_id, 1 << 128)
    copy.span_id = _number(record.span_id, 1 << 64)
    copy.trace_flags = TraceFlags(_number(record.trace_flags, 1 << 8))
    return copy


def _fill(record: LogRecord, parts: Parts) -> None:
    what = "A log record's "
    if parts.timestamp is not None:
        record.timestamp = time_of(parts.timestamp, what + "time")
    record.observed_timestamp = time_of(parts.observed_timestamp, what + "time")
    record.severity_number = _severity(parts.severity_number)
    if parts.severity_text is not None:
        record.severity_text = text(parts.severity_text, what + "severity text")
    if parts.event_name is not None:
        record.event_name = text(parts.event_name, what + "event name")
    record.body, lost = clean(parts.body, None)
    if lost is not None:
        complain_of(parts.body, "body", what + "body", lost)


def _number(value: object, beyond: int) -> int:
    return value if isinstance(value, int) and 0 <= value < beyond else 0


def _severity(number: object) -> SeverityNumber | None:
    if number is None or type(number) is SeverityNumber:
        return number
    try:
        return SeverityNumber(cast("int", number))
    except ISOLATED:
        return None


def _encode(records: Sequence[ReadWriteLogRecord]) -> bytes:
    # Imported at the first batch: protobuf costs tens of milliseconds that the application's start shouldn't pay.
    with whole_imports():
        try:
            from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
        except (OSError, ImportError) as error:
            raise EncoderMissing(str(error)) from error

        # It logs each attribute value that it can't encode, with a traceback.
        _encoder_log.addFilter(_encoder_log_filter)
    body: bytes = encode_logs(cast("Any", records)).SerializeToString()
    return body


_encoder_log = logging.getLogger("opentelemetry.exporter.otlp.proto.common._internal")
_encoder_log_filter = RateLimitFilter()
