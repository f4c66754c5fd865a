"""`otelagent.TracerProvider` with either engine."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    Span,
    SpanLimits,
    SpanProcessor,
    Tracer,
)
from opentelemetry.sdk.trace import TracerProvider as StockProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

import otelagent
from tests.parity.providers import Provider, exported


class Listening(SpanProcessor):
    """Notes what it is called for."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.heard.append(("start", span.name))

    def _on_ending(self, span: Any) -> None:
        self.heard.append(("ending", (span.name, span.is_recording(), span.end_time)))

    def on_end(self, span: ReadableSpan) -> None:
        self.heard.append(("end", span.name))

    def shutdown(self) -> None:
        self.heard.append(("shutdown", None))

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        self.heard.append(("flush", None))
        return True


def test_it_is_the_sdks_kind_to_whoever_asks(provider: Provider) -> None:
    made = provider()
    tracer = made.get_tracer("scope", "1", "https://schema", {"k": 1})
    span = tracer.start_span("a")
    assert isinstance(made, trace.TracerProvider)
    assert isinstance(made, StockProvider)
    assert isinstance(made._inner, StockProvider)
    assert isinstance(tracer, (trace.Tracer, Tracer))
    assert isinstance(tracer, Tracer)
    assert isinstance(span, trace.Span)
    assert isinstance(span, Span)
    assert tracer is made.get_tracer("scope", "1", "https://schema", {"k": 1})
    assert tracer is not made.get_tracer("scope", "1", "https://schema", {"k": 2})


def test_processors_hear_of_every_span_in_their_order(provider: Provider) -> None:
    made, first, second = provider(), Listening(), Listening()
    made.add_span_processor(first)
    span = made.get_tracer("t").start_span("a", start_time=1)
    made.add_span_processor(second)
    span.end(2)
    assert made.force_flush(1000)
    made.shutdown()
    made.shutdown()
    made.get_tracer("t").start_span("late").end()
    assert first.heard == [
        ("start", "a"), ("ending", ("a", False, 2)), ("end", "a"), ("flush", None), ("shutdown", None),
    ]  # fmt: skip
    assert second.heard == first.heard[1:]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_processor_that_raises_harms_nobody(provider: Provider, error: type[BaseException]) -> None:
    class Raising(SpanProcessor):
        def _raise(self, *_: Any, **__: Any) -> Any:
            raise error

        on_start = _on_ending = on_end = shutdown = force_flush = _raise

    made, last = provider(), Listening()
    made.add_span_processor(Raising())
    made.add_span_processor(last)
    made.get_tracer("t").start_span("a").end()
    assert not made.force_flush()
    made.shutdown()
    assert [what for what, _ in last.heard] == ["start", "ending", "end", "flush", "shutdown"]


def test_an_interrupt_in_a_processor_comes_through(provider: Provider) -> None:
    class Interrupting(SpanProcessor):
        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            raise KeyboardInterrupt

    made = provider()
    made.add_span_processor(Interrupting())
    with pytest.raises(KeyboardInterrupt):
        made.get_tracer("t").start_span("a")


def test_processors_may_be_called_concurrently(provider: Provider) -> None:
    listening = [Listening(), Listening()]
    active = ConcurrentMultiSpanProcessor()
    made = provider(active_span_processor=active)
    for one in listening:
        made.add_span_processor(one)
    made.get_tracer("t").start_span("a").end()
    assert made.force_flush()
    made.shutdown()
    active._executor.shutdown()
    for one in listening:
        assert [what for what, _ in one.heard] == ["start", "ending", "end", "flush", "shutdown"]


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_the_sdks_processors_and_exporters_work(provider: Provider, processor: Any) -> None:
    out = io.StringIO()
    memory = InMemorySpanExporter()
    made = provider(resource=Resource({"service.name": "shop"}))
    made.add_span_processor(processor(memory))
    made.add_span_processor(processor(ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(None) + "\n")))
    with made.get_tracer("t").start_as_current_span("outer"), made.get_tracer("t").start_as_current_span("inner"):
        pass
    assert made.force_flush()
    made.shutdown()
    inner, outer = memory.get_finished_spans()
    assert (inner.name, inner.parent) == ("inner", outer.context)
    assert inner.resource.attributes["service.name"] == "shop"
    assert [line.partition('"name": "')[2][:5] for line in out.getvalue().splitlines()] == ["inner", "outer"]


def test_the_sdks_otlp_exporter_encodes_what_it_gets(provider: Provider) -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    class Encoding(SpanExporter):
        def __init__(self) -> None:
            self.requests: list[Any] = []

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            self.requests.append(encode_spans(spans))
            return SpanExportResult.SUCCESS

    exporter = Encoding()
    made = provider(resource=Resource({"service.name": "shop"}))
    made.add_span_processor(BatchSpanProcessor(exporter))
    linked = SpanContext(1, 2, True, TraceFlags(1), TraceState([("k", "v")]))
    span = made.get_tracer("scope", "1", "https://schema").start_span("a", links=[trace.Link(linked, {"l": 1})])
    span.add_event("event", {"e": (1.5, 2.5)}, 3)
    span.end()
    assert made.force_flush()
    made.shutdown()
    (request,) = exporter.requests
    (resource,) = request.resource_spans
    (scope,) = resource.scope_spans
    (got,) = scope.spans
    assert (resource.resource.attributes[0].value.string_value, scope.scope.name) == ("shop", "scope")
    assert (scope.schema_url, got.links[0].span_id[-1], got.events[0].time_unix_nano) == ("https://schema", 2, 3)
    assert [item.double_value for item in got.events[0].attributes[0].value.array_value.values] == [1.5, 2.5]


def test_what_is_read_of_a_span_is_what_the_stock_sdk_gives(provider: Provider) -> None:
    linked = SpanContext(1, 2, True, TraceFlags(3), TraceState([("k", "v")]))
    resource = Resource({"service.name": "shop"})

    def of(made: Any) -> list[Any]:
        memory = exported(made)
        tracer = made.get_tracer("scope", "1", "https://schema", {"k": 1})
        links = [trace.Link(linked, {"a": 1, "b": 2})]
        span = tracer.start_span("a", Context(), trace.SpanKind.CLIENT, {"s": "long", "n": [1]}, links, 1)
        span.add_event("event", {"e": "long", "f": None}, 2)
        span.set_status(trace.StatusCode.ERROR, "no")
        seen = [look(span)]
        span.end(3)
        (got,) = memory.get_finished_spans()
        for attributes in (got.links[0].attributes, got.attributes, span.attributes, span.events[0].attributes):
            frozen: Any = attributes
            with pytest.raises(TypeError):
                frozen["k"] = 1
        return [*seen, look(got), got.to_json().replace(trace.format_trace_id(got.context.trace_id), "")[120:]]

    def look(span: Any) -> list[Any]:
        scope = span.instrumentation_scope
        return [
            span.name, span.kind, dict(span.attributes), span.start_time, span.end_time, span.parent, span.resource,
            [(e.name, dict(e.attributes), e.timestamp, e.dropped_attributes) for e in span.events],
            [(li.context, li.context.trace_flags, dict(li.attributes), li.dropped_attributes) for li in span.links],
            (span.status.status_code, span.status.description), type(span.status), type(scope), scope,
            span.dropped_attributes, span.dropped_events, span.dropped_links,
        ]  # fmt: skip

    limits = SpanLimits(max_link_attributes=2, max_attribute_length=3, max_span_attribute_length=2)
    ours = of(provider(resource=resource, span_limits=limits))
    stock = of(StockProvider(resource=resource, span_limits=limits, shutdown_on_exit=False))
    assert ours[:2] == stock[:2]
    assert ours[2].partition('"kind"')[2] == stock[2].partition('"kind"')[2]


def test_defaults_come_from_the_environment(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "1.0",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "3",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "1",
        "OTEL_RESOURCE_ATTRIBUTES": "team=blue",
    }.items():
        monkeypatch.setenv(name, value)
    made = provider()
    assert isinstance(made.sampler, TraceIdRatioBased)
    assert made.resource.attributes["team"] == "blue"
    span: Any = made.get_tracer("t").start_span("a", attributes={"a": "12345", "b": 1, "c": 1})
    span.add_event("one", {"e": "12345"})
    span.add_event("two")
    assert (dict(span.attributes), span.dropped_attributes) == ({"a": "123", "b": 1}, 1)
    assert ([dict(event.attributes) for event in span.events], span.dropped_events) == ([{"e": "123"}], 1)
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "many")
    with pytest.raises(ValueError, match="OTEL_SPAN_EVENT_COUNT_LIMIT"):
        provider()
    monkeypatch.delenv("OTEL_SPAN_EVENT_COUNT_LIMIT")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert type(provider().get_tracer("t")) is trace.NoOpTracer


def test_the_resource_is_the_one_given(provider: Provider) -> None:
    resource = Resource({"k": "v"})
    made = provider(resource=resource)
    span: Any = made.get_tracer("t").start_span("a")
    assert made.resource is resource
    assert span.resource is resource


def test_a_dropped_provider_is_collected(provider: Provider) -> None:
    made = provider(shutdown_on_exit=True)
    processed = provider()
    processed.add_span_processor(Listening())
    held: list[Any] = [made, made._inner, processed, processed._pipeline]
    gone = [weakref.ref(one) for one in held]
    for one in (made, processed):
        one.get_tracer("t").start_span("a").end()
    del made, processed, one, held
    gc.collect()
    assert [one() for one in gone] == [None] * 4


@pytest.mark.parametrize(("arguments", "count"), [("", 1), ("shutdown_on_exit=False", 0)])
@pytest.mark.parametrize("explicit", [True, False])
def test_processors_are_shut_down_at_exit_once(engine: str, arguments: str, count: int, explicit: bool) -> None:
    program = f"""
import gc, otelagent
from opentelemetry.sdk.trace import SpanProcessor

class Telling(SpanProcessor):
    def shutdown(self):
        print("shutdown")

def make():
    provider = otelagent.TracerProvider({arguments})
    provider.add_span_processor(Telling())
    provider.get_tracer("t").start_span("a").end()
    {"provider.shutdown()" if explicit else ""}

make()
gc.collect()
print("exit")
"""
    environ = {**os.environ, "OTELAGENT_ENGINE": engine}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["shutdown", "exit"] if explicit else ["exit"] + ["shutdown"] * count
    assert done.stderr == ""


def test_a_fork_child_has_ids_of_its_own(provider: Provider) -> None:
    made = provider()
    tracer = made.get_tracer("t")
    tracer.start_span("a")
    read, write = os.pipe()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                context = tracer.start_span("child").get_span_context()
                os.write(write, f"{context.trace_id:032x}{context.span_id:016x}\n".encode())
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    own = tracer.start_span("own").get_span_context()
    os.close(write)
    with os.fdopen(read) as lines:
        ids = [*lines.read().split(), f"{own.trace_id:032x}{own.span_id:016x}"]
    assert len(set(ids)) == 3


def test_a_span_is_neither_copied_nor_pickled(provider: Provider) -> None:
    # As the stock one, which holds locks; what was exported of it can be.
    made = provider()
    memory = exported(made)
    span = made.get_tracer("t").start_span("a", attributes={"k": [1]})
    for fails in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            fails(span)
    span.end()
    (got,) = memory.get_finished_spans()
    assert pickle.loads(pickle.dumps(got.context)) == got.context
    assert copy.deepcopy(got).attributes == got.attributes


def test_engines_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTELAGENT_ENGINE", "fast")
    with pytest.raises(otelagent.ConfigError, match="OTELAGENT_ENGINE"):
        otelagent.TracerProvider()


def test_the_sdks_own_metrics_are_made_where_they_are_asked_for(
    engine: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    made = provider(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    made.get_tracer("t").start_span("a").end()
    metrics: Any = reader.get_metrics_data()
    names = {metric.name for metric in metrics.resource_metrics[0].scope_metrics[0].metrics}
    assert "otel.sdk.span.started" in names
