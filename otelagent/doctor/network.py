"""The checks of the way to a destination: name, port, proxy, TLS, protocol."""

from __future__ import annotations

from collections.abc import Iterator

from otelagent.doctor.check import Check, Finding
from otelagent.doctor.receiver import without_receiver
from otelagent.doctor.target import Target

__all__ = ["CHECKS"]

# OpenSSL's X509_V_ERR_*: of the certificate's time, and of its name.
_NOT_YET, _EXPIRED, _HOSTNAME, _IP = 9, 10, 62, 64
_FILES = ("certificate", "client_certificate", "client_key")


def _dns(target: Target) -> Iterator[Finding]:
    place = target.place
    found, problem = place.addresses
    if found:
        yield Finding("pass", f"{place.host} is {', '.join(address for _, address in found)}", about=str(place))
    else:
        advice = (
            f"correct the host in {target.to_set('endpoint')}, or use its IP address; "
            "in a container, the service's name and network"
        )
        yield Finding("fail", f"{place.host} has no address: {problem}", advice, str(place))


def _connect(target: Target) -> Iterator[Finding]:
    place = target.place
    if not place.addresses[0]:
        yield Finding("skip", "its name has no address", about=str(place))
    elif place.reachable is not None:
        yield Finding("pass", f"{place.reachable} port {place.port} takes connections", about=str(place))
    else:
        said = "; ".join(f"{address} port {place.port}: {problem}" for address, problem in place.connections.items())
        advice = (
            f"start the collector there, or set {target.to_set('endpoint')} to where it listens; "
            "without one, try otelagent-run --ui"
        )
        if not place.has_port:
            there = target.endpoint_to_set(f"{place}".removesuffix(str(place.port)) + "4318")
            advice = f"the endpoint has no port, and OTLP/HTTP's is usually 4318: set {there}"
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
        there = target.endpoint_to_set(f"{scheme}://{shown}:{place.port}")
        advice = f"set {there}, or have the collector listen on {place.host} too"
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
    left_out = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    if given is None or _is_among(place.host, left_out):
        yield Finding("pass", "no proxy is set for it", about=str(place))
        return
    detail = f"{given} is set, and exports never go through a proxy"
    if place.reachable is not None:
        yield Finding("pass", f"{detail}; the place is reached without", about=str(place))
    else:
        advice = "let this host reach the collector directly, or send to a collector on this side of the proxy"
        yield Finding("fail", f"{detail}; without it the place isn't reached", advice, str(place))


def _is_among(host: str, names: str) -> bool:
    """Whether ``NO_PROXY`` has a host: by its name or a domain of it, without or with a port, or by ``*`` for all."""
    for name in names.split(","):
        name = name.strip().lstrip("*.").partition(":")[0].lower()
        if (name and (host == name or host.endswith(f".{name}"))) or names.strip() == "*":
            return True
    return False


def _scheme(target: Target) -> Iterator[Finding]:
    place = target.place
    if place.reachable is None:
        yield Finding("skip", "nothing takes connections", about=str(place))
    elif target.answered:
        yield Finding("pass", "TLS" if place.tls else "plaintext", about=str(place))
    elif place.tls and not place.handshake.tls:
        plain = target.endpoint_to_set(str(place).replace("https", "http", 1))
        advice = f"set {plain}, or TLS on the collector's receiver"
        yield Finding("fail", f"port {place.port} doesn't speak TLS, and the endpoint is https", advice, str(place))
    elif not place.tls and place.speaks_tls:
        advice = f"set {target.endpoint_to_set(str(place).replace('http', 'https', 1))}"
        yield Finding("fail", f"port {place.port} speaks TLS, and the endpoint is http", advice, str(place))
    elif place.tls or place.speaks_http1 or place.speaks_http2:
        yield Finding("pass", "TLS" if place.tls else "plaintext", about=str(place))
    else:
        yield Finding("skip", "it says nothing that would tell", about=str(place))


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
        advice = f"set {target.to_set('certificate')} to the PEM file of the authority that signed it"
    else:
        names = [name for name in _FILES if getattr(target.export.otlp, name)]
        advice = f"correct the file that is named, of {', '.join(map(target.to_set, names))}"
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
        advice = f"set {target.to_set('client_certificate')}, and {target.to_set('client_key')}"
        yield Finding("fail", f"the server ends the handshake: {problem}; none is set", advice, str(place))
    else:
        advice = "use a certificate of the authority that the collector trusts (client_ca_file), with its own key"
        yield Finding("fail", f"the server refuses {otlp.client_certificate}: {problem}", advice, str(place))


def _protocol(target: Target) -> Iterator[Finding]:
    place, protocol = target.place, target.export.otlp.protocol
    if target.standing == "unreachable":
        yield from _protocol_by_port(target)
    elif target.standing == "other protocol" and protocol == "grpc":
        advice = f"set {target.to_set('protocol', 'http/protobuf')}, or use the collector's gRPC port, usually 4317"
        yield Finding("fail", f"port {place.port} speaks no gRPC, but HTTP", advice, str(place))
    elif target.standing == "other protocol":
        advice = f"set {target.to_set('protocol', 'grpc')}, or use the collector's OTLP/HTTP port, usually 4318"
        detail = f"port {place.port} doesn't answer HTTP/1.1, but HTTP/2, as gRPC has it"
        yield Finding("fail", detail, advice, str(place))
    else:
        yield without_receiver(target) or Finding("pass", f"port {place.port} takes {protocol}", about=str(place))


def _protocol_by_port(target: Target) -> Iterator[Finding]:
    place, protocol = target.place, target.export.otlp.protocol
    usual = {4317: "grpc", 4318: "http/protobuf"}.get(place.port, protocol)
    if usual == protocol:
        yield Finding("skip", "nothing takes connections", about=str(place))
    else:
        advice = f"set {target.to_set('protocol', usual)}, or use port {4317 if protocol == 'grpc' else 4318}"
        yield Finding(
            "warn", f"port {place.port} is usually for {usual}, and the protocol is {protocol}", advice, str(place)
        )


CHECKS = (
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
        "`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `grpc_proxy` and `NO_PROXY`: exports never use a proxy",
        "reach the collector directly, or send to one on this side",
        _proxy,
    ),
    Check(
        "scheme",
        "The scheme fits the port",
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
)
