"""Notices: requests that only a viewer gets, once or not at all, beside everything that is delivered and counted.

Whoever listens on loopback may be a collector, which would take a span without an end for one that has ended. So it is
asked first, on the same connection, and told only if it says that it is a viewer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import httpcore

from otelagent.delivery.otlp import user_agent
from otelagent.delivery.transports.deadline import DeadlineNetwork
from otelagent.delivery.transports.http_body import lower_headers

__all__ = ["Notices"]

_TIMEOUT_S = 2.0
_RETRY_S = 2.0
_ANOTHER_S = 60.0
"""Before a server that is no viewer is asked again: there may be one later."""
_VIEWER = "otelagent-viewer"
_MAX_ANSWER_BYTES = 64 * 1024


class Notices:
    """Sends to the viewer behind one endpoint, if there is one. For one thread.

    :param endpoint: of OTLP/HTTP traces.
    """

    def __init__(self, endpoint: str) -> None:
        self._url = httpcore.URL(endpoint)
        self._next_s = 0.0
        self._network = DeadlineNetwork()

    def send(self, requests: Callable[[], Iterable[bytes]]) -> bool:
        """One try for all, within two seconds. Never raises.

        :param requests: gives encoded OTLP requests; called if there is a viewer.
        :returns: whether a viewer has taken all of them.
        """
        if time.monotonic() < self._next_s:
            return False
        self._next_s = time.monotonic() + _RETRY_S
        self._network.begin_try(_TIMEOUT_S)
        try:
            with httpcore.ConnectionPool(max_connections=1, network_backend=self._network) as pool:
                if self._ask(pool, "GET", None)[1] != _VIEWER:
                    self._next_s = time.monotonic() + _ANOTHER_S
                    return False
                for request in requests():
                    if self._ask(pool, "POST", request) != (200, _VIEWER):
                        return False
        except Exception:  # Nothing is there, or nothing that speaks HTTP: there is nobody to tell.
            return False
        self._next_s = 0.0
        return True

    def abandon(self) -> None:
        """Lets go of a connection in a fork child, where it is the parent's too."""
        self._network.abandon()

    def _ask(self, pool: httpcore.ConnectionPool, method: str, body: bytes | None) -> tuple[int, str]:
        headers = {"user-agent": user_agent(), **({"content-type": "application/x-protobuf"} if body else {})}
        with pool.stream(method, self._url, headers=list(headers.items()), content=body) as response:
            size = 0
            for part in response.iter_stream():
                size += len(part)
                if size > _MAX_ANSWER_BYTES:
                    raise ValueError("a viewer's answer is short")
            return response.status, lower_headers(response).get("server", "")
