"""What the waiting items of the stock SDK weigh: the estimate against what the allocator says."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import StatusCode

from otelagent.record.weight import HIGH, LOW, NORMAL, weigh_log_record, weigh_span
from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import Recorder


@pytest.fixture
def engine() -> str:
    return "sdk"


def _fail(tracer: Any, number: int) -> None:
    try:
        with tracer.start_as_current_span("a"):
            raise ValueError(number)
    except ValueError:
        pass


def _events(tracer: Any, number: int) -> None:
    with tracer.start_as_current_span("a") as span:
        for event in range(20):
            span.add_event(f"{number} {event}", {"a": f"{number} {event}", "b": event})


def _with(value: Callable[[int], Any], keys: int) -> Callable[[Any, int], None]:
    def make(tracer: Any, number: int) -> None:
        tracer.start_span("a", attributes={f"key {key}": value(1000 * number + key) for key in range(keys)}).end()

    return make


SPANS: dict[str, Callable[[Any, int], None]] = {
    "bare": _with(str, 0),
    "five attributes": _with(str, 5),
    "128 numbers": _with(float, 128),
    "long texts": _with(lambda number: f"{number} " + "x" * 5_000, 20),
    "wide texts": _with(lambda number: f"{number} " + "é世界😀" * 500, 10),
    "bytes": _with(lambda number: b"%d" % number * 1_000, 10),
    "sequences of texts": _with(lambda number: [f"{number} {item}" for item in range(100)], 5),
    "sequences of numbers": _with(lambda number: [number * 1000 + item for item in range(100)], 5),
    "nested": _with(lambda number: {"a": [{"b": str(number) * 100}, [str(number) * 50]]}, 10),
    "an exception": _fail,
    "events": _events,
}

LOGS: dict[str, Callable[[Any, int], None]] = {
    "bare": lambda logger, number: logger.emit(body="constant"),
    "five attributes": lambda logger, number: logger.emit(
        body=f"message {number}", attributes={f"key {key}": str(1000 * number + key) for key in range(5)}
    ),
    "a long body": lambda logger, number: logger.emit(body=f"{number} " + "x" * 10_000),
    "a body of data": lambda logger, number: logger.emit(body={"a": [str(number)] * 3, "b": str(number) * 300}),
    "an exception": lambda logger, number: logger.emit(body="failed", exception=ValueError(str(number) * 100)),
}


def _truth(waiting: Callable[[], list[Any]], make: Callable[[int], None]) -> int:
    """Bytes that 200 more items hold."""
    for number in range(3):
        make(number)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            make(number)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(waiting()) == 203
    return after - before


@pytest.mark.parametrize("shape", SPANS)
def test_the_estimate_of_a_span_is_true_within_a_factor(shape: str, record: Callable[..., Recorder]) -> None:
    recorder = record(batch_queue_max_bytes=2**40)
    recorder.engine._batch._starting.acquire()
    queue = recorder.engine._queue
    true = _truth(
        lambda: queue._lanes[NORMAL].entries or queue._lanes[HIGH].entries,
        lambda number: SPANS[shape](recorder.tracer, number),
    )
    estimated = sum(lane.bytes for lane in queue._lanes) * 200 // 203
    assert 0.7 < estimated / true < 1.5


@pytest.mark.parametrize("shape", LOGS)
def test_the_estimate_of_a_log_record_is_true_within_a_factor(
    shape: str, record_logs: Callable[..., LogRecorder]
) -> None:
    recorder = record_logs(logs_batch_queue_max_bytes=2**40)
    recorder.logs._batch._starting.acquire()
    queue = recorder.logs._pipeline._queue
    true = _truth(lambda: queue._lanes[NORMAL].entries, lambda number: LOGS[shape](recorder.logger, number))
    estimated = sum(lane.bytes for lane in queue._lanes) * 200 // 203
    assert 0.7 < estimated / true < 1.5


def test_priorities(record: Callable[..., Recorder], record_logs: Callable[..., LogRecorder]) -> None:
    spans: list[int] = []
    for status in StatusCode:
        span = record().tracer.start_span("a")
        span.set_status(status)
        spans.append(weigh_span(span)[0])
    assert spans == [NORMAL, NORMAL, HIGH]
    recorder = record_logs()
    taken: list[Any] = []
    recorder.logs._pipeline.on_emit = taken.append
    for severity in (None, *SeverityNumber):
        recorder.logger.emit(severity_number=severity)
    priorities = [weigh_log_record(one)[0] for one in taken]
    assert priorities == [NORMAL, NORMAL, *[LOW] * 8, *[NORMAL] * 8, *[HIGH] * 8]


def test_what_cannot_be_weighed_waits_all_the_same(record: Callable[..., Recorder]) -> None:
    class Evil(str):
        def __sizeof__(self) -> int:
            raise ValueError("no")

    recorder = record()
    recorder.tracer.start_span("a", attributes={"a": Evil("text"), "b": Evil("more")}).end()
    recorder.tracer.start_span("b").end()
    assert [span.name for span in recorder.spans()] == ["a", "b"]
