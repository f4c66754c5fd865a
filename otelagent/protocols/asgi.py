"""ASGI applications: one SERVER span per HTTP request or WebSocket connection, none for send and receive.

Source: https://asgi.readthedocs.io/en/stable/specs/www.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from opentelemetry import trace
from opentelemetry.propagators.textmap import Getter

from otelagent.patching.operation import attach, detach
from otelagent.protocols.request import Request, accept
from otelagent.semconv.http import ServerRequest

__all__ = ["trace_app"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class _Headers(Getter[Any]):
    """Reads ASGI's list of byte pairs; a repeated header gives every value, so that two `traceparent`s are seen."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1", "replace")
        values = [value.decode("latin-1") for name, value in carrier if name.lower() == wanted]
        return values or None

    def keys(self, carrier: Any) -> list[str]:
        return [name.decode("latin-1").lower() for name, _ in carrier]


_HEADERS = _Headers()


class TracedApp:
    """An ASGI application traced where the server calls it."""

    def __init__(self, app: App, tracer: trace.Tracer) -> None:
        self.app = app
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        # Servers and test clients look for attributes of the application (`state`, `router`).
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await serve(self.app, self._tracer, scope, receive, send)


def trace_app(app: App, tracer: trace.Tracer) -> App:
    """`app` with a SERVER span around each request that no outer application has accepted already."""
    return app if isinstance(app, TracedApp) else TracedApp(app, tracer)


async def serve(app: App, tracer: trace.Tracer, scope: Scope, receive: Receive, send: Send) -> None:
    """One call of an ASGI application."""
    if scope["type"] not in ("http", "websocket"):
        await app(scope, receive, send)
        return
    method = scope.get("method") or "GET"  # a WebSocket begins as a GET
    accepted = accept(_describe(scope, method), tracer, method, scope.get("path", ""))
    if accepted is None:
        await app(scope, receive, send)
        return
    if not isinstance(accepted, Request):
        token = attach(accepted)
        try:
            await app(scope, receive, send)
        finally:
            detach(token)
        return
    request = accepted

    async def watched(message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            request.respond(message["status"])
        elif kind == "websocket.accept":
            request.respond(101)
        elif kind == "websocket.http.response.start":
            request.respond(message["status"])
        await send(message)
        # What the application does after the last byte (background tasks) isn't the request any more. After a 5xx it is
        # given the chance to raise what went wrong: frameworks respond first and raise then.
        if (
            kind in ("http.response.body", "http.response.pathsend")
            and not message.get("more_body", False)
            and request.status is not None
            and request.status < 500
        ):
            request.end()

    token = attach(request.context)
    try:
        await app(scope, receive, watched)
    except BaseException as error:
        request.end(error)
        raise
    else:
        request.end()
    finally:
        detach(token)


def _describe(scope: Scope, method: str) -> ServerRequest:
    headers = scope.get("headers") or ()
    host = user_agent = None
    for name, value in headers:
        if name == b"host":
            host = value.decode("latin-1")
        elif name == b"user-agent":
            user_agent = value.decode("latin-1")
    if host is None and scope.get("server"):
        name, port = scope["server"]
        host = f"{name}:{port}" if port else name
    scheme: str = scope.get("scheme", "http")
    return ServerRequest(
        method,
        scope.get("path", ""),
        scheme={"ws": "http", "wss": "https"}.get(scheme, scheme),
        query=scope.get("query_string", b"").decode("latin-1"),
        host=host,
        client=scope.get("client"),
        user_agent=user_agent,
        http_version=scope.get("http_version"),
        inbound=headers,
        getter=_HEADERS,
    )
