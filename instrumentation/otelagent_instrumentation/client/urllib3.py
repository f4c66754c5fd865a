"""urllib3: one CLIENT span for each attempt; retries and redirects count up `http.request.resend_count`."""

from __future__ import annotations

from typing import Any

from otelagent.patching import Call, Instrumentation, hook
from otelagent.semconv import http

# Of `_make_request(conn, method, url, body, headers, …)`.
_HEADERS_AT = 4


def _headers(call: Call) -> Any:
    """The attempt's headers, as a copy of its own: urllib3 hands the same mapping to the next attempt."""
    # By position only where a subclass hands them on so. Before urllib3 2 a flag stood there.
    at = _HEADERS_AT
    by_position = len(call.args) > at and not isinstance(call.args[at], bool)
    headers = call.args[at] if by_position else call.kwargs.get("headers")
    headers = {} if headers is None else headers.copy()
    if by_position:
        call.args = (*call.args[:at], headers, *call.args[at + 1 :])
    else:
        call.kwargs["headers"] = headers
    return headers


class Urllib3(Instrumentation):
    """Hooks the one method that sends an attempt; `urlopen` calls itself for retries, which would nest the spans."""

    name = "urllib3"
    supports = ">=1.26,<3"
    layer = "http"

    def received(self, call: Call) -> None:
        """Read the status code off the response."""
        response = call.result
        if response is not None:
            call.set("http.response.status_code", response.status)
            call.set("network.protocol.version", http.HTTP_VERSIONS.get(getattr(response, "version", 0)))
            if (failure := http.client_error(response.status)) is not None:
                call.fail(failure)

    @hook("urllib3.connectionpool", "HTTPConnectionPool._make_request", after=received, carrier=_headers)
    def attempt(self, call: Call) -> http.ClientRequest:
        """Describe the attempt."""
        pool = call.instance
        method = call.arg(1, "method", "GET")
        target = call.arg(2, "url", "/")
        retries = call.kwargs.get("retries")
        default_port = {"http": 80, "https": 443}.get(pool.scheme)
        authority = pool.host if pool.port in (None, default_port) else f"{pool.host}:{pool.port}"
        url = target if "://" in target else f"{pool.scheme}://{authority}{target}"
        return http.ClientRequest(
            method,
            url,
            outbound=_headers(call),
            host=pool.host,
            port=pool.port or default_port,
            resend_count=len(getattr(retries, "history", None) or ()),
        )
