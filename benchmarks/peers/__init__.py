"""Who is compared: each peer's name, title and environment. How each is set up is in `recording` and `instrumented`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PEERS", "Peer"]


@dataclass(frozen=True)
class Peer:
    """One of those that are compared.

    :param name: what `--peer` and the results call it.
    :param title: what a table calls it.
    :param environment: the pinned requirements, ``peers/<environment>.txt``; peers may share one.
    """

    name: str
    title: str
    environment: str


PEERS = {
    peer.name: peer
    for peer in (
        Peer("bare", "no telemetry", "bare"),
        Peer("api", "opentelemetry-api, no-op", "bare"),
        Peer("opentelemetry", "opentelemetry-sdk", "opentelemetry"),
        Peer("logfire", "logfire", "logfire"),
        Peer("ddtrace", "ddtrace", "ddtrace"),
        Peer("pycpp", "honeycomb-pycpp", "pycpp"),
        Peer("otelagent-sdk", "otelagent, `sdk` engine", "otelagent"),
        Peer("otelagent-native", "otelagent, `native` engine", "otelagent"),
        Peer("otelagent-viewer", "`otelagent ui`", "otelagent"),
        Peer("jaeger", "Jaeger, badger", "otelagent"),
    )
}
"""In the order of the tables."""
