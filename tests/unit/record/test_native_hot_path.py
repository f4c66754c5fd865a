"""What makes the native engine quick must not show: quick methods, objects used again, state without locks."""

from __future__ import annotations

import contextvars
import gc
import inspect
import os
import resource
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from contextlib import ExitStack

import pytest
from opentelemetry import trace
from opentelemetry.trace import Tracer

from tests.unit.record.recorder import Recorder, attributes

Record = Callable[..., Recorder]

pytestmark = pytest.mark.parametrize("engine", ["native"], indirect=True)


def test_a_block_may_be_entered_by_hand(record: Record) -> None:
    recorder = record()
    block = recorder.tracer.start_as_current_span("by method")
    span = block.__enter__()
    assert trace.get_current_span() is span
    assert block.__exit__(None, None, None) is False
    block = recorder.tracer.start_as_current_span("by class")
    type(block).__enter__(block)
    type(block).__exit__(block, None, None, None)
    with ExitStack() as stack:
        span = stack.enter_context(recorder.tracer.start_as_current_span("by stack"))
        assert trace.get_current_span() is span
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert [one.name for one in recorder.spans()] == ["by method", "by class", "by stack"]


def test_a_quick_method_is_a_method_like_any_other(record: Record) -> None:
    span = record().tracer.start_span(name="a")
    span.set_attribute(key="k", value=1)
    span.set_attribute("l", value=2)
    type(span).set_attribute(span, "m", 3)
    assert attributes_of(span) == {"k": 1, "l": 2, "m": 3}
    assert list(inspect.signature(type(span).set_attribute).parameters) == ["self", "key", "value"]
    for arguments in ((), ("k",), ("k", 1, 2)):
        with pytest.raises(TypeError, match="set_attribute"):
            span.set_attribute(*arguments)
    with pytest.raises(TypeError):
        type(span).set_attribute(object(), "k", 1)
    span.end(end_time=2**62)
    assert span.end_time == 2**62


def attributes_of(span: trace.Span) -> dict[str, object]:
    return dict(span.attributes)  # type: ignore[attr-defined]


def test_a_block_that_somebody_holds_is_not_used_again(record: Record) -> None:
    recorder = record()
    held = [recorder.tracer.start_as_current_span(str(number)) for number in range(40)]
    for block in held:
        with block:
            pass
    with recorder.tracer.start_as_current_span("another"):
        for block in held:
            with pytest.raises(RuntimeError):
                block.__enter__()
    assert len(recorder.spans()) == 41


def test_blocks_end_in_any_order(record: Record) -> None:
    recorder = record()
    blocks = [recorder.tracer.start_as_current_span(str(number)) for number in range(3)]
    # A token that isn't reset in its turn brings back what was current before it: not for the other tests.
    context = contextvars.copy_context()
    spans = [context.run(block.__enter__) for block in blocks]
    for block in blocks:
        context.run(block.__exit__, None, None, None)
    assert {span.name: span.parent_span_id[-1:] for span in recorder.spans()} == {
        "0": b"",
        "1": spans[0].get_span_context().span_id.to_bytes(8, "big")[-1:],
        "2": spans[1].get_span_context().span_id.to_bytes(8, "big")[-1:],
    }


def test_many_attributes_are_told_apart(record: Record) -> None:
    recorder = record(attribute_count_limit=1000)
    with recorder.tracer.start_as_current_span("a") as span:
        for value in range(3):
            for number in range(500):
                span.set_attribute(f"key.{number}", value)
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {f"key.{number}": 2 for number in range(500)}


def work(tracer: Tracer, spans: int) -> None:
    for number in range(spans):
        with tracer.start_as_current_span("outer", attributes={"k": [1, 2]}) as outer:
            outer.set_attribute("n", number)
            outer.add_event("event", {"e": 1})
            outer.get_span_context()
            with tracer.start_as_current_span("inner"):
                tracer.start_span("manual").end()


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
def test_spans_leave_nothing_behind(record: Record, sampler: str) -> None:
    recorder = record(sampler=sampler, batch_schedule_delay_ms=60_000)
    work(recorder.tracer, 1000)
    recorder.flush()
    gc.collect()
    before, most = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        for _ in range(35):
            work(recorder.tracer, 1000)
            recorder.flush()
            recorder.requests.clear()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(gc.get_objects()) < before + 200
    assert left < 200_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 32 * 1024


def test_a_span_in_a_cycle_is_collected(record: Record) -> None:
    tracer = record().tracer

    class Holder:
        span: trace.Span

    holder = Holder()
    holder.span = tracer.start_span("a")
    cycle = [holder]
    cycle.append(cycle)  # type: ignore[arg-type]
    gone = weakref.ref(holder.span)
    del holder, cycle
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_amid_busy_threads_leaves_the_child_able_to_record(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=1)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            work(recorder.tracer, 10)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                # Straight away, without the fork's hooks having to be there: no lock is another thread's.
                try:
                    work(recorder.tracer, 50)
                    os._exit(0)
                finally:
                    os._exit(1)
            ended = wait_s(child, 20)
            assert ended == 0
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()


def wait_s(child: int, timeout_s: float) -> int | None:
    """The exit status, None (and the child is killed) when it takes longer."""
    import signal
    import time

    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
