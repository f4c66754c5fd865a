"""requests: one CLIENT span for each request an adapter sends, so one per redirect."""

from __future__ import annotations

from typing import Any

from otelagent.patching import Call, Instrumentation, hook
from otelagent.semconv import http


def _headers(call: Call) -> Any:
    return call.arg(0, "request").headers


class Requests(Instrumentation):
    """Hooks the adapter. The urllib3 attempt inside is the same call and gives no span of its own, except for an
    adapter that retries: there each attempt is worth seeing, so urllib3's spans stand instead.
    """

    name = "requests"
    supports = ">=2.25,<3"
    layer = "http"

    def received(self, call: Call) -> None:
        """Read the status code off the response."""
        response = call.result
        if response is not None:
            call.set("http.response.status_code", response.status_code)
            call.set("network.protocol.version", http.HTTP_VERSIONS.get(getattr(response.raw, "version", 0)))
            if (failure := http.client_error(response.status_code)) is not None:
                call.fail(failure)

    @hook("requests.adapters", "HTTPAdapter.send", after=received, carrier=_headers)
    def send(self, call: Call) -> http.ClientRequest | None:
        """Describe the prepared request."""
        request = call.arg(0, "request")
        retries = getattr(call.instance, "max_retries", None)
        if retries is not None and retries.total:
            return None
        return http.ClientRequest(request.method or "GET", request.url or "", outbound=request.headers)
