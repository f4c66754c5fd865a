"""The context goes into threads, timers and pool jobs; nothing else about them changes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio.to_thread
import pytest
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context

from otelagent.patching.operation import LAYER_KEY, attach, current, detach
from otelagent_instrumentation.runtime.concurrent_futures import ConcurrentFutures
from otelagent_instrumentation.runtime.threading import Threading
from tests.instrumentation.capture import Applied, Spans


def span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


@contextmanager
def span(spans: Spans, name: str = "caller") -> Iterator[int]:
    with spans.tracer.start_as_current_span(name) as made:
        yield made.get_span_context().span_id


@contextmanager
def attached(context: Context) -> Iterator[None]:
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


@pytest.fixture(autouse=True)
def both(apply: Applied) -> None:
    apply(Threading)
    apply(ConcurrentFutures)


class Seen:
    """Runs as a thread's target and remembers the context it ran in."""

    def __init__(self) -> None:
        self.context = Context()
        self.span_id = -1

    def __call__(self) -> None:
        self.context, self.span_id = current(), span_id()


class Overriding(threading.Thread):
    def __init__(self, target: Callable[[], None]) -> None:
        super().__init__()
        self.body = target

    def run(self) -> None:
        self.body()


@pytest.mark.parametrize("make", [lambda f: threading.Thread(target=f), lambda f: threading.Timer(0, f), Overriding])
class TestThreads:
    def test_runs_in_the_context_of_start(self, make: Callable[[Any], threading.Thread], spans: Spans) -> None:
        seen = Seen()
        with span(spans, "constructed in"):
            thread = make(seen)
        with span(spans) as caller:
            thread.start()
            thread.join()
        assert seen.span_id == caller
        assert "_otelagent_context" not in vars(thread)

    def test_without_a_span(self, make: Callable[[Any], threading.Thread]) -> None:
        seen = Seen()
        thread = make(seen)
        thread.start()
        thread.join()
        assert (seen.context, seen.span_id) == (Context(), 0)

    def test_outlives_the_span_it_was_started_in(self, make: Callable[[Any], threading.Thread], spans: Spans) -> None:
        go, seen = threading.Event(), Seen()

        def later() -> None:
            go.wait(10)
            seen()

        with span(spans) as caller:
            thread = make(later)
            thread.start()
        go.set()
        thread.join()
        assert seen.span_id == caller


def test_the_agents_own_threads_are_left_alone(spans: Spans) -> None:
    for name in ("otelagent-batch", "otelagent-export"):
        seen = Seen()
        with span(spans):
            thread = threading.Thread(target=seen, name=name)
            thread.start()
            thread.join()
        assert seen.context == Context()


def test_suppression_goes_along_and_a_layer_does_not(spans: Spans) -> None:
    seen = Seen()
    with span(spans) as caller, attached(context_api.set_value(LAYER_KEY, "http")):
        key = context_api._SUPPRESS_INSTRUMENTATION_KEY
        with attached(context_api.set_value(key, True)):
            thread = threading.Thread(target=seen)
            thread.start()
            thread.join()
    assert seen.span_id == caller
    assert seen.context.get(key) is True
    assert LAYER_KEY not in seen.context


def test_started_twice_and_not_initialised(spans: Spans) -> None:
    with span(spans):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        assert "_otelagent_context" not in vars(thread)
        bare = threading.Thread.__new__(threading.Thread)
        with pytest.raises(RuntimeError, match=r"thread.__init__\(\) not called"):
            bare.start()


def test_an_exception_reaches_the_hook_in_its_context(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    hooked = []
    monkeypatch.setattr(threading, "excepthook", lambda args: hooked.append((args.exc_value, span_id())))
    error = ValueError("in the thread")

    def fail() -> None:
        raise error

    with span(spans) as caller:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert hooked == [(error, caller)]


def test_other_context_variables_do_not_go_along(spans: Spans) -> None:
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("caller's")
    seen = []
    with span(spans), ThreadPoolExecutor(1) as pool:
        thread = threading.Thread(target=lambda: seen.append(variable.get()))
        thread.start()
        thread.join()
        seen.append(pool.submit(variable.get).result())
    assert seen == ["default", "default"]


class TestPool:
    def test_each_job_has_its_own_context(self, spans: Spans) -> None:
        with ThreadPoolExecutor(2) as pool:
            jobs = []
            for i in range(50):
                with span(spans, f"caller {i}") as caller:
                    jobs.append((caller, pool.submit(span_id)))
                jobs.append((0, pool.submit(span_id)))
            assert [job.result() for _, job in jobs] == [caller for caller, _ in jobs]

    def test_map(self, spans: Spans) -> None:
        with ThreadPoolExecutor(3) as pool:
            with span(spans) as caller:
                results = pool.map(lambda i: (i, span_id()), range(10))
            assert list(results) == [(i, caller) for i in range(10)]

    def test_results_arguments_exceptions_cancellation(self, spans: Spans) -> None:
        def job(*args: Any, **kwargs: Any) -> Any:
            return args, kwargs

        def fail() -> None:
            raise error

        error = LookupError("job")
        with span(spans), ThreadPoolExecutor(1) as pool:
            assert pool.submit(job, 1, fn=2, executor=3).result() == ((1,), {"fn": 2, "executor": 3})
            assert pool.submit(fail).exception() is error
            with pytest.raises(TypeError):
                pool.submit()  # type: ignore[call-arg]
            hold = threading.Event()
            pool.submit(hold.wait, 10)
            waiting = pool.submit(job)
            assert waiting.cancel()
            hold.set()
        with span(spans), pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            pool.submit(job)

    def test_a_subclass(self, spans: Spans) -> None:
        class Counting(ThreadPoolExecutor):
            submitted: list[Any] = []  # noqa: RUF012

            def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
                self.submitted.append(fn)
                return super().submit(fn, *args, **kwargs)

        with span(spans) as caller, Counting(1) as pool:
            assert pool.submit(span_id).result() == caller
        assert pool.submitted == [span_id]

    def test_the_workers_and_their_initializer_have_no_context(self, spans: Spans) -> None:
        seen = Seen()
        with span(spans), ThreadPoolExecutor(1, initializer=seen) as pool:
            pool.submit(span_id).result()
        assert seen.context == Context()

    def test_what_an_initializer_attached_stays_for_jobs_without_a_context(self, spans: Spans) -> None:
        def initialize() -> None:
            attach(context_api.set_value("from", "initializer"))

        with ThreadPoolExecutor(1, initializer=initialize) as pool:
            assert pool.submit(lambda: current().get("from")).result() == "initializer"

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_context_is_not_kept_after_its_job(self, fails: bool, spans: Spans) -> None:
        def job(argument: Any) -> None:
            if fails:
                raise LookupError

        class Argument:
            pass

        with ThreadPoolExecutor(1) as pool:
            with span(spans):
                context = context_api.set_value("big", object())
                gone: list[weakref.ref[Any]] = [weakref.ref(context)]
                with attached(context):
                    argument = Argument()
                    gone.append(weakref.ref(argument))
                    future = pool.submit(job, argument)
                    del context, argument
            assert isinstance(future.exception(), LookupError) is fails
            if fails:
                gone.pop()  # the traceback of a job that raised refers to its arguments, ours or not
            gc.collect()
            deadline = time.monotonic() + 5
            while any(ref() is not None for ref in gone) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert [ref() for ref in gone] == [None] * len(gone)

    def test_undone_while_jobs_wait(self, spans: Spans) -> None:
        instrumentation = ConcurrentFutures("0")
        with span(spans) as caller, ThreadPoolExecutor(1) as pool:
            instrumentation.apply()
            hold = threading.Event()
            pool.submit(hold.wait, 10)
            job = pool.submit(span_id)
            instrumentation.undo()
            hold.set()
            assert job.result() == caller

    def test_processes_are_left_alone(self, spans: Spans) -> None:
        before = concurrent.futures.ProcessPoolExecutor.submit
        with span(spans), concurrent.futures.ProcessPoolExecutor(1) as pool:
            assert pool.submit(os.getpid).result() != os.getpid()
        assert not hasattr(before, "__wrapped__")


class TestAsyncio:
    """Ways from a coroutine into a thread, some of which copy all context variables themselves."""

    def test_run_in_executor(self, spans: Spans) -> None:
        async def main() -> None:
            with span(spans) as caller:
                assert await asyncio.get_running_loop().run_in_executor(None, span_id) == caller
                assert span_id() == caller
            assert await asyncio.get_running_loop().run_in_executor(None, span_id) == 0

        asyncio.run(main())

    @pytest.mark.parametrize("to_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
    def test_to_thread(self, to_thread: Any, spans: Spans) -> None:
        """What the job itself attaches, and a span it leaves open, stay in the job."""

        def job() -> int:
            attach(context_api.set_value("left", "behind"))
            return span_id()

        async def main() -> None:
            for _ in range(3):
                with span(spans) as caller:
                    assert await to_thread(job) == caller
                assert await to_thread(job) == 0
                assert await to_thread(lambda: current().get("left")) is None

        asyncio.run(main())

    def test_many_requests(self, spans: Spans) -> None:
        async def request(i: int) -> None:
            with span(spans, f"{i}") as caller:
                await asyncio.sleep(i % 7 / 1000)
                loop = asyncio.get_running_loop()
                found = await asyncio.gather(
                    asyncio.to_thread(span_id), loop.run_in_executor(None, span_id), anyio.to_thread.run_sync(span_id)
                )
                assert list(found) == [caller] * 3

        async def main() -> None:
            await asyncio.gather(*map(request, range(200)))

        asyncio.run(main())
