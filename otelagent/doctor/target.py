"""A destination as it is tried: where one signal goes, and what became of an item that was sent there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from otelagent.config.settings import SETTINGS_BY_NAME
from otelagent.delivery import Accepted, Payload, Rejected, Result, open_transport
from otelagent.delivery.result import REFUSED
from otelagent.delivery.signals import SIGNALS
from otelagent.doctor.place import Place
from otelagent.doctor.synthetic import Sending, send
from otelagent.doctor.wording import setting_text

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.config.model import Export, Otlp

__all__ = ["Standing", "Target", "targets"]

Standing = Literal["taken", "unreachable", "tls", "other path", "other protocol", "other signals", "none", "unknown"]
"""What answers at a destination: it takes OTLP as it is sent, it isn't reached, TLS fails, it takes OTLP under another
path or by another protocol, it takes other signals and not this one, it is no receiver, or it says nothing that would
tell."""


_NO_OTLP = ("redirect", "malformed_response")
# Answers of receivers, too: to a request that is late or too large, or to one too many.
_RECEIVERS_TOO = frozenset({"http_400", "http_401", "http_403", "http_408", "http_413", "http_429"})
_UNIMPLEMENTED = "grpc_unimplemented"
_NO_ANSWER = frozenset({"grpc_unavailable", "grpc_deadline_exceeded", "grpc_unknown", "grpc_internal"})


class Target:
    """Where one signal goes, and what comes of trying it.

    :param name: the destination's, empty for the main one.
    :param requests: what is sent, by signal.
    :param timeout_s: for each step.
    :ivar failed: the titles of the checks of its way that have failed.
    """

    def __init__(
        self,
        config: Config,
        signal: str,
        name: str,
        requests: Mapping[str, bytes],
        environ: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        self.config = config
        self.signal = signal
        self.name = name
        self.environ = environ
        self.timeout_s = timeout_s
        self.failed: tuple[str, ...] = ()
        self._requests = requests
        self.export: Export = config.export(signal, name)
        self.place = Place(self.export.otlp, timeout_s)

    @property
    def over_http(self) -> bool:
        """Whether it is sent by OTLP/HTTP."""
        return self.export.otlp.protocol != "grpc"

    @property
    def about(self) -> str:
        """For people."""
        endpoint = self.export.otlp.masked_endpoint if self.export.exporter == "otlp" else self.export.exporter
        return f"{self.name} → {endpoint}" if self.name else endpoint

    def to_set(self, name: str, value: str = "") -> str:
        """A setting of this signal as it is to be written where it is in force.

        :param name: as that of spans is called.
        :param value: what to set.
        """
        own = name if self.signal == "traces" or self.name else f"{self.signal}_{name}"
        return setting_text(self.config.sources, own, value, destination=self.name)

    def endpoint_to_set(self, origin: str = "", path: str | None = None) -> str:
        """The whole endpoint as it is to be written where it is in force.

        :param origin: scheme, host and port; those that there are if it is empty.
        :param path: what comes before the signal's path; None for the path that there is.
        """
        _, at, _ = self.export.otlp.masked_endpoint.rpartition("@")
        scheme, _, rest = (origin or str(self.place)).partition("://")
        if self.export.otlp.protocol == "grpc":
            return self.to_set("endpoint", f"{scheme}://{rest}")
        usual = SIGNALS[self.signal].path
        whole = self.place.path if path is None else path + usual
        before = whole if self.endpoint_is_whole else whole.rstrip("/").removesuffix(usual)
        return self.to_set("endpoint", f"{scheme}://{'***@' if at else ''}{rest}{before}")

    @property
    def endpoint_is_whole(self) -> bool:
        """Whether the endpoint was given by the signal's own variable, to which no path is appended."""
        setting = SETTINGS_BY_NAME["endpoint" if self.signal == "traces" else f"{self.signal}_endpoint"]
        return not self.name and self.config.sources[setting.name].name == setting.otel[0]

    @cached_property
    def sending(self) -> Sending:
        """The signal's item."""
        transport = open_transport(self.config, self.signal, self.name)
        return send(transport, self.signal, self._requests[self.signal], self.timeout_s)

    @property
    def arrived(self) -> bool:
        """Whether the item was taken."""
        return isinstance(self.sending.result, Accepted)

    @property
    def reason(self) -> str:
        """Why it wasn't, as the ledger says; empty if it was."""
        result = self.sending.result
        return "" if isinstance(result, Accepted) else "timeout" if result is None else result.reason

    @property
    def answered(self) -> bool:
        """Whether what answered is of the endpoint's scheme. Servers with TLS answer HTTP with 400, and no other."""
        said = self.reason.startswith(("http_", "grpc_", *_NO_OTLP))
        return self.arrived or (said and self.reason not in _NO_ANSWER and self.reason != "http_400")

    @property
    def message(self) -> str:
        """What there is to say about it."""
        result = self.sending.result
        return "" if result is None else result.message

    @cached_property
    def standing(self) -> Standing:
        """What answers there. Where it doesn't take the item, it is tried whether it would elsewhere."""
        place, reason = self.place, self.reason
        if self.arrived:
            return "taken"
        if place.reachable is None:
            return "unreachable"
        if not self.answered and (place.tls is not place.speaks_tls or (place.tls and place.handshake.problem)):
            return "tls"
        if reason in REFUSED or reason == "credentials":
            return "unknown"
        return self._standing_over_http() if self.over_http else self._standing_over_grpc()

    def _standing_over_http(self) -> Standing:
        place, reason = self.place, self.reason
        if not place.speaks_http1 and not reason.startswith(("http_", *_NO_OTLP)):
            if place.speaks_http2:
                return self._standing_by_trying_grpc()
            return "none" if place.speaks_otherwise else "unknown"
        if not _is_no_otlp(reason):
            return "unknown"
        if self.path_that_takes is not None:
            return "other path"
        return "other signals" if self._takes_other_signals("http/protobuf") else "none"

    def _standing_by_trying_grpc(self) -> Standing:
        """Without grpcio it can't be tried: then nothing speaks against it."""
        result = self._try("grpc", str(self.place), self.signal)
        if isinstance(result, Accepted):
            return "other protocol"
        if result.reason == _UNIMPLEMENTED:
            return "other protocol" if self._takes_other_signals("grpc") else "none"
        # Where no answer comes to either, it may be HTTP that is slow.
        return "unknown" if self.reason == "timeout" else "other protocol"

    def _standing_over_grpc(self) -> Standing:
        place, said_http = self.place, "looks like HTTP" in self.message
        if place.speaks_http2 and self.reason != _UNIMPLEMENTED and not said_http:
            return "unknown"
        if self.path_that_takes is not None:
            return "other protocol"
        if place.speaks_http2 and not said_http:
            return "other signals" if self._takes_other_signals("grpc") else "none"
        if any(_is_no_otlp(reason) for reason in self._by_http.values()):
            return "other protocol" if self._takes_other_signals("http/protobuf") else "none"
        return "none" if place.speaks_otherwise else "unknown"

    @property
    def path_that_takes(self) -> str | None:
        """What comes before the signal's path where the item is taken by HTTP; None if that isn't found."""
        return next((path for path, reason in self._by_http.items() if reason in ("", *REFUSED)), None)

    @cached_property
    def _by_http(self) -> dict[str, str]:
        """Why the item isn't taken by HTTP elsewhere, by what comes before the signal's path; empty where it is."""
        usual = SIGNALS[self.signal].path
        found: dict[str, str] = {}
        for path in self._paths():
            if self.over_http and path + usual == self.place.path:
                continue
            result = self._try("http/protobuf", str(self.place) + path + usual, self.signal)
            found[path] = "" if isinstance(result, Accepted) else result.reason
            if found[path] in ("", *REFUSED):
                break
        return found

    def _takes_other_signals(self, protocol: str) -> bool:
        """As a collector does that has no pipeline for this one."""
        return any(
            isinstance(self._try(protocol, endpoint, signal), Accepted)
            for signal in SIGNALS
            if signal != self.signal
            for endpoint in (
                [str(self.place)]
                if protocol == "grpc"
                else [str(self.place) + path + SIGNALS[signal].path for path in self._paths()]
            )
        )

    def _paths(self) -> list[str]:
        """What may come before a signal's path."""
        return list(dict.fromkeys((self.place.path.partition("/v1/")[0].rstrip("/"), "")))

    def _try(self, protocol: str, endpoint: str, signal: str) -> Result:
        from otelagent.delivery.transports.grpc import GrpcTransport
        from otelagent.delivery.transports.http import HttpTransport

        otlp = self._changed(endpoint=endpoint, protocol=protocol)
        transport = (GrpcTransport if protocol == "grpc" else HttpTransport)(otlp, signal)
        try:
            return transport.send(Payload(signal, self._requests[signal], 1), self.timeout_s)
        except Exception as error:
            return Rejected("internal_error", type(error).__name__)
        finally:
            transport.close()

    def _changed(self, **values: str) -> Otlp:
        otlp = self.export.otlp
        return type(otlp)(**{**vars(otlp), **values})

    def send_metric(self) -> Sending | None:
        """A metric to the same place; None where its address is the spans' alone."""
        from otelagent.delivery.transports.grpc import GrpcTransport
        from otelagent.delivery.transports.http import HttpTransport

        otlp = self.export.otlp
        if otlp.protocol == "grpc":
            return send(GrpcTransport(otlp, "metrics"), "metrics", self._requests["metrics"], self.timeout_s)
        url = urlsplit(otlp.endpoint)
        if not url.path.endswith("/v1/traces"):
            return None
        endpoint = url._replace(path=url.path.removesuffix("traces") + "metrics").geturl()
        return send(
            HttpTransport(self._changed(endpoint=endpoint), "metrics"),
            "metrics",
            self._requests["metrics"],
            self.timeout_s,
        )


def _is_no_otlp(reason: str) -> bool:
    """Whether no receiver gives that answer to its signal's path."""
    refused = reason.startswith("http_4") and reason not in _RECEIVERS_TOO
    return refused or reason in (*_NO_OTLP, "http_501", "http_505")


def targets(
    config: Config, requests: Mapping[str, bytes], environ: Mapping[str, str], timeout_s: float
) -> list[Target]:
    """Every destination of every signal that is exported, the spans' first."""
    return [
        Target(config, signal, name, requests, environ, timeout_s)
        for signal in ("traces", "logs")
        for name in config.destination_names(signal)
    ]
