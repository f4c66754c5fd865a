"""A full queue makes room by priority, counts every item, and stays in its bounds."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from otelagent.delivery import Accepted, Destination, Limits, Payload, Result, Retryable, RetryPolicy
from otelagent.delivery import intake as intake_module
from otelagent.delivery.payload import MAX_REQUEST_BYTES
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import QUICK, Books, FakeTransport, FaultServer, otlp
from tests.support import wait_until
from tests.unit.record.conftest import engine, record, record_logs
from tests.unit.record.log_recorder import LogRecorder
from tests.unit.record.recorder import Recorder

__all__ = ["engine", "record", "record_logs"]

DOWN = Retryable("connection")
PATIENT = RetryPolicy(initial_s=60, max_s=60, uniform=lambda: 1.0)
DEBUG, INFO, ERROR = 5, 9, 17

Filled = Callable[[Payload, int], tuple[Books, "Held"]]


class Held(FakeTransport):
    """A server that holds the first request until it is told to go on, and takes all."""

    def __init__(self) -> None:
        super().__init__(Accepted())
        self.entered, self.go_on = threading.Event(), threading.Event()

    def send(self, payload: Payload, timeout_s: float) -> Result:
        if not self.sent:
            self.entered.set()
            assert self.go_on.wait(20)
        return super().send(payload, timeout_s)


def traces(*statuses: int, size: int = 1000) -> Payload:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number, status in enumerate(statuses):
        span = scope.spans.add(name="x" * size, span_id=(number + 1).to_bytes(8, "big"))
        span.status.code = status  # type: ignore[assignment]
    return Payload("traces", request.SerializeToString(), len(statuses))


def logs(*severities: int, size: int = 1000) -> Payload:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for severity in severities:
        scope.log_records.add(severity_number=severity, event_name="x" * size)
    return Payload("logs", request.SerializeToString(), len(severities))


def severities(payloads: Iterable[Payload]) -> list[list[int]]:
    return [
        [
            record.severity_number
            for resource in ExportLogsServiceRequest.FromString(one.body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        for one in payloads
    ]


def statuses(payloads: Iterable[Payload]) -> list[list[int]]:
    return [
        [
            span.status.code
            for resource in ExportTraceServiceRequest.FromString(one.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        for one in payloads
    ]


@pytest.fixture
def filled(open_books: OpenBooks) -> Iterator[Filled]:
    """Makes destinations whose server holds the first payload, and takes all at the latest at the end of the test."""
    servers: list[Held] = []

    def fill(first: Payload, max_bytes: int) -> tuple[Books, Held]:
        servers.append(Held())
        books = open_books(servers[-1], limits=Limits(queue_max_bytes=max_bytes), signal=first.signal)
        books.submit(first)
        assert servers[-1].entered.wait(10)
        return books, servers[-1]

    yield fill
    for server in servers:
        server.go_on.set()


def dropped(books: Books) -> dict[str, int]:
    return dict(books.ledger.snapshot().dropped)


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


class TestInterrupted:
    """A caller that is interrupted submits the same body again: it is taken once, what made room is counted once."""

    @pytest.mark.parametrize("at", range(1, 6))
    def test_at_any_look(self, at: int, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
        books, transport = filled(traces(0), 6_500)
        books.submit(traces(0, 2), traces(2, 0, 2))
        one = traces(0, 0, 2, 0, 2)
        books.ledger.ended(one.items)
        looks = 0
        partition = intake_module._partition

        def interrupt(waiting: Payload, least: int) -> Any:
            nonlocal looks
            looks += 1
            if looks == at:
                raise KeyboardInterrupt
            return partition(waiting, least)

        with monkeypatch.context() as patched:
            patched.setattr(intake_module, "_partition", interrupt)
            try:
                books.destination.submit(one)
                assert at > looks
                return
            except KeyboardInterrupt:
                pass
            finally:
                transport.go_on.set()
        books.destination.submit(Payload("traces", one.body, one.items))
        books.flush()
        snapshot = books.ledger.snapshot()
        assert snapshot.delivered + dropped(books).get("queue_full", 0) == 11

    def test_after_it_was_taken(self, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
        books, transport = filled(traces(0), 4_200)
        books.submit(traces(0, 2))
        one = traces(0, 2)
        books.ledger.ended(2)

        def interrupt(_: Destination) -> None:
            raise KeyboardInterrupt

        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(Destination, "_start_thread", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    books.destination.submit(one)
        books.destination.submit(one)
        assert dropped(books) == {"queue_full": 1}
        transport.go_on.set()
        assert not books.flush()
        assert statuses(transport.sent) == [[0], [2], [0, 2]]


def test_a_shutdown_while_a_payload_is_looked_at(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    books, transport = filled(traces(0), 3_500)
    books.submit(traces(0, 2))
    looking, go_on = threading.Event(), threading.Event()
    partition = intake_module._partition

    def look(one: Payload, least: int) -> Any:
        looking.set()
        assert go_on.wait(20)
        return partition(one, least)

    monkeypatch.setattr(intake_module, "_partition", look)
    submitting = threading.Thread(target=lambda: books.submit(traces(0, 2)))
    submitting.start()
    assert looking.wait(10)
    assert not books.shutdown(0.1)
    transport.go_on.set()
    go_on.set()
    submitting.join(10)
    assert dropped(books) == {"shutdown": 5}


def test_submits_from_everywhere(open_books: OpenBooks) -> None:
    transport = FakeTransport(DOWN)
    books = open_books(transport, QUICK, Limits(queue_max_bytes=50_000))
    unbalanced: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (snapshot := books.ledger.snapshot()).balanced or books.destination._queue.bytes > 50_000:
                unbalanced.append(snapshot)

    def work() -> None:
        for number in range(100):
            books.submit(traces(0, 0, 2 if number % 10 == 0 else 0, 0))

    threads = [threading.Thread(target=work) for _ in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    books.check()
    assert not unbalanced
    waiting = statuses(one.payload for one in books.destination._queue._idle)
    assert sum(one.count(2) for one in waiting) >= 30
    transport._script[:] = [Accepted()]
    assert not books.flush()
    snapshot = books.ledger.snapshot()
    assert snapshot.delivered + snapshot.dropped["queue_full"] == 1600


IN_A_HANDLER = """
import os, signal, sys, time
from otelagent.delivery import Limits, Retryable
from tests.delivery.harness import QUICK, Books, FakeTransport
from tests.delivery.test_shedding import traces

books = Books(FakeTransport(Retryable("connection")), QUICK, Limits(queue_max_bytes=30_000))
made = [traces(0, 2 if number % 5 == 0 else 0, 0) for number in range(50)]
books.submit(*made)
inside = 0

def handler(*_):
    global inside
    if inside < 3:
        inside += 1
        books.submit(made[inside])
        inside -= 1

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
begun = time.monotonic()
while time.monotonic() - begun < 2:
    books.submit(made[7])
    books.ledger.snapshot()
signal.setitimer(signal.ITIMER_REAL, 0)
books.check()
books.shutdown(0.2)
books.check()
snapshot = books.ledger.snapshot()
assert snapshot.ended > 1000, snapshot
assert snapshot.queued == 0, snapshot
"""


def test_a_signal_handler_submits_in_the_middle() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_HANDLER], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


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


FORKING = """
import json, os, sys, threading
from otelagent.delivery import Limits, Retryable
from tests.delivery.harness import QUICK, Books, FakeTransport
from tests.delivery.test_shedding import traces

books = Books(FakeTransport(Retryable("connection")), QUICK, Limits(queue_max_bytes=30_000))
os.register_at_fork(after_in_child=books.destination.after_fork_in_child)
made = [traces(0, 2 if number % 5 == 0 else 0, 0) for number in range(50)]
enough = threading.Event()

def submit_all_the_time():
    while not enough.is_set():
        for one in made:
            books.submit(one)

def end(who):
    books.check()
    books.shutdown(0.1)
    books.check()
    snapshot = books.ledger.snapshot()
    os.write(1, (json.dumps({"who": who, **snapshot.to_dict()}) + "\\n").encode())

threads = [threading.Thread(target=submit_all_the_time) for _ in range(2)]
for thread in threads:
    thread.start()
books.submit(*made)
for _ in range(10):
    child = os.fork()
    if not child:
        books.submit(*made)
        end("child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
enough.set()
for thread in threads:
    thread.join()
end("parent")
"""


def test_forks_while_room_is_made() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["who"] for line in told] == ["child"] * 10 + ["parent"]
    assert all(line["ended"] == 150 and line["queued"] == 0 for line in told[:10])
    assert all(line["balanced"] for line in told)
