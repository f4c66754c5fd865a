"""What users of the OpenTelemetry API rely on, with either engine."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.unit.record.recorder import Recorder, attributes

Record = Callable[..., Recorder]

REMOTE = SpanContext(5, 6, True, TraceFlags(1), TraceState([("v", "1")]))


@pytest.fixture(autouse=True)
def nothing_is_left_current() -> Iterator[None]:
    yield
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert context_api.get_current() == {}


def parents(recorder: Recorder) -> dict[str, str]:
    """Each span's name with its parent's, "" for none."""
    spans = recorder.spans()
    names = {span.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent_span_id, "?") if span.parent_span_id else "" for span in spans}


def test_the_current_span_is_the_innermost(record: Record) -> None:
    recorder = record()
    with recorder.tracer.start_as_current_span("a") as a:
        assert trace.get_current_span() is a
        recorder.tracer.start_span("not current").end()
        with recorder.tracer.start_as_current_span("b") as b:
            assert trace.get_current_span() is b
            assert trace.get_current_span(Context()) is trace.INVALID_SPAN
        assert trace.get_current_span() is a
        trace.get_current_span().set_attribute("k", 1)
    assert parents(recorder) == {"a": "", "b": "a", "not current": "a"}


@pytest.mark.parametrize("end_on_exit", [True, False])
@pytest.mark.parametrize("noted", [True, False])
def test_use_span_is_the_apis(record: Record, end_on_exit: bool, noted: bool) -> None:
    recorder = record()
    span: Any = recorder.tracer.start_span("a")

    def fail() -> None:
        assert trace.get_current_span() is span
        recorder.tracer.start_span("b").end()
        raise ValueError("no")

    with (
        pytest.raises(ValueError, match="no"),
        trace.use_span(span, end_on_exit=end_on_exit, record_exception=noted, set_status_on_exception=noted),
    ):
        fail()
    assert span.is_recording() is not end_on_exit
    span.end() if not end_on_exit else None
    got = {one.name: one for one in recorder.spans()}
    assert got["b"].parent_span_id == got["a"].span_id
    assert len(got["a"].events) == noted
    assert (got["a"].status.code, got["a"].status.message) == ((2, "ValueError: no") if noted else (0, ""))


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt("no"), GeneratorExit(), SystemExit(3)])
def test_what_leaves_a_block_is_noted_and_goes_on(record: Record, error: BaseException, noted: bool) -> None:
    recorder = record()
    with (
        pytest.raises(type(error)) as raised,
        recorder.tracer.start_as_current_span("a", record_exception=noted, set_status_on_exception=noted),
    ):
        raise error
    assert raised.value is error
    with (
        pytest.raises(type(error)),
        recorder.tracer.start_span("b", record_exception=noted, set_status_on_exception=noted),
    ):
        raise error
    a, b = recorder.spans()
    of_a = noted and isinstance(error, Exception)
    assert (len(a.events), a.status.code) == (of_a, 2 if of_a else 0)
    assert (len(b.events), b.status.code) == (noted, 2 if noted else 0)


@pytest.mark.parametrize(
    "use",
    [
        lambda tracer, values: tracer.start_span("a", attributes=values),
        lambda tracer, values: tracer.start_span("a", links=values),
        lambda tracer, values: tracer.start_span("a").add_event("e", values),
        lambda tracer, values: tracer.start_span("a").add_link(REMOTE, values),
    ],
)
def test_an_interrupt_while_values_are_looked_at_comes_through(record: Record, use: Callable[..., object]) -> None:
    class Interrupted(dict[str, int]):
        def __bool__(self) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use(record().tracer, Interrupted(a=1))


def test_a_function_has_a_span_for_each_call(record: Record) -> None:
    recorder = record()
    tracer: trace.Tracer = recorder.tracer

    @tracer.start_as_current_span("f", attributes={"k": 1})
    def f(depth: int, *, fail: bool = False) -> str:
        """Doc."""
        if fail:
            raise ValueError(depth)
        return f(depth - 1) if depth else trace.get_current_span().get_span_context().trace_state.to_header()

    assert (f.__name__, f.__doc__, f(2)) == ("f", "Doc.", "")
    with pytest.raises(ValueError):
        f(0, fail=True)
    spans = recorder.spans()
    assert [attributes(span.attributes)["k"] for span in spans] == [1] * 4
    assert [span.status.code for span in spans] == [0, 0, 0, 2]
    assert [bool(span.parent_span_id) for span in spans] == [True, True, False, False]


def test_a_coroutines_span_lasts_as_long_as_it(record: Record) -> None:
    recorder = record()
    tracer: trace.Tracer = recorder.tracer

    @tracer.start_as_current_span("f")
    async def f(fail: bool) -> Any:
        span = trace.get_current_span()
        await asyncio.sleep(0)
        assert trace.get_current_span() is span
        assert span.is_recording()
        with recorder.tracer.start_as_current_span("inner"):
            await asyncio.sleep(0)
        if fail:
            raise ValueError
        return span

    assert asyncio.iscoroutinefunction(f)
    span = asyncio.run(f(False))
    assert not span.is_recording()
    with pytest.raises(ValueError):
        asyncio.run(f(True))
    assert [(one.name, one.status.code) for one in recorder.spans()] == [("inner", 0), ("f", 0), ("inner", 0), ("f", 2)]


def test_a_generators_span_is_of_the_call_that_makes_it(record: Record) -> None:
    # As the API has it: the decorated call returns the generator, and the span is over by then.
    recorder = record()
    tracer: trace.Tracer = recorder.tracer

    @tracer.start_as_current_span("sync")
    def numbers() -> Iterator[int]:
        assert trace.get_current_span() is trace.INVALID_SPAN
        yield from (1, 2)

    @tracer.start_as_current_span("async")
    async def later() -> AsyncIterator[int]:
        assert trace.get_current_span() is trace.INVALID_SPAN
        yield 1

    async def collect() -> list[int]:
        return [number async for number in later()]

    assert (list(numbers()), asyncio.run(collect())) == ([1, 2], [1])
    assert [span.name for span in recorder.spans()] == ["sync", "async"]


def test_a_span_across_a_generator_is_current_where_it_runs(record: Record) -> None:
    recorder = record()

    def steps() -> Generator[trace.Span, None, None]:
        with recorder.tracer.start_as_current_span("generator") as span:
            yield span
            yield trace.get_current_span()

    generator = steps()
    first = next(generator)
    assert trace.get_current_span() is first  # a generator shares its caller's context
    assert next(generator) is first
    generator.close()
    assert [span.name for span in recorder.spans()] == ["generator"]


def test_a_context_is_passed_by_hand(record: Record) -> None:
    recorder = record()
    a = recorder.tracer.start_span("a")
    context = trace.set_span_in_context(a)
    assert trace.get_current_span() is trace.INVALID_SPAN
    with recorder.tracer.start_as_current_span("other"):
        recorder.tracer.start_span("b", context=context).end()
        with recorder.tracer.start_as_current_span("c", context=context) as c:
            assert trace.get_current_span() is c
            recorder.tracer.start_span("d").end()
        recorder.tracer.start_span("root", context=Context()).end()
    a.end()
    assert parents(recorder) == {"a": "", "other": "", "b": "a", "c": "a", "d": "c", "root": ""}


def test_contexts_are_attached_and_detached(record: Record) -> None:
    recorder = record()
    a = recorder.tracer.start_span("a")
    token = context_api.attach(trace.set_span_in_context(a))
    recorder.tracer.start_span("b").end()
    with recorder.tracer.start_as_current_span("c"):
        inner = context_api.attach(Context())
        recorder.tracer.start_span("root").end()
        context_api.detach(inner)
        recorder.tracer.start_span("d").end()
    context_api.detach(token)
    a.end()
    assert parents(recorder) == {"a": "", "b": "a", "c": "a", "root": "", "d": "c"}


def test_baggage_and_other_values_stay_in_the_context(record: Record) -> None:
    recorder = record()
    token = context_api.attach(baggage.set_baggage("user", "7"))
    try:
        with recorder.tracer.start_as_current_span("a"):
            assert baggage.get_baggage("user") == "7"
            inner = context_api.attach(baggage.set_baggage("cart", "3"))
            with recorder.tracer.start_as_current_span("b") as b:
                assert baggage.get_all() == {"user": "7", "cart": "3"}
                carrier: dict[str, str] = {}
                TraceContextTextMapPropagator().inject(carrier)
            context_api.detach(inner)
            assert baggage.get_all() == {"user": "7"}
        assert baggage.get_all() == {"user": "7"}
        assert trace.format_span_id(b.get_span_context().span_id) in carrier["traceparent"]
    finally:
        context_api.detach(token)


def test_the_parent_may_be_remote_or_not_recorded(record: Record) -> None:
    recorder = record(sampler="parentbased_always_on")
    context = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    with recorder.tracer.start_as_current_span("a", context) as a:
        assert a.get_span_context().trace_id == 5
        assert a.get_span_context().trace_state == REMOTE.trace_state
    unsampled = NonRecordingSpan(SpanContext(5, 6, True, TraceFlags(0)))
    with recorder.tracer.start_as_current_span("b", trace.set_span_in_context(unsampled)) as b:
        assert (b.is_recording(), b.get_span_context().trace_id) == (False, 5)
        assert b.get_span_context().span_id not in (0, 6)
        with recorder.tracer.start_as_current_span("c") as c:
            assert not c.is_recording()
    with trace.use_span(trace.INVALID_SPAN), recorder.tracer.start_as_current_span("d"):
        pass
    (got_a, got_d) = recorder.spans()
    assert (got_a.parent_span_id[-1], got_a.trace_state, got_a.flags & 0x300) == (6, "v=1", 0x300)
    assert not got_d.parent_span_id


def test_251_tasks_keep_apart(record: Record) -> None:
    recorder = record(batch_max_queue_size=10_000, batch_schedule_delay_ms=60_000)

    async def work(number: int) -> None:
        with recorder.tracer.start_as_current_span(f"outer {number}") as outer:
            for _ in range(3):
                await asyncio.sleep(0)
                with recorder.tracer.start_as_current_span(f"inner {number}") as inner:
                    await asyncio.sleep(0.0001 * (number % 3))
                    assert trace.get_current_span() is inner
                assert trace.get_current_span() is outer

    async def all_of_them() -> None:
        with recorder.tracer.start_as_current_span("root"):
            await asyncio.gather(*(work(number) for number in range(251)))

    asyncio.run(all_of_them())
    spans = {span.span_id: span for span in recorder.spans()}
    assert len(spans) == 1 + 251 * 4
    for span in spans.values():
        parent = spans[span.parent_span_id].name if span.parent_span_id else ""
        expected = {"inner": span.name.replace("inner", "outer"), "outer": "root", "root": ""}
        assert parent == expected[span.name.split()[0]]


def test_threads_take_a_copied_context_with_them(record: Record) -> None:
    recorder = record()

    def work(name: str) -> None:
        with recorder.tracer.start_as_current_span(name):
            pass

    with recorder.tracer.start_as_current_span("a"):
        copied = contextvars.copy_context()
        threads = [
            threading.Thread(target=copied.run, args=(work, "copied")),
            threading.Thread(target=contextvars.Context().run, args=(work, "bare")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert parents(recorder) == {"a": "", "copied": "a", "bare": ""}


def test_a_span_may_end_in_another_thread_and_out_of_order(record: Record) -> None:
    recorder = record()
    outer = recorder.tracer.start_as_current_span("outer")
    outer_span = outer.__enter__()
    inner = recorder.tracer.start_as_current_span("inner")
    inner.__enter__()
    thread = threading.Thread(target=outer_span.end)
    thread.start()
    thread.join()
    assert not outer_span.is_recording()
    outer_span.set_attribute("late", 1)
    outer_span.set_status(StatusCode.ERROR)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    spans = recorder.spans()
    assert [(span.name, len(span.attributes), span.status.code) for span in spans] == [("outer", 0, 0), ("inner", 0, 0)]
    assert spans[1].parent_span_id == spans[0].span_id


def test_tracers_made_before_init_are_ours_afterwards(engine: str) -> None:
    program = """
from opentelemetry import trace
early = trace.get_tracer("early", "1")
assert not early.start_span("before").is_recording()

@early.start_as_current_span("decorated")
def f():
    return trace.get_current_span()

import otelagent
otelagent.init(exporter="none", quiet=True)
with early.start_as_current_span("after") as span:
    assert span.is_recording()
    assert isinstance(span, trace.Span) and isinstance(trace.get_tracer("t"), trace.Tracer)
    assert f().get_span_context().trace_id == span.get_span_context().trace_id
    assert isinstance(trace.get_tracer_provider(), trace.TracerProvider)
assert otelagent.status()["engine"]["name"] == ENGINE
from opentelemetry.sdk import trace as sdk  # what others look for before they add a processor
assert isinstance(span, sdk.Span) and isinstance(trace.get_tracer("t"), sdk.Tracer)
assert isinstance(trace.get_tracer_provider(), sdk.TracerProvider)
ledger = otelagent.status()["ledger"]["traces"]
assert ledger["ended"] == 2, ledger
""".replace("ENGINE", repr(engine))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    environ["OTELAGENT_ENGINE"] = engine
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
