"""The checks of a destination: from its name to what it says to a span."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otelagent.delivery import Accepted, Retryable, open_transport
from otelagent.delivery.signals import SIGNALS
from otelagent.doctor.check import Check, Finding
from otelagent.doctor.place import Place
from otelagent.doctor.synthetic import Sending, send

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.config.model import Export

__all__ = ["CHECKS", "Target", "targets"]

# OpenSSL's X509_V_ERR_*: of the certificate's time, and of its name.
_NOT_YET, _EXPIRED, _HOSTNAME, _IP = 9, 10, 62, 64
_TOLD_S, _WRONG_S = 5.0, 60.0
_REFUSED = {"http_401", "http_403", "grpc_unauthenticated", "grpc_permission_denied"}
_WRONG_PATH = {"http_404", "http_405", "redirect"}
_ITEMS = {"traces": "span", "logs": "log record", "metrics": "metric"}


class Target:
    """Where one signal goes, and what comes of trying it.

    :param name: the destination's, empty for the main one.
    :param requests: what is sent, by signal.
    :param timeout_s: for each step.
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
        self._requests = requests
        self.export: Export = config.export(signal, name)
        self.place = Place(self.export.otlp, timeout_s)

    @property
    def about(self) -> str:
        """For people."""
        endpoint = self.export.otlp.masked_endpoint if self.export.exporter == "otlp" else self.export.exporter
        return f"{self.name} → {endpoint}" if self.name else endpoint

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
    def message(self) -> str:
        """What there is to say about it."""
        result = self.sending.result
        return "" if result is None else result.message

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
        changed = type(otlp)(**{**vars(otlp), "endpoint": endpoint})
        return send(HttpTransport(changed, "metrics"), "metrics", self._requests["metrics"], self.timeout_s)


def targets(
    config: Config, requests: Mapping[str, bytes], environ: Mapping[str, str], timeout_s: float
) -> list[Target]:
    """Every destination of every signal that is exported, the spans' first."""
    return [
        Target(config, signal, name, requests, environ, timeout_s)
        for signal in ("traces", "logs")
        for name in config.destination_names(signal)
    ]


def _dns(target: Target) -> Iterator[Finding]:
    place = target.place
    found, problem = place.addresses
    if found:
        yield Finding("pass", f"{place.host} is {', '.join(address for _, address in found)}", about=str(place))
    else:
        advice = "correct the endpoint's host, or use its IP address; in a container, the service's name and network"
        yield Finding("fail", f"{place.host} has no address: {problem}", advice, str(place))


def _connect(target: Target) -> Iterator[Finding]:
    place = target.place
    if not place.addresses[0]:
        yield Finding("skip", "its name has no address", about=str(place))
    elif place.reachable is not None:
        yield Finding("pass", f"{place.reachable} port {place.port} takes connections", about=str(place))
    else:
        said = "; ".join(f"{address} port {place.port}: {problem}" for address, problem in place.connections.items())
        advice = "start the collector there, or set endpoint to where it listens; `otelagent ui` takes telemetry itself"
        yield Finding("fail", said, advice, str(place))


def _loopback(target: Target) -> Iterator[Finding]:
    place = target.place
    listening = [address for address, problem in place.connections.items() if not problem]
    loopback = [address for address in place.connections if address == "::1" or address.startswith("127.")]
    if not loopback:
        return
    if not listening and (other := place.other_loopback):
        shown = f"[{other}]" if ":" in other else other
        scheme = "https" if place.tls else "http"
        advice = f"set endpoint={scheme}://{shown}:{place.port}, or have the collector listen on {place.host} too"
        detail = f"{place.host} is {', '.join(loopback)}, where nothing listens on port {place.port}; {other} does"
        yield Finding("fail", detail, advice, str(place))
    elif len(loopback) > 1 and len(listening) == 1:
        yield Finding("pass", f"of {' and '.join(loopback)} only {listening[0]} is listened on", about=str(place))
    elif listening:
        yield Finding("pass", f"{' and '.join(listening)} is listened on", about=str(place))


def _proxy(target: Target) -> Iterator[Finding]:
    place, environ = target.place, target.environ
    names = (f"{'https' if place.tls else 'http'}_proxy", "all_proxy", "grpc_proxy")
    found = {name: environ.get(name) or environ.get(name.upper()) for name in names}
    given = next((name for name, value in found.items() if value), None)
    if given is None:
        yield Finding("pass", "no proxy is set for it", about=str(place))
        return
    detail = f"{given} is set, and exports never go through a proxy"
    if place.reachable is not None:
        yield Finding("pass", f"{detail}; the place is reached without", about=str(place))
    else:
        advice = "let this host reach the collector directly, or send to a collector on this side of the proxy"
        yield Finding("fail", f"{detail}; without it the place isn't reached", advice, str(place))


def _scheme(target: Target) -> Iterator[Finding]:
    place = target.place
    if place.reachable is None:
        yield Finding("skip", "nothing takes connections", about=str(place))
    elif target.arrived:
        yield Finding("pass", "TLS" if place.tls else "plaintext", about=str(place))
    elif place.tls and not place.handshake.tls:
        advice = f"set endpoint={str(place).replace('https', 'http', 1)}, or TLS on the collector's receiver"
        yield Finding("fail", f"port {place.port} doesn't speak TLS, and the endpoint is https", advice, str(place))
    elif not place.tls and place.speaks_tls:
        advice = f"set endpoint={str(place).replace('http', 'https', 1)}"
        yield Finding("fail", f"port {place.port} speaks TLS, and the endpoint is http", advice, str(place))
    else:
        yield Finding("pass", "TLS" if place.tls else "plaintext", about=str(place))


def _certificate(target: Target) -> Iterator[Finding]:
    place = target.place
    if not place.tls:
        return
    if place.reachable is None or not place.handshake.tls:
        yield Finding("skip", "there is no TLS to look at", about=str(place))
        return
    found = place.handshake
    if not found.code and not found.problem.startswith("can't load"):
        yield Finding("pass", "the server's certificate is trusted", about=str(place))
        return
    if found.code in (_HOSTNAME, _IP):
        advice = "use one of the names that the certificate is for as the endpoint's host, or have it made for this one"
    elif found.code == _EXPIRED:
        advice = "renew the collector's certificate"
    elif found.code == _NOT_YET:
        advice = "set this machine's clock, or wait for the certificate's first day"
    elif found.code:
        advice = "set certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) to the PEM file of the authority that signed it"
    else:
        advice = "correct the file that is named: certificate, client_certificate or client_key"
    yield Finding("fail", found.problem, advice, str(place))


def _client_certificate(target: Target) -> Iterator[Finding]:
    place, otlp = target.place, target.export.otlp
    if not place.tls:
        return
    if place.reachable is None or not place.handshake.tls or place.handshake.code:
        yield Finding("skip", "the handshake doesn't get that far", about=str(place))
        return
    problem = place.handshake.problem
    if not problem or target.arrived:
        sent = f"{otlp.client_certificate} is sent" if otlp.client_certificate else "none is asked for"
        yield Finding("pass", sent, about=str(place))
    elif otlp.client_certificate is None:
        advice = "set client_certificate and client_key (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, …_CLIENT_KEY)"
        yield Finding("fail", f"the server ends the handshake: {problem}; none is set", advice, str(place))
    else:
        advice = "use a certificate of the authority that the collector trusts (client_ca_file), with its own key"
        yield Finding("fail", f"the server refuses {otlp.client_certificate}: {problem}", advice, str(place))


def _protocol(target: Target) -> Iterator[Finding]:
    place, protocol = target.place, target.export.otlp.protocol
    grpc = protocol == "grpc"
    if place.reachable is None:
        yield from _protocol_by_port(target)
    elif target.arrived:
        yield Finding("pass", f"port {place.port} takes {protocol}", about=str(place))
    elif place.tls is not place.speaks_tls:
        yield Finding("skip", "http and https don't fit the port", about=str(place))
    elif grpc and (not place.speaks_http2 or "looks like HTTP" in target.message):
        advice = "set protocol=http/protobuf, or use the collector's gRPC port, usually 4317"
        yield Finding("fail", f"port {place.port} speaks no gRPC{_but(place.speaks_http1, 'HTTP')}", advice, str(place))
    elif not grpc and not place.speaks_http1:
        advice = "set protocol=grpc, or use the collector's OTLP/HTTP port, usually 4318"
        spoken = _but(place.speaks_http2, "HTTP/2, as gRPC has it")
        yield Finding("fail", f"port {place.port} doesn't answer HTTP/1.1{spoken}", advice, str(place))
    elif target.reason == "http_415":
        advice = "set endpoint to an OTLP receiver; this one doesn't take OTLP protobuf"
        yield Finding("fail", f"the answer is 415: {target.message}", advice, str(place))
    else:
        yield Finding("pass", f"port {place.port} answers {protocol}", about=str(place))


def _but(spoken: bool, what: str) -> str:
    return f", but {what}" if spoken else ""


def _protocol_by_port(target: Target) -> Iterator[Finding]:
    place, protocol = target.place, target.export.otlp.protocol
    usual = {4317: "grpc", 4318: "http/protobuf"}.get(place.port, protocol)
    if usual == protocol:
        yield Finding("skip", "nothing takes connections", about=str(place))
    else:
        advice = f"set protocol={usual}, or use port {4317 if protocol == 'grpc' else 4318}"
        yield Finding(
            "warn", f"port {place.port} is usually for {usual}, and the protocol is {protocol}", advice, str(place)
        )


def _path(target: Target) -> Iterator[Finding]:
    place, otlp = target.place, target.export.otlp
    if otlp.protocol == "grpc":
        return
    usual = SIGNALS[target.signal].path
    segments = place.path.rstrip("/")
    source = target.config.sources["endpoint" if target.signal == "traces" else f"{target.signal}_endpoint"]
    if segments.count("/v1/") > 1 and segments.endswith(usual):
        right = segments[: segments.index("/v1/")]
        advice = f"{source}: leave out the path, {str(place) + right!s}, because {usual} is appended to it"
        yield Finding("fail", f"the path is doubled: {place.path}", advice, str(place))
    elif target.reason in _WRONG_PATH and place.reachable is not None:
        detail = f"the answer to {place.path} is {target.reason.replace('http_', '')}"
        advice = f"set endpoint to {place}, to which {usual} is appended; or to the whole path that the server has"
        yield Finding("fail", f"{detail}: {target.message}" if target.message else detail, advice, str(place))
    elif target.reason == "malformed_response":
        advice = "set endpoint to an OTLP receiver; a web server, a proxy or a login page answers here"
        yield Finding("fail", target.message, advice, str(place))
    else:
        yield Finding("pass", place.path, about=str(place))


def _credentials(target: Target) -> Iterator[Finding]:
    place, otlp = target.place, target.export.otlp
    ways = {
        "headers": "authorization" in otlp.headers,
        "headers_file": otlp.headers_file,
        "bearer_token_file": otlp.bearer_token_file,
        "oauth2_token_url": otlp.oauth2.token_url,
    }
    used = [name for name, value in ways.items() if value]
    shown = " and ".join(used) or "none"
    if expired := _expired(otlp.bearer_token_file):
        advice = "renew the token; whoever writes the file must do so before it expires"
        yield Finding("fail", f"the token in {otlp.bearer_token_file} expired {expired}", advice, str(place))
    elif target.reason == "credentials":
        advice = "put the file there, readable for the application's user; see docs/authentication.md"
        if otlp.oauth2.token_url is not None:
            advice = "correct the oauth2_ settings, or the token endpoint; see docs/authentication.md"
        yield Finding("fail", target.message, advice, str(place))
    elif target.reason in _REFUSED:
        if not used:
            advice = "set headers=authorization=…, bearer_token_file or oauth2_token_url; see docs/authentication.md"
        elif target.reason in ("http_403", "grpc_permission_denied"):
            advice = "the server knows who it is: have it allow this one to write"
        else:
            advice = f"the server doesn't take what {shown} has: renew or correct it"
        code = target.reason.replace("http_", "").replace("grpc_", "")
        yield Finding("fail", f"the server refuses with {code}; credentials: {shown}", advice, str(place))
    elif target.arrived:
        yield Finding("pass", f"{shown}; the server takes it", about=str(place))
    else:
        yield Finding("skip", "there was no answer that says so", about=str(place))


def _expired(path: str | None) -> str:
    """When the token in a file ran out, if it is a JSON Web Token that says when (RFC 7519 section 4.1.4)."""
    if path is None:
        return ""
    try:
        with open(path, encoding="ascii") as file:
            part = file.read(65536).strip().split(".")[1]
        until_s = float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    if until_s > time.time():
        return ""
    return time.strftime("at %Y-%m-%dT%H:%M:%SZ", time.gmtime(until_s))


def _clock(target: Target) -> Iterator[Finding]:
    place = target.place
    if place.reachable is None or target.export.otlp.protocol == "grpc" or (ahead_s := place.ahead_s) is None:
        yield Finding("skip", "the server doesn't tell the time", about=str(place))
        return
    off_s = abs(ahead_s)
    if off_s < _TOLD_S:
        yield Finding("pass", "this machine's clock and the server's agree", about=str(place))
        return
    detail = f"this machine's clock is {off_s:,.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the server's"
    advice = "have both keep time (NTP): what is off stands at another time than one looks for it"
    yield Finding("fail" if off_s >= _WRONG_S else "warn", detail, advice, str(place))


def _item(target: Target) -> Iterator[Finding]:
    if target.export.exporter == "console":
        yield Finding("skip", "exporter=console: the application prints it")
        return
    yield _told(target.sending, target.signal, target.about)


def _told(sending: Sending, signal: str, about: str) -> Finding:
    item, result, ledger = _ITEMS[signal], sending.result, sending.ledger
    lost = ", ".join(f"{reason} {count}" for reason, count in {**ledger.rejected, **ledger.dropped}.items())
    books = f"ended {ledger.ended} = delivered {ledger.delivered} + lost {lost or 0}"
    if isinstance(result, Accepted) and not result.rejected_items:
        return Finding("pass", f"the {item} was taken ({books})", about=about)
    if isinstance(result, Accepted):
        advice = "the server took the request and refused what is in it: see what it says"
        return Finding("fail", f"the {item} was refused: {result.message or 'without a reason'}", advice, about)
    if result is None:
        return Finding(
            "fail", f"the {item} had no answer in time", "see the checks above; --timeout waits longer", about
        )
    what = "can't be delivered now" if isinstance(result, Retryable) else "was refused"
    said = f": {result.message}" if result.message else ""
    detail = f"the {item} {what}: {result.reason}{said} ({books})"
    return Finding("fail", detail, "see the checks above that fail", about)


def _span(target: Target) -> Iterator[Finding]:
    if target.signal == "traces":
        yield from _item(target)


def _log_record(target: Target) -> Iterator[Finding]:
    if target.signal == "logs":
        yield from _item(target)
    elif not target.name and target.config.logs.exporter == "none":
        yield Finding("skip", "logs_exporter is none: log records aren't exported")


def _metric(target: Target) -> Iterator[Finding]:
    if target.signal != "traces" or target.export.exporter != "otlp":
        return
    if not target.arrived:
        yield Finding("skip", "the span doesn't get there either", about=target.about)
        return
    sending = target.send_metric()
    if sending is None:
        yield Finding("skip", "the endpoint is the spans' own", about=target.about)
        return
    finding = _told(sending, "metrics", target.about)
    if finding.status == "fail":
        advice = "the agent exports no metrics itself; to send some, give the collector a metrics pipeline"
        finding = Finding("warn", finding.detail, advice, finding.about)
    yield finding


NETWORK = (
    Check(
        "dns",
        "The host has an address",
        "destination",
        "what the endpoint's host resolves to",
        "correct the host",
        _dns,
    ),
    Check(
        "connect",
        "The port takes connections",
        "destination",
        "a TCP connection to each address",
        "start the collector, or correct host and port",
        _connect,
    ),
    Check(
        "loopback",
        "Loopback is listened on",
        "destination",
        "`localhost`, `127.0.0.1`, `::1`: whether the collector listens on the family that is dialled",
        "name the address that is listened on",
        _loopback,
    ),
    Check(
        "proxy",
        "No proxy is in the way",
        "destination",
        "`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `grpc_proxy`: exports never use one",
        "reach the collector directly, or send to one on this side",
        _proxy,
    ),
    Check(
        "scheme",
        "http and https fit the port",
        "destination",
        "whether the port speaks TLS, by its answers",
        "`https://` for a port with TLS, `http://` without",
        _scheme,
    ),
    Check(
        "certificate",
        "The certificate is trusted",
        "destination",
        "who signed it, for which host, until when; files that can't be loaded",
        "`certificate`; the name it is for; a renewed one",
        _certificate,
    ),
    Check(
        "client_certificate",
        "The client's certificate is taken",
        "destination",
        "whether the server wants one, and takes ours",
        "`client_certificate` and `client_key`",
        _client_certificate,
    ),
    Check(
        "protocol",
        "The port takes the protocol",
        "destination",
        "HTTP to a gRPC port and the reverse, by port number and by real answers",
        "`protocol`, or the other port",
        _protocol,
    ),
    Check(
        "path",
        "The path is the receiver's",
        "destination",
        "a doubled `/v1/traces`; 404, 405, redirects and answers that are no OTLP",
        "the endpoint without the signal's path",
        _path,
    ),
    Check(
        "credentials",
        "The server takes the credentials",
        "destination",
        "401 and 403; token files that aren't there or have expired",
        "renew or set them",
        _credentials,
    ),
    Check(
        "clock",
        "The clocks agree",
        "destination",
        "the `Date` of the server's answer (HTTP)",
        "NTP on both",
        _clock,
    ),
)

ITEMS = (
    Check(
        "span",
        "A span arrives",
        "destination",
        "a span, recorded by the engine and sent by the agent's delivery, and its ledger",
        "what the failing checks above say",
        _span,
    ),
    Check(
        "log_record",
        "A log record arrives",
        "destination",
        "a log record, the same way, where they are exported",
        "what the failing checks above say",
        _log_record,
    ),
    Check(
        "metric",
        "A metric arrives",
        "destination",
        "a metric, by the same transport",
        "a metrics pipeline in the collector",
        _metric,
    ),
)

CHECKS = (*NETWORK, *ITEMS)
