"""HTTP client and server calls, by the stable HTTP semantic conventions.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from otelagent.semconv.call import CallDescription
from otelagent.semconv.redaction import redact_query, redact_url

__all__ = ["ClientRequest", "ServerRequest", "redact_query", "redact_url", "split_host"]

KNOWN_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"),
)
#: `http.client`'s version numbers, which urllib3 hands on, as `network.protocol.version`.
HTTP_VERSIONS = {10: "1.0", 11: "1.1", 20: "2"}
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def split_host(host: str, scheme: str = "http") -> tuple[str | None, int | None]:
    """A ``Host`` header's name and port. The port is the scheme's default when absent; garbage gives ``None``."""
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname, parts.port or _DEFAULT_PORTS.get(scheme)
    except ValueError:
        return None, None


def _method(method: str, attributes: dict[str, Any]) -> str:
    """Record the method and return what stands for it in the span's name."""
    if method not in KNOWN_METHODS:
        upper = method.upper()
        if upper in KNOWN_METHODS:
            attributes["http.request.method"] = upper
            attributes["http.request.method_original"] = method
            return upper
        attributes["http.request.method"] = "_OTHER"
        attributes["http.request.method_original"] = method[:64]
        return "HTTP"
    attributes["http.request.method"] = method
    return method


class ClientRequest(CallDescription):
    """One attempt of an outgoing HTTP request.

    :param method: as sent; an unknown one becomes ``_OTHER`` and the span ``HTTP``.
    :param url: the absolute URL; credentials in it are redacted.
    :param outbound: the request's headers, into which the context is written.
    :param resend_count: how many attempts of this request came before; 0 is left out.
    """

    __slots__ = ()

    kind = "client"

    def __init__(
        self,
        method: str,
        url: str,
        *,
        outbound: Any = None,
        setter: Any = None,
        host: str | None = None,
        port: int | None = None,
        resend_count: int = 0,
    ) -> None:
        attributes: dict[str, Any] = {}
        name = _method(method, attributes)
        if host is None:
            host, port = _address(url)
        attributes["server.address"] = host
        attributes["server.port"] = port
        attributes["url.full"] = redact_url(url)
        if resend_count:
            attributes["http.request.resend_count"] = resend_count
        super().__init__(name, attributes, outbound=outbound, setter=setter)


def _address(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None, None


def client_error(status_code: int) -> str | None:
    """The `error.type` a response's status gives a CLIENT span: 4xx and 5xx are errors there."""
    return str(status_code) if status_code >= 400 else None


class ServerRequest(CallDescription):
    """One incoming HTTP request, described where it enters the process.

    The name is the method until a framework tells the route (`route_name`); the raw path never is part of it.
    """

    __slots__ = ()

    kind = "server"

    def __init__(
        self,
        method: str,
        path: str,
        *,
        scheme: str = "http",
        query: str = "",
        host: str | None = None,
        client: tuple[str, int] | None = None,
        user_agent: str | None = None,
        http_version: str | None = None,
        inbound: Any = None,
        getter: Any = None,
    ) -> None:
        attributes: dict[str, Any] = {}
        name = _method(method, attributes)
        attributes["url.path"] = path
        attributes["url.scheme"] = scheme
        if query:
            attributes["url.query"] = redact_query(query)
        if host:
            attributes["server.address"], attributes["server.port"] = split_host(host, scheme)
        if client:
            attributes["client.address"] = client[0]
            attributes["network.peer.address"] = client[0]
            attributes["network.peer.port"] = client[1] or None
        attributes["user_agent.original"] = user_agent
        attributes["network.protocol.version"] = http_version
        super().__init__(name, attributes, inbound=inbound, getter=getter)


def route_name(method: str, route: str) -> str:
    """The name of a SERVER span whose route is known: ``{method} {http.route}``."""
    return f"{method if method in KNOWN_METHODS else 'HTTP'} {route}"


def server_error(status_code: int) -> str | None:
    """The `error.type` a response's status gives a SERVER span: 5xx is an error, 4xx is the client's."""
    return str(status_code) if status_code >= 500 else None
