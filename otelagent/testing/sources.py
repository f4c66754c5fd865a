"""Where captured telemetry comes from: the providers of this process, whoever set them.

Spans are heard of by a processor on the provider. Log records of the agent are taken where it hands them over as
requests, those of a stock provider by a processor; metrics by a reader. All of it becomes OTLP, the stock encoder's
where it isn't yet, and is decoded by `otelagent.testing.decode`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakSet

from otelagent import lifecycle
from otelagent.config.settings import TEST_RUN_VARIABLE
from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.suppression import instrumentation_suppressed
from otelagent.testing.decode import decode, read
from otelagent.testing.measured import MetricPoint
from otelagent.testing.types import LogRecord, Span

with hidden(*SDK_VARIABLES):
    from opentelemetry import _logs, metrics, trace
    from opentelemetry._logs import _internal as logs_api
    from opentelemetry.metrics import _internal as metrics_api
    from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord
    from opentelemetry.sdk.trace import ReadableSpan

    from otelagent.testing.windows import TAP

if TYPE_CHECKING:
    from types import ModuleType

    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

__all__ = ["SOURCES", "NotCapturing", "Taker"]

_log = logging.getLogger("otelagent.testing")

_FLUSH_S = 10.0
# The agent's books, which it offers as metrics.
_OWN_SCOPE = "otelagent"


class NotCapturing(RuntimeError):
    """What keeps this process from being captured; the exception's text says what to do."""


class Taker(Protocol):
    """Gets what is collected."""

    def take_log_records(self, records: list[LogRecord]) -> None: ...
    def take_points(self, points: list[MetricPoint]) -> None: ...


class _LogTap(LogRecordProcessor):
    def __init__(self, sources: _Sources) -> None:
        self._sources = sources

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        if self._sources.takers:
            self._sources.emitted.append(log_record)

    def shutdown(self) -> None:
        """Goes on: the application may be started again in this process."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


class _Sources:
    """The one of the process: what is added to a provider stays there.

    :ivar takers: whom everything is given to that is collected from now on.
    :ivar emitted: log records of stock providers that wait to be collected.
    :ivar lock: held while anything is taken: tests ask from several threads.
    """

    def __init__(self) -> None:
        self.takers: tuple[Taker, ...] = ()
        self.lock = threading.RLock()
        self._listened_to: WeakSet[Any] = WeakSet()
        self._requests: deque[bytes] = deque()
        self.emitted: deque[ReadWriteLogRecord] = deque()
        self._readers: list[InMemoryMetricReader] = []
        self._watches = False

    def attach(self) -> None:
        """Listens to every provider that is set; starts the agent where there is no TracerProvider.

        :raises NotCapturing: there are no spans to be had.
        """
        with (
            self.lock,
            hidden("OTEL_PYTHON_TRACER_PROVIDER", "OTEL_PYTHON_LOGGER_PROVIDER", "OTEL_PYTHON_METER_PROVIDER"),
        ):
            if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
                _start_agent()
            provider = trace.get_tracer_provider()
            _check(provider)
            self.listen_to_spans(provider)
            self._listen_to_agent()
            self.listen_to_logs(_logs.get_logger_provider())
            self.listen_to_metrics(_meter_provider(provider))
            if not self._watches:
                self._watches = True
                _watch(trace, "_set_tracer_provider", self.listen_to_spans)
                _watch(logs_api, "_set_logger_provider", self.listen_to_logs)
                _watch(metrics_api, "_set_meter_provider", self.listen_to_metrics)

    def _listen_to_agent(self) -> None:
        agent = lifecycle.agent()
        if agent is None or agent.state != "RUNNING":
            return
        if isinstance(_logs.get_logger_provider(), logs_api.ProxyLoggerProvider):
            agent.record_logs()
        for path in agent.paths:
            if path.signal == "logs" and path not in self._listened_to:
                # Its provider is the agent's, and says no more.
                self._listened_to.update((path, _logs.get_logger_provider()))
                path.listeners += (self._take_request,)

    def listen_to_spans(self, provider: Any) -> None:
        """Adds the tap to a provider, once, if it takes any."""
        self._listen(provider, "add_span_processor", lambda: TAP)

    def listen_to_logs(self, provider: Any) -> None:
        """The same for log records."""
        self._listen(provider, "add_log_record_processor", lambda: _LogTap(self))

    def listen_to_metrics(self, provider: Any) -> None:
        """The same for metrics."""
        self._listen(provider, "add_metric_reader", self._new_reader)

    def _listen(self, provider: Any, method: str, listener: Callable[[], object]) -> None:
        add = getattr(provider, method, None)
        if add is not None and provider not in self._listened_to:
            self._listened_to.add(provider)
            add(listener())

    def _new_reader(self) -> InMemoryMetricReader:
        self._readers.append(_reader())
        return self._readers[-1]

    def _take_request(self, signal: str, body: bytes, items: int) -> None:
        if self.takers:
            self._requests.append(body)

    def collect_log_records(self) -> None:
        """Gives the takers what has come since the last time."""
        with self.lock, instrumentation_suppressed():
            agent = lifecycle.agent()
            for path in agent.paths if agent is not None else ():
                if path.signal == "logs" and path.recording is not None:
                    path.recording.flush(time.monotonic() + _FLUSH_S)
            records: list[LogRecord] = []
            while self._requests:
                records += read("logs", self._requests.popleft())
            emitted = [self.emitted.popleft() for _ in range(len(self.emitted))]
            if emitted:
                from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs

                records += decode("logs", encode_logs(cast("Any", emitted)))
            for taker in self.takers:
                taker.take_log_records(records)

    def collect_points(self) -> None:
        """The same for metrics."""
        with self.lock, instrumentation_suppressed():
            points = [point for reader in self._readers for point in _points(reader)]
            for taker in self.takers:
                taker.take_points(points)

    def spans(self, ended: list[ReadableSpan]) -> Iterable[Span]:
        """Spans of the SDK's kind as ours."""
        if not ended:
            return ()
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        return decode("traces", encode_spans(ended))


def _start_agent() -> None:
    if lifecycle.agent() is None:
        # Who captures sends nothing unless told to: under pytest the plugin has said what holds.
        os.environ.setdefault(TEST_RUN_VARIABLE, "otelagent.testing")
        # The environment may switch tracing off for everything but these tests.
        lifecycle.init(enabled=True, sampler="parentbased_always_on")


def _check(provider: Any) -> None:
    agent = lifecycle.agent()
    if agent is not None and agent.state != "RUNNING":
        own = agent.engine is not None and provider is agent.engine.provider
        if own or isinstance(provider, trace.ProxyTracerProvider):
            reason = f" ({agent.reason})" if agent.reason else ""
            advice = {
                "PAUSED": "call otelagent.resume()",
                "DISABLED": "the application called init() while that held; take it out of the tests' environment",
            }.get(agent.state, "it doesn't start again in this process; what stopped it should not run in tests")
            raise NotCapturing(f"no spans are recorded: otelagent is {agent.state}{reason}; {advice}")
    if not hasattr(provider, "add_span_processor"):
        kind = type(provider)
        raise NotCapturing(
            f"the TracerProvider is a {kind.__module__}.{kind.__qualname__}, which takes no span processors: its spans"
            " can't be captured"
        )


def _meter_provider(spans: Any) -> Any:
    """The one that is set; one of the stock SDK, which is set then, where none is."""
    current = metrics.get_meter_provider()
    if not isinstance(current, metrics_api._ProxyMeterProvider):
        return current
    from opentelemetry.sdk.metrics import MeterProvider

    made = MeterProvider(resource=getattr(spans, "resource", None), shutdown_on_exit=False)
    metrics.set_meter_provider(made)
    return made


def _reader() -> InMemoryMetricReader:
    from opentelemetry.sdk import metrics as sdk
    from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader

    # What was measured since the last collection: so each test gets its own.
    kinds = (sdk.Counter, sdk.UpDownCounter, sdk.Histogram, sdk.ObservableCounter, sdk.ObservableUpDownCounter)
    return InMemoryMetricReader(preferred_temporality=dict.fromkeys(kinds, AggregationTemporality.DELTA))


def _points(reader: InMemoryMetricReader) -> list[MetricPoint]:
    data = reader.get_metrics_data()
    if data is None:
        return []
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

    return [point for point in decode("metrics", encode_metrics(data)) if point.scope.name != _OWN_SCOPE]


def _watch(module: ModuleType, name: str, listen: Callable[[Any], object]) -> None:
    """Listens also to a provider that is set when the API allows no other any more: the application uses it all the
    same, for tracers that it takes from it itself."""
    original = getattr(module, name, None)
    if original is None:
        return  # The API has changed; what is set first is listened to.

    def watched(provider: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            listen(provider)
        except Exception:
            _log.warning("%r can't be listened to", provider, exc_info=True)
        return original(provider, *args, **kwargs)

    setattr(module, name, watched)


SOURCES = _Sources()
