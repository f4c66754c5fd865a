"""One span, one log record and one metric, made by the engine and sent by the agent's own delivery."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from otelagent.delivery import (
    Destination,
    Ledger,
    LedgerSnapshot,
    Limits,
    Payload,
    Rejected,
    Result,
    RetryPolicy,
    Transport,
)
from otelagent.struct import struct
from otelagent.version import VERSION

if TYPE_CHECKING:
    from otelagent.config import Config

__all__ = ["SCOPE", "Sending", "record", "send"]

SCOPE = "otelagent.doctor"
_NAME = "otelagent doctor"


@struct(frozen=True)
class Sending:
    """What became of one item.

    :ivar result: of the first try; None if it didn't end in time.
    :ivar ledger: of the destination, when it was over.
    """

    result: Result | None
    ledger: LedgerSnapshot


def record(config: Config) -> dict[str, bytes]:
    """The requests by signal.

    :param config: with a sampler that leaves out nothing.
    :raises ConfigError: the engine can't be had.
    """
    from opentelemetry import _logs

    from otelagent.record import open_engine, open_logs

    requests: dict[str, bytes] = {}
    deadline_s = time.monotonic() + 5

    def keep(signal: str, body: bytes, items: int) -> None:
        requests[signal] = body

    engine = open_engine(config, Ledger("traces"), keep)
    logs = open_logs(config, engine, Ledger("logs"), keep)
    try:
        with engine.provider.get_tracer(SCOPE, VERSION).start_as_current_span(_NAME):
            logger = logs.provider.get_logger(SCOPE, VERSION)
            logger.emit(
                _logs.LogRecord(timestamp=time.time_ns(), severity_number=_logs.SeverityNumber.INFO, body=_NAME)
            )
        requests["metrics"] = _metric(engine.resource)
        engine.flush(deadline_s)
        logs.flush(deadline_s)
    finally:
        logs.shutdown(deadline_s)
        engine.shutdown(deadline_s)
    return requests


def send(transport: Transport, signal: str, body: bytes, timeout_s: float) -> Sending:
    """Sends one request with one item by a destination without a spool, and waits for the first try's end.

    :param timeout_s: for that try.
    """
    watched = _Watched(transport)
    ledger = Ledger(signal)
    destination = Destination(watched, {signal: ledger}, RetryPolicy(), Limits(try_timeout_s=timeout_s))
    ledger.ended(1)
    destination.submit(Payload(signal, body, 1))
    watched.tried.wait(timeout_s + 1)
    destination.shutdown(time.monotonic() + 0.2)
    return Sending(watched.result, ledger.snapshot())


class _Watched:
    """A transport that remembers what came of the first try."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.result: Result | None = None
        self.tried = threading.Event()
        self.describe, self.close = transport.describe, transport.close
        self.after_fork_in_child = transport.after_fork_in_child

    def send(self, payload: Payload, timeout_s: float) -> Result:
        try:
            result = self._transport.send(payload, timeout_s)
        except Exception as error:
            result = Rejected("internal_error", type(error).__name__)
        if self.result is None:
            self.result = result
        self.tried.set()
        return result


def _metric(resource: Any) -> bytes:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    for key, value in resource.items():
        if isinstance(value, str):
            group.resource.attributes.add(key=key).value.string_value = value
    scope = group.scope_metrics.add()
    scope.scope.name, scope.scope.version = SCOPE, VERSION
    gauge = scope.metrics.add(name="otelagent.doctor", unit="1").gauge
    gauge.data_points.add(time_unix_nano=time.time_ns(), as_int=1)
    return request.SerializeToString()
