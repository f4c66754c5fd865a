"""The native engine describes plain requests by itself: it must say what the description in Python says.

What it is for: with it an instrumented ASGI call took 3.3 µs of the thread's CPU more than a bare one, a WSGI call 4.0;
described in Python 6.7 and 8.3, with the stock SDK 44 and 45, with contrib's instrumentors 122 and 57 (3.11, one run).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from otelagent.patching.operation import SPAN_KEY
from otelagent.protocols import asgi, wsgi
from otelagent.record.propagation import SafePropagator, build_propagator
from otelagent.semconv.redaction import _SECRETS
from tests.support import native_or_skip
from tests.unit.record.recorder import Recorder
from tests.unit.record.test_headers import IDS, PARENT

ENTRANCES: dict[str, Any] = {"asgi": asgi._ENTRANCE, "wsgi": wsgi._ENTRANCE}
SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "scheme": "http",
    "path": "/items/42",
    "query_string": b"page=2&sort=down",
    "http_version": "1.1",
    "headers": [(b"host", b"shop:8000"), (b"user-agent", b"curl/8"), (b"traceparent", PARENT.encode())],
    "client": ("10.0.0.1", 51234),
    "server": ("127.0.0.1", 8000),
}
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/api",
    "PATH_INFO": "/items/42",
    "QUERY_STRING": "page=2&sort=down",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "10.0.0.1",
    "REMOTE_PORT": "51234",
    "HTTP_HOST": "shop:8000",
    "HTTP_USER_AGENT": "curl/8",
    "HTTP_TRACEPARENT": PARENT,
    "wsgi.url_scheme": "https",
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    native_or_skip()
    recorder = Recorder(engine="native", sampler="always_on")
    yield recorder
    recorder.close()


def begin(recorder: Recorder, layout: str, carrier: Any) -> Any:
    """What the engine makes of a request by itself; checked against the description."""
    propagator: Any = build_propagator(("tracecontext", "baggage"), codec=recorder.engine.codec)
    assert isinstance(propagator, SafePropagator)
    entrance, tracer = ENTRANCES[layout], recorder.tracer
    try:
        method, path = entrance.target(carrier)
        described = entrance.describe(carrier, method, path)
    except Exception:
        return None  # such a request is served untraced
    begun = tracer.begin_request(layout, carrier, method, path, Context(), ("mark", 1), propagator.formats)
    if begun is None:
        return None
    span, context = begun
    assert (span.name, span.kind) == (described.name, SpanKind.SERVER)
    assert list(span.attributes.items()) == list(described.attributes.items())
    assert span.dropped_attributes == 0
    assert context == {SPAN_KEY: span, "mark": 1}
    return span


@pytest.mark.parametrize(("layout", "carrier"), [("asgi", SCOPE), ("wsgi", ENVIRON)])
def test_a_plain_request_is_described_whole(recorder: Recorder, layout: str, carrier: dict[str, Any]) -> None:
    span = begin(recorder, layout, carrier)
    assert (span.parent.trace_id, span.parent.span_id) == IDS
    assert span.attributes["server.port"] == 8000
    assert len(span.attributes) == 11


@pytest.mark.parametrize(
    "change",
    [
        {"method": "BREW"},
        {"method": "get"},
        {"query_string": "q=ü".encode()},
        {"query_string": b"q=1&Token=x"},
        {"headers": [(b"host", b"[::1]:80")]},
        {"headers": [(b"host", b"SHOP")]},
        {"headers": [(b"host", b"shop"), (b"user-agent", b"\xff")]},
        {"headers": [(b"host", b"shop"), (b"baggage", b"a=1")]},
        {"headers": []},
        {"headers": ((b"host", b"shop"),)},
        {"client": ("10.0.0.1", 70000)},
        {"client": ("10.0.0.1",)},
    ],
    ids=lambda change: repr(change)[:50],
)
def test_what_is_not_plain_is_described_in_python(recorder: Recorder, change: dict[str, Any]) -> None:
    assert begin(recorder, "asgi", {**SCOPE, **change}) is None


def test_a_query_with_the_name_of_any_credential_is_not_plain(recorder: Recorder) -> None:
    for name in _SECRETS:
        for spelt in (name, name.upper()):
            assert begin(recorder, "asgi", {**SCOPE, "query_string": f"a=1&{spelt}=2".encode()}) is None
            assert begin(recorder, "wsgi", {**ENVIRON, "QUERY_STRING": f"{spelt}=2"}) is None
        assert begin(recorder, "asgi", {**SCOPE, "query_string": f"a=1&{name}x=2".encode()}) is not None


TEXT = st.one_of(
    st.sampled_from(
        ["", "shop", "Shop:80", "shop:0", "a=1;b=2", "key=1", "[::1]", "a:b", "1.1", "/a b", "ü", "\ud800"]
    ),
    st.text(st.characters(max_codepoint=0x180), max_size=12),
)
BYTES = st.one_of(TEXT.map(lambda text: text.encode("latin-1", "replace")), st.binary(max_size=8))
PORT = st.one_of(st.integers(-1, 70000), st.sampled_from(["", "80", "+5", "x", None, True]))
SCOPES = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["GET", "POST", "PURGE", "query", ""]),
        "scheme": st.sampled_from(["http", "https", "ws", "wss", "", "gopher", None]),
        "path": TEXT,
        "query_string": st.one_of(BYTES, TEXT),
        "http_version": st.one_of(TEXT, st.none()),
        "headers": st.lists(
            st.tuples(st.sampled_from([b"host", b"Host", b"user-agent", b"traceparent", b"x"]), BYTES), max_size=4
        ),
        "client": st.one_of(st.none(), st.tuples(TEXT, PORT), st.just(()), st.tuples(TEXT)),
        "server": st.one_of(st.none(), st.tuples(TEXT, st.one_of(st.none(), st.integers(0, 9)))),
    },
)
ENVIRONS = st.fixed_dictionaries(
    {},
    optional={
        "REQUEST_METHOD": st.sampled_from(["GET", "POST", "PURGE", "query", ""]),
        "PATH_INFO": TEXT,
        "QUERY_STRING": TEXT,
        "SERVER_PROTOCOL": st.sampled_from(["HTTP/1.0", "HTTP/1.1", "HTTP/2", "", "x"]),
        "REMOTE_ADDR": TEXT,
        "REMOTE_PORT": PORT,
        "HTTP_HOST": TEXT,
        "HTTP_USER_AGENT": TEXT,
        "wsgi.url_scheme": st.sampled_from(["http", "https", "", "gopher"]),
    },
)
ANY_SETTINGS = settings(database=None, max_examples=200, suppress_health_check=list(HealthCheck))


@ANY_SETTINGS
@given(change=SCOPES)
@example(change={"scheme": "gopher", "headers": [(b"host", b"a"), (b"host", b"b")]})
def test_scopes_are_described_as_in_python(recorder: Recorder, change: dict[str, Any]) -> None:
    begin(recorder, "asgi", {**SCOPE, **change})


@ANY_SETTINGS
@given(change=ENVIRONS)
@example(change={"REMOTE_PORT": "", "wsgi.url_scheme": "gopher"})
def test_environs_are_described_as_in_python(recorder: Recorder, change: dict[str, Any]) -> None:
    begin(recorder, "wsgi", {**ENVIRON, **change})


def test_limits_hold_for_what_is_described_without_python() -> None:
    native_or_skip()
    recorder = Recorder(engine="native", attribute_value_length_limit=4, attribute_count_limit=3)
    propagator: Any = build_propagator(("tracecontext",), codec=recorder.engine.codec)
    tracer: Any = recorder.tracer
    span, _ = tracer.begin_request("asgi", SCOPE, "DELETE", "/items", Context(), None, propagator.formats)
    assert span.attributes == {"http.request.method": "DELE", "url.path": "/ite", "url.scheme": "http"}
    assert span.dropped_attributes == 8
    span.end()
    recorder.close()


def test_a_sampler_of_the_application_is_told_of_the_attributes() -> None:
    native_or_skip()
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    from otelagent import TracerProvider

    class Told(type(ALWAYS_ON)):  # type: ignore[misc]
        pass

    tracer: Any = TracerProvider(sampler=Told(ALWAYS_ON.should_sample(None, 1, "x").decision)).get_tracer("t")
    recorder = Recorder(engine="native")
    propagator: Any = build_propagator(("tracecontext",), codec=recorder.engine.codec)
    assert tracer.begin_request("asgi", SCOPE, "GET", "/", Context(), None, propagator.formats) is None
    recorder.close()
