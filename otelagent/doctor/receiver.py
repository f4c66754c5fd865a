"""The check of what answers at a destination: whether it is an OTLP receiver, and if not, what else it is."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from otelagent.delivery.result import REFUSED
from otelagent.doctor.check import Check, Finding
from otelagent.doctor.place import Place
from otelagent.doctor.target import Target
from otelagent.struct import struct

__all__ = ["CHECKS", "without_receiver"]


@struct(frozen=True)
class _Known:
    """A server that is taken for a receiver, known by the title of its page, or where it has none by its usual port.

    :ivar otlp: whether it takes spans on the standard ports.
    :ivar why: what it does with spans.
    """

    name: str
    port: int
    otlp: bool
    why: str


_KNOWN = (
    _Known("Jaeger", 16686, True, "this is its page"),
    _Known("Jaeger", 14268, True, "this is for Jaeger's own format"),
    _Known("Grafana", 3000, False, "it shows spans and takes none; what it shows them from, such as Tempo, does"),
    _Known("Prometheus", 9090, False, "it takes metrics and no spans"),
    _Known("Zipkin", 9411, False, "it takes its own format alone, which a collector can export to it"),
)
_PORTS = {"http/protobuf": 4318, "grpc": 4317}


def without_receiver(target: Target) -> Finding | None:
    """The skip of what only a receiver's answer can tell; None where there is such an answer."""
    reasons = {
        "unreachable": "nothing takes connections",
        "tls": "TLS fails before that",
        "none": "what answers is no OTLP receiver",
        "unknown": "there was no answer that says so",
    }
    reason = reasons.get(target.standing)
    if target.reason in REFUSED:
        reason = "credentials come first"
    return None if reason is None else Finding("skip", reason, about=str(target.place))


def _receiver(target: Target) -> Iterator[Finding]:
    place = target.place
    if target.standing == "none":
        who = f" (it is {place.who})" if place.who else ""
        detail = f"what listens on port {place.port} is no OTLP receiver{who}: {_said(target)}"
        yield Finding("fail", detail, _advice(target), str(place))
    elif target.arrived and target.over_http and _answers_with_a_page(place):
        who = f" (it is {place.who})" if place.who else ""
        detail = f"what listens on port {place.port}{who} answers as a page does, and nothing: it may take anything"
        advice = f"see whether the span is there; if not, set {target.to_set('endpoint')} to where a receiver listens"
        yield Finding("warn", detail, advice, str(place))
    else:
        yield without_receiver(target) or Finding("pass", f"port {place.port} takes OTLP", about=str(place))


def _answers_with_a_page(place: Place) -> bool:
    """Whether an empty request is answered so. It has no credentials: what refuses it says nothing of the item."""
    return place.answer is not None and place.answer.status == 200 and place.answer.media == "text/html"


def _said(target: Target) -> str:
    place, reason = target.place, target.reason
    if reason.startswith("http_"):
        return f"it answers {reason.removeprefix('http_')} to {place.path}"
    if reason in ("redirect", "malformed_response"):
        return target.message.partition(": check the endpoint")[0]
    if place.speaks_http1:
        return "it speaks HTTP, and no OTLP"
    if place.speaks_http2:
        return "it speaks gRPC, and takes no OTLP"
    return "what it answers is neither HTTP nor gRPC"


def _advice(target: Target) -> str:
    place = target.place
    for known in _KNOWN:
        if known.name not in place.page_title and (place.page_title or known.port != place.port):
            continue
        name = known.name if place.page_title else f"port {place.port} is usually {known.name}'s"
        if not known.otlp:
            return f"set {target.to_set('endpoint')} to where an OTLP receiver listens; {name}: {known.why}"
        port = _PORTS[target.export.otlp.protocol]
        there = target.endpoint_to_set(f"{str(place).rpartition(':')[0]}:{port}", path="")
        return f"set {there}, where it takes OTLP; {name}: {known.why}"
    if origin := _same_host_with_tls(place):
        return f"set {target.endpoint_to_set(origin)}, which is where it redirects to"
    advice = f"set {target.to_set('endpoint')} to where an OTLP receiver listens, or start one there instead"
    if target.over_http and place.speaks_http1 and not place.is_here:
        advice += "; a backend that takes OTLP under a path of its own needs it in the endpoint"
    return f"{advice}; to have one, try otelagent-run --ui"


def _same_host_with_tls(place: Place) -> str:
    """The origin to which it redirects if only scheme and port are others; empty if it doesn't."""
    if place.tls or place.answer is None:
        return ""
    try:
        url = urlsplit(place.answer.location)
        port = url.port
    except ValueError:
        return ""
    if url.scheme != "https" or url.hostname != place.host:
        return ""
    host = str(place).partition("://")[2].rpartition(":")[0]
    return f"https://{host}" if port is None else f"https://{host}:{port}"


CHECKS = (
    Check(
        "receiver",
        "An OTLP receiver answers",
        "destination",
        "answers that no receiver gives: 404, 405, 415, 501, a page, a redirect, no HTTP; which program gives them",
        "the endpoint of a receiver, or one started there",
        _receiver,
    ),
)
