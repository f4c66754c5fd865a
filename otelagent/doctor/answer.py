"""The checks of what a destination says: to the path, to the credentials, to a span, a log record and a metric."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

from otelagent.delivery import Accepted, Retryable
from otelagent.delivery.result import REFUSED
from otelagent.delivery.signals import SIGNALS
from otelagent.doctor.check import Check, Finding
from otelagent.doctor.receiver import without_receiver
from otelagent.doctor.synthetic import Sending
from otelagent.doctor.target import Target

__all__ = ["CHECKS", "ITEMS"]

_TOLD_S, _WRONG_S = 5.0, 60.0
# What is done about an answer that says nothing of the endpoint, by its reason.
_ADVICE = {
    "timeout": "look at the server, which takes connections and doesn't answer; --timeout waits longer",
    "grpc_deadline_exceeded": "look at the server, which takes connections and doesn't answer; --timeout waits longer",
    "http_429": "the server limits what it takes: raise its limit, or send it less",
    "grpc_resource_exhausted": "the server limits what it takes: raise its limit, or send it less",
    "http_502": "what answers is a proxy: start the receiver behind it, or correct where it passes this on to",
    "http_503": "the server isn't ready or has too much to do: see its log",
    "http_504": "what answers is a proxy: look at the receiver behind it, which doesn't answer it",
    "grpc_unavailable": "the server isn't ready or has too much to do: see its log",
}
_ITEMS = {"traces": "span", "logs": "log record", "metrics": "metric"}


def _path(target: Target) -> Iterator[Finding]:
    place, otlp = target.place, target.export.otlp
    if otlp.protocol == "grpc":
        return
    usual = SIGNALS[target.signal].path
    segments = place.path.rstrip("/")
    appended = "which is used as it is" if target.endpoint_is_whole else f"to which {usual} is appended"
    if segments.count("/v1/") > 1 and segments.endswith(usual) and not target.arrived:
        right = segments[: segments.index("/v1/")]
        advice = f"set {target.endpoint_to_set(path=right)}, {appended}"
        yield Finding("fail", f"the path is doubled: {place.path}", advice, str(place))
    elif target.standing == "other path":
        said = target.reason.removeprefix("http_") if target.reason.startswith("http_") else target.message
        advice = f"set {target.endpoint_to_set(path=target.path_that_takes)}, {appended}"
        yield Finding("fail", f"the answer to {place.path} is {said}", advice, str(place))
    elif target.standing == "other protocol":
        yield Finding("skip", "the protocol doesn't fit", about=str(place))
    else:
        yield without_receiver(target) or Finding("pass", place.path, about=str(place))


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
    elif target.reason in REFUSED:
        if not used:
            header = target.to_set("headers", "" if otlp.headers else "authorization=Bearer%20…")
            header = f"add authorization=Bearer%20… to {header}" if otlp.headers else f"set {header}"
            files = f"{target.to_set('bearer_token_file')}, or {target.to_set('oauth2_token_url')}"
            advice = f"{header}, or set {files}; see docs/authentication.md"
        elif target.reason in ("http_403", "grpc_permission_denied"):
            advice = "the server knows who it is: have it allow this one to write"
        else:
            advice = f"the server doesn't take what {shown} has: renew or correct it"
        code = target.reason.replace("http_", "").replace("grpc_", "")
        yield Finding("fail", f"the server refuses with {code}; credentials: {shown}", advice, str(place))
    elif target.arrived:
        yield Finding("pass", f"the server takes {shown}" if used else "the server wants none", about=str(place))
    else:
        unsaid = Finding("skip", "there was no answer that says so", about=str(place))
        yield without_receiver(target) or unsaid


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
    if target.standing in ("unreachable", "tls", "none") and (skip := without_receiver(target)):
        yield skip
        return
    answer = place.answer if target.answered and target.over_http else None
    ahead_s = None if answer is None else answer.ahead_s
    if ahead_s is None:
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
    yield _told(target, target.sending, target.signal)


def _told(target: Target, sending: Sending, signal: str) -> Finding:
    about = target.about
    item, result, ledger = _ITEMS[signal], sending.result, sending.ledger
    lost = ", ".join(f"{reason} {count}" for reason, count in {**ledger.rejected, **ledger.dropped}.items())
    books = f"ended {ledger.ended} = delivered {ledger.delivered} + lost {lost or 0}"
    if isinstance(result, Accepted) and not result.rejected_items:
        return Finding("pass", f"the {item} was taken ({books})", about=about)
    if isinstance(result, Accepted):
        advice = "the server took the request and refused what is in it: see what it says"
        return Finding("fail", f"the {item} was refused: {result.message or 'without a reason'}", advice, about)
    if result is None:
        return Finding("fail", f"the {item} had no answer in time", _advice(target, "timeout"), about)
    what = "can't be delivered now" if isinstance(result, Retryable) else "was refused"
    said = f": {result.message}" if result.message else ""
    detail = f"the {item} {what}: {result.reason}{said} ({books})"
    return Finding("fail", detail, _advice(target, result.reason), about)


def _advice(target: Target, reason: str) -> str:
    """What fails on the way, or else what the answer says."""
    if target.failed:
        return f"see what fails: {', '.join(target.failed)}"
    if target.export.exporter != "otlp":
        return f"correct {target.to_set('file')}"
    if target.standing == "other signals":
        there = target.to_set("endpoint")
        return f"it takes OTLP, but no {target.signal}: give it a {target.signal} pipeline, or set {there} to another"
    return _ADVICE.get(reason, "see what the server logs about it")


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
    finding = _told(target, sending, "metrics")
    if finding.status == "fail":
        advice = "the agent exports no metrics itself; to send some, give the collector a metrics pipeline"
        finding = Finding("warn", finding.detail, advice, finding.about)
    yield finding


CHECKS = (
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
