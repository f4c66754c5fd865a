"""Processors that users add to our provider, and our processor on theirs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelagent.record import isolation
from tests.unit.record.recorder import Recorder

Record = Callable[..., Recorder]


class Hostile(SpanProcessor):
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls: list[str] = []

    def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
        self.calls.append("start")
        raise self.error

    def on_end(self, span: ReadableSpan) -> None:
        self.calls.append("end")
        raise self.error

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        raise self.error

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.calls.append("flush")
        raise self.error


@pytest.mark.parametrize("error", [ValueError("plugin"), SystemExit(3)])
def test_a_processor_that_raises_harms_nobody(record: Record, error: BaseException) -> None:
    recorder = record()
    hostile = Hostile(error)
    exporter = InMemorySpanExporter()
    provider = recorder.engine.provider
    provider.add_span_processor(hostile)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    recorder.tracer.start_span("a").end()
    assert provider.force_flush() is False
    provider.shutdown()
    provider.shutdown()
    assert hostile.calls == ["start", "end", "flush", "shutdown"]
    assert [span.name for span in exporter.get_finished_spans()] == ["a"]
    assert len(recorder.requests) == 1


class Hanging(SpanProcessor):
    def __init__(self) -> None:
        self.leave = threading.Event()

    def shutdown(self) -> None:
        self.leave.wait(60)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.leave.wait(60)


def test_a_processor_that_hangs_holds_up_nobody(
    record: Record, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation._log, "_topics", {})
    recorder = record()
    hanging, exporter = Hanging(), InMemorySpanExporter()
    provider = recorder.engine.provider
    provider.add_span_processor(hanging)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    recorder.tracer.start_span("a").end()
    try:
        begun = time.monotonic()
        assert provider.force_flush(300) is False
        assert [span.name for span in exporter.get_finished_spans()] == ["a"]
        recorder.tracer.start_span("b").end()
        deadline_s = time.monotonic() + 1
        assert recorder.engine.shutdown(deadline_s)
        # Time is left for the delivery of what was recorded.
        assert time.monotonic() < deadline_s
        assert time.monotonic() - begun < 10
    finally:
        hanging.leave.set()
    assert [span.name for span in exporter.get_finished_spans()] == ["a", "b"]
    assert len(recorder.requests) == 2
    assert "Hanging has not returned in time" in caplog.text


def test_the_providers_own_flush_goes_on_behind_deliver(record: Record) -> None:
    deadlines: list[float] = []
    answers = [True, False, True]

    def flush_delivery(deadline_s: float) -> bool:
        deadlines.append(deadline_s - time.monotonic())
        return answers.pop(0)

    recorder = record(flush_delivery)
    provider = recorder.engine.provider
    recorder.tracer.start_span("a").end()
    assert provider.force_flush(2_000) is True
    assert provider.force_flush(2_000) is False
    provider.shutdown()
    assert len(recorder.requests) == 1
    assert [round(deadline) for deadline in deadlines] == [2, 2, 30]


def test_a_provider_of_the_application_can_feed_the_batch(record: Record) -> None:
    recorder = record()
    own = TracerProvider(shutdown_on_exit=False)
    own.add_span_processor(recorder.engine.span_processor)
    own.get_tracer("app").start_span("theirs").end()
    assert [span.name for span in recorder.spans()] == ["theirs"]


def test_the_providers_own_flush_tells_of_losses_once(record: Record) -> None:
    recorder = record(lambda _: True, batch_max_queue_size=2)
    for _ in range(5):
        recorder.tracer.start_span("a").end()
    recorder.ledger.ended(1)
    recorder.ledger.dropped(1, "queue_full")
    assert not recorder.engine.provider.force_flush()
    assert recorder.engine.provider.force_flush()


def test_the_providers_own_flush_may_wait_for_ever(record: Record) -> None:
    recorder = record()
    recorder.tracer.start_span("a").end()
    assert recorder.engine.provider.force_flush(float("inf"))
