"""Requests that are too large for the server are sent in halves, until only an item that is too large alone is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otelagent.delivery import Accepted, Payload, Rejected, Result, Retryable, RetryPolicy, Transport
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.spool import Spool
from otelagent.delivery.transports.grpc import GrpcTransport
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import QUICK, Books, FakeTransport, FaultServer, otlp, payload
from tests.support import wait_until
from tests.unit.record.conftest import engine, record
from tests.unit.record.recorder import Recorder

__all__ = ["engine", "record"]

DOWN = Retryable("connection")
MAX_BYTES = 20_000

# What servers say, as their sources have it. The OpenTelemetry Collector's own answers are in tests/e2e.
TOO_LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "http": ("http_413", {"status": 413}),
    "http, OpenTelemetry Collector": (
        "http_body_too_large",
        {"status": 400, "headers": {"content-type": "text/plain"}, "body": b"http: request body too large".hex()},
    ),
    "grpc-go": (
        "grpc_message_too_large",
        {"code": "RESOURCE_EXHAUSTED", "details": "grpc: received message larger than max (30000 vs. 20000)"},
    ),
    "grpc-go, compressed": (
        "grpc_message_too_large",
        {"code": "RESOURCE_EXHAUSTED", "details": "grpc: received message after decompression larger than max 20000"},
    ),
    "grpc-python": (
        "grpc_message_too_large",
        {"code": "RESOURCE_EXHAUSTED", "details": "SERVER: Received message larger than max (30000 vs. 20000)"},
    ),
    "grpc-java": (
        "grpc_message_too_large",
        {"code": "RESOURCE_EXHAUSTED", "details": "gRPC message exceeds maximum size 20000: 30000"},
    ),
    "grpc-dotnet": (
        "grpc_message_too_large",
        {"code": "RESOURCE_EXHAUSTED", "details": "Received message exceeds the maximum configured message size."},
    ),
    "grpc, tonic": (
        "grpc_message_too_large",
        {
            "code": "OUT_OF_RANGE",
            "details": "Error, decoded message length too large: found 30000 bytes, the limit is: 20000 bytes",
        },
    ),
}


class Limited(FakeTransport):
    """A server that takes no more than some bytes, unless it is down."""

    def __init__(self, max_bytes: int = MAX_BYTES, down: bool = False) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self.down = down
        self.taken: list[Payload] = []

    def send(self, payload: Payload, timeout_s: float) -> Result:
        super().send(payload, timeout_s)
        if self.down:
            return DOWN
        if payload.size > self.max_bytes:
            return Rejected("http_413", "too much")
        self.taken.append(payload)
        return Accepted()


def span_ids(*payloads: Payload) -> list[bytes]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    return [
        span.span_id
        for one in payloads
        for resource in ExportTraceServiceRequest.FromString(one.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def spans(record: Callable[..., Recorder], *sizes: int) -> Payload:
    """A request of an engine's, with an attribute of each size."""
    recorder = record()
    for number, size in enumerate(sizes):
        with recorder.tracer.start_as_current_span(f"span {number}") as span:
            span.set_attribute("value", "x" * size)
    assert recorder.flush()
    [request] = recorder.requests
    return Payload(*request)


@pytest.mark.parametrize("server", TOO_LARGE)
def test_only_the_item_that_is_too_large_is_lost(server: str, record: Callable[..., Recorder]) -> None:
    reason, answer = TOO_LARGE[server]
    protocol = server[:4]
    sizes = [1000] * 60
    sizes[17] = 30_000
    one = spans(record, *sizes)
    with FaultServer(
        protocol, {"status": 200, "takes": True, "max_bytes": MAX_BYTES, "larger": answer}, spans=True
    ) as fault_server:
        transport: Transport = HttpTransport(otlp(fault_server.endpoint))
        if protocol == "grpc":
            transport = GrpcTransport(otlp(f"http://127.0.0.1:{fault_server.port}"))
        books = Books(transport)
        books.submit(one)
        assert not books.flush(20)
        books.shutdown()
        books.check()
        requests = fault_server.stop()
    taken = [span for request in requests for span in request["taken"]]
    ids = [span.hex() for span in span_ids(one)]
    assert taken == ids[:17] + ids[18:]
    snapshot = books.ledger.snapshot()
    assert (snapshot.delivered, dict(snapshot.rejected), dict(snapshot.dropped)) == (59, {reason: 1}, {})
    assert len(requests) < 30


def test_the_order_is_kept_and_those_behind_come_after(open_books: OpenBooks) -> None:
    transport = Limited()
    books = open_books(transport)
    payloads = [payload(items, "x" * 100) for items in (5, 700, 10, 900, 1)]
    books.submit(*payloads)
    assert books.flush()
    assert span_ids(*transport.taken) == span_ids(*payloads)
    assert books.ledger.snapshot().delivered == 1616
    assert books.destination.status()["breaker"] == "closed"


def test_it_is_told_once_and_says_nothing_of_the_destination(
    open_books: OpenBooks, caplog: pytest.LogCaptureFixture
) -> None:
    books = open_books(Limited(200))
    books.submit(payload(100, "x" * 300))
    assert not books.flush()
    assert dict(books.ledger.snapshot().rejected) == {"http_413": 100}
    assert books.destination.status()["breaker"] == "closed"
    [split] = [message for message in caplog.messages if "halves" in message]
    assert "bytes are too many for it (http_413: too much); it gets two halves" in split
    [lost] = [message for message in caplog.messages if "lost" in message]
    assert "http_413: too much; 1 item is lost" in lost


def test_what_is_no_request_is_rejected_whole(open_books: OpenBooks) -> None:
    books = open_books(Limited(10))
    books.submit(Payload("traces", b"<html><body>", 7))
    assert not books.flush()
    assert dict(books.ledger.snapshot().rejected) == {"http_413": 7}


def test_a_bug_in_taking_it_apart_loses_no_more_than_that(
    open_books: OpenBooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Payload) -> None:
        raise MemoryError

    monkeypatch.setattr("otelagent.delivery.items.split", fail)
    books = open_books(Limited(2000))
    books.submit(payload(100), payload(1))
    assert not books.flush()
    snapshot = books.ledger.snapshot()
    assert (dict(snapshot.rejected), snapshot.delivered) == ({"http_413": 100}, 1)


class Stopping(Limited):
    """One that holds the n-th request until it is told to go on."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at
        self.reached, self.go_on = threading.Event(), threading.Event()

    def send(self, payload: Payload, timeout_s: float) -> Result:
        result = super().send(payload, timeout_s)
        if len(self.sent) == self._at:
            self.reached.set()
            assert self.go_on.wait(20)
        return result


@pytest.mark.parametrize("at", [1, 2, 5, 9])
def test_shutdown_in_the_middle_counts_every_item(at: int) -> None:
    transport = Stopping(at)
    books = Books(transport)
    books.submit(payload(500, "x" * 300))
    assert transport.reached.wait(10)
    books.check()
    assert not books.shutdown(0.1)
    transport.go_on.set()
    wait_until(lambda: transport.closed == 1)
    books.check()
    snapshot = books.ledger.snapshot()
    before = transport.taken[:-1] if transport.taken and transport.sent[-1] is transport.taken[-1] else transport.taken
    assert snapshot.delivered == sum(one.items for one in before)
    assert dict(snapshot.dropped) == {"shutdown": 500 - snapshot.delivered}
    assert len(transport.sent) == at


def test_the_books_balance_at_every_moment(open_books: OpenBooks) -> None:
    transport = Limited(2000)
    books = open_books(transport)
    unbalanced: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (snapshot := books.ledger.snapshot()).balanced or books.destination.queued_items > 6000:
                unbalanced.append(snapshot)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20):
        books.submit(payload(300))
    assert books.flush(20)
    done.set()
    watcher.join()
    assert not unbalanced
    assert books.ledger.snapshot().delivered == 6000


class TestFromDisk:
    def open(self, directory: Path, transport: FakeTransport, policy: RetryPolicy = QUICK) -> Books:
        return Books(transport, policy, spool=Spool(SpoolPlace(str(directory), "key", {})))

    def leave(self, directory: Path, *payloads: Payload) -> None:
        """A process that could deliver nothing."""
        books = self.open(directory, Limited(down=True))
        books.submit(*payloads)
        books.shutdown(2)
        books.check()
        assert books.ledger.snapshot().spooled == sum(one.items for one in payloads)

    def test_a_payload_from_disk_is_taken_apart_too(self, tmp_path: Path, record: Callable[..., Recorder]) -> None:
        sizes = [1000] * 60
        sizes[40] = 30_000
        payloads = [spans(record, *sizes), payload(3)]
        self.leave(tmp_path, *payloads)
        transport = Limited()
        books = self.open(tmp_path, transport)
        books.destination.start()
        wait_until(lambda: books.ledger.snapshot().adopted == 63 and not books.ledger.snapshot().spooled)
        snapshot = books.ledger.snapshot()
        assert (snapshot.delivered, dict(snapshot.rejected)) == (62, {"http_413": 1})
        ids = span_ids(*payloads)
        assert span_ids(*transport.taken) == ids[:40] + ids[41:]
        books.shutdown()
        books.check()

    def test_a_shutdown_in_the_middle_leaves_the_rest_and_no_more(self, tmp_path: Path) -> None:
        one = payload(500, "x" * 300)
        self.leave(tmp_path, one)
        transport = Stopping(9)
        books = self.open(tmp_path, transport)
        books.destination.start()
        assert transport.reached.wait(10)
        books.check()
        held = transport.taken[-1] if transport.sent[-1] is transport.taken[-1] else None
        books.shutdown(1)
        transport.go_on.set()
        books.check()
        snapshot = books.ledger.snapshot()
        taken = transport.taken[:-1] if held is not None else transport.taken
        assert 0 < snapshot.delivered == sum(one.items for one in taken)
        assert (snapshot.adopted, snapshot.spooled) == (500, 500 - snapshot.delivered)

        following = Limited()
        restarted = self.open(tmp_path, following)
        restarted.destination.start()
        wait_until(lambda: restarted.ledger.snapshot().delivered == snapshot.spooled)
        assert restarted.ledger.snapshot().adopted == snapshot.spooled
        assert span_ids(*taken, *following.taken) == span_ids(one)
        restarted.shutdown()
        restarted.check()

    def test_a_kill_in_the_middle_sends_all_again(self, tmp_path: Path) -> None:
        one = payload(500, "x" * 300)
        self.leave(tmp_path, one)
        # Its sixth request waits for an answer until it is killed.
        limits = {"status": 200, "takes": True, "max_bytes": MAX_BYTES, "larger": {"status": 413}}
        with FaultServer("http", *[limits] * 7, {"do": "stall"}, spans=True) as server:
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), server.endpoint])
            wait_until(lambda: len(server.requests) == 8)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            requests = server.stop()
        assert any(request["taken"] for request in requests)
        transport = Limited()
        books = self.open(tmp_path, transport)
        books.destination.start()
        wait_until(lambda: books.ledger.snapshot().delivered == 500)
        assert span_ids(*transport.taken) == span_ids(one)
        books.shutdown()
        books.check()


KILLED = """
import sys, time
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.spool import Spool
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.harness import Books, otlp

directory, endpoint = sys.argv[1:]
books = Books(HttpTransport(otlp(endpoint)), spool=Spool(SpoolPlace(directory, "key", {})))
books.destination.start()
time.sleep(60)
"""

FORKING = """
import json, os, sys, time
from tests.delivery.harness import Books, payload
from tests.delivery.test_bisection import Stopping

transport = Stopping(5)
books = Books(transport)
os.register_at_fork(after_in_child=books.destination.after_fork_in_child)

def end(who):
    arrived = books.flush(20)
    books.check()
    books.shutdown(5)
    line = {"who": who, "arrived": arrived, **books.ledger.snapshot().to_dict()}
    os.write(1, (json.dumps(line) + "\\n").encode())

books.submit(payload(500, "x" * 300))
assert transport.reached.wait(10)
child = os.fork()
if not child:
    transport._at = -1
    books.submit(payload(300, "x" * 300))
    end("child")
    os._exit(0)
transport.go_on.set()
end("parent")
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_a_fork_in_the_middle_leaves_the_rest_to_the_parent() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = {line["who"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert {who: (line["arrived"], line["delivered"], line["balanced"]) for who, line in told.items()} == {
        "parent": (True, 500, True),
        "child": (True, 300, True),
    }


def test_a_flush_waits_for_every_part(open_books: OpenBooks) -> None:
    transport = Stopping(4)
    books = open_books(transport)
    books.submit(payload(500, "x" * 300))
    assert transport.reached.wait(10)
    assert not books.flush(0.1)
    begun = time.monotonic()
    transport.go_on.set()
    assert books.flush()
    assert time.monotonic() - begun < 5
    assert books.ledger.snapshot().delivered == 500
