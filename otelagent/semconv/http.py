"""HTTP client and server calls, by the stable HTTP semantic conventions.

Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from otelagent.semconv.call import CallDescription

__all__ = ["ClientRequest", "ServerRequest", "redact_query", "redact_url", "split_host"]

KNOWN_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"),
)
#: `http.client`'s version numbers, which urllib3 hands on, as `network.protocol.version`.
HTTP_VERSIONS = {10: "1.0", 11: "1.1", 20: "2"}
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# Query keys whose values are credentials. The first four are the convention's own list (`url.query`, `url.full`);
# the rest are what applications commonly put there.
_SECRET_QUERY = re.compile(
    r"(^|&|;)((?:AWSAccessKeyId|Signature|sig|X-Goog-Signature|X-Amz-Signature|X-Amz-Security-Token|X-Amz-Credential"
    r"|access_token|refresh_token|id_token|auth_token|token|code|password|passwd|pwd|secret|client_secret"
    r"|api[_-]?key|apikey|key|session|jwt|auth|authorization)=)[^&;#]*",
    re.IGNORECASE,
)


def redact_query(query: str) -> str:
    """A query string with the values of known credentials replaced by ``REDACTED``; names and order are kept."""
    if "=" not in query:
        return query
    return _SECRET_QUERY.sub(r"\1\2REDACTED", query)


def redact_url(url: str) -> str:
    """An absolute URL without credentials: userinfo and known secret query values become ``REDACTED``.

    A plain URL, which is nearly every one, costs two searches and no parsing.
    """
    if "@" in url:
        scheme, separator, rest = url.partition("://")
        if separator:
            end = min((i for i in (rest.find("/"), rest.find("?"), rest.find("#")) if i >= 0), default=len(rest))
            userinfo, at, host = rest[:end].rpartition("@")
            if at:
                masked = "REDACTED:REDACTED@" if ":" in userinfo else "REDACTED@"
                url = f"{scheme}://{masked}{host}{rest[end:]}"
    if "?" in url:
        base, _, query = url.partition("?")
        return f"{base}?{redact_query(query)}"
    return url


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
