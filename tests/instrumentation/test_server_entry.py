"""What enters is taken once, whatever lies between the server and the application; and nobody notices."""

from __future__ import annotations

import asyncio
import gc
import warnings
import weakref
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import fastapi
import pytest

from otelagent.patching.switch import SWITCH
from otelagent.protocols.asgi import trace_app as trace_asgi
from otelagent.protocols.wsgi import trace_app as trace_wsgi
from tests.instrumentation.capture import Applied, Spans
from tests.instrumentation.serving import (
    PARENT,
    SERVER,
    TRACEPARENT,
    asgi_app,
    asgi_on_uvicorn,
    eventually,
    get,
    wsgi_app,
    wsgi_on_werkzeug,
    wsgi_on_wsgiref,
)


def test_a_middleware_may_change_method_and_path(spans: Spans, frameworks: None) -> None:
    import flask
    from werkzeug.middleware.proxy_fix import ProxyFix

    shop, inner = flask.Flask("shop"), fastapi.FastAPI()
    shop.add_url_rule("/items/<sku>", view_func=lambda sku: sku, methods=["DELETE"])
    inner.add_api_route("/items/{sku}", lambda sku: sku)

    def overridden(environ: dict[str, Any], start_response: Any) -> Any:
        return wsgi(dict(environ, REQUEST_METHOD="DELETE"), start_response)

    async def stripped(scope: Any, receive: Any, send: Any) -> None:
        await inner(dict(scope, path=scope["path"].removeprefix("/v1")), receive, send)

    wsgi, shop.wsgi_app = shop.wsgi_app, overridden  # type: ignore[method-assign]
    shop.wsgi_app = ProxyFix(shop.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    with wsgi_on_werkzeug(shop) as port:
        assert get(port, "/items/3", ("X-Forwarded-Prefix", "/shop"), method="POST") == (200, b"3")
    with asgi_on_uvicorn(stripped) as port:
        assert get(port, "/v1/items/3") == (200, b'"3"')
        eventually(spans, 2)
    assert [span.name for span in spans.all()] == ["POST /shop/items/<sku>", "GET /items/{sku}"]


@pytest.mark.parametrize("bridge", ["a2wsgi", "starlette", "to asgi"])
def test_a_bridge_is_the_same_request(spans: Spans, frameworks: None, bridge: str) -> None:
    import a2wsgi
    import flask
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    if bridge == "to asgi":
        front = Starlette(routes=[Route("/old/hello/{name}", lambda request: PlainTextResponse("you"))])
        with wsgi_on_werkzeug(a2wsgi.ASGIMiddleware(front)) as port:  # type: ignore[arg-type]
            assert get(port, "/old/hello/you") == (200, b"you")
            (span,) = eventually(spans, 1)
        assert span.name == "GET /old/hello/{name}"
        return
    inner = flask.Flask("inner")
    inner.add_url_rule("/hello/<name>", view_func=lambda name: name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware

        made: Any = (a2wsgi.WSGIMiddleware if bridge == "a2wsgi" else WSGIMiddleware)(inner)  # type: ignore[arg-type]
    with asgi_on_uvicorn(Starlette(routes=[Mount("/old", made)])) as port:
        assert get(port, "/old/hello/you") == (200, b"you")
        (span,) = eventually(spans, 1)
    assert span.name == "GET /old/hello/<name>"


@pytest.mark.parametrize("paused", [False, True])
def test_an_application_called_with_the_same_path_is_a_request_of_its_own(
    spans: Spans, frameworks: None, paused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route, Router

    back, front = fastapi.FastAPI(), fastapi.FastAPI()
    back.add_api_route("/same/{back}", lambda back: back)
    router = Router([Route("/same/{untraced}", lambda request: PlainTextResponse('"router"'))])

    async def ask(front: str) -> Any:
        for app in (router, back):  # the one that nothing traces leaves its caller's span alone
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://back") as client:
                answer = (await client.get(f"/same/{front}")).json()
        return answer

    front.add_api_route("/same/{front}", ask)
    monkeypatch.setattr(SWITCH, "recording", not paused)
    with asgi_on_uvicorn(front) as port:
        assert get(port, "/same/3") == (200, b'"3"')
        eventually(spans, 0 if paused else 2)
    assert [span.name for span in spans.all()] == ([] if paused else ["GET /same/{back}", "GET /same/{front}"])


def test_marks_are_not_in_the_way_of_copies(spans: Spans) -> None:
    import copy
    import pickle

    kept: list[Any] = []

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        kept.append(pickle.loads(pickle.dumps(scope)))
        await trace_asgi(asgi_app, spans.tracer)(copy.deepcopy(scope), receive, send)

    scope = asgi_scope()
    for _ in range(2):  # a carrier used again is a request again
        assert call_asgi(copying, scope, spans.tracer) == 200
    assert len(spans.all(kind=SERVER)) == 2
    assert kept[1]["otelagent.request"] is None


def asgi_scope(**over: Any) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/x",
        "query_string": b"", "headers": [], "server": None, "client": None, **over,
    }  # fmt: skip


def call_asgi(app: Any, scope: Any, tracer: Any, sent: list[Any] | None = None) -> Any:
    """Call `app` as a server would, and give its status back; `sent` gets all that it sends."""
    messages: list[Any] = [] if sent is None else sent

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        messages.append(message)

    async def call() -> None:
        await trace_asgi(app, tracer)(scope, receive, send)

    asyncio.run(call())
    return messages[0].get("status")


@pytest.mark.parametrize(
    ("over", "traced"),
    [
        ({"query_string": "a=1"}, True),
        ({"query_string": None}, True),
        ({"client": ("1.2.3.4",)}, True),
        ({"client": ["h", None]}, True),
        ({"headers": iter([(b"host", b"h"), (b"x", b"y")])}, True),
        ({"headers": [(b"host",)]}, False),
        ({"method": 7}, False),
        ({"client": 7}, False),
    ],
)
def test_odd_scopes_reach_the_application(spans: Spans, over: dict[str, Any], traced: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if "headers" in over:
            assert list(scope["headers"])
        await asgi_app(scope, receive, send)

    assert call_asgi(app, asgi_scope(**over), spans.tracer) == 200
    assert len(spans.all()) == traced


@pytest.mark.parametrize("message", [{"type": "http.response.start"}, {"status": 200}, {"type": "http.response.start", "status": "200"}])  # fmt: skip  # noqa: E501
def test_odd_messages_are_the_servers(spans: Spans, message: dict[str, Any]) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(message)
        await send({"type": "http.response.body", "body": b""})

    call_asgi(app, asgi_scope(), spans.tracer, sent)
    assert sent[0] is message
    spans.one(kind=SERVER)


@pytest.mark.parametrize(
    ("over", "traced"),
    [
        ({"SCRIPT_NAME": None}, True),
        ({"SERVER_PROTOCOL": None}, True),
        ({"REMOTE_ADDR": "a", "REMOTE_PORT": "²"}, True),
        ({"REQUEST_METHOD": 7}, False),
        ({"SERVER_PROTOCOL": 1.1}, False),
    ],
)
def test_odd_environs_reach_the_application(spans: Spans, over: dict[str, Any], traced: bool) -> None:
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/x", **over}
    assert trace_wsgi(wsgi_app, spans.tracer)(environ, lambda *call: call) == [b"hello"]
    assert len(spans.all()) == traced


@pytest.mark.parametrize("status", ["²00 OK", "", None, b"200 OK", "20"])
def test_odd_statuses_are_the_servers(spans: Spans, status: Any) -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(status, [], exc_info=None)
        return [b""]

    trace_wsgi(app, spans.tracer)({"REQUEST_METHOD": "GET"}, lambda *call, exc_info: seen.append(call))
    assert seen == [(status, [])]
    assert "http.response.status_code" not in (spans.one(kind=SERVER).attributes or {})


def test_a_failing_span_is_nobody_elses_failure(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry.sdk.trace import Span, TracerProvider

    from otelagent.protocols import request

    def fail(*_: Any) -> None:
        raise RuntimeError("telemetry")

    # A provider of the application's own, which isolates nothing.
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    monkeypatch.setattr(request._Failures, "count", 0)
    for name in ("set_attribute", "record_exception", "end"):
        monkeypatch.setattr(Span, name, fail)
    assert call_asgi(asgi_app, asgi_scope(), tracer) == 200
    with pytest.raises(ValueError, match="boom"):
        call_asgi(asgi_app, asgi_scope(path="/boom"), tracer)
    assert request._Failures.count > 1
    assert [record.getMessage() for record in caplog.records] == ["a request could not be traced, it is served without"]


@pytest.mark.parametrize("why", ["excluded", "paused"])
def test_a_generator_application_is_passed_on_to_its_end(
    spans: Spans, servers: Applied, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace
    from opentelemetry.context import get_current

    from otelagent.patching.operation import suppressed

    seen: list[tuple[int, bool]] = []

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        span = trace.get_current_span().get_span_context()
        seen.append((span.span_id, suppressed(get_current(), None)))
        yield b"ok"

    monkeypatch.setattr(SWITCH, "excluded", lambda path: path == "/health" and why == "excluded")
    monkeypatch.setattr(SWITCH, "recording", why != "paused")
    with wsgi_on_wsgiref(app) as port:
        assert get(port, "/health", TRACEPARENT) == (200, b"ok")
    assert seen == [(int(PARENT, 16), why == "excluded")]
    assert spans.all() == []


@pytest.mark.parametrize("server", ["asgi", "wsgi"])
@pytest.mark.parametrize(
    ("pattern", "excluded"),
    [
        (r"/health$", True), (r"^/health", True), (r"^http://shop:81/health", True), (r"\?probe=1$", True),
        (r"^http://shop:81/health\?probe", True), (r"other", False),
    ],
)  # fmt: skip
def test_exclusions_are_searched_in_path_and_url(
    spans: Spans, server: str, pattern: str, excluded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.setattr(SWITCH, "excluded", lambda url: re.search(pattern, url) is not None)
    if server == "asgi":
        headers = [(b"host", b"shop:81")]
        call_asgi(asgi_app, asgi_scope(path="/health", query_string=b"probe=1", headers=headers), spans.tracer)
    else:
        environ = {"PATH_INFO": "/health", "QUERY_STRING": "probe=1", "SERVER_NAME": "shop", "SERVER_PORT": "81"}
        trace_wsgi(wsgi_app, spans.tracer)(environ, lambda *_: None)
    assert len(spans.all()) == (not excluded)


@pytest.mark.parametrize("recording", [True, False])
def test_servers_get_the_response_they_would_have_got(
    spans: Spans, recording: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Parts(list[bytes]):
        pass

    class Sequence:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> bytes:
            return [b"one"][index]

    monkeypatch.setattr(SWITCH, "recording", recording)

    def served(response: Any) -> Any:
        return trace_wsgi(lambda *_: response, spans.tracer)({}, lambda *_: None)

    parts = Parts([b"a"])
    assert served(parts) is parts
    assert served(None) is None
    sized: Any = served(Sequence())
    assert (len(sized), list(sized)) == (1, [b"one"])
    assert not hasattr(served(iter([b"a"])), "__len__")
    errors = [(span.attributes or {}).get("error.type") for span in spans.all(kind=SERVER)]
    assert errors == ([None, "TypeError", None] if recording else [])


@pytest.mark.parametrize("traced", [False, True], ids=["plain", "traced"])
def test_an_exception_is_gone_when_the_request_is(spans: Spans, traced: bool) -> None:
    gone: list[weakref.ref[Exception]] = []

    class Boom(Exception):
        def __init__(self) -> None:
            gone.append(weakref.ref(self))

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        raise Boom

    def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise Boom

    gc.disable()
    try:
        with suppress(Boom):
            app: Any = trace_asgi(asgi, spans.tracer) if traced else asgi
            app(asgi_scope(), None, None).send(None)  # a task of asyncio would be such garbage itself
        with suppress(Boom):
            (trace_wsgi(wsgi, spans.tracer) if traced else wsgi)({"REQUEST_METHOD": "GET"}, lambda *_: None)
        assert [exception() for exception in gone] == [None, None]
    finally:
        gc.enable()
