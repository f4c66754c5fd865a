"""Filling the viewer's store."""

from __future__ import annotations

import os

from otelagent.viewer.ingest import decode
from otelagent.viewer.store.store import Store
from tests.viewer.requests import Traces

__all__ = ["many", "put", "put_traces"]


def put(store: Store, signal: str, *bodies: bytes) -> None:
    """Puts OTLP requests, one after the other."""
    for body in bodies:
        written = store.put(decode(signal, body))
        assert written is not None
        written.result(20)


def put_traces(store: Store, *requests: Traces) -> None:
    put(store, "traces", *(request.body for request in requests))


def many(count: int, first: int = 0) -> tuple[list[bytes], list[Traces]]:
    """The ids of many traces and the requests that bring them, one for each of their services, with a thousand."""
    ids, requests = [], []
    for at in range(first, first + count, 1000):
        request = Traces(f"service-{at // 1000}")
        for number in range(at, min(at + 1000, first + count)):
            ids.append(os.urandom(16))
            slow = 10**6 if number % 1000 == 7 else 10
            request.span(f"n{number}", trace=ids[-1], start_us=number, duration_us=slow, number=number, tier="gold")
        requests.append(request)
    return ids, requests
