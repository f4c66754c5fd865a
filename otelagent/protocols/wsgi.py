"""WSGI applications: one SERVER span per request, open until the response is iterated or closed.

Source: PEP 3333
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter

from otelagent.patching.operation import attach, detach
from otelagent.protocols.request import Carrier, PassedOn, Request, accept
from otelagent.semconv.http import ServerRequest

__all__ = ["trace_app"]

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class _Headers(Getter[Any]):
    """Reads headers from a WSGI environ. Servers join repeated headers with commas (RFC 9110, 5.3).

    :cvar layout: tells an engine that reads headers by itself how they lie.
    """

    layout = "wsgi"

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
    taken = accept(_ENTRANCE, environ, tracer)
    if taken is None:
        return app(environ, start_response)
    context = taken.take_context()
    token = attach(context)
    try:
        response = app(environ, _watched(taken, start_response) if isinstance(taken, Request) else start_response)
        if _complete(response, environ):
            taken.end()
            return response
        return _wrapped(response, taken, context)
    except BaseException as error:
        taken.end(error)
        raise
    finally:
        detach(token)


def _watched(request: Request, start_response: StartResponse) -> StartResponse:
    def watched(status: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(status, str) and _digits(code := status[:3]) and len(code) == 3:
            request.respond(int(code))
        return start_response(status, *args, **kwargs)

    return watched


def _complete(response: Any, environ: Environ) -> bool:
    """Whether nothing of the application runs from here on. Servers ask a list for its length, and send a file wrapper
    by sendfile only when they get their own object back."""
    if isinstance(response, (list, tuple)):
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(response, wrapper)


def _wrapped(response: Any, taken: Request | PassedOn, context: Context) -> Iterable[bytes]:
    try:
        iterator = iter(response)
    except Exception as error:
        # Not iterable (an application returned None): the server is to find that out in its own way.
        taken.end(error)
        return response  # type: ignore[no-any-return]
    return (_SizedResponse if isinstance(response, Sized) else _Response)(response, iterator, taken, context)


class _Response:
    """A response that runs in its request's context while the server iterates it, and ends the request at its end or
    close."""

    __slots__ = ("_close", "_context", "_iterator", "_response", "_taken")

    def __init__(self, response: Any, iterator: Iterator[bytes], taken: Request | PassedOn, context: Context) -> None:
        self._response = response
        self._taken = taken
        self._context = context
        self._close = getattr(response, "close", None)
        self._iterator = iterator

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = attach(self._context)
        try:
            return next(self._iterator)
        except StopIteration:
            # Complete. A client in the same process (a test client) may never call `close`.
            self._taken.end()
            raise
        except BaseException as error:
            self._taken.end(error)
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
            self._taken.end(error)
            raise
        finally:
            detach(token)
            self._taken.end()


class _SizedResponse(_Response):
    """A response whose server may ask how many parts it has, to know its length beforehand."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._response)


class _Wsgi:
    """Reads environs."""

    layout = _Headers.layout

    def target(self, carrier: Carrier) -> tuple[str, str]:
        return carrier.get("REQUEST_METHOD") or "GET", _text(
            (carrier.get("SCRIPT_NAME") or "") + (carrier.get("PATH_INFO") or "")
        )

    def describe(self, carrier: Carrier, method: str, path: str) -> ServerRequest:
        peer = carrier.get("REMOTE_ADDR")
        port = str(carrier.get("REMOTE_PORT") or "")
        return ServerRequest(
            method,
            path,
            scheme=carrier.get("wsgi.url_scheme") or "http",
            query=carrier.get("QUERY_STRING") or "",
            host=_host(carrier),
            client=(peer, int(port) if _digits(port) else 0) if peer else None,
            user_agent=carrier.get("HTTP_USER_AGENT"),
            http_version=(carrier.get("SERVER_PROTOCOL") or "").partition("/")[2] or None,
            inbound=carrier,
            getter=_HEADERS,
        )

    def url(self, carrier: Carrier, path: str) -> str:
        query = carrier.get("QUERY_STRING") or ""
        scheme = carrier.get("wsgi.url_scheme") or "http"
        return f"{scheme}://{_host(carrier) or ''}{path}{'?' if query else ''}{query}"


_ENTRANCE = _Wsgi()


def _host(environ: Carrier) -> str | None:
    host: str | None = environ.get("HTTP_HOST")
    if not host and (name := environ.get("SERVER_NAME")):
        return f"{name}:{environ.get('SERVER_PORT') or ''}".rstrip(":")
    return host


def _text(value: str) -> str:
    """A WSGI native string as the text it stands for: bytes in latin-1's clothing (PEP 3333, "Unicode Issues")."""
    try:
        return value.encode("latin-1").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return value


def _digits(text: str) -> bool:
    """Whether `text` is a number; `str.isdigit` also takes what `int` doesn't, such as a superscript."""
    return text.isascii() and text.isdigit()
