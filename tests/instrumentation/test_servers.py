"""One SERVER span per request, where requests enter, whatever the application is made of."""

from __future__ import annotations

import asyncio
import http.client
import logging
import time
import warnings
from collections.abc import Iterable
from typing import Any

import fastapi
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from otelagent.patching.switch import SWITCH
from otelagent.protocols import asgi
from otelagent_instrumentation.server import fastapi as fastapi_instrumentation
from tests.instrumentation.capture import Applied, Spans, span_id
from tests.instrumentation.serving import (
    PARENT,
    SERVER,
    SERVERS,
    TRACE,
    TRACEPARENT,
    asgi_app,
    asgi_on_uvicorn,
    eventually,
    get,
    wsgi_app,
    wsgi_on_werkzeug,
    wsgi_on_wsgiref,
)


@pytest.mark.parametrize("server", SERVERS)
def test_a_hand_written_wsgi_application(spans: Spans, servers: Applied, server: str) -> None:
    with SERVERS[server](wsgi_app) as port:
        assert get(port, "/items/7?token=s3cret&page=2", ("User-Agent", "probe")) == (200, b"hello")
        (span,) = eventually(spans, 1)
    assert (span.name, span.parent, span.status.status_code) == ("GET", None, StatusCode.UNSET)
    attributes = dict(span.attributes or {})
    assert attributes.pop("network.peer.port", None) or server == "wsgiref"
    attributes.pop("network.peer.port", None)
    assert attributes == {
        "http.request.method": "GET",
        "url.path": "/items/7",
        "url.query": "token=REDACTED&page=2",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": port,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
        "user_agent.original": "probe",
        "network.protocol.version": attributes["network.protocol.version"],
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize("server", [*SERVERS, "asgi"])
def test_errors(spans: Spans, servers: Applied, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, app = (asgi_on_uvicorn, asgi_app) if server == "asgi" else (SERVERS[server], wsgi_app)
    with run(app) as port:
        assert get(port, "/busy")[0] == 503
        assert get(port, "/boom")[0] == 500
        eventually(spans, 2)
    busy, boom = spans.one(url__path="/busy"), spans.one(url__path="/boom")
    assert (busy.attributes or {})["error.type"] == "503"
    assert (busy.status.status_code, busy.status.description, busy.events) == (StatusCode.ERROR, None, ())
    assert (boom.attributes or {})["error.type"] == "ValueError"
    assert (boom.attributes or {})["http.response.status_code"] == 500
    assert [event.name for event in boom.events] == ["exception"]


def test_what_uvicorn_logs_of_an_error_is_of_the_span_that_has_ended(spans: Spans, servers: Applied) -> None:
    logged: list[trace.SpanContext] = []

    class Current(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "Exception in ASGI application" in record.getMessage()
            logged.append(trace.get_current_span().get_span_context())

    logger, handler = logging.getLogger("uvicorn.error"), Current()
    with asgi_on_uvicorn(asgi_app) as port:
        before = logger.level
        logger.setLevel("ERROR")
        logger.addHandler(handler)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            for path in ("/boom", "/boom", "/"):  # one after the other
                connection.request("GET", path)
                connection.getresponse().read()
            eventually(spans, 3)
        finally:
            connection.close()
            logger.removeHandler(handler)
            logger.setLevel(before)
    found = spans.all(kind=SERVER)
    failed = [span.context for span in found if (span.attributes or {}).get("url.path") == "/boom"]
    assert [(one.trace_id, one.span_id) for one in logged] == [(one.trace_id, one.span_id) for one in failed]
    assert len({span.context.trace_id for span in found}) == 3
    assert all(span.parent is None for span in found)


def test_what_raises_leaves_no_context_where_a_request_has_no_task_of_its_own(spans: Spans) -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(asgi.trace_app(asgi_app, spans.tracer))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            with pytest.raises(ValueError, match="boom"):
                await client.get("/boom")
        assert not trace.get_current_span().get_span_context().is_valid

    asyncio.run(ask())


@pytest.mark.parametrize("server", [*SERVERS, "asgi"])
@pytest.mark.parametrize(
    ("headers", "continued"),
    [
        ((), False),
        ((TRACEPARENT,), True),
        ((TRACEPARENT, TRACEPARENT), False),
        ((("traceparent", "00-garbage"),), False),
        ((("traceparent", f"00-{'0' * 32}-{PARENT}-01"),), False),
        ((("traceparent", f"ff-{TRACE}-{PARENT}-01"),), False),
        ((TRACEPARENT, ("tracestate", "a=1"), ("tracestate", "a=2")), True),
    ],
)
def test_the_parent_comes_from_the_headers(
    spans: Spans, servers: Applied, server: str, headers: tuple[tuple[str, str], ...], continued: bool
) -> None:
    from opentelemetry import propagate

    from otelagent.record import build_propagator

    before = propagate.get_global_textmap()
    propagate.set_global_textmap(build_propagator(["tracecontext", "baggage"]))
    run, app = (asgi_on_uvicorn, asgi_app) if server == "asgi" else (SERVERS[server], wsgi_app)
    try:
        # A span around the server, as of a command that started it, is nobody's parent.
        with spans.tracer.start_as_current_span("command"), run(app) as port:
            assert get(port, "/", *headers)[0] == 200
            (span,) = eventually(spans, 1)
    finally:
        propagate.set_global_textmap(before)
    # Two headers reach WSGI as one value with a comma or, under some servers, as the last one alone.
    if server in ("werkzeug", "wsgiref", "uvicorn") and headers.count(TRACEPARENT) == 2 and span.parent is not None:
        pytest.fail("two traceparent headers were taken for one")
    if continued:
        assert span.parent is not None
        assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
        assert span.parent.is_remote
    else:
        assert span.parent is None


def test_fastapi_gives_whole_routes_and_one_server_span(spans: Spans, frameworks: None) -> None:
    app, inner, router = fastapi.FastAPI(), fastapi.FastAPI(), fastapi.APIRouter(prefix="/v1")

    @router.get("/items/{sku}")
    def item(sku: str) -> str:
        return sku

    @inner.get("/things/{number:int}")
    async def thing(number: int) -> int:
        if number == 0:
            raise ValueError("no such thing")
        return number

    @app.get("/later")
    async def later(tasks: fastapi.BackgroundTasks) -> str:
        tasks.add_task(time.sleep, 0.2)
        return "soon"

    app.include_router(router, prefix="/api")
    app.mount("/inner/{tenant}", inner)
    with asgi_on_uvicorn(app) as port:
        assert get(port, "/api/v1/items/7") == (200, b'"7"')
        assert get(port, "/inner/acme/things/3") == (200, b"3")
        assert get(port, "/inner/acme/things/0")[0] == 500
        assert get(port, "/nowhere")[0] == 404
        assert get(port, "/api/v1/items/7", method="POST")[0] == 405
        assert get(port, "/later")[0] == 200
        eventually(spans, 6)
    names = [span.name for span in spans.all(kind=SERVER)]
    assert sorted(names) == [
        "GET", "GET /api/v1/items/{sku}", "GET /inner/{tenant}/things/{number}", "GET /inner/{tenant}/things/{number}",
        "GET /later", "POST /api/v1/items/{sku}",
    ]  # fmt: skip
    assert len(spans.all()) == 6  # neither FastAPI's own nor send and receive spans
    failed = spans.one(error__type="ValueError")
    assert (failed.attributes or {})["http.response.status_code"] == 500
    lasting = spans.one(name="GET /later")
    assert (lasting.end_time or 0) - (lasting.start_time or 0) < 0.2e9  # without its background task


def test_starlette_routes_and_test_client(spans: Spans, frameworks: None) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Mount("/a", routes=[Mount("/b", routes=[Route("/c/{d}", hello)])]), Route("/", hello)])

    async def call() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/a/b/c/1")).text == "hello"
            assert (await client.get("/")).text == "hello"

    asyncio.run(call())
    assert [span.name for span in spans.all()] == ["GET /a/b/c/{d}", "GET /"]


def test_a_websocket_is_one_span(spans: Spans, frameworks: None) -> None:
    import websockets.sync.client
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    async def echo(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    with asgi_on_uvicorn(Starlette(routes=[WebSocketRoute("/echo/{room}", echo)]), ws="websockets-sansio") as port:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}/echo/7") as client:
            client.send("hello")
            assert client.recv() == "hello"
        (span,) = eventually(spans, 1)
    assert span.name == "GET /echo/{room}"
    assert (span.attributes or {})["http.response.status_code"] == 101
    assert (span.attributes or {})["url.scheme"] == "http"


def test_flask_gives_routes_exceptions_and_streams(spans: Spans, frameworks: None) -> None:
    import flask

    app = flask.Flask("shop")
    app.logger.disabled = True

    @app.get("/stock/<sku>")
    def stock(sku: str) -> str:
        if sku == "boom":
            raise KeyError("boom")
        return sku

    @app.get("/stream")
    def stream() -> flask.Response:
        def lines() -> Iterable[bytes]:
            for number in range(3):
                with spans.tracer.start_as_current_span(f"line {number}"):
                    yield b"%d" % number

        return flask.Response(lines())

    with wsgi_on_werkzeug(app) as port:
        assert get(port, "/stock/7") == (200, b"7")
        assert get(port, "/stock/boom")[0] == 500
        assert get(port, "/stream") == (200, b"012")
        assert get(port, "/nowhere")[0] == 404
        eventually(spans, 4)
    assert sorted(span.name for span in spans.all(kind=SERVER)) == [
        "GET", "GET /stock/<sku>", "GET /stock/<sku>", "GET /stream",
    ]  # fmt: skip
    assert [event.name for event in spans.one(error__type="KeyError").events] == ["exception"]
    streamed = spans.one(name="GET /stream")
    lines = [span for span in spans.all() if span.name.startswith("line")]
    assert len(lines) == 3
    assert all(span.parent and span.parent.span_id == span_id(streamed) for span in lines)
    assert max(span.end_time or 0 for span in lines) <= (streamed.end_time or 0)


def test_flask_by_its_test_client_and_under_a_prefix(spans: Spans, frameworks: None) -> None:
    import flask
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = flask.Flask("shop")
    app.add_url_rule("/hello/<name>", view_func=lambda name: name)
    assert app.test_client().get("/hello/you").text == "you"
    with wsgi_on_wsgiref(DispatcherMiddleware(flask.Flask("root"), {"/api": app})) as port:
        assert get(port, "/api/hello/you") == (200, b"you")
        eventually(spans, 2)
    assert [span.name for span in spans.all()] == ["GET /hello/<name>", "GET /api/hello/<name>"]


def test_flask_inside_fastapi_is_one_request(spans: Spans, frameworks: None) -> None:
    import a2wsgi
    import flask

    inner = flask.Flask("inner")
    inner.add_url_rule("/hello/<name>", view_func=lambda name: name)
    app = fastapi.FastAPI()
    app.mount("/old/{tenant}", a2wsgi.WSGIMiddleware(inner))  # type: ignore[arg-type]
    with asgi_on_uvicorn(app) as port:
        assert get(port, "/old/acme/hello/you") == (200, b"you")
        (span,) = eventually(spans, 1)
    assert span.name == "GET /old/{tenant}/hello/<name>"


def test_an_application_called_from_a_request_is_a_request_of_its_own(spans: Spans, frameworks: None) -> None:
    import httpx

    other, app = fastapi.FastAPI(), fastapi.FastAPI()

    @other.get("/other")
    async def answer() -> str:
        return "other"

    @app.get("/")
    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url="http://other") as client:
            return (await client.get("/other")).json()

    with asgi_on_uvicorn(app) as port:
        assert get(port, "/") == (200, b'"other"')
        eventually(spans, 2)
    assert {span.name for span in spans.all()} == {"GET /", "GET /other"}


@pytest.mark.parametrize("server", ["asgi", "werkzeug"])
def test_what_is_excluded_or_paused_passes_the_context_on(
    spans: Spans, servers: Applied, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace

    seen: list[int] = []

    def note() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
        note()
        return wsgi_app(environ, start_response)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            note()
        await asgi_app(scope, receive, send)

    monkeypatch.setattr(SWITCH, "excluded", lambda path: path == "/health")
    with asgi_on_uvicorn(asgi) if server == "asgi" else wsgi_on_werkzeug(wsgi) as port:
        assert get(port, "/health", TRACEPARENT)[0] == 200
        monkeypatch.setattr(SWITCH, "recording", False)
        assert get(port, "/paused", TRACEPARENT)[0] == 200
        monkeypatch.setattr(SWITCH, "recording", True)
        assert get(port, "/", TRACEPARENT)[0] == 200
        (span,) = eventually(spans, 1)
    assert (span.attributes or {})["url.path"] == "/"
    assert seen == [int(PARENT, 16), int(PARENT, 16), span_id(span)]


@pytest.mark.parametrize("why", ["excluded", "paused"])
def test_fastapi_traces_nothing_of_a_request_that_is_passed_on(
    spans: Spans, frameworks: None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = fastapi.FastAPI()
    app.add_api_route("/health", lambda: "well")
    monkeypatch.setattr(SWITCH, "excluded", lambda path: path == "/health" and why == "excluded")
    monkeypatch.setattr(SWITCH, "recording", why != "paused")
    with asgi_on_uvicorn(app) as port:
        assert get(port, "/health", TRACEPARENT) == (200, b'"well"')
    assert spans.all() == []


@pytest.mark.parametrize("entered", ["server", "framework"])
def test_fastapi_that_has_its_telemetry_otherwise_serves(
    spans: Spans, frameworks: None, entered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(telemetry: Any) -> Any:
        calls.append(telemetry)
        raise AttributeError("config")

    calls: list[Any] = []
    monkeypatch.setattr(fastapi_instrumentation, "_without_tracing", unknown)
    app = fastapi.FastAPI()
    app.add_api_route("/items/{number}", lambda number: number)
    if not hasattr(app, "_native_telemetry"):
        pytest.skip("this FastAPI has no telemetry of its own")
    if entered == "server":
        with asgi_on_uvicorn(app) as port:
            assert get(port, "/items/1") == (200, b'"1"')
    else:

        async def call() -> None:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
                assert (await client.get("/items/1")).text == '"1"'

        asyncio.run(call())
    assert calls
    assert "GET /items/{number}" in spans.names()


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import otelagent_instrumentation.server.gunicorn  # noqa: F401
