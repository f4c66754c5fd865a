"""Clients that stop in the middle or never end: each gets an answer or an end, and the others theirs."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.viewer.requests import Traces
from tests.viewer.running import Viewer
from tests.viewer.test_hostile import peak_mib
from tests.viewer.wire import Connection

# As in the product, with seconds for which a test can wait.
SHORT = """
from otelagent.viewer.server import bodies, connections, grpc_receiver
connections.REQUEST_S = 2.0
connections.UNREAD_S = 2.0
connections.MADE_ROOM_S = 60.0
bodies.WHOLE_S = 1.0
grpc_receiver.READ_S = 1.0
"""
SENT = "POST /v1/traces HTTP/1.1"
PROTOBUF = "Content-Type: application/x-protobuf"
MAX_CONNECTIONS = 256


@pytest.fixture(scope="module")
def running() -> Iterator[Viewer]:
    with Viewer(before=SHORT) as viewer:
        yield viewer


@pytest.fixture
def viewer(running: Viewer) -> Iterator[Viewer]:
    """One that takes and answers after the test as before it."""
    before = len(running.log)
    yield running
    assert running.send("traces", Traces("well").body) == (200, b"")
    assert peak_mib(running) < 300
    assert "Traceback" not in running.log[before:]


def test_a_gigabyte_is_refused_before_it_comes(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request(SENT, PROTOBUF, f"Content-Length: {2**30}", "Expect: 100-continue", body=b"x")
        assert client.answer().status == 413


def test_a_body_without_end_is_refused(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request(SENT, PROTOBUF, "Transfer-Encoding: chunked")
        chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
        for _ in range(30):
            client.send(chunk)
        assert client.answer().status == 413
        # It goes on all the same.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(client, 30)


def test_a_body_that_never_comes_is_given_up(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request(SENT, PROTOBUF, "Content-Length: 1000", body=b"half")
        answer = client.answer()
        assert (answer.status, answer.headers["content-type"]) == (408, "application/x-protobuf")
        assert client.closed()
    assert viewer.json("/api/status")["refused"]["too_slow"] >= 1


@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\nX-"])
def test_a_request_that_never_comes_is_given_up(viewer: Viewer, start: bytes) -> None:
    with Connection(viewer.base) as client:
        client.send(start)
        began_s = time.monotonic()
        if start:
            assert client.answer().status == 408
        assert client.closed()
        assert time.monotonic() - began_s < 20


def test_a_second_request_that_never_comes_is_given_up(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request("GET / HTTP/1.1")
        assert client.answer().status == 200
        client.send(b"GET / HT")
        assert client.answer().status == 408
        assert client.closed()


def test_a_body_that_drips_is_given_up(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request(SENT, PROTOBUF, "Content-Length: 100000")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(client, 30)


def drip(client: Connection, deadline_s: float) -> None:
    until_s = time.monotonic() + deadline_s
    while time.monotonic() < until_s:
        client.send(b"x")
        time.sleep(0.02)  # What a slow client is.


def test_an_answer_that_nobody_reads_is_given_up(viewer: Viewer) -> None:
    traces = Traces("large")
    trace = traces.span().trace_id
    for _ in range(20_000):
        traces.span("unread", trace=trace, text="x" * 200)
    assert viewer.send("traces", traces.body)[0] == 200
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = viewer.base.removeprefix("http://").split(":")
        client.connect((host, int(port)))
        client.sendall(
            f"GET /api/traces/{trace.hex()}/otlp HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Bearer {viewer.token}\r\n\r\n".encode()
        )
        before = time.monotonic()
        while open_sockets(viewer, client) and time.monotonic() - before < 40:
            time.sleep(0.1)
        assert not open_sockets(viewer, client)


def open_sockets(viewer: Viewer, client: socket.socket) -> bool:
    """Whether the server's side of this connection is open still (proc(5), ``net/tcp``: state 01 is ESTABLISHED)."""
    port = client.getsockname()[1]
    with open(f"/proc/{viewer.process.pid}/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_more_connections_than_there_may_be(viewer: Viewer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Connection(viewer.base)) for _ in range(MAX_CONNECTIONS + 50)]
        answered = []
        for client in clients[-20:]:
            client.request("GET / HTTP/1.1")
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                answered.append(client.answer())
        assert all(answer.status == 503 and answer.json["error"]["code"] == "busy" for answer in answered)
        clients[0].request("GET / HTTP/1.1")
        assert clients[0].answer().status == 200
    # Those are closed now, by both sides.
    wait_until_taken(viewer)


def test_idle_connections_make_room_for_new_ones() -> None:
    asks, under_way = ["GET / HTTP/1.1"], [SENT, PROTOBUF, "Content-Length: 100"]
    before = "from otelagent.viewer.server import connections\nconnections.MADE_ROOM_S = 0.0\n"
    with Viewer(before=before) as viewer, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(Connection(viewer.base)) for _ in range(16)]
        for client in busy:
            client.request(*under_way)
        idle = [stack.enter_context(Connection(viewer.base)) for _ in range(MAX_CONNECTIONS - 16)]
        new = []
        for client in idle[:10]:
            # Answered before the body was there.
            client.request("POST /nonsense HTTP/1.1", PROTOBUF, "Content-Length: 10")
            assert client.answer().status == 404
            client.send(bytes(10))
        for client in idle[10:]:
            client.request(*asks)
            assert client.answer().status == 200
        for _ in range(50):
            new.append(stack.enter_context(Connection(viewer.base)))
            new[-1].request(*asks)
            assert new[-1].answer().status == 200
        # Those went that had been idle for longest.
        for client in idle[:50]:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.request(*asks)
            with pytest.raises((EOFError, ConnectionResetError)):
                client.answer()
        for client in (*idle[50:], *new):
            client.request(*asks)
            assert client.answer().status == 200
        for client in busy:
            client.send(bytes(100))
            assert client.answer().status == 400


def wait_until_taken(viewer: Viewer) -> None:
    until_s = time.monotonic() + 20
    while viewer.ask("/", token=False)[0] != 200:
        assert time.monotonic() < until_s


def test_many_slow_clients_leave_room_for_the_others(viewer: Viewer) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            client = stack.enter_context(Connection(viewer.base))
            client.request(SENT, PROTOBUF, f"Content-Length: {19 * 2**20}", body=b"x" * 1000)
        for _ in range(10):
            assert viewer.send("traces", Traces("among").body)[0] == 200


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET / HTTP/1.1", *[f"X-{number}: {'v' * 1000}" for number in range(200)]], 400),
        (["GET / HTTP/1.1", "X: " + "v" * 2**20], 400),
        ([f"GET /{'a' * 2**20} HTTP/1.1"], 400),
        (["GET / HTTP/1.1", "bad header"], 400),
        (["GET / HTTP/1.1", "Content-Length: -1"], 400),
        (["POST /v1/traces HTTP/1.1", PROTOBUF, "Content-Length: 5", "Content-Length: 6"], 400),
        (["POST /v1/traces HTTP/1.1", PROTOBUF, "Transfer-Encoding: gzip, chunked"], 400),
        (["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400),
        (["PRI * HTTP/2.0"], 404),
        (["GET http://evil.example/ HTTP/1.1"], 404),
        (["BREW / HTTP/1.1"], 405),
        (["TRACE / HTTP/1.1"], 405),
        (["CONNECT evil.example:80 HTTP/1.1"], 404),
        (["OPTIONS /v1/traces HTTP/1.1"], 405),
        (["GET /v1/traces HTTP/1.1"], 405),
        (["PUT /v1/traces HTTP/1.1", "Content-Length: 0"], 405),
        (["POST /v1/nonsense HTTP/1.1", PROTOBUF, "Content-Length: 0"], 404),
        (["POST /nonsense HTTP/1.1", PROTOBUF, "Content-Length: 0"], 404),
        (["DELETE /api/traces HTTP/1.1"], 401),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request_of_ours(viewer: Viewer, lines: list[str], status: int) -> None:
    with Connection(viewer.base) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.request(*lines)
        with contextlib.suppress(ConnectionResetError):
            assert client.answer().status == status


def test_old_clients(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request("GET / HTTP/1.0")
        assert client.answer().status == 200
        assert client.closed()
    with Connection(viewer.base) as client:
        client.request("GET / HTTP/1.0", host=False)
        assert client.answer().status == 421
    with Connection(viewer.base) as client:
        client.request("GET / HTTP/1.1", host=False)
        assert client.answer().status == 400


def test_requests_sent_before_the_answers(viewer: Viewer) -> None:
    body = Traces("pipelined").body
    with Connection(viewer.base) as client:
        for _ in range(50):
            client.request(SENT, PROTOBUF, f"Content-Length: {len(body)}", body=body)
        assert [client.answer().status for _ in range(50)] == [200] * 50


def test_an_answer_before_the_body_leaves_the_connection_whole(viewer: Viewer) -> None:
    with Connection(viewer.base) as client:
        client.request(SENT, "Content-Type: text/plain", "Content-Length: 200000", body=b"x" * 200_000)
        assert client.answer().status == 415
        client.request("GET / HTTP/1.1")
        assert client.answer().status == 200


def test_no_websocket(viewer: Viewer) -> None:
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
    with Connection(viewer.base) as client:
        client.request("GET /api/events HTTP/1.1", *upgrade)
        assert client.answer().status == 401
    with Connection(viewer.base) as client:
        client.request("GET / HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade")
        assert client.answer().status == 200


def test_more_watchers_than_there_may_be(viewer: Viewer) -> None:
    with contextlib.ExitStack() as stack:
        statuses = []
        for number in range(40):
            client = stack.enter_context(Connection(viewer.base))
            path = "/api/events" if number % 2 else "/api/follow"
            client.request(f"GET {path} HTTP/1.1", f"Authorization: Bearer {viewer.token}")
            statuses.append(client.answer_head().status)
        assert statuses == [200] * 32 + [429] * 8
        assert viewer.send("traces", Traces("watched").body)[0] == 200


def test_garbage_where_grpc_is_taken(viewer: Viewer) -> None:
    with Connection(f"http://{viewer.grpc}") as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n" * 100)
        assert not client.closed()
    with Connection(f"http://{viewer.grpc}") as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 1000)
        client.closed()


def test_many_at_once(viewer: Viewer) -> None:
    statuses = []

    def send() -> None:
        statuses.extend([viewer.send("traces", Traces("crowd").body)[0] for _ in range(10)])

    threads = [threading.Thread(target=send) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 300
