"""Where the native engine does otherwise than the sdk engine, on purpose: each test says what and why.

All else is the same on the wire: test_programs.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

from tests.unit.record.recorder import Recorder

Record = Callable[..., Recorder]

LINKED = SpanContext(1, 2, is_remote=False)


def differs(sdk: object, native: object) -> pytest.MarkDecorator:
    """Runs a test with both engines and what each is to give."""
    return pytest.mark.parametrize(("engine", "expected"), [("sdk", sdk), ("native", native)], indirect=["engine"])


@differs(sdk="", native="vendor=1")
def test_a_links_tracestate_is_sent(record: Record, expected: str) -> None:
    # trace.proto has a field for it, which the stock encoder leaves empty.
    linked = SpanContext(1, 2, False, TraceFlags(1), TraceState([("vendor", "1")]))
    recorder = record()
    recorder.tracer.start_span("a", links=[Link(linked)]).end()
    (got,) = recorder.spans()
    assert got.links[0].trace_state == expected


@differs(sdk=3, native=1)
def test_a_span_that_has_ended_complains_seldom(
    record: Record, expected: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loop that does it a million times must not fill the application's log.
    if expected == 1:
        from otelagent.record import native_provider

        monkeypatch.setattr(native_provider._log, "_topics", {})
    recorder = record()
    span = recorder.tracer.start_span("a")
    span.end()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            span.end()
    assert len([one for one in caplog.records if "ended span" in one.getMessage()]) == expected


@differs(sdk="NonRecordingSpan", native="Span")
def test_a_span_that_is_not_recorded_has_the_same_class(record: Record, expected: str) -> None:
    # Making the API's NonRecordingSpan, with its SpanContext, costs more than the whole budget of such a span.
    recorder = record(sampler="always_off")
    span = recorder.tracer.start_span("a")
    assert type(span).__name__ == expected
    assert not span.is_recording()


@differs(sdk={"a": 1, "b": 2}, native={"a": 1})
def test_what_is_read_of_a_span_is_as_it_was_when_asked(record: Record, expected: object) -> None:
    # The stock span's attributes are a view that goes on changing. Here they are encoded, and read back when asked for.
    recorder = record()
    span = recorder.tracer.start_span("a", attributes={"a": 1})
    read = span.attributes
    span.set_attribute("b", 2)
    assert dict(read) == expected
    assert dict(span.attributes) == {"a": 1, "b": 2}


@differs(sdk=True, native=False)
def test_the_context_of_a_parent_is_made_when_it_is_asked_for(record: Record, expected: bool) -> None:
    # Equal each time. Hardly anybody asks, and making it costs as much as the rest of an unsampled span.
    recorder = record()
    parent = recorder.tracer.start_span("a")
    child = recorder.tracer.start_span("b", trace.set_span_in_context(parent))
    assert (child.parent is parent.get_span_context()) is expected
    assert child.parent == parent.get_span_context()
