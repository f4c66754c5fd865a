"""Delivery as the agent opens it: from the configuration to a destination."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from otelagent.delivery.ledger import Ledger
from otelagent.delivery.retry import RetryPolicy
from otelagent.delivery.spooling import SpoolAt
from otelagent.delivery.transports import Transport
from otelagent.delivery.worker import Destination, Limits

if TYPE_CHECKING:
    from otelagent.config.model import Config, Export
    from otelagent.delivery.spool.place import SpoolPlace
    from otelagent.delivery.spool.spool import Spool

__all__ = ["GetResource", "open_delivery", "open_transport", "spool_at", "spool_directory", "spool_identity"]

GetResource = Callable[[], Mapping[str, object]]
"""Gives the resource attributes that a signal is exported with; asked when there is something to export."""

_OF_A_SERVICE = ("service.name", "service.namespace", "deployment.environment.name")

# What the name of a header has in it whose value is a credential.
_CREDENTIALS = ("auth", "cookie", "key", "token", "secret", "passw", "credential", "signature")

_FILE_SETTINGS: Mapping[str, str] = {"traces": "file", "logs": "logs_file"}

# What is shown waits for whoever reads it, as long as it takes.
_TERMINAL_LIMITS = Limits(queue_max_bytes=8 * 1024 * 1024, try_timeout_s=math.inf)

# (exporter, OTLP protocol or "") -> module of `transports`, its class, and what the class is made from. The module is
# imported when it is chosen; what it needs of other libraries, it imports at the first send.
_TRANSPORTS: Mapping[tuple[str, str], tuple[str, str, Callable[[Export, str], tuple[object, ...]]]] = {
    ("otlp", "http/protobuf"): ("http", "HttpTransport", lambda export, signal: (export.otlp, signal)),
    ("otlp", "grpc"): ("grpc", "GrpcTransport", lambda export, signal: (export.otlp, signal)),
    ("console", ""): ("console", "ConsoleTransport", lambda export, signal: ()),
    ("terminal", ""): ("terminal", "TerminalTransport", lambda export, signal: (export.console,)),
    ("file", ""): ("file", "FileTransport", lambda export, signal: (export.file_path, _FILE_SETTINGS[signal])),
}


def open_transport(config: Config, signal: str = "traces", name: str = "") -> Transport:
    """The transport that the configuration names for a signal.

    :param name: the destination's, see `Config.destination_names`.
    :raises ValueError: there is none for this exporter and protocol; ``none`` has none.
    """
    export = config.export(signal, name)
    key = (export.exporter, export.otlp.protocol if export.exporter == "otlp" else "")
    if key not in _TRANSPORTS:
        raise ValueError(f"no transport for exporter={export.exporter} and protocol={export.otlp.protocol}")
    module, name, arguments = _TRANSPORTS[key]
    transport: Transport = getattr(import_module(f"otelagent.delivery.transports.{module}"), name)(
        *arguments(export, signal)
    )
    return transport


def open_delivery(
    config: Config,
    ledger: Ledger,
    spool: SpoolPlace | GetResource,
    name: str = "",
    through: Callable[[Transport], Transport] = lambda transport: transport,
) -> Destination:
    """One of the destinations that the configuration describes for one signal.

    Each signal has its own, because each may have an address and headers of its own, and so that one which the server
    refuses doesn't hold up the others.

    :param ledger: the signal's.
    :param spool: whose spool it is; or where, if not where the configuration says.
    :param name: see `open_transport`.
    :param through: makes of the transport the one that is used.
    :raises ValueError: see `open_transport`.
    """
    export = config.export(ledger.signal, name)
    limits = _TERMINAL_LIMITS
    if export.exporter != "terminal":
        limits = Limits(
            queue_max_bytes=config.queue.max_bytes,
            try_timeout_s=export.otlp.timeout_ms / 1000,
            export_bytes_per_s=config.queue.export_max_bytes_per_s or math.inf,
            replay_bytes_per_s=config.spool.replay_bytes_per_s,
        )
    transport = open_transport(config, ledger.signal, name)
    return Destination(
        through(transport),
        {ledger.signal: ledger},
        RetryPolicy(initial_s=config.retry.initial_backoff_ms / 1000, max_s=config.retry.max_backoff_ms / 1000),
        limits,
        spool=spool_at(config, ledger.signal, spool, name),
        silent=export.exporter == "terminal",
        stalled=getattr(transport, "stalled", None),
    )


def spool_at(config: Config, signal: str, spool: SpoolPlace | GetResource, name: str = "") -> SpoolAt | None:
    """The spool of one signal and destination, to be opened when it is needed; None if there is to be none.

    :param spool: see `open_delivery`.
    :param name: see `open_transport`.
    """
    directory = spool_directory(config.spool.directory) if callable(spool) else spool.directory
    if not config.spool.enabled or config.export(signal, name).exporter != "otlp" or directory is None:
        return None

    def open_spool() -> Spool:
        from otelagent.delivery.spool import place as spool_place
        from otelagent.delivery.spool.spool import Spool, SpoolLimits

        settings, place = config.spool, spool
        if callable(place):
            identity = spool_identity(config, signal, place(), name)
            about = {name: value for name, value in identity.items() if not name.startswith("header ")}
            # With the mark of a query, which isn't part of the identity: it often holds a credential.
            about["destination"] = config.export(signal, name).otlp.masked_endpoint
            place = spool_place.SpoolPlace(directory, spool_place.key_of(identity), about)
        limits = SpoolLimits(settings.max_bytes, settings.max_age_ms / 1000, settings.full)
        return Spool(place, limits)

    return SpoolAt(directory, open_spool)


def spool_identity(config: Config, signal: str, resource: Mapping[str, object], name: str = "") -> dict[str, str]:
    """Whose payloads a spool holds, and for whom. What one process has left, another sends only if it has the same.

    The headers that say which tenant's the data is are part of it, so that of two tenants neither sends what the other
    has left. Credentials are not, although some tell tenants apart too: after an outage they are often what has
    changed, and what waited for them has to be sent with the new ones.

    :param resource: what the signal is exported with. The settings don't know the service that is called after its
        program, and a provider of the application's has a resource of its own.
    :param name: see `open_transport`. It is part of it: two destinations may differ in their credentials alone.
    """
    otlp = config.export(signal, name).otlp
    headers = {
        f"header {header}": value.reveal()
        for header, value in otlp.headers.items()
        if not any(word in header for word in _CREDENTIALS)
    }
    return {
        "signal": signal,
        "destination": otlp.masked_endpoint.partition("?")[0],
        "protocol": otlp.protocol,
        **({"name": name} if name else {}),
        **{attribute: str(resource.get(attribute, "")) for attribute in _OF_A_SERVICE},
        **headers,
    }


def spool_directory(configured: str | None) -> str | None:
    """The spool directory, absolute; None if the user has no directory for it.

    Source: XDG Base Directory Specification, `XDG_STATE_HOME`: a relative path in it is ignored.
    """
    if configured is not None:
        return os.path.abspath(os.path.expanduser(configured))
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        home = os.path.expanduser("~")
        if not os.path.isabs(home) or home == os.sep:
            return None
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "otelagent", "spool")
