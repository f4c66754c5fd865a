"""OTLP/gRPC: what it takes is what OTLP/HTTP takes, and what it refuses is told so that a client knows what to do."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otelagent.viewer.server.grpc_receiver import MAX_CONNECTIONS
from tests.support import free_port
from tests.viewer.requests import Traces, logs, metrics
from tests.viewer.running import Viewer
from tests.viewer.wire import Connection

SERVICE = "/opentelemetry.proto.collector.{}.v1.{}Service/Export"


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def export(address: str, signal: str, body: bytes, compression: grpc.Compression | None = None) -> bytes:
    """The answer's bytes.

    :raises grpc.RpcError: it was refused.
    """
    options = [("grpc.max_send_message_length", -1)]
    method = SERVICE.format({"traces": "trace"}.get(signal, signal), {"traces": "Trace"}.get(signal, signal.title()))
    with grpc.insecure_channel(address, options, compression) as channel:
        call: Any = channel.unary_unary(method)
        answer: bytes = call(body, timeout=60)
    return answer


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_what_is_sent_is_there_when_it_is_answered(viewer: Viewer, compression: grpc.Compression | None) -> None:
    traces = Traces(f"grpc {compression}")
    span = traces.span("GET /")
    assert export(viewer.grpc, "traces", traces.body, compression) == b""
    assert export(viewer.grpc, "logs", logs("hello", trace=span.trace_id), compression) == b""
    assert export(viewer.grpc, "metrics", metrics(), compression) == b""
    (one,) = viewer.json(f"/api/traces?service=grpc%20{compression}")["traces"]
    trace = viewer.json(f"/api/traces/{one['id']}")
    assert trace["spans"]["id"] == [span.span_id.hex()]
    assert trace["logs"][0][3] == "hello"
    assert {one["name"] for one in viewer.json("/api/metrics")["metrics"]} == {"orders", "latency"}


def test_what_is_left_out_is_told(viewer: Viewer) -> None:
    traces = Traces("partial")
    traces.span()
    traces.span(trace=b"short")
    answer = ExportTraceServiceResponse.FromString(export(viewer.grpc, "traces", traces.body))
    assert answer.partial_success.rejected_spans == 1
    assert "invalid id" in answer.partial_success.error_message


@pytest.mark.parametrize(
    ("body", "compression", "code", "counted"),
    [
        (b"\xff\xff", None, grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
        (bytes(21 * 2**20), None, grpc.StatusCode.RESOURCE_EXHAUSTED, "unreadable"),
        (bytes(2**29), grpc.Compression.Gzip, grpc.StatusCode.RESOURCE_EXHAUSTED, "unreadable"),
    ],
    ids=["garbage", "too long", "bomb"],
)
def test_what_cannot_be_taken_is_told(
    viewer: Viewer, body: bytes, compression: grpc.Compression | None, code: grpc.StatusCode, counted: str
) -> None:
    before = viewer.json("/api/status")["refused"].get(counted, 0)
    with pytest.raises(grpc.RpcError) as raised:
        export(viewer.grpc, "traces", body, compression)
    assert raised.value.code() is code
    assert viewer.json("/api/status")["refused"][counted] == before + 1


def test_the_endpoint_is_told(viewer: Viewer) -> None:
    assert viewer.json("/api/status")["endpoints"]["grpc"] == f"http://{viewer.grpc}"


# Room for one request that waits, whatever its size.
SMALL_QUEUE = """
from otelagent.viewer.store.store import Store
Store.__init__.__kwdefaults__["max_waiting_bytes"] = 1
"""


def test_a_client_hears_when_to_send_again(tmp_path: Path) -> None:
    ended = threading.Event()
    refused = None
    with Viewer("--store", str(tmp_path / "traces.db"), before=SMALL_QUEUE) as viewer:

        def keep_full() -> set[int]:
            statuses = set()
            while not ended.is_set():
                statuses.add(viewer.send("traces", Traces("keeps it full").body)[0])
            return statuses

        # Another program holds the store's file: what comes waits.
        with sqlite3.connect(tmp_path / "traces.db", isolation_level=None) as other, ThreadPoolExecutor(2) as senders:
            other.execute("BEGIN IMMEDIATE")
            kept = [senders.submit(keep_full) for _ in range(2)]
            until_s = time.monotonic() + 40
            while refused is None and time.monotonic() < until_s:
                try:
                    export(viewer.grpc, "traces", Traces("more").body)
                except grpc.RpcError as error:
                    call: Any = error
                    refused = call if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else None
            other.execute("ROLLBACK")
            ended.set()
            assert 429 in kept[0].result() | kept[1].result()
        assert viewer.send("traces", Traces("after").body)[0] == 200
        assert viewer.json("/api/status")["refused"]["busy"] >= 2
    assert refused is not None
    status = Status.FromString(dict(refused.trailing_metadata())["grpc-status-details-bin"])
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, info.retry_delay.seconds) == (8, 1)


def test_a_message_that_never_comes_is_given_up() -> None:
    ended = threading.Event()

    def nothing() -> Iterator[bytes]:
        ended.wait(60)
        yield from ()

    with Viewer(before="from otelagent.viewer.server import grpc_receiver as one\none.READ_S = 0.5") as viewer:
        with grpc.insecure_channel(viewer.grpc) as channel:
            method: Any = channel.stream_unary(SERVICE.format("trace", "Trace"))
            calls = [method.future(nothing(), timeout=60) for _ in range(8)]
            # Others get their turn behind those that keep it for no longer than they may.
            assert export(viewer.grpc, "traces", Traces("behind").body) == b""
            assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
            ended.set()
        assert viewer.json("/api/status")["refused"]["too_slow"] == 8


def test_two_viewers_have_two_ports_and_the_second_complains_of_nothing() -> None:
    default = "import otelagent.viewer.server.grpc_receiver as one\none.DEFAULT_PORT = {}"
    options = ("--port", str(free_port()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Viewer(*options, before=default.format(port)) as viewer:
            assert int(viewer.grpc.rpartition(":")[2]) > port
            assert viewer.json("/api/status")["endpoints"]["grpc"] == f"http://{viewer.grpc}"
            assert viewer.log == ""


def test_a_port_that_is_asked_for_and_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "otelagent.cli.main", "ui", "--port", "0", "--grpc-port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    told = f"port {port} is taken by another program, or may not be used: name another --grpc-port"
    assert done.stderr == f"otelagent ui: OTLP/gRPC can't be taken: {told}\n"


def test_without_grpcio_the_rest_works() -> None:
    with Viewer(before="import sys\nsys.modules['grpc'] = None", grpc=False) as viewer:
        assert viewer.send("traces", Traces().body)[0] == 200
        assert viewer.json("/api/status")["endpoints"]["grpc"] is None


def test_many_calls_at_once(viewer: Viewer) -> None:
    with grpc.insecure_channel(viewer.grpc) as channel:
        method: Any = channel.unary_unary(SERVICE.format("trace", "Trace"))
        calls = [method.future(Traces("crowd").body, timeout=60) for _ in range(600)]
        assert {call.result() for call in calls} == {b""}


def test_more_connections_than_there_may_be() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    with Viewer() as viewer:
        files = Path(f"/proc/{viewer.process.pid}/fd")
        before = len(list(files.iterdir()))
        with contextlib.ExitStack() as stack:
            for _ in range(MAX_CONNECTIONS + 100):
                stack.enter_context(Connection(f"http://{viewer.grpc}")).send(preface)
            assert export_at_last(viewer, 0.2) is None
            assert len(list(files.iterdir())) <= before + MAX_CONNECTIONS
            assert viewer.send("traces", Traces().body)[0] == 200
        assert export_at_last(viewer, 30) == b""


def export_at_last(viewer: Viewer, deadline_s: float) -> bytes | None:
    """The answer to a request that is tried until the time is over; None if there was none by then."""
    until_s = time.monotonic() + deadline_s
    while time.monotonic() < until_s:
        with contextlib.suppress(grpc.RpcError):
            return export(viewer.grpc, "traces", Traces().body)
    return None
