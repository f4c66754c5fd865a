"""asyncio carries the context by itself, into tasks, callbacks and from other threads: no instrumentation is needed."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import trace

from tests.instrumentation.capture import Spans


def span_id() -> int:
    return trace.get_current_span().get_span_context().span_id


async def asynchronous_span_id() -> int:
    await asyncio.sleep(0)
    return span_id()


Way = Callable[[asyncio.AbstractEventLoop], Awaitable[int]]


async def create_task(loop: asyncio.AbstractEventLoop) -> int:
    return await loop.create_task(asynchronous_span_id())


async def gather(loop: asyncio.AbstractEventLoop) -> int:
    return (await asyncio.gather(asynchronous_span_id()))[0]


def scheduled_by(schedule: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], object]) -> Way:
    async def way(loop: asyncio.AbstractEventLoop) -> int:
        done: asyncio.Future[int] = loop.create_future()
        schedule(loop, lambda: done.set_result(span_id()))
        return await done

    return way


def on_done(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    future: asyncio.Future[None] = loop.create_future()
    future.add_done_callback(lambda _: callback())
    loop.call_later(0.001, future.set_result, None)


WAYS: dict[str, Way] = {
    "create_task": create_task,
    "gather": gather,
    "call_soon": scheduled_by(lambda loop, callback: loop.call_soon(callback)),
    "call_later": scheduled_by(lambda loop, callback: loop.call_later(0.001, callback)),
    "call_soon_threadsafe": scheduled_by(lambda loop, callback: loop.call_soon_threadsafe(callback)),
    "add_done_callback": scheduled_by(on_done),
}


@pytest.mark.parametrize("way", WAYS)
def test_in_the_loop(way: str, spans: Spans) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with spans.tracer.start_as_current_span("caller") as caller:
            assert await WAYS[way](loop) == caller.get_span_context().span_id
        assert await WAYS[way](loop) == 0

    asyncio.run(main())


@contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_from_another_thread(spans: Spans) -> None:
    with loop_in_a_thread() as loop:
        for _ in range(2):
            with spans.tracer.start_as_current_span("caller") as caller:
                mine = caller.get_span_context().span_id
                assert asyncio.run_coroutine_threadsafe(asynchronous_span_id(), loop).result(10) == mine
                seen: queue.SimpleQueue[int] = queue.SimpleQueue()
                loop.call_soon_threadsafe(lambda put: put(span_id()), seen.put)
                assert seen.get(timeout=10) == mine
            assert asyncio.run_coroutine_threadsafe(asynchronous_span_id(), loop).result(10) == 0


def test_a_loop_whose_thread_was_started_in_a_span(spans: Spans) -> None:
    """The thread's own context is the first caller's; each callback brings its own all the same, an empty one too."""
    from otelagent_instrumentation.runtime.threading import Threading

    instrumentation = Threading("0")
    instrumentation.apply()
    try:
        with spans.tracer.start_as_current_span("first"):
            running = loop_in_a_thread()
            loop = running.__enter__()
        assert asyncio.run_coroutine_threadsafe(asynchronous_span_id(), loop).result(10) == 0
        running.__exit__(None, None, None)
    finally:
        instrumentation.undo()
