"""What the native engine has to get right that the stock SDK gets from being Python: context, memory, forks."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.support import native_or_skip
from tests.unit.record.recorder import Recorder, attributes

Record = Callable[..., Recorder]

pytestmark = pytest.mark.parametrize("engine", ["native"], indirect=True)


def test_spans_and_tracers_are_the_apis_kind(record: Record) -> None:
    recorder = record()
    span = recorder.tracer.start_span("a")
    assert isinstance(span, trace.Span)
    assert isinstance(recorder.tracer, trace.Tracer)
    assert isinstance(recorder.engine.provider, trace.TracerProvider)
    assert isinstance(span.get_span_context(), SpanContext)
    assert isinstance(span.get_span_context().trace_flags, TraceFlags)
    assert recorder.engine.provider.get_tracer("scope", "1.0") is recorder.tracer
    assert recorder.engine.provider.get_tracer("scope", "1.1") is not recorder.tracer


def test_a_span_context_is_the_same_each_time(record: Record) -> None:
    span = record().tracer.start_span("a")
    one, other = span.get_span_context(), span.get_span_context()
    assert one == other
    assert SpanContext(*one.__getnewargs__()) == one
    assert one.is_valid


def test_the_current_span_is_the_contexts(record: Record) -> None:
    recorder = record()
    key = context_api.create_key("mine")
    token = context_api.attach(context_api.set_value(key, "kept"))
    try:
        with recorder.tracer.start_as_current_span("a") as span:
            assert trace.get_current_span() is span
            assert context_api.get_value(key) == "kept"
            assert type(context_api.get_current()) is Context
            with pytest.raises(ValueError):
                context_api.get_current()["x"] = 1
            with trace.use_span(trace.INVALID_SPAN):
                assert trace.get_current_span() is trace.INVALID_SPAN
            assert trace.get_current_span() is span
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert context_api.get_value(key) == "kept"
    finally:
        context_api.detach(token)


def test_a_context_given_by_hand_says_who_the_parent_is_and_nothing_else(record: Record) -> None:
    recorder = record()
    key = context_api.create_key("mine")
    other = recorder.tracer.start_span("other")
    given = trace.set_span_in_context(other, context_api.set_value(key, "given", Context()))
    with recorder.tracer.start_as_current_span("outer"):
        with recorder.tracer.start_as_current_span("inner", given) as inner:
            assert context_api.get_value(key) is None
            assert inner.parent == other.get_span_context()
        with recorder.tracer.start_as_current_span("root", Context()) as root:
            assert root.parent is None


@pytest.mark.parametrize("held", [None, "no span", object(), trace.INVALID_SPAN])
def test_whatever_else_is_current_makes_a_root(record: Record, held: object) -> None:
    context = context_api.set_value(trace.propagation._SPAN_KEY, held, Context())
    assert record().tracer.start_span("a", context).parent is None


def test_a_parent_of_another_kind_is_a_parent(record: Record) -> None:
    parent = NonRecordingSpan(SpanContext(5, 6, True, TraceFlags(1)))
    recorder = record()
    with trace.use_span(parent), recorder.tracer.start_as_current_span("a") as span:
        assert span.parent == parent.get_span_context()
    (got,) = recorder.spans()
    assert (got.trace_id[-1], got.parent_span_id[-1], got.flags) == (5, 6, 0x300)


def test_interleaved_tasks_keep_their_own(record: Record) -> None:
    recorder = record(batch_max_queue_size=10_000, batch_schedule_delay_ms=60_000)

    async def work(number: int) -> None:
        with recorder.tracer.start_as_current_span(f"outer {number}") as outer:
            for step in range(4):
                await asyncio.sleep(0)
                with recorder.tracer.start_as_current_span(f"inner {number}") as inner:
                    await asyncio.sleep(0.0001 * (number % 3))
                    assert trace.get_current_span() is inner
                    inner.set_attribute("step", step)
                assert trace.get_current_span() is outer

    async def all_of_them() -> None:
        with recorder.tracer.start_as_current_span("root"):
            await asyncio.gather(*(work(number) for number in range(250)))

    asyncio.run(all_of_them())
    spans = {span.span_id: span for span in recorder.spans()}
    assert len(spans) == 1 + 250 * 5
    (root,) = [span for span in spans.values() if not span.parent_span_id]
    for span in spans.values():
        if span.name.startswith("inner"):
            assert spans[span.parent_span_id].name == span.name.replace("inner", "outer")
        elif span is not root:
            assert span.parent_span_id == root.span_id


def test_threads_have_their_own_and_every_span_is_counted(record: Record) -> None:
    recorder = record(batch_max_queue_size=100_000, batch_schedule_delay_ms=1)
    wrong: list[object] = []

    def work(number: int) -> None:
        for _ in range(500):
            with (
                recorder.tracer.start_as_current_span(str(number)) as outer,
                recorder.tracer.start_as_current_span("inner", attributes={"n": number}) as inner,
            ):
                if inner.parent != outer.get_span_context() or trace.get_current_span() is not inner:
                    wrong.append(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    spans = recorder.spans()
    assert not wrong
    assert len(spans) == len({span.span_id for span in spans}) == 8 * 500 * 2
    assert recorder.ledger.snapshot().delivered == 8 * 500 * 2


def test_abandoned_blocks_are_collected(record: Record) -> None:
    from otelagent_native import CurrentSpan, Span

    def alive() -> int:
        gc.collect()
        return sum(1 for one in gc.get_objects() if type(one) in (CurrentSpan, Context))

    tracer = record().tracer
    before = alive()
    spans: list[weakref.ref[Span]] = []
    for _ in range(1000):

        def abandon() -> None:
            block = tracer.start_as_current_span("abandoned")
            spans.append(weakref.ref(block.__enter__()))
            held = contextvars.ContextVar("held", default=None)
            held.set(block)

        contextvars.copy_context().run(abandon)
    assert alive() <= before + 10
    assert not any(one() for one in spans)


def test_a_span_that_never_ends_is_not_kept(record: Record) -> None:
    recorder = record()
    span = recorder.tracer.start_span("a", attributes={"k": "v"})
    gone = weakref.ref(span)
    del span
    assert gone() is None
    assert recorder.ledger.snapshot().ended == 0


def test_a_block_that_ends_elsewhere_says_so_once(
    record: Record, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otelagent.record import native_provider

    monkeypatch.setattr(native_provider._log, "_topics", {})
    recorder = record()
    for _ in range(3):
        block = recorder.tracer.start_as_current_span("a")
        contextvars.copy_context().run(block.__enter__)
        with caplog.at_level(logging.WARNING):
            block.__exit__(None, None, None)
    assert len([one for one in caplog.records if "another context" in one.getMessage()]) == 1
    assert len(recorder.spans()) == 3


def test_a_block_is_entered_once_at_a_time(record: Record) -> None:
    block = record().tracer.start_as_current_span("a")
    with pytest.raises(RuntimeError):
        block.__exit__(None, None, None)
    with block, pytest.raises(RuntimeError):
        block.__enter__()


def test_a_span_can_be_left_open(record: Record) -> None:
    recorder = record()
    with recorder.tracer.start_as_current_span("a", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    span.end()
    assert len(recorder.spans()) == 1


def test_what_comes_after_the_end_changes_nothing(record: Record) -> None:
    recorder = record()
    span = recorder.tracer.start_span("a", attributes={"k": 1}, start_time=1)
    span.end(2)
    span.end(3)
    span.set_attribute("k", 2)
    span.set_attributes({"l": 1})
    span.add_event("event")
    span.add_link(SpanContext(1, 1, False))
    span.update_name("b")
    span.set_status(trace.StatusCode.ERROR)
    span.record_exception(ValueError())
    assert not span.is_recording()
    (got,) = recorder.spans()
    assert (got.name, got.end_time_unix_nano, attributes(got.attributes)) == ("a", 2, {"k": 1})
    assert (len(got.events), len(got.links), got.status.code) == (0, 0, 0)
    assert recorder.ledger.snapshot().ended == 1


def test_a_span_can_be_read(record: Record) -> None:
    recorder = record()
    linked = SpanContext(1, 2, True)
    span = recorder.tracer.start_span(
        "a", kind=trace.SpanKind.SERVER, attributes={"k": ["x", 1]}, links=[trace.Link(linked, {"l": 1})], start_time=5
    )
    span.add_event("event", {"e": b"1"}, 6)
    span.set_status(trace.StatusCode.ERROR, "no")
    before = span.end_time
    span.end(7)
    assert before is None
    assert (span.name, span.kind, span.start_time, span.end_time) == ("a", trace.SpanKind.SERVER, 5, 7)
    assert span.attributes == {"k": ("x", 1)}
    (event,) = span.events
    assert (event.name, event.attributes, event.timestamp) == ("event", {"e": b"1"}, 6)
    assert (span.links[0].context, span.links[0].attributes) == (linked, {"l": 1})
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "no")
    assert span.context == span.get_span_context()
    assert span.instrumentation_scope.name == "scope"


def test_a_processor_reads_the_same_as_from_the_stock_sdk(record: Record) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    def of(provider: Any) -> dict[str, Any]:
        exporter = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("scope", "1", "https://schema", {"k": 1})
        span = tracer.start_span(
            "a",
            kind=trace.SpanKind.CLIENT,
            attributes={"k": [1, 2], "s": "x"},
            links=[trace.Link(SpanContext(1, 2, True), {"l": 1})],
            start_time=1,
        )
        span.add_event("event", {"e": 1.5}, 2)
        span.set_status(trace.StatusCode.ERROR, "no")
        span.end(3)
        (got,) = exporter.get_finished_spans()
        assert got.instrumentation_scope is not None
        assert got.resource.attributes["telemetry.sdk.language"] == "python"
        scope = got.instrumentation_scope
        return {
            "name": got.name, "kind": got.kind, "attributes": dict(got.attributes or {}), "parent": got.parent,
            "events": [(one.name, dict(one.attributes or {}), one.timestamp) for one in got.events],
            "links": [(one.context, dict(one.attributes or {})) for one in got.links],
            "status": (got.status.status_code, got.status.description), "start": got.start_time, "end": got.end_time,
            "scope": (scope.name, scope.version, scope.schema_url, dict(scope.attributes or {})),
            "json": sorted(__import__("json").loads(got.to_json())),
        }  # fmt: skip

    recorder = record()
    assert of(recorder.engine.provider) == of(TracerProvider(shutdown_on_exit=False))
    assert len(recorder.spans()) == 1


def test_a_processor_may_change_a_span_as_it_starts(record: Record) -> None:
    from opentelemetry.sdk.trace import SpanProcessor

    class Marking(SpanProcessor):
        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            span.set_attribute("marked", span.name)

    recorder = record()
    recorder.engine.provider.add_span_processor(Marking())
    recorder.tracer.start_span("a").end()
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"marked": "a"}


def test_a_value_may_use_its_own_span_while_it_is_written(record: Record) -> None:
    recorder = record()
    span = recorder.tracer.start_span("a")

    class Meddling:
        def __str__(self) -> str:
            span.set_attribute("inner", 1)
            span.end()
            recorder.flush()
            return "text"

    span.set_attribute("outer", Meddling())
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"inner": 1}


def test_an_interrupt_comes_through(record: Record) -> None:
    class Interrupting:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    span = record().tracer.start_span("a")
    with pytest.raises(KeyboardInterrupt):
        span.set_attribute("k", Interrupting())
    span.end()


class _Unwritable:
    def __str__(self) -> str:
        raise ValueError


def _leave_in_another_context(tracer: Any) -> None:
    block = tracer.start_as_current_span("a")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)


@pytest.mark.parametrize(
    "act",
    [
        lambda tracer: _ended(tracer).end(),
        lambda tracer: _ended(tracer).set_attribute("k", 1),
        lambda tracer: _ended(tracer).update_name("b"),
        lambda tracer: tracer.start_span("a").set_attribute("k", _Unwritable()),
        lambda tracer: tracer.start_span("a", attributes={"k": _Unwritable()}),
        lambda tracer: tracer.start_span("a").add_event("e", {"k": _Unwritable()}),
        lambda tracer: tracer.start_span(_Unwritable()),
        _leave_in_another_context,
    ],
)
def test_an_interrupt_of_what_is_logged_comes_through(
    record: Record, act: Callable[[Any], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from otelagent.record import native_provider

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    recorder = record()
    monkeypatch.setattr(native_provider._log, "warning", interrupted)
    with pytest.raises(KeyboardInterrupt):
        act(recorder.tracer)


def _ended(tracer: Any) -> Any:
    span = tracer.start_span("a")
    span.end()
    return span


def test_counts_stand_in_every_snapshot(record: Record) -> None:
    recorder = record(batch_max_queue_size=5, batch_max_export_batch_size=5, batch_schedule_delay_ms=60_000)
    with recorder.engine._batch._draining:
        for number in range(8):
            recorder.tracer.start_span(str(number)).end()
            assert recorder.ledger.snapshot().balanced
    recorder.engine.pause()
    recorder.tracer.start_span("paused").end()
    recorder.flush()
    snapshot = recorder.ledger.snapshot()
    assert (snapshot.ended, snapshot.sampled_out, snapshot.delivered, snapshot.queued) == (9, 1, 5, 0)
    assert dict(snapshot.dropped) == {"queue_full": 3}
    assert snapshot.balanced


def test_a_large_value_is_cut(record: Record) -> None:
    native_or_skip()
    huge = "x" * (20 << 20)
    recorder = record()
    span = recorder.tracer.start_span("a", attributes={"cut": huge, "good": 1})
    span.end()
    limited = record(attribute_value_length_limit=10)
    limited.tracer.start_span("b", attributes={"cut": huge}).end()
    (got,) = recorder.spans()
    assert (attributes(got.attributes), got.dropped_attributes_count) == ({"cut": "x" * (1 << 20), "good": 1}, 1)
    (got,) = limited.spans()
    assert attributes(got.attributes) == {"cut": "x" * 10}


def test_keys_of_a_map_stay_unique(record: Record) -> None:
    recorder = record()
    recorder.tracer.start_span("a", attributes={"map": {"4": 1, "b": 2, 4: 3}}).end()
    (got,) = recorder.spans()
    pairs = got.attributes[0].value.kvlist_value.values
    assert [(pair.key, pair.value.int_value) for pair in pairs] == [("4", 3), ("b", 2)]
