"""HTTP client and server calls, by the stable HTTP semantic conventions.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import functools
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
# Hosts as callers name them, mostly one.
_KEPT_HOSTS = 64
_KEPT_LENGTH = 255
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


@functools.lru_cache(_KEPT_HOSTS)
def _split(host: str, scheme: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname, parts.port or _DEFAULT_PORTS.get(scheme)
    except ValueError:
        return None, None


def split_host(host: str, scheme: str = "http") -> tuple[str | None, int | None]:
    """A ``Host`` header's name and port. The port is the scheme's default when absent; garbage gives ``None``."""
    # What callers send isn't kept in whatever length they send it.
    return _split(host, scheme) if len(host) <= _KEPT_LENGTH else _split.__wrapped__(host, scheme)


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

    kind = "client"
    complete = True

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
        if host is not None:
            attributes["server.address"] = host
        if port is not None:
            attributes["server.port"] = port
        attributes["url.full"] = redact_url(url)
        if resend_count:
            attributes["http.request.resend_count"] = resend_count
        self.name, self.attributes = name, attributes
        self.outbound, self.setter = outbound, setter


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

    kind = "server"
    complete = True

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
            address, port = split_host(host, scheme)
            if address is not None:
                attributes["server.address"] = address
            if port is not None:
                attributes["server.port"] = port
        if client:
            attributes["client.address"] = attributes["network.peer.address"] = client[0]
            if client[1]:
                attributes["network.peer.port"] = client[1]
        if user_agent is not None:
            attributes["user_agent.original"] = user_agent
        if http_version is not None:
            attributes["network.protocol.version"] = http_version
        self.name, self.attributes = name, attributes
        self.inbound, self.getter = inbound, getter


def route_name(method: str, route: str) -> str:
    """The name of a SERVER span whose route is known: ``{method} {http.route}``."""
    return f"{method if method in KNOWN_METHODS else 'HTTP'} {route}"


def server_error(status_code: int) -> str | None:
    """The `error.type` a response's status gives a SERVER span: 5xx is an error, 4xx is the client's."""
    return str(status_code) if status_code >= 500 else None
