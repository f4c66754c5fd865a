"""httpx: one CLIENT span for each request its transports send, so one per redirect and per retry."""

from __future__ import annotations

from typing import Any

from otelagent.patching import Call, Instrumentation, hook
from otelagent.semconv import http


def _headers(call: Call) -> Any:
    return call.arg(0, "request").headers


class Httpx(Instrumentation):
    """Hooks the transports rather than the clients: that is where an attempt is an attempt.

    The span ends with the response's headers; reading the body is the application's own time.
    """

    name = "httpx"
    supports = ">=0.24,<1"
    layer = "http"

    def received(self, call: Call) -> None:
        """Read the status code off the response."""
        response = call.result
        if response is not None:
            call.set("http.response.status_code", response.status_code)
            version = response.extensions.get("http_version")
            if version:
                call.set("network.protocol.version", version.decode("ascii", "replace").partition("/")[2])
            if (failure := http.client_error(response.status_code)) is not None:
                call.fail(failure)

    @hook("httpx", "HTTPTransport.handle_request", after=received, carrier=_headers)
    @hook("httpx", "AsyncHTTPTransport.handle_async_request", after=received, carrier=_headers)
    def send(self, call: Call) -> http.ClientRequest:
        """Describe the request."""
        request = call.arg(0, "request")
        url = request.url
        return http.ClientRequest(
            request.method,
            str(url),
            outbound=request.headers,
            host=url.host,
            port=url.port or {"http": 80, "https": 443}.get(url.scheme),
        )
