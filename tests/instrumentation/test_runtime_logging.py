"""Log records carry the ids of the span they are logged in, and logging works as it did."""

from __future__ import annotations

import io
import logging
import logging.handlers
import pickle
import queue
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otelagent_instrumentation.runtime.logging import Logging
from tests.instrumentation.capture import Applied, Spans

FORMAT = "%(message)s %(otelTraceID)s %(otelSpanID)s %(otelTraceSampled)s %(otelServiceName)s"


class Log:
    """A logger of its own that writes in a format with contrib's field names."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.records: list[logging.LogRecord] = []
        self.logger = logging.Logger("log")
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(logging.Formatter(FORMAT))
        self.logger.addHandler(handler)
        self.logger.addFilter(self._keep)

    def _keep(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    def __call__(self, **kwargs: Any) -> str:
        self.stream.truncate(self.stream.seek(0))
        self.logger.warning("hello %s", "you", **kwargs)
        return self.stream.getvalue().strip()

    def ids(self, **kwargs: Any) -> list[str]:
        return self(**kwargs).split()[2:4]


@pytest.fixture
def log(apply: Applied) -> Log:
    apply(Logging)
    return Log()


@pytest.fixture
def factory() -> Iterator[None]:
    """Restores the record factory."""
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def ids(span: trace.Span) -> list[str]:
    context = span.get_span_context()
    return [f"{context.trace_id:032x}", f"{context.span_id:016x}"]


def service(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    provider = TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


def test_without_a_span(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    service(monkeypatch, "shop")
    assert log() == "hello you 0 0 False shop"


def test_in_a_span(log: Log, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    with spans.tracer.start_as_current_span("work") as span:
        service(monkeypatch, "shop")
        assert log() == f"hello you {' '.join(ids(span))} True shop"


def test_in_an_unsampled_span(log: Log) -> None:
    with trace.use_span(NonRecordingSpan(SpanContext(0xABC, 0xDEF, False, TraceFlags(0)))) as span:
        assert log().split()[2:5] == [*ids(span), "False"]


@pytest.mark.parametrize("provider", [None, trace.NoOpTracerProvider()])
def test_without_a_resource_the_service_has_no_name(
    provider: trace.TracerProvider | None, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    # The API would load an SDK that this names.
    monkeypatch.setenv("OTEL_PYTHON_TRACER_PROVIDER", "no_such_provider")
    assert log() == "hello you 0 0 False"


def test_a_resource_that_cannot_be_had_now_costs_the_name_alone(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider(trace.NoOpTracerProvider):
        asked = 0

        @property
        def resource(self) -> Resource:
            self.asked += 1
            if self.asked == 1:
                raise OSError(24, "Too many open files")
            return Resource({"service.name": "shop"})

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", Provider())
    assert log() == "hello you 0 0 False"
    assert log() == "hello you 0 0 False shop"


def test_the_service_is_the_current_providers(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for name in ("first", "second"):
        service(monkeypatch, name)
        names.append(log().split()[-1])
    assert names == ["first", "second"]


def test_factories_set_before_and_after_work(log: Log, spans: Spans, factory: None) -> None:
    class Own(logging.LogRecord):
        pass

    def chained(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = Own(*args, **kwargs)
        record.extra_field = "x"
        return record

    logging.setLogRecordFactory(chained)
    assert logging.getLogRecordFactory() is chained
    with spans.tracer.start_as_current_span("work") as span:
        assert log.ids() == ids(span)
    assert type(log.records[-1]) is Own
    assert log.records[-1].__dict__["extra_field"] == "x"


def test_what_the_application_gives_itself_stands(log: Log, spans: Spans, factory: None) -> None:
    with spans.tracer.start_as_current_span("work") as span:
        mine = {"otelTraceID": "mine", "otelSpanID": "own"}
        assert log.ids(extra=mine) == ["mine", "own"]
        # A part of them, even: logging refuses an `extra` that overwrites what a factory has set.
        assert log.ids(extra={"otelSpanID": "own"}) == [ids(span)[0], "own"]

        before = logging.getLogRecordFactory()

        def contrib(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = before(*args, **kwargs)
            record.__dict__.update(otelTraceID="c", otelSpanID="c", otelTraceSampled=False, otelServiceName="c")
            return record

        logging.setLogRecordFactory(contrib)
        assert log.ids() == ["c", "c"]


def test_records_are_pickled_and_queued(log: Log, spans: Spans) -> None:
    with spans.tracer.start_as_current_span("work") as span:
        waiting: queue.Queue[Any] = queue.Queue()
        log.logger.addHandler(logging.handlers.QueueHandler(waiting))
        log()
    queued = pickle.loads(pickle.dumps(waiting.get()))
    assert [queued.otelTraceID, queued.otelSpanID] == ids(span)

    # The other end of a `SocketHandler`: the sender's ids, whatever is current here.
    sent = dict(queued.__dict__)
    unrelated = {"name": "n", "msg": "m", "levelno": 10}
    with spans.tracer.start_as_current_span("receiver"):
        assert [logging.makeLogRecord(sent).__dict__[key] for key in ("otelTraceID", "otelSpanID")] == ids(span)
        received = logging.makeLogRecord(unrelated)
    assert logging.Formatter(FORMAT).format(received).split()[:3] == ["m", "0", "0"]


def test_an_adapter_and_the_caller_are_as_before(log: Log) -> None:
    logging.LoggerAdapter(log.logger, {"key": "value"}).warning("adapted")
    record = log.records[-1]
    assert record.__dict__["key"] == "value"
    assert (record.filename, record.funcName) == (
        "test_runtime_logging.py",
        "test_an_adapter_and_the_caller_are_as_before",
    )


def test_undo_restores_identity(spans: Spans) -> None:
    before = logging.Logger.makeRecord, logging.makeLogRecord, logging.getLogRecordFactory()
    instrumentation = Logging("0")
    instrumentation.apply()
    ours = logging.Logger.makeRecord
    instrumentation.undo()
    assert (logging.Logger.makeRecord, logging.makeLogRecord, logging.getLogRecordFactory()) == before
    # Kept by somebody: silent.
    record = ours(logging.getLogger(), "n", 10, "f", 1, "m", (), None)
    assert "otelTraceID" not in record.__dict__


def test_no_format_and_no_handler_is_touched(apply: Applied) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level, [handler.formatter for handler in root.handlers]
    apply(Logging)
    logging.getLogger("some").warning("hello")
    assert (list(root.handlers), root.level, [handler.formatter for handler in root.handlers]) == before
