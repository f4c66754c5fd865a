"""A full queue makes room by priority, counts every item, and stays in its bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from otelagent.delivery import Limits, Payload, Retryable, RetryPolicy
from otelagent.delivery import intake as intake_module
from otelagent.delivery.payload import MAX_REQUEST_BYTES
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import Books, FakeTransport, FaultServer, otlp
from tests.delivery.priorities import Filled, dropped, filled, logs, severities, statuses, traces
from tests.support import wait_until
from tests.unit.record.conftest import engine, record, record_logs
from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import Recorder

__all__ = ["engine", "filled", "record", "record_logs"]

DOWN = Retryable("connection")
PATIENT = RetryPolicy(initial_s=60, max_s=60, uniform=lambda: 1.0)
DEBUG, INFO, ERROR = 5, 9, 17


def test_what_has_a_low_priority_goes_first_and_the_oldest_of_it(filled: Filled) -> None:
    books, transport = filled(logs(INFO), 10_500)
    books.submit(logs(DEBUG, INFO), logs(DEBUG, ERROR), logs(DEBUG, DEBUG, INFO))
    assert dropped(books) == {}
    books.submit(logs(DEBUG, ERROR, INFO))  # Room for two of its three.
    assert dropped(books) == {"queue_full": 1}
    books.submit(logs(INFO))
    assert dropped(books) == {"queue_full": 2}
    transport.go_on.set()
    assert not books.flush()
    assert severities(transport.sent) == [
        [INFO],
        [INFO],
        [ERROR],
        [DEBUG, DEBUG, INFO],
        [DEBUG, ERROR, INFO],
        [INFO],
    ]


def test_then_what_is_normal_and_errors_stay(filled: Filled) -> None:
    books, transport = filled(traces(0), 6_500)
    books.submit(traces(0, 2), traces(2, 0, 1))
    books.submit(traces(0, 2))
    assert dropped(books) == {"queue_full": 3}
    books.submit(traces(2, 0))
    # No room is left to be made but by what is new itself.
    assert dropped(books) == {"queue_full": 4}
    transport.go_on.set()
    assert not books.flush()
    assert statuses(transport.sent) == [[0], [2], [2], [2], [2, 0]]


def test_an_error_is_refused_where_all_are_errors(filled: Filled) -> None:
    books, transport = filled(traces(0), 5_500)
    books.submit(traces(2, 2), traces(2, 2))
    books.submit(traces(0, 2))
    assert dropped(books) == {"queue_full": 2}
    transport.go_on.set()
    assert not books.flush()
    assert statuses(transport.sent) == [[0], [2, 2], [2, 2]]


def test_what_is_being_sent_is_not_touched(filled: Filled) -> None:
    books, transport = filled(traces(0, 0, 0, 0), 5_500)
    books.submit(traces(0))
    books.submit(traces(2))
    assert dropped(books) == {"queue_full": 1}
    books.submit(traces(2, 2))
    assert dropped(books) == {"queue_full": 3}
    transport.go_on.set()
    assert not books.flush()
    assert statuses(transport.sent) == [[0, 0, 0, 0], [2]]


def test_nothing_goes_in_vain(filled: Filled) -> None:
    """Where all that waits would not make room enough, it stays."""
    books, transport = filled(traces(0, 0), 6_000)
    books.submit(traces(0, 0))
    books.submit(traces(2, 2, 2, 2, 2))
    assert dropped(books) == {"queue_full": 5}
    transport.go_on.set()
    assert not books.flush()
    assert statuses(transport.sent) == [[0, 0], [0, 0]]


def test_what_is_no_request_is_refused_whole(filled: Filled) -> None:
    books, transport = filled(Payload("traces", bytes(1000), 1), 3_000)
    books.submit(Payload("traces", bytes(1000), 2))
    books.submit(Payload("traces", bytes(1500), 3))
    assert dropped(books) == {"queue_full": 3}
    transport.go_on.set()
    assert not books.flush()
    assert [one.items for one in transport.sent] == [1, 2]


def test_each_is_looked_at_once_for_each_priority(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[tuple[bytes, int]] = []
    partition = intake_module._partition

    def look(one: Payload, least: int) -> Any:
        looked_at.append((one.body, least))
        return partition(one, least)

    monkeypatch.setattr(intake_module, "_partition", look)
    books, transport = filled(logs(INFO), 20_500)
    books.submit(*[logs(ERROR, size=2000 + number) for number in range(9)])
    for number in range(20):
        books.submit(logs(ERROR, ERROR, size=2000 + number))
    assert dropped(books) == {"queue_full": 40}
    assert len(looked_at) == len(set(looked_at)) == 2 * 9 + 2 * 20
    transport.go_on.set()
    assert not books.flush()


def test_one_submit_looks_at_a_few_megabytes(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "_MAX_LOOKED_AT_BYTES", 10_000)
    books, transport = filled(logs(INFO), 60_500)
    waiting = [logs(INFO, INFO, size=1000) for _ in range(19)] + [logs(DEBUG, DEBUG)] * 9
    books.submit(*waiting)
    for _ in range(4):  # The low ones are far behind: the first submits make room among those that are normal.
        books.submit(logs(ERROR, ERROR))
        books.check()
    sizes = books.destination._queue.bytes
    assert sizes <= 60_500
    assert dropped(books) == {"queue_full": 6}
    transport.go_on.set()
    assert not books.flush()
    sent = severities(transport.sent)
    assert [ERROR, ERROR] in sent
    assert sum(map(len, sent)) == 1 + 2 * 28 + 8 - 6


def test_it_is_told_once_a_minute(filled: Filled, caplog: pytest.LogCaptureFixture) -> None:
    books, transport = filled(traces(0), 3_500)
    for _ in range(30):
        books.submit(traces(0, 2))
    [told] = caplog.messages
    assert "queue_full: the destination is too slow or down; 2 items are dropped" in told
    transport.go_on.set()
    assert not books.flush()


@pytest.mark.parametrize("size", [1, 2])
def test_what_no_request_can_hold_is_taken_in_parts(open_books: OpenBooks, size: int) -> None:
    transport = FakeTransport()
    books = open_books(transport)
    item = MAX_REQUEST_BYTES // 3 * size
    books.submit(traces(*[0] * 4, size=item))
    assert books.flush(60)
    assert [one.items for one in transport.sent] == ([2, 2] if size == 1 else [1, 1, 1, 1])
    assert books.ledger.snapshot().delivered == 4


def test_an_item_that_no_request_can_hold_is_dropped_alone(open_books: OpenBooks) -> None:
    request = ExportTraceServiceRequest.FromString(traces(0, 0, 2).body)
    request.resource_spans[0].scope_spans[0].spans[1].name = "x" * MAX_REQUEST_BYTES
    transport = FakeTransport()
    books = open_books(transport)
    books.submit(Payload("traces", request.SerializeToString(), 3))
    assert not books.flush(60)
    assert dropped(books) == {"too_large": 1}
    assert statuses(transport.sent) == [[0], [2]]


class TestEngines:
    """What the engines write, to a real server that doesn't answer until the queue has been full for long."""

    def test_errors_arrive(self, record: Callable[..., Recorder]) -> None:
        recorder = record()
        for number in range(2000):
            with recorder.tracer.start_as_current_span(f"span {number}") as span:
                if number % 100 == 50:
                    span.set_status(StatusCode.ERROR)
            if number % 50 == 49:
                assert recorder.flush()
        requests = [Payload(*request) for request in recorder.requests]
        assert len(requests) == 40
        with FaultServer("http", {"do": "stall"}, spans=True) as server:
            books = Books(HttpTransport(otlp(server.endpoint)), PATIENT, Limits(10 * requests[0].size, try_timeout_s=1))
            books.submit(*requests)
            books.check()
            wait_until(lambda: bool(books.destination.status()["last_error"]))
            server.begin({"status": 200, "takes": True})
            assert not books.flush(20)
            books.shutdown()
            books.check()
            told = server.stop()
        taken = {span for request in told for span in request["taken"]}
        errors = {span.span_id.hex() for span in recorder.spans() if span.status.code == 2}
        assert len(errors) == 20
        assert errors <= taken
        snapshot = books.ledger.snapshot()
        assert (len(taken), snapshot.dropped["queue_full"]) == (snapshot.delivered, 2000 - snapshot.delivered)

    def test_debug_records_go_first(self, record_logs: Callable[..., LogRecorder], filled: Filled) -> None:
        requests = log_requests(record_logs)
        books, transport = filled(logs(INFO, size=10), sum(one.size for one in requests[:34]) + 100)
        books.submit(*requests)
        transport.go_on.set()
        assert not books.flush(20)
        sent = [severity for one in severities(transport.sent) for severity in one]
        assert sent.count(ERROR) == 40
        assert sent.count(INFO) == 1 + 40 * 9
        assert sent.count(DEBUG) == 40 * 10 - dropped(books)["queue_full"]


def log_requests(record_logs: Callable[..., LogRecorder]) -> list[Payload]:
    """40 requests, each with ten records at DEBUG, nine at INFO and an error."""
    recorder = record_logs()
    for _ in range(40):
        for severity in (*[DEBUG] * 10, *[INFO] * 9, ERROR):
            recorder.logger.emit(severity_number=SeverityNumber(severity), body="what happened")
        assert recorder.flush()
    assert len(recorder.requests) == 40
    return [Payload(*request) for request in recorder.requests]
