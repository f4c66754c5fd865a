"""Where the native engine does otherwise than the sdk engine, on purpose: each test says what and why.

All else is the same on the wire: test_programs.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags, TraceState

from tests.unit.record.recorder import Recorder, attributes

Record = Callable[..., Recorder]

LINKED = SpanContext(1, 2, is_remote=False)


def differs(sdk: object, native: object) -> pytest.MarkDecorator:
    """Runs a test with both engines and what each is to give."""
    return pytest.mark.parametrize(("engine", "expected"), [("sdk", sdk), ("native", native)], indirect=["engine"])


@differs(sdk={"good": 1}, native={"surrogate": "a\ufffdb", "huge": str(2**70), "good": 1})
def test_a_value_that_protobuf_has_no_room_for_is_made_fit(record: Record, expected: object) -> None:
    # The stock encoder leaves the attribute out and doesn't count it.
    recorder = record()
    span = recorder.tracer.start_span("a", attributes={"surrogate": "a\ud800b", "huge": 2**70, "good": 1})
    span.end()
    (got,) = recorder.spans()
    assert attributes(got.attributes) == expected


@pytest.mark.parametrize(
    ("spoil", "native"),
    [
        (lambda span: span.update_name("a\ud800"), "a\ufffd"),
        (lambda span: span.update_name(7), "7"),
        (lambda span: span.set_status(StatusCode.ERROR, "\ud800"), "a"),
        (lambda span: span.add_event("\udfff"), "a"),
        (lambda span: span.end(2**64), "a"),
        (lambda span: span.end(-1), "a"),
        (lambda span: span.end("noon"), "a"),
        (lambda span: span.add_event("e", timestamp=2**64), "a"),
    ],
)
def test_a_span_that_the_stock_encoder_refuses_is_sent(
    record: Record, engine: str, spoil: Callable[[Any], None], native: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The sdk engine drops the span, counted. Text is made fit here, and a time that is none is the time of the call.
    recorder = record()
    span = recorder.tracer.start_span("a")
    spoil(span)
    span.end()
    names = [one.name for one in recorder.spans()]
    assert names == ([native] if engine == "native" else [])
    assert recorder.dropped() == ({} if engine == "native" else {"encode_error": 1})


@differs(sdk=0, native=1)
def test_an_events_bad_attribute_costs_only_itself(record: Record, expected: int) -> None:
    # The sdk engine keeps such an event without any of its attributes, and counts none.
    cycle: list[Any] = []
    cycle.append(cycle)
    recorder = record()
    span = recorder.tracer.start_span("a")
    span.add_event("event", {"good": 1, "bad": cycle})
    span.add_link(LINKED, {"good": 1, "bad": cycle})
    span.end()
    (got,) = recorder.spans()
    assert len(got.events[0].attributes) == expected
    assert got.events[0].dropped_attributes_count == expected
    assert len(got.links) == expected


@differs(sdk={"b": 2}, native={"a": 1})
def test_the_first_attributes_of_an_event_and_a_link_are_kept(record: Record, expected: object) -> None:
    # Common specification, attribute limits: the new one is refused. The sdk engine sees to it on spans alone.
    recorder = record(event_attribute_count_limit=1, link_attribute_count_limit=1)
    span = recorder.tracer.start_span("a")
    span.add_event("event", {"a": 1, "b": 2})
    span.add_link(LINKED, {"a": 1, "b": 2})
    span.end()
    (got,) = recorder.spans()
    for one in (got.events[0], got.links[0]):
        assert attributes(one.attributes) == expected
        assert one.dropped_attributes_count == 1


@differs(sdk="", native="vendor=1")
def test_a_links_tracestate_is_sent(record: Record, expected: str) -> None:
    # trace.proto has a field for it, which the stock encoder leaves empty.
    linked = SpanContext(1, 2, False, TraceFlags(1), TraceState([("vendor", "1")]))
    recorder = record()
    recorder.tracer.start_span("a", links=[Link(linked)]).end()
    (got,) = recorder.spans()
    assert got.links[0].trace_state == expected


@differs(sdk=[2, 3], native=[1, 2])
def test_the_first_links_of_a_start_are_kept(record: Record, expected: list[int]) -> None:
    # "SDK MUST discard links beyond the limit" (trace SDK, span limits): the newest, as everywhere else.
    recorder = record(link_count_limit=2)
    links = [Link(SpanContext(number, 1, False)) for number in (1, 2, 3)]
    recorder.tracer.start_span("a", links=links).end()
    (got,) = recorder.spans()
    assert [int.from_bytes(link.trace_id, "big") for link in got.links] == expected
    assert got.dropped_links_count == 1


@differs(sdk=b"12345", native=b"1234")
def test_bytes_are_cut_too(record: Record, expected: bytes) -> None:
    # Common specification, attribute limits: byte arrays as strings.
    recorder = record(attribute_value_length_limit=4)
    recorder.tracer.start_span("a", attributes={"b": b"12345"}).end()
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"b": expected}


class Described:
    def __str__(self) -> str:
        return "12345"


@differs(sdk="12345", native="1234")
def test_the_text_of_an_object_is_cut_too(record: Record, expected: str) -> None:
    recorder = record(attribute_value_length_limit=4)
    recorder.tracer.start_span("a", attributes={"d": Described()}).end()
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"d": expected}


@differs(sdk=0, native=1)
def test_a_value_that_decoders_would_refuse_costs_only_itself(
    record: Record, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    # 300 levels: an official decoder stops at 100 messages. The sdk engine leaves the value out uncounted, or the span.
    deep: Any = "bottom"
    for _ in range(300):
        deep = [deep]
    recorder = record()
    recorder.tracer.start_span("deep", attributes={"deep": deep}).end()
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {}
    assert got.dropped_attributes_count == expected


def test_as_deep_as_a_value_may_be_the_decoder_takes_it(record: Record) -> None:
    value: Any = 1
    for level in range(30):
        value = [value] if level % 2 else {"k": value}
    recorder = record()
    recorder.tracer.start_span("deep", attributes={"deep": value}).end()
    (got,) = recorder.spans()
    assert got.dropped_attributes_count == 0


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


@differs(sdk=[], native=["a"])
def test_a_kind_that_is_none_is_internal(record: Record, expected: list[str]) -> None:
    # The stock encoder fails over it and the span is dropped.
    recorder = record()
    recorder.tracer.start_span("a", kind="client").end()
    assert [span.name for span in recorder.spans()] == expected


@differs(sdk=True, native=False)
def test_the_context_of_a_parent_is_made_when_it_is_asked_for(record: Record, expected: bool) -> None:
    # Equal each time. Hardly anybody asks, and making it costs as much as the rest of an unsampled span.
    recorder = record()
    parent = recorder.tracer.start_span("a")
    child = recorder.tracer.start_span("b", trace.set_span_in_context(parent))
    assert (child.parent is parent.get_span_context()) is expected
    assert child.parent == parent.get_span_context()
