"""What is logged by `logging` becomes log records of OpenTelemetry, and logging works as it did."""

from __future__ import annotations

import asyncio
import io
import logging
import logging.config
import logging.handlers
import queue
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import _logs, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otelagent.patching.switch import SWITCH
from otelagent.suppression import instrumentation_suppressed
from otelagent_instrumentation.runtime.logging import LogBridge, Logging
from tests.instrumentation.capture import Applied

SPAN = NonRecordingSpan(SpanContext(0xABC, 0xDEF, False, TraceFlags(1)))


class Emitted:
    """One call of `Logger.emit`, with the span its context names."""

    def __init__(self, scope: str, fields: dict[str, Any]) -> None:
        self.scope = scope
        self.span = trace.get_current_span(fields["context"]).get_span_context()
        self.body = fields["body"]
        self.attributes = fields["attributes"]
        self.severity = (fields["severity_number"], fields["severity_text"])
        self.timestamp = fields["timestamp"]


class Provider(_logs.LoggerProvider):
    """A LoggerProvider of the API that keeps what it gets."""

    def __init__(self) -> None:
        self.emitted: list[Emitted] = []
        self.fails: BaseException | None = None

    def get_logger(self, name: str, *args: Any, **kwargs: Any) -> _logs.Logger:
        provider = self

        class Logger(_logs.NoOpLogger):
            def emit(self, record: Any = None, **fields: Any) -> None:
                if provider.fails is not None:
                    raise provider.fails
                provider.emitted.append(Emitted(name, fields))

        return Logger(name)

    @property
    def one(self) -> Emitted:
        (emitted,) = self.emitted
        return emitted

    @property
    def bodies(self) -> list[object]:
        return [emitted.body for emitted in self.emitted]


@pytest.fixture
def logs(apply: Applied, monkeypatch: pytest.MonkeyPatch) -> Provider:
    provider = Provider()
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    monkeypatch.setattr(SWITCH, "log_level", logging.NOTSET)
    apply(Logging)
    return provider


@pytest.fixture
def logger() -> logging.Logger:
    """A logger by itself: no parent, no handler."""
    logger = logging.Logger("shop")
    logger.addHandler(logging.NullHandler())
    return logger


def test_a_record_is_told_in_full(logs: Provider, logger: logging.Logger) -> None:
    with trace.use_span(SPAN):
        logger.warning("%s of %s", 3, "tea", extra={"order.id": 7, "basket": ["tea"]})
    got = logs.one
    assert got.scope == "shop"
    assert got.body == "3 of tea"
    assert got.severity == (SeverityNumber.WARN, "WARN")
    assert got.span == SPAN.get_span_context()
    assert got.attributes.pop("code.line.number") > 0
    assert got.attributes == {
        "code.file.path": __file__,
        "code.function.name": "test_a_record_is_told_in_full",
        "order.id": 7,
        "basket": ["tea"],
    }


def test_without_a_span_there_are_no_ids(logs: Provider, logger: logging.Logger) -> None:
    logger.warning("a")
    assert not logs.one.span.is_valid


@pytest.mark.parametrize(
    ("level", "number", "text"),
    [
        (5, SeverityNumber.TRACE, "Level 5"),
        (logging.DEBUG, SeverityNumber.DEBUG, "DEBUG"),
        (logging.INFO, SeverityNumber.INFO, "INFO"),
        (25, SeverityNumber.INFO4, "Level 25"),
        (logging.WARNING, SeverityNumber.WARN, "WARN"),
        (31, SeverityNumber.WARN2, "Level 31"),
        (logging.ERROR, SeverityNumber.ERROR, "ERROR"),
        (logging.CRITICAL, SeverityNumber.FATAL, "FATAL"),
        (1000, SeverityNumber.FATAL4, "Level 1000"),
    ],
)
def test_levels(logs: Provider, logger: logging.Logger, level: int, number: SeverityNumber, text: str) -> None:
    logger.log(level, "a")
    assert logs.one.severity == (number, text)


def test_level_and_filters_of_the_logger_and_the_setting_decide(
    logs: Provider, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger.setLevel(logging.INFO)
    logger.addFilter(lambda record: record.msg != "filtered")
    for text in ("kept", "filtered"):
        logger.info(text)
    logger.debug("too low for the logger")
    monkeypatch.setattr(SWITCH, "log_level", logging.WARNING)
    logger.info("too low for the setting")
    logger.warning("high enough")
    monkeypatch.setattr(SWITCH, "log_level", None)
    logger.critical("stopped")
    assert logs.bodies == ["kept", "high enough"]


@pytest.mark.parametrize("message", [{"a": [1]}, ["a", 1], 7, 0.5, b"x", None])
def test_a_message_that_is_data_stays_data(logs: Provider, logger: logging.Logger, message: Any) -> None:
    logger.warning(message)
    assert logs.one.body == message


def test_a_message_that_is_an_object_is_its_text(logs: Provider, logger: logging.Logger) -> None:
    logger.warning(ValueError("broken"))
    assert logs.one.body == "broken"


class Unruly:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_a_message_that_cannot_be_formatted_is_its_template(
    logs: Provider, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.warning("%d of %d", "three")
    logger.warning("by %s", Unruly())
    logger.warning(Unruly())
    assert logs.bodies == ["%d of %d", "by %s", None]


def test_an_exception_is_told_without_its_secrets(logs: Provider, logger: logging.Logger) -> None:
    try:
        raise ConnectionError("can't reach postgresql://shop:hunter2@db/orders")
    except ConnectionError:
        logger.exception("failed")
    attributes = logs.one.attributes
    assert attributes["exception.type"] == "ConnectionError"
    assert "postgresql" in attributes["exception.message"]
    assert "in test_an_exception_is_told" in attributes["exception.stacktrace"]
    assert "hunter2" not in str(attributes)
    assert "exception.escaped" not in attributes


@pytest.mark.parametrize("exc_info", [True, (None, None, None)])
def test_no_exception_is_none(logs: Provider, logger: logging.Logger, exc_info: Any) -> None:
    logger.warning("a", exc_info=exc_info)
    assert not [key for key in logs.one.attributes if key.startswith("exception")]


@pytest.mark.parametrize("name", ["otelagent", "otelagent.delivery", "opentelemetry", "opentelemetry.sdk.x"])
def test_what_the_agent_and_opentelemetry_log_is_left_out(logs: Provider, name: str) -> None:
    own = logging.Logger(name)
    own.addHandler(logging.NullHandler())
    own.warning("export failed")
    assert logs.emitted == []
    logging.Logger(f"{name.partition('.')[0]}s").warning("a neighbour")
    assert logs.bodies == ["a neighbour"]


def test_what_exporting_logs_is_left_out(logs: Provider, logger: logging.Logger) -> None:
    with instrumentation_suppressed():
        logger.warning("connecting")
    logger.warning("working")
    assert logs.bodies == ["working"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(3)])
def test_nothing_is_raised_and_a_failure_is_told_once(
    logs: Provider, logger: logging.Logger, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    logs.fails = error
    with caplog.at_level(logging.WARNING):
        logger.warning("one")
        logger.warning("two")
    assert len([record for record in caplog.records if "can't be exported" in record.message]) == 1


def test_what_stops_a_program_comes_through(logs: Provider, logger: logging.Logger) -> None:
    logs.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        logger.warning("one")


def test_a_record_is_told_once_wherever_it_is_handled(logs: Provider) -> None:
    parent, child, alone = logging.Logger("a"), logging.Logger("a.b"), logging.Logger("alone")
    child.parent = parent
    alone.propagate = False
    streams = [io.StringIO(), io.StringIO()]
    for logger, stream in zip((parent, child), streams, strict=True):
        logger.addHandler(logging.StreamHandler(stream))
    child.warning("child")
    alone.warning("alone")
    assert logs.bodies == ["child", "alone"]
    assert [stream.getvalue() for stream in streams] == ["child\n", "child\n"]


def test_the_applications_configuration_works_as_it_did(logs: Provider) -> None:
    root = logging.RootLogger(logging.WARNING)
    root.manager = logging.Manager(root)
    assert root.handlers == []
    child = root.manager.getLogger("shop")
    stream = io.StringIO()
    root.addHandler(logging.StreamHandler(stream))
    child.warning("first")
    root.handlers.clear()  # as dictConfig does
    child.propagate = False
    child.addHandler(logging.NullHandler())
    child.warning("second")
    assert stream.getvalue() == "first\n"
    assert logs.bodies == ["first", "second"]


def test_records_through_a_queue_are_told_once_with_the_senders_ids(logs: Provider, logger: logging.Logger) -> None:
    records: queue.SimpleQueue[Any] = queue.SimpleQueue()
    logger.addHandler(logging.handlers.QueueHandler(records))
    stream = io.StringIO()
    listener = logging.handlers.QueueListener(records, logging.StreamHandler(stream))
    listener.start()
    with trace.use_span(SPAN):
        logger.warning("queued")
    listener.stop()
    assert stream.getvalue() == "queued\n"
    assert logs.one.span == SPAN.get_span_context()


def test_a_record_of_elsewhere_keeps_its_own_ids(logs: Provider, logger: logging.Logger) -> None:
    """As a server of records of other processes does, or a listener that hands them to a logger."""
    made: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        made.append(record)
        return False

    logger.addFilter(keep)
    thread = threading.Thread(target=lambda: logger.warning("elsewhere, no span"))
    thread.start()
    thread.join()

    def within_a_span() -> None:
        with trace.use_span(SPAN):
            logger.warning("elsewhere, a span")

    thread = threading.Thread(target=within_a_span)
    thread.start()
    thread.join()
    received = logging.makeLogRecord({"name": "shop", "msg": "received", "process": 1, "levelno": 30})
    logger.filters.clear()
    other = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(1)))
    with trace.use_span(other):
        for record in (*made, received):
            logger.handle(record)
        logger.warning("here")
    spans = {emitted.body: emitted.span for emitted in logs.emitted}
    assert not spans["elsewhere, no span"].is_valid
    assert spans["elsewhere, a span"] == SPAN.get_span_context()
    assert not spans["received"].is_valid
    assert spans["here"] == other.get_span_context()


def test_interleaved_tasks(logs: Provider, logger: logging.Logger) -> None:
    async def work(number: int) -> None:
        with trace.use_span(NonRecordingSpan(SpanContext(1, number, False))):
            for _ in range(3):
                await asyncio.sleep(0)
                logger.warning(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(work(number) for number in range(1, 20)))

    asyncio.run(all_of_them())
    assert len(logs.emitted) == 57
    assert all(emitted.span.span_id == emitted.body for emitted in logs.emitted)


def test_a_value_that_logs_while_it_is_formatted(logs: Provider, logger: logging.Logger) -> None:
    class Chatty:
        def __str__(self) -> str:
            logger.info("asked")
            return "chatty"

    logger.warning("by %s", Chatty())
    assert "by chatty" in logs.bodies
    assert "asked" in logs.bodies


def test_an_odd_record_does_no_harm(logs: Provider, logger: logging.Logger) -> None:
    record = logging.makeLogRecord({"name": "shop", "msg": "odd", "levelno": 30, "created": 5, "exc_info": "text"})
    del record.pathname
    logger.handle(record)
    logger.warning("next")
    assert logs.bodies[-1] == "next"


def test_where_nothing_is_exported_nothing_is_patched(apply: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SWITCH, "log_level", None)
    before = logging.Logger.callHandlers
    apply(Logging)
    assert logging.Logger.callHandlers is before
    assert not hasattr(before, "__wrapped__")


def test_warnings_that_logging_captures(logs: Provider) -> None:
    logging.captureWarnings(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("old", UserWarning, __file__, 1)
    finally:
        logging.captureWarnings(False)
    assert logs.one.scope == "py.warnings"
    assert "old" in str(logs.one.body)


def test_the_time_is_the_records(logs: Provider, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    logger.handle(logging.makeLogRecord({"name": "shop", "levelno": 30, "msg": "a", "created": 1.5}))
    assert logs.one.timestamp == 1_500_000_000


def test_many_loggers_are_found_by_name(logs: Provider) -> None:
    bridge: Callable[[logging.LogRecord], None] = LogBridge().emit
    for name in ("a", "b", "a"):
        bridge(logging.makeLogRecord({"name": name, "msg": name, "levelno": 30}))
    assert [emitted.scope for emitted in logs.emitted] == ["a", "b", "a"]
