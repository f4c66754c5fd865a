"""The queue of ended items: bounded by items and bytes, errors last to go and first to leave, with either engine."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import StatusCode

from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import Recorder

Record = Callable[..., Recorder]
RecordLogs = Callable[..., LogRecorder]

MIB = 1024 * 1024
HOUR_MS = 3_600_000


def keep(recorder: Recorder | LogRecorder) -> None:
    """Lets no thread drain."""
    (recorder.logs if isinstance(recorder, LogRecorder) else recorder.engine)._batch._starting.acquire()


def end(recorder: Recorder, name: str, *, error: bool = False, value: str = "") -> None:
    span = recorder.tracer.start_span(name, attributes={"value": value} if value else None)
    if error:
        span.set_status(StatusCode.ERROR, "broken")
    span.end()


def names(recorder: Recorder) -> list[str]:
    return [span.name for span in recorder.spans()]


def test_errors_take_the_place_of_the_oldest_others(record: Record) -> None:
    recorder = record(batch_max_queue_size=100, batch_max_export_batch_size=100)
    keep(recorder)
    for number in range(100):
        end(recorder, f"before {number}")
    for number in range(30):
        end(recorder, f"error {number}", error=True)
    for number in range(50):
        end(recorder, f"after {number}")
    assert recorder.dropped() == {"queue_full": 80}
    kept = [f"before {number}" for number in range(30, 100)] + [f"error {number}" for number in range(30)]
    assert names(recorder) == kept, "in the order of their end"
    assert recorder.ledger.snapshot().delivered == 100


def test_a_queue_of_errors_refuses_the_newest(record: Record) -> None:
    recorder = record(batch_max_queue_size=3, batch_max_export_batch_size=3)
    keep(recorder)
    for number in range(5):
        end(recorder, str(number), error=True)
    end(recorder, "ok")
    assert recorder.dropped() == {"queue_full": 3}
    assert names(recorder) == ["0", "1", "2"]


def test_errors_leave_first(record: Record) -> None:
    recorder = record(batch_max_queue_size=100, batch_max_export_batch_size=10)
    keep(recorder)
    for number in range(60):
        end(recorder, str(number), error=number >= 50)
    spans = names(recorder)
    assert spans[:10] == [str(number) for number in range(50, 60)]
    assert spans[10:] == [str(number) for number in range(50)]


def test_log_records_below_info_go_first_and_errors_last(record_logs: RecordLogs) -> None:
    recorder = record_logs(logs_batch_max_queue_size=4, logs_batch_max_export_batch_size=4)
    keep(recorder)
    kept: list[list[str]] = []
    for name, severity in [
        ("debug", SeverityNumber.DEBUG4),
        ("unknown", None),
        ("trace", SeverityNumber.TRACE),
        ("info", SeverityNumber.INFO),
        ("debug again", SeverityNumber.DEBUG),
        ("warn", SeverityNumber.WARN4),
        ("error", SeverityNumber.ERROR),
        ("info again", SeverityNumber.INFO),
        ("fatal", SeverityNumber.FATAL4),
        ("trace again", SeverityNumber.TRACE),
    ]:
        recorder.logger.emit(body=name, severity_number=severity)
    kept.append([got.body.string_value for got in recorder.records()])
    # debug gives way to warn, trace to error, unknown to fatal.
    assert kept == [["info", "warn", "error", "fatal"]]
    assert recorder.dropped() == {"queue_full": 6}


def test_bytes_bound_what_waits(record: Record) -> None:
    recorder = record(batch_queue_max_bytes=MIB, batch_schedule_delay_ms=HOUR_MS)
    keep(recorder)
    for number in range(20):
        end(recorder, f"ok {number}", value="a" * 100_000)
    for number in range(5):
        end(recorder, f"error {number}", error=True, value="b" * 100_000)
    end(recorder, "small error", error=True)
    assert recorder.dropped() == {"queue_full": 15}
    assert names(recorder) == [
        *(f"ok {number}" for number in range(5, 10)),
        *(f"error {number}" for number in range(5)),
        "small error",
    ]


def test_one_that_is_larger_than_all_may_be_is_dropped_alone(record: Record) -> None:
    recorder = record(batch_queue_max_bytes=MIB)
    keep(recorder)
    end(recorder, "small")
    end(recorder, "large", error=True, value="a" * (MIB + 1))
    end(recorder, "small too")
    assert recorder.dropped() == {"too_large": 1}
    assert names(recorder) == ["small", "small too"]


def test_log_records_are_bounded_by_bytes_too(record_logs: RecordLogs) -> None:
    recorder = record_logs(logs_batch_queue_max_bytes=MIB, logs_batch_schedule_delay_ms=HOUR_MS)
    keep(recorder)
    for number in range(20):
        severity = SeverityNumber.ERROR if number >= 15 else SeverityNumber.DEBUG
        recorder.logger.emit(body=f"{number} " + "a" * 100_000, severity_number=severity)
    recorder.logger.emit(body="a" * (MIB + 1))
    assert [got.body.string_value.split()[0] for got in recorder.records()] == [str(one) for one in range(5, 10)] + [
        str(one) for one in range(15, 20)
    ]
    assert recorder.dropped() == {"queue_full": 10, "too_large": 1}


def test_large_spans_wake_the_thread_before_they_are_many(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=HOUR_MS)
    for number in range(8):
        end(recorder, str(number), value="a" * MIB)
    deadline_s = time.monotonic() + 20
    while not recorder.requests and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert recorder.requests
    assert len(names(recorder)) == 8


def test_a_small_bound_wakes_the_thread_at_its_half(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=HOUR_MS, batch_queue_max_bytes=MIB)
    for number in range(6):
        end(recorder, str(number), value="a" * 100_000)
    deadline_s = time.monotonic() + 20
    while not recorder.requests and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert recorder.requests
    assert len(names(recorder)) == 6


def test_what_comes_during_a_flush_neither_overtakes_nor_prolongs_it(record: Record) -> None:
    recorder = record(batch_max_export_batch_size=5, batch_schedule_delay_ms=HOUR_MS)
    keep(recorder)
    deliver = recorder.engine._batch._deliver
    later = 0

    def deliver_and_fail(signal: str, body: bytes, items: int) -> None:
        nonlocal later
        deliver(signal, body, items)
        for _ in range(items):
            end(recorder, "later", error=True)
            later += 1

    recorder.engine._batch._deliver = deliver_and_fail
    for number in range(20):
        end(recorder, str(number))
    assert recorder.flush()
    recorder.engine._batch._deliver = deliver
    before = [
        span.name
        for request in recorder.decoded()
        for scope in request.resource_spans[0].scope_spans
        for span in scope.spans
    ]
    assert before == [str(number) for number in range(20)]
    assert names(recorder).count("later") == later == 20


def test_counts_stay_exact_when_threads_shed(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=5, batch_max_queue_size=60, batch_max_export_batch_size=20)

    def work(offset: int) -> None:
        for number in range(400):
            end(recorder, f"{offset + number}", error=number % 7 == 0)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans = names(recorder)
    snapshot = recorder.ledger.snapshot()
    assert snapshot.balanced
    assert (snapshot.ended, snapshot.delivered, snapshot.queued) == (3200, len(spans), 0)
    assert len(set(spans)) == len(spans)
    assert snapshot.delivered + recorder.dropped().get("queue_full", 0) == 3200


def test_a_signal_handler_may_shed_in_the_middle_of_a_shedding(record: Record) -> None:
    recorder = record(batch_max_queue_size=20, batch_max_export_batch_size=20, batch_schedule_delay_ms=HOUR_MS)
    handled = 0

    def handler(*_: Any) -> None:
        nonlocal handled
        handled += 1
        end(recorder, f"handled {handled}", error=True)

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    ended = 0
    try:
        deadline_s = time.monotonic() + 20
        while handled < 200 and time.monotonic() < deadline_s:
            end(recorder, str(ended), error=ended % 3 == 0)
            ended += 1
            if ended % 500 == 0:
                recorder.flush()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert handled >= 200
    spans = names(recorder)
    snapshot = recorder.ledger.snapshot()
    assert snapshot.balanced
    assert snapshot.ended == ended + handled
    assert snapshot.delivered == len(spans) == len(set(spans))


@pytest.mark.parametrize("logs", [False, True], ids=["spans", "logs"])
def test_what_is_lost_is_told_by_the_batch(
    record: Record, record_logs: RecordLogs, logs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    recorder: Any
    if logs:
        recorder = record_logs(logs_batch_max_queue_size=1, logs_batch_max_export_batch_size=1)
        batch = recorder.logs._batch
    else:
        recorder = record(batch_max_queue_size=1, batch_max_export_batch_size=1)
        batch = recorder.engine._batch

    def told() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.name == "otelagent.record.queue_losses"]

    keep(recorder)
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            recorder.logger.emit(body="a") if logs else end(recorder, "a")
        assert not told(), "the application's thread says nothing"
        batch._starting.release()
        recorder.flush()
        recorder.logger.emit(body="a") if logs else end(recorder, "a")  # starts the thread
        deadline_s = time.monotonic() + 20
        while not told() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        noun, prefix = ("log records", "logs_") if logs else ("spans", "")
        line = (
            f"otelagent: dropped before encoding: 3 {noun} (queue_full); too many at once: "
            f"raise {prefix}batch_max_queue_size or {prefix}batch_queue_max_bytes"
        )
        assert told() == [line]


@pytest.mark.parametrize(("engine", "spans"), [("native", 200_000), ("sdk", 40_000)], indirect=["engine"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads ru_maxrss as kilobytes")
def test_the_memory_of_a_process_stays_under_the_bound_and_a_constant(engine: str, spans: int) -> None:
    program = textwrap.dedent(
        """
        import json, resource, sys, threading, time
        from opentelemetry.trace import StatusCode
        from tests.unit.record.recorder import Recorder

        engine, count, max_bytes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        recorder = Recorder(
            engine=engine, batch_max_queue_size=1_000_000, batch_queue_max_bytes=max_bytes, batch_schedule_delay_ms=10
        )
        blocked, go_on = threading.Event(), threading.Event()
        deliver = recorder.engine._batch._deliver

        def blocking(signal, body, items):
            blocked.set()
            go_on.wait()
            recorder.ledger.delivered(items)

        recorder.engine._batch._deliver = blocking

        def end(number, length=10_000):
            span = recorder.tracer.start_span("a", attributes={"value": str(number) * (length // len(str(number)))})
            if number % 100 == 0:
                span.set_status(StatusCode.ERROR)
            span.end()

        for number in range(1_000):
            end(number, 100)
        assert blocked.wait(60)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            end(number)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        snapshot = recorder.ledger.snapshot()
        go_on.set()
        recorder.close()
        print(json.dumps([grown, snapshot.balanced, snapshot.queued, recorder.dropped(), snapshot.ended]))
        """
    )
    max_bytes = 32 * MIB
    done = subprocess.run(
        [sys.executable, "-c", program, engine, str(spans), str(max_bytes)],
        capture_output=True,
        text=True,
        timeout=300,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL")},
    )
    assert done.returncode == 0, done.stderr
    grown, balanced, queued, dropped, ended = json.loads(done.stdout.splitlines()[-1])
    assert balanced
    assert ended == spans + 1_000
    assert max_bytes * 0.6 < queued * 10_000 < max_bytes + 6 * MIB, "the queue is full of the large ones"
    assert set(dropped) == {"queue_full"}
    assert grown < max_bytes + 16 * MIB, f"{grown / MIB:.1f} MiB"
