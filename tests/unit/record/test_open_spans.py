"""What is known of spans that are open: which, as they are now, and no longer than they live."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otelagent.config import load
from otelagent.delivery import Ledger
from otelagent.record import Engine, open_engine
from otelagent.record.open_spans import OpenSpans, requests
from otelagent.running_spans import viewer_endpoints
from tests.support import native_or_skip

Open = Callable[..., tuple[Engine, OpenSpans]]


@pytest.fixture(params=["native", "sdk"])
def opened(request: pytest.FixtureRequest) -> Open:
    if request.param == "native":
        native_or_skip()

    def open_one(**settings: Any) -> tuple[Engine, OpenSpans]:
        config = load({"engine": request.param, **settings}, {})
        open_spans = OpenSpans()
        return open_engine(config, Ledger("traces"), lambda *_: None, open_spans=open_spans), open_spans

    return open_one


def names(open_spans: OpenSpans, min_age_ns: int = 0) -> list[str]:
    return [span.name for span in open_spans.watched(min_age_ns).values()]


def sent(*spans: Any) -> list[Any]:
    return [
        span
        for body in requests(spans)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_spans_are_known_while_they_are_open(opened: Open) -> None:
    engine, open_spans = opened()
    tracer = engine.provider.get_tracer("test")
    first = tracer.start_span("first")
    second = tracer.start_span("second")
    assert names(open_spans) == ["first", "second"]
    assert names(open_spans, 10**15) == []
    first.end()
    assert names(open_spans) == ["second"]
    second.end()
    assert open_spans.rest()


def test_one_that_is_forgotten_is_not_kept(opened: Open) -> None:
    engine, open_spans = opened()
    tracer = engine.provider.get_tracer("test")
    for _ in range(3):
        tracer.start_span("forgotten")
    gc.collect()
    assert names(open_spans) == []
    assert open_spans.rest()


def test_what_is_not_exported_is_not_told(opened: Open) -> None:
    engine, open_spans = opened(sampler="always_off")
    span = engine.provider.get_tracer("test").start_span("left out")
    assert names(open_spans) == []
    span.end()


def test_it_is_encoded_as_it_is_now_and_without_an_end(opened: Open) -> None:
    engine, open_spans = opened(service_name="shop")
    span = engine.provider.get_tracer("test").start_span("GET", attributes={"a": 1})
    span.set_attribute("b", "later")
    span.add_event("retry")
    span.update_name("GET /items")
    (one,) = sent(*open_spans.watched(0).values())
    assert (one.name, one.end_time_unix_nano) == ("GET /items", 0)
    assert one.start_time_unix_nano > 0
    assert one.span_id == span.get_span_context().span_id.to_bytes(8, "big")
    assert {pair.key for pair in one.attributes} == {"a", "b"}
    assert [event.name for event in one.events] == ["retry"]
    span.end()


def test_what_has_ended_meanwhile_and_what_is_huge_is_left_out(opened: Open) -> None:
    engine, open_spans = opened()
    tracer = engine.provider.get_tracer("test")
    ended, huge, fine = tracer.start_span("ended"), tracer.start_span("huge"), tracer.start_span("fine")
    huge.set_attribute("text", "a" * 1_000_000)
    watched = list(open_spans.watched(0).values())
    ended.end()
    assert [span.name for span in sent(*watched)] == ["fine"]
    huge.end()
    fine.end()


def test_what_is_told_at_a_time_is_bounded(opened: Open) -> None:
    engine, open_spans = opened()
    tracer = engine.provider.get_tracer("test")
    spans = [tracer.start_span(str(number), attributes={"text": "a" * 200_000}) for number in range(60)]
    bodies = list(requests(open_spans.watched(0).values()))
    assert max(map(len, bodies)) <= 1024 * 1024
    assert 4 * 1024 * 1024 < sum(map(len, bodies)) <= 8 * 1024 * 1024
    for span in spans:
        span.end()


def test_spans_of_a_provider_that_the_application_has_set(opened: Open) -> None:
    engine, open_spans = opened()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(engine.span_processor)
    span = provider.get_tracer("test").start_span("theirs")
    assert names(open_spans) == ["theirs"]
    assert [one.name for one in sent(*open_spans.watched(0).values())] == ["theirs"]
    span.end()
    assert open_spans.rest()


def test_processors_hear_what_they_always_do(opened: Open) -> None:
    engine, _ = opened()
    exporter = InMemorySpanExporter()
    engine.provider.add_span_processor(SimpleSpanProcessor(exporter))  # type: ignore[attr-defined]
    with engine.provider.get_tracer("test").start_as_current_span("both"):
        pass
    assert [span.name for span in exporter.get_finished_spans()] == ["both"]


def test_there_is_a_bound(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelagent.record.open_spans._MAX_SPANS", 3)
    engine, open_spans = opened()
    tracer = engine.provider.get_tracer("test")
    spans = [tracer.start_span(str(number)) for number in range(5)]
    assert names(open_spans) == ["0", "1", "2"]
    for span in spans:
        span.end()
    assert names(open_spans) == []


def test_the_first_after_a_rest_is_told() -> None:
    told: list[str] = []

    class Span:
        pass

    one, two = Span(), Span()
    open_spans = OpenSpans()
    open_spans.on_first = lambda: told.append("first")
    open_spans.started(1, one)
    open_spans.started(2, two)
    assert told == ["first"]
    assert not open_spans.rest()
    open_spans.ended(1)
    open_spans.ended(2)
    open_spans.ended(2)
    assert open_spans.rest()
    open_spans.started(1, one)
    assert told == ["first", "first"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("http://localhost:4318/v1/traces",)),
        ({"endpoint": "http://127.0.0.1:9"}, ("http://127.0.0.1:9/v1/traces",)),
        ({"endpoint": "http://[::1]:9"}, ("http://[::1]:9/v1/traces",)),
        ({"endpoint": "https://127.0.0.1:9"}, ()),
        ({"endpoint": "http://collector:4318"}, ()),
        ({"protocol": "grpc"}, ()),
        ({"exporter": "none"}, ()),
        ({"exporter": "console"}, ()),
        (
            {"endpoint": "http://collector:4318", "destinations": {"ui": {"endpoint": "http://127.0.0.1:9"}}},
            ("http://127.0.0.1:9/v1/traces",),
        ),
    ],
)
def test_only_what_is_on_this_machine_may_be_a_viewer(settings: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert viewer_endpoints(load(settings, {})) == expected
