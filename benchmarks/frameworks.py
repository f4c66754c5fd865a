"""What one call of FastAPI, Flask or sqlite3 costs, bare and instrumented.

The applications are called in this process, as their servers do, with a request that a traced client sends: nothing is
measured of sockets, and everything of the framework. What a peer adds is the difference to the bare one.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.peers.instrumented import instrument
from benchmarks.samples import Arrivals, Context, Sample

PEERS = ("bare", "opentelemetry", "ddtrace", "otelagent-sdk", "otelagent-native")
PARTS = ("fastapi", "flask", "sqlite3")

CALLS = 2_000
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_HEADERS = {
    "host": "shop.example",
    "user-agent": "benchmark/1",
    "accept": "application/json",
    "accept-encoding": "gzip",
    "connection": "keep-alive",
    "x-request-id": "0c2b2d1f",
    "cookie": "session=42",
    "traceparent": TRACEPARENT,
}


def measure(context: Context, part: str) -> Iterator[Sample]:
    """One library."""
    recording = instrument(context.peer, context.address)
    arrivals = Arrivals(context, recording)
    run = _LIBRARIES[part]()
    run(50)
    warm = arrivals.settle(0 if context.peer == "bare" else 50)[0]
    calls = 50 if context.quick else CALLS
    process, began = time.process_time(), time.thread_time()
    run(calls)
    thread_s = time.thread_time() - began
    # A peer may make several spans of a call, the same number each time; one that makes none has lost them.
    each = max(warm // 50, context.peer != "bare")
    sent = each * calls
    arrived, waiting_s = arrivals.settle(sent)
    process_s = time.process_time() - process - waiting_s
    yield Sample(
        "frameworks",
        context.peer,
        part,
        values={"thread_us": thread_s / calls * 1e6, "process_us": process_s / calls * 1e6, "spans": float(each)},
        sent=sent,
        arrived=arrived,
    )


def _fastapi() -> Callable[[int], None]:
    import fastapi

    app = fastapi.FastAPI()

    @app.get("/items/{item}")
    async def item(item: int) -> dict[str, int]:
        return {"item": item}

    headers = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/items/42",
        "raw_path": b"/items/42",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", 8000),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def calls(count: int) -> None:
        statuses.clear()
        for _ in range(count):
            await app({**scope, "headers": list(headers), "state": {}}, receive, send)
        assert statuses == [200] * count

    loop = asyncio.new_event_loop()
    return lambda count: loop.run_until_complete(calls(count))


def _flask() -> Callable[[int], None]:
    import flask

    app = flask.Flask("benchmark")

    @app.route("/items/<int:item>")
    def item(item: int) -> dict[str, int]:
        return {"item": item}

    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/items/42",
        "QUERY_STRING": "",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in _HEADERS.items()},
    }
    statuses: list[str] = []

    def start_response(status: str, headers: Any, error: Any = None) -> Callable[[bytes], None]:
        statuses.append(status)
        return lambda data: None

    def calls(count: int) -> None:
        statuses.clear()
        for _ in range(count):
            body: Any = app({**environ, "wsgi.input": io.BytesIO()}, start_response)
            for _ in body:
                pass
            body.close()
        assert statuses == ["200 OK"] * count

    return calls


def _sqlite3() -> Callable[[int], None]:
    import sqlite3

    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()

    def calls(count: int) -> None:
        for number in range(count):
            cursor.execute("SELECT ?", (number,))
            cursor.fetchone()

    return calls


_LIBRARIES = {"fastapi": _fastapi, "flask": _flask, "sqlite3": _sqlite3}
