"""HTTP clients against a real server: one span per attempt, context on the wire, nothing secret recorded."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import pytest
import requests
import requests.adapters
import urllib3
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from otelagent.patching.switch import SWITCH
from otelagent_instrumentation.client.httpx import Httpx
from otelagent_instrumentation.client.requests import Requests
from otelagent_instrumentation.client.urllib3 import Urllib3
from tests.instrumentation.capture import Applied, Spans, span_id
from tests.instrumentation.serving import wsgi_on_wsgiref

Get = Callable[[str], int]


class Server:
    """Answers by path, and keeps the `traceparent` of each request."""

    def __init__(self) -> None:
        self.port = 0
        self.traceparents: list[str | None] = []
        self._flaky = iter(("503 Busy", "503 Busy", "200 OK"))
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            self.traceparents.append(environ.get("HTTP_TRACEPARENT"))
            path = environ["PATH_INFO"]
            if path == "/moved":
                start_response("302 Found", [("Location", "/here"), ("Content-Length", "0")])
                return [b""]
            status = {"/missing": "404 Not Found", "/broken": "500 Broken", "/flaky": None}.get(path, "200 OK")
            start_response(status or next(self._flaky), [("Content-Length", "2")])
            return [b"ok"]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@pytest.fixture
def server(spans: Spans) -> Iterator[Server]:
    app = Server()
    with wsgi_on_wsgiref(app) as app.port:
        yield app


def by_httpx(url: str) -> int:
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        return client.get(url).status_code


def by_httpx_async(url: str) -> int:
    async def get() -> int:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            return (await client.get(url)).status_code

    return asyncio.run(get())


def by_requests(url: str) -> int:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=10).status_code


def by_urllib3(url: str) -> int:
    with urllib3.PoolManager() as pool:
        return pool.request("GET", url, timeout=10).status


CLIENTS: dict[str, Get] = {
    "httpx": by_httpx,
    "httpx async": by_httpx_async,
    "requests": by_requests,
    "urllib3": by_urllib3,
}


@pytest.fixture(params=CLIENTS)
def get(request: pytest.FixtureRequest, apply: Applied) -> Get:
    for cls in (Httpx, Requests, Urllib3):
        apply(cls)
    return CLIENTS[request.param]


def sent_by(span: Any) -> str:
    return f"00-{span.context.trace_id:032x}-{span_id(span):016x}-{span.context.trace_flags:02x}"


def test_one_span_whose_context_is_on_the_wire(spans: Spans, server: Server, get: Get) -> None:
    with spans.tracer.start_as_current_span("caller") as caller:
        assert get(server.url("/items?token=s3cret&page=2").replace("127.0.0.1", "user:pass@127.0.0.1")) == 200
    span = spans.one(kind=SpanKind.CLIENT)
    assert (span.name, span.status.status_code) == ("GET", StatusCode.UNSET)
    assert span.parent == caller.get_span_context()
    assert server.traceparents == [sent_by(span)]
    attributes = dict(span.attributes or {})
    full = attributes.pop("url.full")
    attributes.pop("network.protocol.version", None)
    assert attributes == {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "http.response.status_code": 200,
    }
    # requests and urllib3 take the userinfo off the URL themselves.
    assert full in (server.url("/items?token=REDACTED&page=2"), f"http://REDACTED:REDACTED@127.0.0.1:{server.port}/items?token=REDACTED&page=2")  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(("path", "status"), [("/missing", 404), ("/broken", 500)])
def test_statuses_from_400_are_errors(spans: Spans, server: Server, get: Get, path: str, status: int) -> None:
    assert get(server.url(path)) == status
    span = spans.one(kind=SpanKind.CLIENT)
    assert (span.attributes or {})["error.type"] == str(status)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
    assert span.events == ()


def test_a_redirect_is_a_span_for_each_request(spans: Spans, server: Server, get: Get) -> None:
    with spans.tracer.start_as_current_span("caller"):
        assert get(server.url("/moved")) == 200
    first, second = spans.all(kind=SpanKind.CLIENT)
    assert [(span.attributes or {})["http.response.status_code"] for span in (first, second)] == [302, 200]
    assert first.parent == second.parent
    assert server.traceparents == [sent_by(first), sent_by(second)]


def test_no_connection_is_an_exception(spans: Spans, get: Get) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises((httpx.ConnectError, requests.ConnectionError, urllib3.exceptions.MaxRetryError)):
            get(f"http://127.0.0.1:{port}/")
    found = spans.all(kind=SpanKind.CLIENT)
    assert found
    for span in found:  # urllib3 tries four times
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"]
        assert (span.attributes or {})["server.port"] == port
        assert [event.name for event in span.events] == ["exception"]


def test_what_is_not_recorded_still_carries_the_context(
    spans: Spans, server: Server, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    with spans.tracer.start_as_current_span("caller") as caller:
        monkeypatch.setattr(SWITCH, "recording", False)
        assert get(server.url("/")) == 200
    assert server.traceparents == [sent_by(caller)]
    unsampled = trace.NonRecordingSpan(trace.SpanContext(1, 2, False, trace.TraceFlags(0)))
    monkeypatch.setattr(SWITCH, "recording", True)
    with trace.use_span(unsampled):
        assert get(server.url("/")) == 200
    assert server.traceparents[1] == f"00-{1:032x}-{2:016x}-00"
    assert spans.all(kind=SpanKind.CLIENT) == []


def test_urllib3_retries_are_siblings_that_count_up(spans: Spans, server: Server, apply: Applied) -> None:
    apply(Urllib3)
    apply(Requests)
    session = requests.Session()
    retry = urllib3.Retry(total=3, status_forcelist=[503], backoff_factor=0)
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    with spans.tracer.start_as_current_span("caller"), session:
        assert session.get(server.url("/flaky"), timeout=10).status_code == 200
    attempts = spans.all(kind=SpanKind.CLIENT)
    assert [(span.attributes or {}).get("http.request.resend_count") for span in attempts] == [None, 1, 2]
    assert len({span.parent.span_id for span in attempts if span.parent}) == 1
    assert server.traceparents == [sent_by(span) for span in attempts]


def test_the_callers_headers_stay_the_callers(spans: Spans, server: Server, apply: Applied) -> None:
    apply(Urllib3)
    headers = {"X-Mine": "1"}
    with urllib3.PoolManager(headers=headers) as pool:
        pool.request("GET", server.url("/"))
        pool.request("POST", server.url("/"), body=b"x", headers=urllib3.HTTPHeaderDict(headers))
    assert headers == {"X-Mine": "1"}
    assert server.traceparents == [sent_by(span) for span in spans.all(kind=SpanKind.CLIENT)]


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("headers", [None, {"x": "1"}])
def test_a_subclass_of_urllib3s_may_hand_headers_on_by_position(
    spans: Spans, server: Server, apply: Applied, headers: Any, recording: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pool(urllib3.HTTPConnectionPool):
        def _make_request(  # type: ignore[override]
            self, conn: Any, method: str, url: str, body: Any = None, headers: Any = None, **more: Any
        ) -> Any:
            return super()._make_request(conn, method, url, body, headers, **more)

    apply(Urllib3)
    monkeypatch.setattr(SWITCH, "recording", recording)
    with spans.tracer.start_as_current_span("caller"), Pool("127.0.0.1", server.port) as pool:
        assert pool.request("GET", "/", headers=headers).status == 200
    assert headers in (None, {"x": "1"})
    sender = spans.one(kind=SpanKind.CLIENT) if recording else spans.one("caller")
    assert server.traceparents == [sent_by(sender)]


def test_a_streamed_body_is_the_applications(spans: Spans, server: Server, apply: Applied) -> None:
    apply(Httpx)
    with httpx.Client(trust_env=False) as client, client.stream("GET", server.url("/")) as response:
        assert spans.one(kind=SpanKind.CLIENT)
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert b"".join(response.iter_bytes()) == b"ok"


def test_cancelled_requests_are_not_failures_of_the_server(spans: Spans, apply: Applied) -> None:
    apply(Httpx)

    async def main(port: int) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.get(f"http://127.0.0.1:{port}/"), 0.1)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(main(silent.getsockname()[1]))
    span = spans.one(kind=SpanKind.CLIENT)
    assert (span.attributes or {})["error.type"] == "asyncio.exceptions.CancelledError"
    assert span.status.status_code is StatusCode.UNSET


def test_a_request_may_be_passed_by_keyword(spans: Spans, server: Server, apply: Applied) -> None:
    for cls in (Httpx, Requests, Urllib3):
        apply(cls)

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *_: Any, **options: Any) -> Any:
            return super().send(request=request, **options)

    class Transport(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return super().handle_request(request=request)

    with requests.Session() as session, httpx.Client(transport=Transport(), trust_env=False) as client:
        session.trust_env = False
        session.mount("http://", Adapter())
        for recording in (True, False):
            SWITCH.recording = recording
            assert session.get(server.url("/"), timeout=10).status_code == 200
            assert client.get(server.url("/")).status_code == 200
    assert server.traceparents == [*map(sent_by, spans.all(kind=SpanKind.CLIENT)), None, None]
    scopes = [span.instrumentation_scope.name for span in spans.all() if span.instrumentation_scope]
    assert [scope.rpartition(".")[2] for scope in scopes] == ["requests", "httpx"]
