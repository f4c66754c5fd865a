"""Real servers in threads, on free loopback ports, for the length of a test; and applications for them."""

from __future__ import annotations

import http.client
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from tests.instrumentation.capture import Applied, Spans

__all__ = [
    "PARENT",
    "SERVER",
    "SERVERS",
    "TRACE",
    "TRACEPARENT",
    "Answer",
    "apply_frameworks",
    "apply_servers",
    "asgi_app",
    "asgi_on_uvicorn",
    "eventually",
    "get",
    "wsgi_app",
    "wsgi_on_werkzeug",
    "wsgi_on_wsgiref",
]

SERVER = SpanKind.SERVER
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = ("traceparent", f"00-{TRACE}-{PARENT}-01")
Answer = tuple[int, bytes]


def get(port: int, path: str, *headers: tuple[str, str], method: str = "GET") -> Answer:
    """One request by hand: repeated headers stay repeated."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@contextmanager
def asgi_on_uvicorn(app: Any, **options: Any) -> Iterator[int]:
    """uvicorn, whose port is given."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def wsgi_on_uvicorn(app: Any) -> Iterator[int]:
    """uvicorn's bridge for WSGI applications."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with asgi_on_uvicorn(app, interface="wsgi") as port:
            yield port


@contextmanager
def wsgi_on_werkzeug(app: Any) -> Iterator[int]:
    """werkzeug's development server."""
    from werkzeug.serving import WSGIRequestHandler as Handler
    from werkzeug.serving import make_server as make

    class Silent(Handler):
        def log(self, type: str, message: str, *args: Any) -> None:
            pass

    server = make("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    with _serving(server):
        yield server.server_port


@contextmanager
def wsgi_on_wsgiref(app: Any) -> Iterator[int]:
    """The standard library's server."""

    class Silent(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, WSGIServer):
        daemon_threads = False

    server = make_server("127.0.0.1", 0, app, Server, Silent)
    with _serving(server):
        yield server.server_port


@contextmanager
def _serving(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)
        assert not thread.is_alive()


SERVERS: dict[str, Callable[[Any], Any]] = {
    "werkzeug": wsgi_on_werkzeug,
    "wsgiref": wsgi_on_wsgiref,
    "uvicorn": wsgi_on_uvicorn,
}


def apply_servers(apply: Applied) -> Applied:
    """Instrument the servers."""
    import werkzeug.serving  # noqa: F401

    from otelagent_instrumentation.server.uvicorn import Uvicorn
    from otelagent_instrumentation.server.werkzeug import Werkzeug
    from otelagent_instrumentation.server.wsgiref import Wsgiref

    for cls in (Uvicorn, Werkzeug, Wsgiref):
        apply(cls)
    return apply


def apply_frameworks(apply: Applied) -> None:
    """Instrument the frameworks."""
    import flask  # noqa: F401

    from otelagent_instrumentation.server.fastapi import FastAPI
    from otelagent_instrumentation.server.flask import Flask
    from otelagent_instrumentation.server.starlette import Starlette

    for cls in (Starlette, FastAPI, Flask):
        apply(cls)


def eventually(spans: Spans, count: int, **wanted: Any) -> list[ReadableSpan]:
    """A server's thread ends the span after the client has its answer."""
    deadline = time.monotonic() + 10
    while len(found := spans.all(kind=SERVER, **wanted)) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(found) == count, spans.names()
    return found


def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/boom":
        raise ValueError("boom")
    start_response("503 Busy" if path == "/busy" else "200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["path"] == "/boom":
        raise ValueError("boom")
    status = 503 if scope["path"] == "/busy" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
