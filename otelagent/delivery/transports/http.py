"""OTLP/HTTP with protobuf bodies.

httpcore, the engine of httpx, is used without httpx: only there can a connection be given one deadline for a whole
try, it imports in half the time, and it doesn't log a line for each request into the application's log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.delivery.payload import MAX_REQUEST_BYTES, Payload
from otelagent.delivery.result import Rejected, Result
from otelagent.delivery.signals import SIGNALS
from otelagent.fork_gate import whole_imports

if TYPE_CHECKING:
    from otelagent.config.model import Otlp
    from otelagent.delivery.transports.http_client import HttpClient

__all__ = ["HttpTransport"]


class HttpTransport:
    """Posts each payload to one URL over a kept-alive connection.

    Proxies of the environment and redirects are not followed: credentials go to the configured place only.

    :param otlp: the exporter's configuration; `endpoint` is the final URL.
    :param signal: what that URL takes.
    """

    def __init__(self, otlp: Otlp, signal: str = "traces") -> None:
        self._otlp = otlp
        self._signal = SIGNALS[signal]
        self._client: HttpClient | None = None

    def describe(self) -> str:
        return self._otlp.masked_endpoint

    def send(self, payload: Payload, timeout_s: float) -> Result:
        if payload.signal != self._signal.name:
            return Rejected("unsupported_signal", f"the endpoint takes {self._signal.name}, not {payload.signal}")
        if payload.size > MAX_REQUEST_BYTES:
            return Rejected("too_large", f"{payload.size} bytes are more than a request may have, {MAX_REQUEST_BYTES}")
        if self._client is None:
            try:
                with whole_imports():
                    from otelagent.delivery.transports.http_client import HttpClient

                    self._client = HttpClient(self._otlp, self._signal)
            except ValueError:
                return Rejected("invalid_request", "the endpoint is no valid HTTP")
        return self._client.send(payload.body, timeout_s)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def after_fork_in_child(self) -> None:
        if self._client is not None:
            self._client.abandon()
