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
    from otelagent.config.model import Config

__all__ = ["open_delivery", "open_transport"]

# (exporter, OTLP protocol or "") -> module of `transports`, its class, and what the class is made from. The module is
# imported when it is chosen; what it needs of other libraries, it imports at the first send.
_TRANSPORTS: Mapping[tuple[str, str], tuple[str, str, Callable[[Config], tuple[object, ...]]]] = {
    ("otlp", "http/protobuf"): ("http", "HttpTransport", lambda config: (config.otlp,)),
    ("otlp", "grpc"): ("grpc", "GrpcTransport", lambda config: (config.otlp,)),
    ("console", ""): ("console", "ConsoleTransport", lambda config: ()),
    ("file", ""): ("file", "FileTransport", lambda config: (config.file_path,)),
}


def open_transport(config: Config) -> Transport:
    """The transport that the configuration names.

    :raises ValueError: there is none for this exporter and protocol; ``none`` has none.
    """
    exporter = config.traces.exporter
    key = (exporter, config.otlp.protocol if exporter == "otlp" else "")
    if key not in _TRANSPORTS:
        raise ValueError(f"no transport for exporter={exporter} and protocol={config.otlp.protocol}")
    module, name, arguments = _TRANSPORTS[key]
    transport: Transport = getattr(import_module(f"otelagent.delivery.transports.{module}"), name)(*arguments(config))
    return transport


def open_delivery(config: Config, ledgers: Mapping[str, Ledger]) -> Destination:
    """The destination that the configuration describes.

    :param ledgers: by signal.
    :raises ValueError: see `open_transport`.
    """
    # Fan-out goes here: one destination for each configured place, behind one `submit`.
    return Destination(
        open_transport(config),
        ledgers,
        RetryPolicy(initial_s=config.retry.initial_backoff_ms / 1000, max_s=config.retry.max_backoff_ms / 1000),
        Limits(queue_max_bytes=config.queue.max_bytes, try_timeout_s=config.otlp.timeout_ms / 1000),
    )
