"""ASGI applications: one SERVER span per HTTP request or WebSocket connection, none for send and receive.

Source: https://asgi.readthedocs.io/en/stable/specs/www.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
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
    """Reads ASGI's list of byte pairs; a repeated header gives every value, so that two `traceparent`s are seen.

    :cvar layout: tells an engine that reads headers by itself how they lie.
    """

    layout = "asgi"

    def get(self, carrier: Any, key: str) -> list[str] | None:
        wanted = key.lower().encode("latin-1", "replace")
        values = [value.decode("latin-1") for name, value in carrier if name.lower() == wanted]
        return values or None

    def keys(self, carrier: Any) -> list[str]:
        return [name.decode("latin-1").lower() for name, _ in carrier]


_HEADERS = _Headers()
_TRACED = ("http", "websocket")
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


class TracedApp:
    """An ASGI application traced where the server calls it.

    :param own_task: whether the server calls it in a task of the request's own, and logs there what the application
        raises: then the span, though it has ended, stays current in what is left of that task.
    """

    def __init__(self, app: App, tracer: trace.Tracer, *, own_task: bool = False) -> None:
        self.app = app
        self._tracer = tracer
        self._own_task = own_task

    def __getattr__(self, name: str) -> Any:
        # Servers and test clients look for attributes of the application (`state`, `router`).
        return getattr(self.app, name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if scope.get("type") not in _TRACED or (taken := accept(_ENTRANCE, scope, self._tracer)) is None:
            await app(scope, receive, send)
            return
        token = attach(taken.take_context())
        try:
            await app(scope, receive, _watched(taken, send) if isinstance(taken, Request) else send)
        except BaseException as error:
            taken.end(error)
            if not self._own_task:
                detach(token)
            raise
        taken.end()
        detach(token)


def trace_app(app: App, tracer: trace.Tracer, *, own_task: bool = False) -> App:
    """`app` with a SERVER span around each request that no outer application has accepted already.

    :param own_task: see `TracedApp`.
    """
    return app if isinstance(app, TracedApp) else TracedApp(app, tracer, own_task=own_task)


def serve(app: App, tracer: trace.Tracer, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    """One call of an ASGI application."""
    return TracedApp(app, tracer)(scope, receive, send)


def _watched(request: Request, send: Send) -> Send:
    # No coroutine around those of `send` but for the last one: each costs as much as all that is looked at here.
    def watched(message: Message) -> Awaitable[None]:
        kind = message.get("type")
        if kind in ("http.response.start", "websocket.http.response.start"):
            request.respond(message.get("status"))
        elif kind == "websocket.accept":
            request.respond(101)
        # What the application does after the last byte (background tasks) isn't the request any more. After a 5xx it is
        # given the chance to raise what went wrong: frameworks respond first and raise then.
        elif (
            kind in ("http.response.body", "http.response.pathsend")
            and not message.get("more_body", False)
            and request.status is not None
            and request.status < 500
        ):
            return _last(request, send, message)
        return send(message)

    return watched


async def _last(request: Request, send: Send, message: Message) -> None:
    await send(message)
    request.end()


class _Asgi:
    """Reads scopes."""

    layout = _Headers.layout

    def target(self, carrier: Scope) -> tuple[str, str]:
        return carrier.get("method") or "GET", carrier.get("path") or ""  # a WebSocket begins as a GET

    def describe(self, carrier: Scope, method: str, path: str) -> ServerRequest:
        headers = _headers(carrier)
        by_name = dict(headers)
        host, user_agent = by_name.get(b"host"), by_name.get(b"user-agent")
        scheme: str = carrier.get("scheme") or "http"
        client = carrier.get("client")
        return ServerRequest(
            method,
            path,
            scheme=_HTTP_SCHEMES.get(scheme, scheme),
            query=_query(carrier),
            host=_server(carrier) if host is None else host.decode("latin-1"),
            client=(client[0], client[1] if len(client) > 1 else 0) if client else None,
            user_agent=None if user_agent is None else user_agent.decode("latin-1"),
            http_version=carrier.get("http_version"),
            inbound=headers,
            getter=_HEADERS,
        )

    def url(self, carrier: Scope, path: str) -> str:
        host = _HEADERS.get(_headers(carrier), "host")
        query = _query(carrier)
        address = host[0] if host else _server(carrier) or ""
        return f"{carrier.get('scheme') or 'http'}://{address}{path}{'?' if query else ''}{query}"


_ENTRANCE = _Asgi()


def _headers(scope: Scope) -> Any:
    headers = scope.get("headers") or ()
    if type(headers) is not list and isinstance(headers, Iterator):
        # The specification allows any iterable; the application has to find what is read here.
        scope["headers"] = headers = list(headers)
    return headers


def _query(scope: Scope) -> str:
    query: bytes | str = scope.get("query_string") or b""
    return query if isinstance(query, str) else query.decode("latin-1")


def _server(scope: Scope) -> str | None:
    server = scope.get("server")
    if not server:
        return None
    name, port = server
    return f"{name}:{port}" if port else str(name)
