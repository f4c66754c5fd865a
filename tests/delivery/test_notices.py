"""Notices go to a viewer, once or not at all, and to nobody else."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otelagent.delivery import notices
from otelagent.delivery.notices import Notices

VIEWER = "otelagent-viewer"


class Server(http.server.ThreadingHTTPServer):
    """Notes what it is asked and answers as it is told."""

    def __init__(self, *, name: str, status: int = 200, body: bytes = b"") -> None:
        self.asked: list[tuple[str, bytes]] = []
        self.name, self.status, self.body = name, status, body
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def version_string(self) -> str:
        return self.server.name

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, body))
        self.send_response(405 if self.command == "GET" else self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = answer

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(**answers: Any) -> Iterator[Server]:
    with Server(**answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def never() -> list[bytes]:
    raise AssertionError("there is nobody to tell")


def two() -> list[bytes]:
    return [b"one", b"two"]


def test_a_viewer_is_told() -> None:
    with serving(name=VIEWER) as server:
        sender = Notices(server.endpoint)
        assert sender.send(two)
        assert sender.send(lambda: [b"three"])
    told = [("GET", b""), ("POST", b"one"), ("POST", b"two"), ("GET", b""), ("POST", b"three")]
    assert server.asked == told


def test_anything_else_is_asked_once() -> None:
    with serving(name="collector") as server:
        sender = Notices(server.endpoint)
        assert not sender.send(never)
        assert not sender.send(never)
    assert server.asked == [("GET", b"")]


def test_a_viewer_without_room_is_left_alone_for_a_while() -> None:
    with serving(name=VIEWER, status=429) as server:
        sender = Notices(server.endpoint)
        assert not sender.send(two)
        assert not sender.send(two)
    assert server.asked == [("GET", b""), ("POST", b"one")]


def test_an_answer_has_a_bound() -> None:
    with serving(name=VIEWER, body=b"x" * 1_000_000) as server:
        assert not Notices(server.endpoint).send(never)


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", None])
def test_whoever_speaks_no_http_holds_nobody_up(greeting: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                if greeting:
                    connection.sendall(greeting)
                if greeting is not None:
                    return
                connection.recv(65536)
                over.wait(30)

        over = threading.Event()
        thread = threading.Thread(target=greet)
        thread.start()
        try:
            assert not Notices(f"http://127.0.0.1:{port}/v1/traces").send(never)
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("make", [lambda port: f"http://127.0.0.1:{port}/v1/traces", lambda port: "http://[::1]:1/x"])
def test_where_nobody_listens(make: Callable[[int], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not Notices(make(port)).send(never)
