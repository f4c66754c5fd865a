"""WSGI applications: one SERVER span per request, open until the response is iterated or closed.

Source: PEP 3333
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

from otelagent.patching.operation import attach, detach
from otelagent.protocols.request import Request, accept
from otelagent.semconv.http import ServerRequest

__all__ = ["trace_app"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class _Headers(Getter[Any]):
    """Reads headers from a WSGI environ. Servers join repeated headers with commas (RFC 9110, 5.3)."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        value = carrier.get("HTTP_" + key.upper().replace("-", "_"))
        return None if value is None else [value]

    def keys(self, carrier: Any) -> list[str]:
        return [key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")]


_HEADERS = _Headers()


class TracedApp:
    """A WSGI application traced where the server calls it."""

    def __init__(self, app: App, tracer: trace.Tracer) -> None:
        self.app = app
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.app, name)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return serve(self.app, self._tracer, environ, start_response)


def trace_app(app: App, tracer: trace.Tracer) -> App:
    """`app` with a SERVER span around each request that no outer application has accepted already."""
    return app if isinstance(app, TracedApp) else TracedApp(app, tracer)


def serve(app: App, tracer: trace.Tracer, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """One call of a WSGI application."""
    method = environ.get("REQUEST_METHOD", "GET")
    path = _text(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))
    accepted = accept(_describe(environ, method, path), tracer, method, path)
    if accepted is None:
        return app(environ, start_response)
    if not isinstance(accepted, Request):
        token = attach(accepted)
        try:
            return app(environ, start_response)
        finally:
            detach(token)
    request = accepted

    def watched(status: str, headers: Any, *exc_info: Any) -> Any:
        code = status[:3]
        if code.isdigit():
            request.respond(int(code))
        return start_response(status, headers, *exc_info)

    token = attach(request.context)
    try:
        response = app(environ, watched)
    except BaseException as error:
        request.end(error)
        raise
    finally:
        detach(token)
    wrapper = environ.get("wsgi.file_wrapper")
    if type(response) in (list, tuple) or (isinstance(wrapper, type) and isinstance(response, wrapper)):
        # Nothing of the application runs from here on; and servers send a file wrapper by sendfile only when they get
        # their own object back.
        request.end()
        return response
    return _Response(response, request)


class _Response:
    """A response that runs in its request's context while the server iterates it, and ends the span at its end or
    close."""

    __slots__ = ("_close", "_context", "_iterator", "_request")

    def __init__(self, response: Iterable[bytes], request: Request) -> None:
        self._request = request
        self._context: Context = request.context
        self._close = getattr(response, "close", None)
        self._iterator = iter(response)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = attach(self._context)
        try:
            return next(self._iterator)
        except StopIteration:
            # Complete. A client in the same process (a test client) may never call `close`.
            self._request.end()
            raise
        except BaseException as error:
            self._request.end(error)
            raise
        finally:
            detach(token)

    def close(self) -> None:
        """PEP 3333: called by the server when the request is over, complete or not."""
        token = attach(self._context)
        try:
            if self._close is not None:
                self._close()
        except BaseException as error:
            self._request.end(error)
            raise
        finally:
            detach(token)
            self._request.end()


def _describe(environ: Environ, method: str, path: str) -> ServerRequest:
    host = environ.get("HTTP_HOST")
    if not host and environ.get("SERVER_NAME"):
        host = f"{environ['SERVER_NAME']}:{environ.get('SERVER_PORT', '')}".rstrip(":")
    peer = environ.get("REMOTE_ADDR")
    port = str(environ.get("REMOTE_PORT", ""))
    return ServerRequest(
        method,
        path,
        scheme=environ.get("wsgi.url_scheme", "http"),
        query=environ.get("QUERY_STRING", ""),
        host=host,
        client=(peer, int(port) if port.isdigit() else 0) if peer else None,
        user_agent=environ.get("HTTP_USER_AGENT"),
        http_version=environ.get("SERVER_PROTOCOL", "").partition("/")[2] or None,
        inbound=environ,
        getter=_HEADERS,
    )


def _text(value: str) -> str:
    """A WSGI native string as the text it stands for: bytes in latin-1's clothing (PEP 3333, "Unicode Issues")."""
    try:
        return value.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return value
