"""The checks of a receiver: why the page of the viewer is empty, or lacks something.

Imports nothing of the agent: the viewer, which runs without it, asks these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from otelagent.doctor.check import Check, Finding
from otelagent.struct import struct

__all__ = ["CHECKS", "Receiving"]

_HTTP_PORT, _GRPC_PORT = 4318, 4317
_TOLD_S, _WRONG_S = 5.0, 60.0

# What a refused request came from, by code; those that have a check of their own are left out.
_REASONS = {
    "malformed": ("no OTLP request", "send what an OTLP exporter makes; JSON needs Content-Type: application/json"),
    "unknown_encoding": ("an unknown Content-Encoding", "set the exporter's compression to gzip or none"),
    "broken_encoding": ("a broken gzip body", "look for what changes bodies on the way: a proxy, a middleware"),
    "too_large": ("too large a body", "lower the exporter's batch size (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)"),
    "unreadable": ("too large or too broken a message", "lower the exporter's batch size"),
    "too_slow": ("a message that didn't come", "look at the sender: it stopped in the middle"),
    "busy": ("no room for the moment", "nothing is lost while the sender sends again; send less at once"),
    "grpc_here": ("gRPC on the port of HTTP", "send it to gRPC's port, or OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    "tls_here": ("TLS, and there is none", "write the endpoint with http://, not https://; gRPC: insecure=true"),
    "foreign_host": ("a Host header of another name", "send to 127.0.0.1 or localhost by this name, not by another"),
    "foreign_origin": ("a page of another origin", "a browser's exporter isn't taken: send from a program"),
}
_OWN = {"unknown_type", "unknown_signal", "wrong_path", "store_failed", "no_token"}


@struct(frozen=True)
class Receiving:
    """What a receiver knows of itself and of what came.

    :ivar http: where OTLP/HTTP is taken, a URL; `http_port` is its port.
    :ivar grpc_port: where OTLP/gRPC is taken; None where it isn't, and `without_grpc` says why.
    :ivar others: by port, who listens on a standard port that isn't ours; nobody where there is none.
    :ivar received: items by signal.
    :ivar refused: requests by code.
    :ivar wrong_paths: requests by the path that nothing takes.
    :ivar ahead_s: by service, how far its newest span's end was ahead of this machine's clock when it came, seconds.
    :ivar without_spans: by service, log records of traces of which no span has come.
    :ivar store: the file; empty for a temporary one.
    :ivar store_problem: why it can't be written; empty where it can.
    :ivar lost: items that were not stored, by reason.
    """

    http: str
    http_port: int
    grpc_port: int | None
    without_grpc: str
    others: Mapping[int, str]
    received: Mapping[str, int]
    refused: Mapping[str, int]
    wrong_paths: Mapping[str, int]
    ahead_s: Mapping[str, float]
    without_spans: Mapping[str, int]
    store: str
    store_problem: str
    lost: Mapping[str, int]


def _port(seen: Receiving) -> Iterator[Finding]:
    if seen.http_port == _HTTP_PORT:
        yield Finding("pass", f"OTLP/HTTP is taken on {seen.http}, where exporters send without a setting")
        return
    other = seen.others.get(_HTTP_PORT)
    where = f"{other} listens there, and gets it" if other else "nothing listens there"
    detail = f"this viewer is on port {seen.http_port}; exporters without a setting send to {_HTTP_PORT}: {where}"
    yield Finding("warn", detail, f"set OTEL_EXPORTER_OTLP_ENDPOINT={seen.http} for what is to be seen here")


def _grpc(seen: Receiving) -> Iterator[Finding]:
    if seen.grpc_port is None:
        advice = "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf for senders that default to gRPC, or pip install grpcio"
        yield Finding("warn", f"OTLP/gRPC is not taken: {seen.without_grpc}", advice)
    elif seen.grpc_port == _GRPC_PORT:
        yield Finding("pass", f"OTLP/gRPC is taken on port {seen.grpc_port}")
    else:
        other = seen.others.get(_GRPC_PORT)
        where = f"{other} listens there, and gets it" if other else "nothing listens there"
        detail = f"OTLP/gRPC is taken on port {seen.grpc_port}; exporters without a setting send to {_GRPC_PORT}"
        advice = f"set OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{seen.grpc_port} for what sends gRPC"
        yield Finding("warn", f"{detail}: {where}", advice)


def _received(seen: Receiving) -> Iterator[Finding]:
    came = ", ".join(f"{count:,} {name}" for name, count in seen.received.items() if count)
    if seen.received.get("spans"):
        yield Finding("pass", f"{came} came")
    elif came:
        advice = "look at the sender's OTEL_TRACES_EXPORTER and sampler: they may switch spans off"
        yield Finding("warn", f"{came} came, and no span", advice)
    elif any(count for code, count in seen.refused.items() if code != "no_token"):
        yield Finding("fail", "requests came, and none could be taken", "see the checks below that don't pass")
    else:
        advice = f"start a program with it: otelagent-run --endpoint={seen.http} python app.py"
        yield Finding("warn", "nothing has come yet", advice)


def _unasked(seen: Receiving) -> Finding | None:
    """The skip of what only a request can tell."""
    came = any(seen.received.values()) or any(seen.refused.values()) or seen.wrong_paths
    return None if came else Finding("skip", "no request has come yet")


def _content_type(seen: Receiving) -> Iterator[Finding]:
    count = seen.refused.get("unknown_type", 0)
    if count:
        advice = "send Content-Type: application/x-protobuf, or application/json for OTLP/JSON"
        yield Finding("fail", f"{count:,} requests had a Content-Type that isn't OTLP's", advice)
    else:
        yield _unasked(seen) or Finding("pass", "every request was protobuf or JSON")


def _path(seen: Receiving) -> Iterator[Finding]:
    if not seen.wrong_paths:
        yield _unasked(seen) or Finding("pass", "every request was for /v1/traces, /v1/logs or /v1/metrics")
        return
    shown = ", ".join(f"{path} ({count:,})" for path, count in seen.wrong_paths.items())
    if any(path.count("/v1/") > 1 for path in seen.wrong_paths):
        advice = f"set OTEL_EXPORTER_OTLP_ENDPOINT={seen.http} without a path: the exporter appends /v1/traces itself"
    elif "/" in seen.wrong_paths:
        advice = f"append the path where the exporter doesn't: {seen.http}/v1/traces"
    else:
        advice = f"send to {seen.http}/v1/traces, …/v1/logs, …/v1/metrics"
    yield Finding("fail", f"nothing takes what was sent to {shown}", advice)


def _refused(seen: Receiving) -> Iterator[Finding]:
    found = {code: count for code, count in seen.refused.items() if count and code not in _OWN}
    if not found:
        yield _unasked(seen) or Finding("pass", "no request was turned away for another reason")
    for code, count in found.items():
        what, advice = _REASONS.get(code, (code.replace("_", " "), "see what the sender logs"))
        yield Finding("warn" if code == "busy" else "fail", f"{count:,} requests were turned away: {what}", advice)


def _sampled(seen: Receiving) -> Iterator[Finding]:
    if not seen.without_spans:
        yield Finding("pass", "no log record is of a trace that lacks here")
        return
    shown = ", ".join(f"{count:,} of {service}" for service, count in seen.without_spans.items())
    advice = "raise that service's sampler, or its caller's: a parent that isn't sampled leaves out the whole trace"
    yield Finding("warn", f"log records are of traces of which no span came: {shown}", advice)


def _clock(seen: Receiving) -> Iterator[Finding]:
    off = {service: ahead for service, ahead in seen.ahead_s.items() if ahead >= _TOLD_S}
    if not off and not seen.received.get("spans"):
        yield Finding("skip", "no span has come yet")
        return
    if not off:
        yield Finding("pass", "no span came from the future")
        return
    service, ahead = max(off.items(), key=lambda one: one[1])
    advice = "have that machine keep time (NTP): its spans stand at another time than one looks for them"
    detail = f"spans of {service} end {ahead:,.0f} s ahead of this machine's clock"
    yield Finding("fail" if ahead >= _WRONG_S else "warn", detail, advice)


def _store(seen: Receiving) -> Iterator[Finding]:
    lost = ", ".join(f"{count:,} {reason}" for reason, count in seen.lost.items() if count)
    where = seen.store or "a temporary file"
    if seen.store_problem:
        advice = "make room or give the right to write there, and start it again; --store names another file"
        yield Finding("fail", f"{where} can't be written: {seen.store_problem}", advice)
    elif lost or seen.refused.get("store_failed"):
        failed = seen.refused.get("store_failed", 0)
        detail = f"not stored: {lost or 'nothing'}; requests that failed: {failed:,}"
        yield Finding("warn", detail, "send less at once, or give the file a faster disk; who was told sends it again")
    else:
        yield Finding("pass", f"{where} takes everything")


CHECKS = (
    Check(
        "viewer_received",
        "Telemetry has come",
        "viewer",
        "whether anything was ever received, and whether spans were among it",
        "start a program with this endpoint",
        _received,
    ),
    Check(
        "viewer_port",
        "The viewer is where exporters send",
        "viewer",
        "whether OTLP/HTTP is on port 4318, and who is there if not this viewer",
        "`OTEL_EXPORTER_OTLP_ENDPOINT` with this port",
        _port,
    ),
    Check(
        "viewer_grpc",
        "OTLP/gRPC is taken",
        "viewer",
        "whether grpcio is installed, and gRPC on port 4317",
        "`pip install grpcio`, or `OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`",
        _grpc,
    ),
    Check(
        "viewer_path",
        "Requests have the right path",
        "viewer",
        "requests for `/`, `/v1/traces/v1/traces` and the like",
        "the endpoint without or with the signal's path",
        _path,
    ),
    Check(
        "viewer_content_type",
        "Requests have OTLP's Content-Type",
        "viewer",
        "requests with another one",
        "`application/x-protobuf` or `application/json`",
        _content_type,
    ),
    Check(
        "viewer_refused",
        "Requests can be taken",
        "viewer",
        "requests that were turned away, by reason; gRPC or TLS on the port of HTTP",
        "what the reason says",
        _refused,
    ),
    Check(
        "viewer_sampled",
        "Traces aren't sampled out",
        "viewer",
        "log records of traces of which no span came",
        "the sender's sampler, or its caller's",
        _sampled,
    ),
    Check(
        "viewer_clock",
        "Spans aren't from the future",
        "viewer",
        "spans that end after the moment at which they came",
        "NTP on the sender's machine",
        _clock,
    ),
    Check(
        "viewer_store",
        "The store takes everything",
        "viewer",
        "whether the file can be written, and what was not stored",
        "room, rights, or another `--store`",
        _store,
    ),
)
