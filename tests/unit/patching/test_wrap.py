"""One declaration covers every sort of function, and what it wraps still looks and behaves as before."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode

from otelagent.patching import Call, Instrumentation, hook
from otelagent.semconv.call import Internal
from tests.instrumentation.capture import Applied, Spans, span_id
from tests.unit.patching.conftest import Library

M = "target_library"


class Every(Instrumentation):
    name = M

    @hook(M, "function")
    @hook(M, "coroutine")
    @hook(M, "generator")
    @hook(M, "async_generator")
    @hook(M, "Parent.method")
    @hook(M, "Parent.async_method")
    @hook(M, "Parent.static")
    @hook(M, "Parent.cls")
    @hook(M, "Child.method")
    @hook(M, "sqrt")
    def call(self, call: Call) -> Internal:
        instance = call.instance.__name__ if isinstance(call.instance, type) else type(call.instance).__name__
        return Internal(f"{instance}({call.arg(0, 'x')})")


def drive(result: Any) -> Any:
    """The outcome of a call of any sort: its value, or what it yielded."""
    if inspect.isawaitable(result):

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())
    if inspect.isasyncgen(result):

        async def collect() -> list[Any]:
            return [item async for item in result]

        return asyncio.run(collect())
    return list(result) if inspect.isgenerator(result) else result


CALLS: dict[str, tuple[Callable[[Any, dict[str, Any]], Any], str]] = {
    "function": (lambda m, k: m.function(2, **k), "NoneType(2)"),
    "function by keyword": (lambda m, k: m.function(x=2, **k), "NoneType(2)"),
    "coroutine": (lambda m, k: m.coroutine(2, **k), "NoneType(2)"),
    "generator": (lambda m, k: m.generator(2, **k), "NoneType(2)"),
    "async generator": (lambda m, k: m.async_generator(2, **k), "NoneType(2)"),
    "method": (lambda m, k: m.Parent().method(2, **k), "Parent(2)"),
    "method of the class": (lambda m, k: m.Parent.method(m.Parent(), 2, **k), "Parent(2)"),
    "async method": (lambda m, k: m.Parent().async_method(2, **k), "Parent(2)"),
    "static method": (lambda m, k: m.Parent.static(2, **k), "NoneType(2)"),
    "static method of an instance": (lambda m, k: m.Child().static(2, **k), "NoneType(2)"),
    "class method": (lambda m, k: m.Parent.cls(2, **k), "Parent(2)"),
    "class method of a subclass": (lambda m, k: m.Child().cls(2, **k), "Child(2)"),
    "inherited async method": (lambda m, k: m.Child().async_method(2, **k), "Child(2)"),
}


@pytest.mark.parametrize("when", ["imported before", "imported after"])
@pytest.mark.parametrize("sort", CALLS)
def test_each_sort_of_function_gives_one_span_that_is_current_inside(
    sort: str, when: str, library: Library, spans: Spans, apply: Applied
) -> None:
    if when == "imported before":
        library()
    apply(Every)
    make, name = CALLS[sort]
    outcome = drive(make(library(), {}))

    # The inner `function` is hooked as well: the outermost span is the call's own.
    span = [span for span in spans.all(name) if span.parent is None][-1]
    inside = outcome[0][1] if isinstance(outcome, list) else outcome[1]
    assert inside in {span_id(s) for s in spans.all()}
    assert len(outcome if isinstance(outcome, list) else [outcome]) == (2 if isinstance(outcome, list) else 1)
    assert span.status.status_code is StatusCode.UNSET
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("sort", CALLS)
def test_each_sort_of_function_raises_what_it_raised_and_records_it(
    sort: str, library: Library, spans: Spans, apply: Applied
) -> None:
    apply(Every)
    error = LookupError("nothing there")
    with pytest.raises(LookupError) as caught:
        drive(CALLS[sort][0](library(), {"fail": error}))

    assert caught.value is error
    outermost = spans.all()[-1]
    assert outermost.attributes is not None
    assert outermost.attributes["error.type"] == "LookupError"
    assert outermost.status.status_code is StatusCode.ERROR
    assert outermost.status.description == "nothing there"
    assert [event.name for event in outermost.events] == ["exception"]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_builtin(library: Library, spans: Spans, apply: Applied) -> None:
    apply(Every)
    assert library().sqrt(4) == 2
    spans.one("NoneType(4)")
    with pytest.raises(TypeError):
        library().sqrt()


def test_builtin_method(library: Library, spans: Spans, apply: Applied) -> None:
    module = library()
    module.Dict = type("Dict", (dict,), {"pop": dict.pop})

    class Builtin(Instrumentation):
        name = M

        @hook(M, "Dict.pop")
        @hook(M, "Dict.keys")
        def pop(self, call: Call) -> Internal:
            return Internal(f"pop {call.arg(0, 'key')}")

    apply(Builtin)
    d = module.Dict(a=1)
    assert list(d.keys()) == ["a"]
    assert d.pop("a") == 1
    assert spans.names() == ["pop None", "pop a"]


def test_a_generator_gives_back_what_it_returned_and_takes_what_is_sent(library: Library, apply: Applied) -> None:
    module = library()

    def echo() -> Any:
        received: list[Any] = []
        while (item := (yield len(received))) is not None:
            received.append(item)
        return received

    module.echo = echo

    class Echo(Instrumentation):
        name = M

        @hook(M, "echo")
        def call(self, call: Call) -> Internal:
            return Internal("echo")

    apply(Echo)
    generator = module.echo()
    assert [generator.send(value) for value in (None, "a", "b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as stop:
        generator.send(None)
    assert stop.value.value == ["a", "b"]

    generator = module.echo()
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError("in"))


def test_what_is_wrapped_looks_as_before(library: Library, apply: Applied) -> None:
    module = library()
    before = {
        name: inspect.signature(getattr(module, name))
        for name in ("function", "coroutine", "generator", "async_generator")
    }
    method = inspect.signature(module.Parent.method), inspect.signature(module.Parent.cls)
    apply(Every)

    assert {name: inspect.signature(getattr(module, name)) for name in before} == before
    assert (inspect.signature(module.Parent.method), inspect.signature(module.Parent.cls)) == method
    assert inspect.iscoroutinefunction(module.coroutine)
    assert inspect.iscoroutinefunction(module.Parent().async_method)
    assert inspect.isgeneratorfunction(module.generator)
    assert inspect.isasyncgenfunction(module.async_generator)
    assert not inspect.iscoroutinefunction(module.function)
    assert module.function.__name__ == module.function.__qualname__ == "function"
    assert module.Parent.method.__qualname__ == "Parent.method"
    for pickled in (module.function, module.generator, module.Parent.method, module.Parent.static):
        assert pickle.loads(pickle.dumps(pickled)) is pickled


def test_a_wrong_call_fails_as_before(library: Library, apply: Applied) -> None:
    apply(Every)
    module = library()
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        module.function()
    with pytest.raises(TypeError, match=r"missing .* required positional argument"):
        module.Parent.method()


def test_cancellation_is_no_error(library: Library, spans: Spans, apply: Applied) -> None:
    module = library()
    module.coroutine = _sleep
    apply(Every)

    async def main() -> None:
        task = asyncio.create_task(module.coroutine(60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    span = spans.one("NoneType(60)")
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {"error.type": "asyncio.exceptions.CancelledError"}
    assert span.events == ()


async def _sleep(x: float) -> None:
    await asyncio.sleep(x)


@pytest.mark.parametrize("sort", ["function", "coroutine", "generator"])
def test_an_exception_keeps_nothing_alive(sort: str, library: Library, spans: Spans, apply: Applied) -> None:
    """No reference cycle through the wrapper's frame: the call's objects go with the exception, uncollected."""

    class Argument:
        pass

    module = library()
    setattr(module, sort, {"function": _broken, "coroutine": _broken_coroutine, "generator": _broken_generator}[sort])
    apply(Every)
    gc.collect()
    gc.disable()
    try:
        argument = Argument()
        gone = weakref.ref(argument)
        try:
            result = getattr(module, sort)(argument)
            result.send(None)
        except LookupError:
            pass
        result = None
        del argument
        assert gone() is None
    finally:
        gc.enable()


def _broken(x: object) -> None:
    raise LookupError


async def _broken_coroutine(x: object) -> None:
    raise LookupError


def _broken_generator(x: object) -> Any:
    raise LookupError
    yield


class TestEarlyEnd:
    """Generators that aren't run to their end: one span each, nothing logged, nothing left current."""

    @pytest.fixture(autouse=True)
    def _nothing_is_logged(self, caplog: pytest.LogCaptureFixture) -> Any:
        yield
        assert [record for record in caplog.records if record.name != "asyncio"] == []

    @pytest.mark.parametrize("end", ["close", "collected", "closed in a thread", "thrown into"])
    def test_generator(self, end: str, library: Library, spans: Spans, apply: Applied) -> None:
        apply(Every)
        with spans.tracer.start_as_current_span("caller") as caller:
            generator = library().generator(5)
            assert next(generator)[1] not in (0, caller.get_span_context().span_id)
            assert trace.get_current_span() is caller
            if end == "close":
                generator.close()
            elif end == "collected":
                del generator
            elif end == "closed in a thread":
                thread = threading.Thread(target=generator.close)
                thread.start()
                thread.join()
            else:
                with pytest.raises(KeyError):
                    generator.throw(KeyError("k"))
            assert trace.get_current_span() is caller
        span = spans.one("NoneType(5)")
        assert (span.attributes or {}).get("error.type") == ("KeyError" if end == "thrown into" else None)
        assert spans.parent(span) is spans.one("caller")

    @pytest.mark.parametrize("end", ["break", "aclose", "closed in another task", "collected"])
    def test_async_generator(self, end: str, library: Library, spans: Spans, apply: Applied) -> None:
        apply(Every)

        async def main() -> None:
            with spans.tracer.start_as_current_span("caller") as caller:
                generator = library().async_generator(5)
                async for _ in generator:
                    assert trace.get_current_span() is caller
                    break
                if end == "aclose":
                    await generator.aclose()
                elif end == "closed in another task":
                    await asyncio.create_task(generator.aclose())
                del generator
                gc.collect()
                await asyncio.sleep(0.01)
                assert trace.get_current_span() is caller

        asyncio.run(main())
        span = spans.one("NoneType(5)")
        assert span.status.status_code is StatusCode.UNSET
        assert spans.parent(span) is spans.one("caller")

    def test_never_started(self, library: Library, spans: Spans, apply: Applied) -> None:
        apply(Every)
        generator = library().generator(3)
        generator.close()
        agen = library().async_generator(3)
        asyncio.run(agen.aclose())
        assert spans.names() == []


def _spanning(tracer: trace.Tracer) -> Any:
    def body(x: int) -> Any:
        for i in range(x):
            with tracer.start_as_current_span(f"step {i}"):
                yield trace.get_current_span().get_span_context().span_id
        with tracer.start_as_current_span("last"):
            pass

    return body


def test_a_body_that_starts_spans_across_yields(
    library: Library, spans: Spans, apply: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    module = library()
    module.generator = _spanning(spans.tracer)

    async def async_body(x: int) -> Any:
        for i in range(x):
            with spans.tracer.start_as_current_span(f"async step {i}"):
                await asyncio.sleep(0)
                yield i

    module.async_generator = async_body
    apply(Every)
    with spans.tracer.start_as_current_span("caller") as caller:
        for _ in module.generator(2):
            assert trace.get_current_span() is caller
            with spans.tracer.start_as_current_span("between"):
                pass

        async def main() -> None:
            async for _ in module.async_generator(2):
                with spans.tracer.start_as_current_span("async between"):
                    pass

        asyncio.run(main())
    assert spans.tree().splitlines() == [
        "INTERNAL caller",
        "  INTERNAL NoneType(2)",
        "    INTERNAL step 0",
        "    INTERNAL step 1",
        "    INTERNAL last",
        "  INTERNAL between",
        "  INTERNAL between",
        "  INTERNAL NoneType(2)",
        "    INTERNAL async step 0",
        "    INTERNAL async step 1",
        "  INTERNAL async between",
        "  INTERNAL async between",
    ]
    assert caplog.records == []


def test_interleaved_generators(library: Library, spans: Spans, apply: Applied) -> None:
    module = library()
    module.generator = _spanning(spans.tracer)
    apply(Every)
    first, second = module.generator(2), module.generator(3)
    for generator in (first, second, second, first, second):
        next(generator)
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert list(first) == list(second) == []
    tree = spans.tree()
    assert tree.count("\n  INTERNAL step") == 5
    assert tree.count("\n  INTERNAL last") == 2


def test_two_hundred_interleaved_tasks(library: Library, spans: Spans, apply: Applied) -> None:
    module = library()
    module.coroutine = _nap
    apply(Every)

    async def request(i: int) -> None:
        with spans.tracer.start_as_current_span(f"request {i}"):
            await asyncio.gather(*(module.coroutine(f"{i}.{j}") for j in range(2)))
            async for _ in module.async_generator(i % 3):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*map(request, range(200)))

    asyncio.run(main())
    for i in range(200):
        for j in range(2):
            parent = spans.parent(spans.one(f"NoneType({i}.{j})"))
            assert parent is not None
            assert parent.name == f"request {i}"
    for span in spans.all("NoneType(2)"):
        parent = spans.parent(span)
        assert parent is not None
        assert int(parent.name.split()[1]) % 3 == 2


async def _nap(x: str) -> None:
    await asyncio.sleep(int(x.split(".")[0]) % 5 / 1000)
    await asyncio.sleep(0)


def test_many_threads(library: Library, spans: Spans, apply: Applied) -> None:
    apply(Every)
    module = library()

    def work(i: int) -> None:
        with spans.tracer.start_as_current_span(f"thread {i}"):
            for j in range(20):
                module.Parent().method(f"{i}.{j}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for i in range(16):
        for j in range(20):
            parent = spans.parent(spans.one(f"Parent({i}.{j})"))
            assert parent is not None
            assert parent.name == f"thread {i}"


def test_a_processor_that_raises_stays_out_of_the_call(
    library: Library, spans: Spans, apply: Applied, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("processor")

    # A provider of the application's own, which isolates nothing.
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Raising())
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    apply(Every)
    module = library()
    with caplog.at_level(logging.WARNING):
        assert module.sqrt(9) == 3
    assert "the call goes on without it" in caplog.text
