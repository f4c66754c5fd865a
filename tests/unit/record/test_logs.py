"""Log records made through the OpenTelemetry Logs API, with either engine."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import _logs, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import attributes

Logs = Callable[..., LogRecorder]

PARENT = SpanContext(0xABC, 0xDEF, False, TraceFlags(1))


def within(context: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def test_a_record_has_all_that_it_was_given(record_logs: Logs) -> None:
    recorder = record_logs()
    recorder.logger.emit(
        timestamp=1,
        observed_timestamp=2,
        context=within(PARENT),
        severity_number=SeverityNumber.WARN2,
        severity_text="WARNING",
        body="message",
        attributes={"a": 1, "b": ["x", None], "c": {"d": b"e"}},
        event_name="shop.order",
    )
    (got,) = recorder.records()
    assert (got.time_unix_nano, got.observed_time_unix_nano) == (1, 2)
    assert (got.severity_number, got.severity_text) == (14, "WARNING")
    assert got.body.string_value == "message"
    assert attributes(got.attributes) == {"a": 1, "b": ["x", None], "c": {"d": b"e"}}
    assert got.dropped_attributes_count == 0
    assert got.event_name == "shop.order"
    assert (got.trace_id, got.span_id, got.flags) == ((0xABC).to_bytes(16, "big"), (0xDEF).to_bytes(8, "big"), 1)
    assert [(signal, items) for signal, _, items in recorder.requests] == [("logs", 1)]


def test_a_record_has_what_it_was_not_given(record_logs: Logs) -> None:
    recorder = record_logs()
    before = time.time_ns()
    recorder.logger.emit()
    (got,) = recorder.records()
    assert before <= got.observed_time_unix_nano <= time.time_ns()
    assert got.time_unix_nano == got.severity_number == got.flags == 0
    assert got.severity_text == got.event_name == ""
    assert got.trace_id == got.span_id == b""
    assert got.HasField("body")
    assert got.body.WhichOneof("value") is None


def test_a_record_object_is_taken_as_it_is_at_the_call(record_logs: Logs) -> None:
    recorder = record_logs()
    given: dict[str, Any] = {"list": [1]}
    record = LogRecord(
        timestamp=5, context=within(PARENT), severity_number=SeverityNumber.INFO, body={"k": [1]}, attributes=given
    )
    recorder.logger.emit(record)
    assert record.attributes is given
    given["list"].append(2)
    given["late"] = True
    record.body["k"].append(2)  # type: ignore[call-overload,index,union-attr]
    record.severity_text = "late"
    (got,) = recorder.records()
    assert attributes(got.attributes) == {"list": [1]}
    assert attributes(got.body.kvlist_value.values) == {"k": [1]}
    assert (got.trace_id[-2:], got.severity_text, got.severity_number) == (b"\x0a\xbc", "", 9)


@pytest.mark.parametrize(
    "body", ["", "é😀", "x" * 100_000, 0, -(2**63), True, 0.5, b"\xff", [], [1, ["a"]], {"a": {"b": None}}, None]
)
def test_bodies_of_every_kind(record_logs: Logs, body: Any) -> None:
    recorder = record_logs(logs_attribute_value_length_limit=3)  # of attributes alone
    recorder.logger.emit(body=body, attributes={"same": body})
    (got,) = recorder.records()
    kind = got.body.WhichOneof("value")
    assert (kind is None) == (body is None)
    if isinstance(body, str):
        assert got.body.string_value == body
        assert attributes(got.attributes) == {"same": body[:3]}
    elif body is not None and not isinstance(body, (list, dict)):
        assert getattr(got.body, str(kind)) == body
        assert kind == {bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}[type(body)]


def test_the_span_is_the_current_one_or_the_given_contexts(record_logs: Logs) -> None:
    recorder = record_logs()
    with recorder.tracer.start_as_current_span("outer") as outer:
        recorder.logger.emit(body="outer")
        with recorder.tracer.start_as_current_span("inner") as inner:
            recorder.logger.emit(body="inner")
            recorder.logger.emit(LogRecord(body="inner, by a record"))
            recorder.logger.emit(body="given", context=within(PARENT))
        with trace.use_span(trace.INVALID_SPAN):
            recorder.logger.emit(body="none")
        with trace.use_span(NonRecordingSpan(PARENT)):
            recorder.logger.emit(body="foreign")
    recorder.logger.emit(body="after")
    ids = {
        got.body.string_value: (int.from_bytes(got.trace_id, "big"), int.from_bytes(got.span_id, "big"))
        for got in recorder.records()
    }

    def of(span: trace.Span) -> tuple[int, int]:
        context = span.get_span_context()
        return context.trace_id, context.span_id

    assert ids == {
        "outer": of(outer),
        "inner": of(inner),
        "inner, by a record": of(inner),
        "given": (0xABC, 0xDEF),
        "none": (0, 0),
        "foreign": (0xABC, 0xDEF),
        "after": (0, 0),
    }


def test_interleaved_tasks_and_threads_keep_their_own(record_logs: Logs) -> None:
    recorder = record_logs(logs_batch_schedule_delay_ms=60_000)
    spans: dict[str, SpanContext] = {}

    async def work(number: int) -> None:
        with recorder.tracer.start_as_current_span("task") as span:
            spans[f"task {number}"] = span.get_span_context()
            for _ in range(5):
                await asyncio.sleep(0)
                recorder.logger.emit(body=f"task {number}")

    async def tasks() -> None:
        await asyncio.gather(*(work(number) for number in range(50)))

    def thread(number: int) -> None:
        with recorder.tracer.start_as_current_span("thread") as span:
            spans[f"thread {number}"] = span.get_span_context()
            for _ in range(50):
                recorder.logger.emit(body=f"thread {number}")
                time.sleep(0)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    asyncio.run(tasks())
    for one in threads:
        one.join()
    got = recorder.records()
    assert len(got) == 50 * 5 + 4 * 50
    for record in got:
        context = spans[record.body.string_value]
        assert record.trace_id == context.trace_id.to_bytes(16, "big")
        assert record.span_id == context.span_id.to_bytes(8, "big")


class Unruly(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_becomes_attributes_of_which_the_callers_win(record_logs: Logs) -> None:
    recorder = record_logs()
    try:
        raise KeyError("lost")
    except KeyError as error:
        recorder.logger.emit(exception=error, attributes={"exception.message": "mine", "a": 1})
        recorder.logger.emit(LogRecord(exception=error))
    recorder.logger.emit(exception=Unruly(), attributes={"a": 1})
    mine, record, unruly = (attributes(got.attributes) for got in recorder.records())
    assert (mine["exception.type"], mine["exception.message"], mine["a"]) == ("KeyError", "mine", 1)
    assert (record["exception.type"], record["exception.message"]) == ("KeyError", "'lost'")
    assert "raise KeyError" in str(mine["exception.stacktrace"])
    assert unruly["exception.type"] == f"{__name__}.Unruly"
    assert unruly["a"] == 1


def test_limits_refuse_the_newest_and_count_it(record_logs: Logs) -> None:
    recorder = record_logs(logs_attribute_count_limit=2, logs_attribute_value_length_limit=3)
    recorder.logger.emit(attributes={"a": "12345", "b": ["12345"], "c": 3, "d": 4})
    recorder.logger.emit(attributes={"": 1, "a": 1})
    first, second = recorder.records()
    assert attributes(first.attributes) == {"a": "123", "b": ["123"]}
    assert first.dropped_attributes_count == 2
    assert attributes(second.attributes) == {"a": 1}
    assert second.dropped_attributes_count == 1


class Raising:
    def __str__(self) -> str:
        raise ValueError("no text")


class Exiting:
    def __str__(self) -> str:
        raise SystemExit(3)


class Interrupted:
    def __str__(self) -> str:
        raise KeyboardInterrupt


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("make", [Raising, Exiting, cyclic])
def test_a_value_whose_own_code_fails_costs_only_itself(
    record_logs: Logs, make: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = record_logs()
    recorder.logger.emit(body=make(), attributes={"bad": make(), "good": 1}, severity_text="INFO")
    recorder.logger.emit(body="next")
    first, second = recorder.records()
    assert " object>" in str(attributes(first.attributes)["bad"])
    assert attributes(first.attributes)["good"] == 1
    assert first.dropped_attributes_count == 1
    assert " object>" in str(first.body)
    assert first.severity_text == "INFO"
    assert second.body.string_value == "next"


def test_what_stops_a_program_comes_through(record_logs: Logs) -> None:
    recorder = record_logs()
    with pytest.raises(KeyboardInterrupt):
        recorder.logger.emit(body=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        recorder.logger.emit(attributes={"a": Interrupted()})


def test_while_paused_records_are_left_out_and_counted(record_logs: Logs) -> None:
    recorder = record_logs()
    assert recorder.logger.enabled(severity_number=SeverityNumber.INFO)
    recorder.logs.pause()
    assert not recorder.logger.enabled()
    recorder.logger.emit(body="out")
    recorder.logger.emit(LogRecord(body="out"))
    recorder.logs.resume()
    recorder.logger.emit(body="in")
    assert [got.body.string_value for got in recorder.records()] == ["in"]
    snapshot = recorder.ledger.snapshot()
    assert (snapshot.ended, snapshot.sampled_out, snapshot.delivered) == (3, 2, 1)


def test_a_full_queue_and_a_shutdown_drop_the_newest_counted(record_logs: Logs) -> None:
    recorder = record_logs(
        logs_batch_max_queue_size=2, logs_batch_max_export_batch_size=2, logs_batch_schedule_delay_ms=60_000
    )
    recorder.logs._batch._starting.acquire()  # So that no thread drains it.
    for number in range(3):
        recorder.logger.emit(body=number)
    recorder.logs._batch._starting.release()
    assert recorder.dropped() == {"queue_full": 1}
    assert [got.body.int_value for got in recorder.records()] == [0, 1]
    assert recorder.logs.shutdown(time.monotonic() + 10)
    recorder.logger.emit(body="late")
    assert recorder.dropped() == {"queue_full": 1, "shutdown": 1}


def test_a_full_batch_is_delivered_before_its_time(record_logs: Logs) -> None:
    recorder = record_logs(logs_batch_max_export_batch_size=5, logs_batch_schedule_delay_ms=60_000)
    for number in range(12):
        recorder.logger.emit(body=number)
    deadline = time.monotonic() + 10
    while sum(items for _, _, items in recorder.requests) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [items for _, _, items in recorder.requests] == [5, 5]
    assert len(recorder.records()) == 12


def test_a_request_has_the_resource_and_groups_by_scope(record_logs: Logs) -> None:
    recorder = record_logs()
    provider = recorder.logs.provider
    other = provider.get_logger("other", "2", "https://schema", {"k": [1]})
    for number in range(4):
        (recorder.logger if number % 2 else other).emit(body=number)
    recorder.records()
    (request,) = recorder.decoded()
    (resource,) = request.resource_logs
    got = attributes(resource.resource.attributes)
    assert got["service.name"] == "shop"
    assert got["service.instance.id"] == recorder.engine.resource["service.instance.id"]
    scopes = [(scope.scope.name, scope.scope.version, scope.schema_url) for scope in resource.scope_logs]
    assert scopes == [("other", "2", "https://schema"), ("scope", "1.0", "")]
    assert attributes(resource.scope_logs[0].scope.attributes) == {"k": [1]}
    bodies = [[record.body.int_value for record in scope.log_records] for scope in resource.scope_logs]
    assert bodies == [[0, 2], [1, 3]]


def test_loggers_and_providers_are_the_apis_kind(record_logs: Logs) -> None:
    recorder = record_logs()
    assert isinstance(recorder.logger, _logs.Logger)
    assert isinstance(recorder.logs.provider, _logs.LoggerProvider)
    assert recorder.logs.provider.get_logger("scope", "1.0") is recorder.logger
    assert recorder.logs.provider.get_logger("scope", "1.1") is not recorder.logger


def test_a_flush_by_the_api_goes_on_to_delivery_and_tells_of_losses(record_logs: Logs) -> None:
    flushed: list[float] = []

    def flush_delivery(deadline_s: float) -> bool:
        flushed.append(deadline_s)
        return True

    recorder = record_logs(flush_delivery=flush_delivery)
    recorder.logger.emit(body="a")
    assert recorder.logs.provider.force_flush(1000)
    assert len(recorder.requests) == len(flushed) == 1
    recorder.ledger.ended(1)
    recorder.ledger.dropped(1, "why")
    assert not recorder.logs.provider.force_flush(1000)
    assert recorder.logs.provider.force_flush(1000)
    recorder.logs.provider.shutdown()
    recorder.logger.emit(body="late")
    assert recorder.dropped()["shutdown"] == 1


def test_a_fork_child_starts_over_with_the_engines_identity(record_logs: Logs) -> None:
    recorder = record_logs(logs_batch_schedule_delay_ms=60_000)
    recorder.logger.emit(body="the parent's")
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        code = 1
        try:
            recorder.engine.after_fork_in_child()
            recorder.ledger.after_fork_in_child()
            recorder.logs.after_fork_in_child()
            recorder.logger.emit(body="the child's")
            (got,) = recorder.records()
            (resource,) = recorder.decoded()[0].resource_logs
            identity = attributes(resource.resource.attributes)
            assert got.body.string_value == "the child's"
            assert identity["process.pid"] == os.getpid()
            assert identity["service.instance.id"] == recorder.engine.resource["service.instance.id"]
            assert recorder.ledger.snapshot().delivered == 1
            os.write(writer, str(identity["service.instance.id"]).encode())
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reader, 100).decode() != recorder.engine.resource["service.instance.id"]
    os.close(reader)
    os.close(writer)
    assert [got.body.string_value for got in recorder.records()] == ["the parent's"]


def test_emitting_logs_nothing(record_logs: Logs, caplog: pytest.LogCaptureFixture) -> None:
    recorder = record_logs()
    with caplog.at_level(logging.DEBUG):
        recorder.logger.emit(body="a", attributes={"a": 1})
        recorder.records()
    assert caplog.records == []
