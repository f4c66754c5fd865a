"""The doctor's checks of this viewer, for its page."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otelagent.doctor import check, receiving
from otelagent.doctor.listeners import who_listens
from otelagent.viewer.server.connections import mistaken
from otelagent.viewer.store.absent import logs_without_spans

if TYPE_CHECKING:
    from otelagent.viewer.server.receiver import Receiver
    from otelagent.viewer.store.store import Store

__all__ = ["checks"]

_STANDARD = (4318, 4317)
# Log records may come before the spans that they are of.
_SPANS_COME_WITHIN_S = 30


def checks(
    store: Store,
    receiver: Receiver,
    endpoints: Mapping[str, str | None],
    without_grpc: str,
    turned_away: Mapping[str, int],
) -> list[dict[str, str]]:
    """Each check's findings as plain JSON values.

    :param endpoints: where telemetry is taken, by protocol.
    :param without_grpc: why OTLP/gRPC isn't.
    :param turned_away: requests that didn't get as far as the receiver, by code.
    """
    http, grpc = endpoints["http"] or "", endpoints["grpc"]
    http_port, grpc_port = urlsplit(http).port or 80, urlsplit(grpc).port if grpc else None
    status = store.status()
    seen = receiving.Receiving(
        http=http,
        http_port=http_port,
        grpc_port=grpc_port,
        without_grpc=without_grpc,
        others={port: who_listens(port) for port in _STANDARD if port not in (http_port, grpc_port)},
        received=dict(receiver.arrivals.received),
        refused=_refused(receiver.refused, turned_away),
        wrong_paths=dict(receiver.arrivals.wrong_paths),
        ahead_s=dict(receiver.arrivals.ahead_s),
        without_spans=store.read(logs_without_spans, before_s=int(time.time()) - _SPANS_COME_WITHIN_S),
        store=status["path"] or "",
        store_problem=_problem(store.path),
        lost=_lost(status),
    )
    return [result.to_dict() for result in check.run(receiving.CHECKS, seen)]


def _refused(by_receiver: Mapping[str, int], by_gate: Mapping[str, int]) -> dict[str, int]:
    refused = {**by_receiver, **by_gate, **mistaken}
    # The beginning of HTTP/2 reads as a request without a Host, too.
    refused["foreign_host"] = max(refused.get("foreign_host", 0) - mistaken.get("grpc_here", 0), 0)
    return {code: count for code, count in refused.items() if count}


def _problem(path: str) -> str:
    if not os.path.exists(path):
        return "the file is gone"
    if not os.access(path, os.W_OK):
        return "it may not be written"
    if not os.access(os.path.dirname(os.path.abspath(path)), os.W_OK):
        return "its directory may not be written"
    return ""


def _lost(status: Mapping[str, Any]) -> dict[str, int]:
    return {"for want of room": int(status.get("refused", 0)), "by an error": int(status.get("failed", 0))}
