"""Delivery as the agent opens it: from the configuration to a destination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from otelagent.delivery.ledger import Ledger
from otelagent.delivery.retry import RetryPolicy
from otelagent.delivery.transports import Transport
from otelagent.delivery.worker import Destination, Limits

if TYPE_CHECKING:
    from otelagent.config.model import Config, Export

__all__ = ["open_delivery", "open_transport"]

# (exporter, OTLP protocol or "") -> module of `transports`, its class, and what the class is made from. The module is
# imported when it is chosen; what it needs of other libraries, it imports at the first send.
_TRANSPORTS: Mapping[tuple[str, str], tuple[str, str, Callable[[Export, str], tuple[object, ...]]]] = {
    ("otlp", "http/protobuf"): ("http", "HttpTransport", lambda export, signal: (export.otlp, signal)),
    ("otlp", "grpc"): ("grpc", "GrpcTransport", lambda export, signal: (export.otlp, signal)),
    ("console", ""): ("console", "ConsoleTransport", lambda export, signal: ()),
    ("file", ""): ("file", "FileTransport", lambda export, signal: (export.file_path,)),
}


def open_transport(config: Config, signal: str = "traces") -> Transport:
    """The transport that the configuration names for a signal.

    :raises ValueError: there is none for this exporter and protocol; ``none`` has none.
    """
    export = config.export(signal)
    key = (export.exporter, export.otlp.protocol if export.exporter == "otlp" else "")
    if key not in _TRANSPORTS:
        raise ValueError(f"no transport for exporter={export.exporter} and protocol={export.otlp.protocol}")
    module, name, arguments = _TRANSPORTS[key]
    transport: Transport = getattr(import_module(f"otelagent.delivery.transports.{module}"), name)(
        *arguments(export, signal)
    )
    return transport


def open_delivery(config: Config, ledger: Ledger) -> Destination:
    """The destination that the configuration describes for one signal.

    Each signal has its own, because each may have an address and headers of its own, and so that one which the server
    refuses doesn't hold up the others.

    :param ledger: the signal's.
    :raises ValueError: see `open_transport`.
    """
    # Fan-out goes here: one destination for each configured place, behind one `submit`.
    return Destination(
        open_transport(config, ledger.signal),
        {ledger.signal: ledger},
        RetryPolicy(initial_s=config.retry.initial_backoff_ms / 1000, max_s=config.retry.max_backoff_ms / 1000),
        Limits(
            queue_max_bytes=config.queue.max_bytes, try_timeout_s=config.export(ledger.signal).otlp.timeout_ms / 1000
        ),
    )
