"""Reads spans back from the collector's file, Jaeger and Zipkin into one form, and draws a trace as a text tree.

What each of them can't give:

- **file**: everything is there; it is the record to compare the others with. One line is one request as the
  exporter wrote it. A line without its end is still being written and is left out.
- **Jaeger** (API v3, which answers in OTLP): everything is there.
- **Zipkin**: `service` and `name` are lower-cased. Times are rounded to microseconds, and a duration of less than
  one becomes one. Every attribute value is a string, and resource and scope attributes are mixed into the span's
  (`resource` is empty). `peer.service` and the peer's address move into a remote endpoint, of which the service comes
  back as `peer.service`, lower-cased; `http.status_code` is added beside `http.response.status_code`. When several
  scopes share a resource, one without a name gets its predecessor's. Events and links, which Zipkin doesn't know,
  come back from the text that the exporter makes of them.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "Event",
    "Link",
    "Span",
    "collector_requests",
    "collector_spans",
    "jaeger_services",
    "jaeger_trace",
    "jaeger_traces",
    "spans_of_request",
    "tree",
    "wait_for",
    "zipkin_services",
    "zipkin_trace",
    "zipkin_traces",
]

Value = Any  # str, bool, int, float, bytes as base64 text, list or dict of these, None

HTTP_TIMEOUT_S = 10.0
LOOKBACK_S = 3600.0
POLL_S = 0.05

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Event:
    """Something that happened at one moment of a span."""

    time_ns: int
    name: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """A reference from a span to one of another trace."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """A span as a back end tells it. Ids are lower-case hex; `parent_id` is "" for a root.

    `kind` is unspecified, internal, server, client, producer or consumer; `status` is unset, ok or error.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    start_ns: int
    duration_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    status: str = "unset"
    status_message: str = ""
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    scope: str = ""
    resource: Mapping[str, Value] = field(default_factory=dict)

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.duration_ns


# --- the collector's file ---------------------------------------------------------------------------------------


def collector_requests(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Every request in the file, decoded from JSON, in the order of arrival; none if the file isn't there yet."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return []
    complete = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in complete.split(b"\n") if line]


def collector_spans(path: str | os.PathLike[str], trace_id: str | None = None) -> list[Span]:
    """Every span in the file (of one trace, when told), in the order of arrival. Duplicates are kept."""
    spans = (span for request in collector_requests(path) for span in spans_of_request(request))
    return [span for span in spans if trace_id is None or span.trace_id == trace_id.lower()]


def spans_of_request(request: Mapping[str, Any]) -> Iterator[Span]:
    """The spans of one OTLP/JSON trace request; none if it is one of metrics or logs."""
    for resource_spans in request.get("resourceSpans", ()):
        resource = _attributes(resource_spans.get("resource", {}).get("attributes", ()))
        service = str(resource.get("service.name", ""))
        for scope_spans in resource_spans.get("scopeSpans", ()):
            scope = scope_spans.get("scope", {}).get("name", "")
            for span in scope_spans.get("spans", ()):
                yield _otlp_span(span, service, scope, resource)


def _otlp_span(span: Mapping[str, Any], service: str, scope: str, resource: Mapping[str, Value]) -> Span:
    start = int(span.get("startTimeUnixNano", 0))
    status = span.get("status", {})
    return Span(
        trace_id=span["traceId"].lower(),
        span_id=span["spanId"].lower(),
        parent_id=span.get("parentSpanId", "").lower(),
        name=span.get("name", ""),
        kind=_KINDS[span.get("kind", 0)],
        service=service,
        start_ns=start,
        duration_ns=int(span.get("endTimeUnixNano", start)) - start,
        attributes=_attributes(span.get("attributes", ())),
        status=_STATUSES[status.get("code", 0)],
        status_message=status.get("message", ""),
        events=tuple(
            Event(int(event.get("timeUnixNano", 0)), event.get("name", ""), _attributes(event.get("attributes", ())))
            for event in span.get("events", ())
        ),
        links=tuple(
            Link(link["traceId"].lower(), link["spanId"].lower(), _attributes(link.get("attributes", ())))
            for link in span.get("links", ())
        ),
        scope=scope,
        resource=resource,
    )


def _attributes(pairs: Iterable[Mapping[str, Any]]) -> dict[str, Value]:
    return {pair["key"]: _value(pair.get("value", {})) for pair in pairs}


def _value(value: Mapping[str, Any]) -> Value:
    """One OTLP AnyValue in its JSON form: 64-bit integers are text there, and an empty value is an empty object."""
    for kind, content in value.items():
        if kind == "intValue":
            return int(content)
        if kind == "doubleValue":
            return float(content)  # NaN and Infinity are text
        if kind == "arrayValue":
            return [_value(item) for item in content.get("values", ())]
        if kind == "kvlistValue":
            return _attributes(content.get("values", ()))
        return content
    return None


# --- Jaeger -----------------------------------------------------------------------------------------------------


def jaeger_trace(url: str, trace_id: str) -> list[Span]:
    """The spans of a trace, without Jaeger's own corrections (clock skew, duplicates); empty if it has none.

    Spans of one trace may arrive in several requests: wait for the number that is expected, not for the first.
    """
    answer = _get(url, f"/api/v3/traces/{trace_id.lower()}", {"raw_traces": "true"})
    return list(spans_of_request((answer or {}).get("result", {})))


def jaeger_traces(url: str, service: str, *, limit: int = 100, lookback_s: float = LOOKBACK_S) -> list[list[Span]]:
    """The traces in which `service` took part in the last `lookback_s` seconds, each as the list of its spans."""
    now = time.time()
    query = {
        "query.service_name": service,
        "query.start_time_min": _rfc3339(now - lookback_s),
        "query.start_time_max": _rfc3339(now + 60),
        "query.num_traces": str(limit),
        "query.raw_traces": "true",
    }
    answer = _get(url, "/api/v3/traces", query)
    return _by_trace(spans_of_request((answer or {}).get("result", {})))


def jaeger_services(url: str) -> list[str]:
    """The names of the services that Jaeger has seen."""
    return sorted((_get(url, "/api/v3/services") or {}).get("services", ()))


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- Zipkin -----------------------------------------------------------------------------------------------------


def zipkin_trace(url: str, trace_id: str) -> list[Span]:
    """The spans of a trace; empty if Zipkin has none."""
    wanted = trace_id.lower()
    if wanted.startswith("0" * 16):  # Zipkin writes such an id in its 64-bit form
        wanted = wanted[16:]
    return [_zipkin_span(span) for span in _get(url, f"/api/v2/trace/{wanted}") or ()]


def zipkin_traces(url: str, service: str, *, limit: int = 100, lookback_s: float = LOOKBACK_S) -> list[list[Span]]:
    """The traces in which `service` took part in the last `lookback_s` seconds, each as the list of its spans."""
    query = {
        "serviceName": service.lower(),
        "limit": str(limit),
        "lookback": str(int(lookback_s * 1000)),
        "endTs": str(int((time.time() + 60) * 1000)),
    }
    answer = _get(url, "/api/v2/traces", query)
    return [[_zipkin_span(span) for span in trace] for trace in answer or ()]


def zipkin_services(url: str) -> list[str]:
    """The names of the services that Zipkin has seen, in lower case."""
    return sorted(_get(url, "/api/v2/services") or ())


def _zipkin_span(span: Mapping[str, Any]) -> Span:
    tags: dict[str, Value] = dict(span.get("tags", {}))
    remote = span.get("remoteEndpoint", {}).get("serviceName")
    if remote:
        tags["peer.service"] = remote
    status = {"STATUS_CODE_ERROR": "error", "STATUS_CODE_OK": "ok"}.get(tags.pop("otel.status_code", ""), "unset")
    if status == "error":
        tags.pop("error", None)
    kind = span.get("kind", tags.pop("span.kind", "unspecified")).lower()
    numbers = sorted(int(key[10:]) for key in tags if key.startswith("otlp.link.") and key[10:].isdigit())
    links = tuple(_zipkin_link(tags.pop(f"otlp.link.{number}")) for number in numbers)
    return Span(
        trace_id=span["traceId"].lower().zfill(32),
        span_id=span["id"].lower(),
        parent_id=span.get("parentId", "").lower(),
        name=span.get("name", ""),
        kind=kind,
        service=span.get("localEndpoint", {}).get("serviceName", ""),
        start_ns=span.get("timestamp", 0) * 1000,
        duration_ns=span.get("duration", 0) * 1000,
        status=status,
        status_message=tags.pop("otel.status_description", ""),
        events=tuple(_zipkin_event(note) for note in span.get("annotations", ())),
        links=links,
        scope=tags.pop("otel.library.name", ""),
        attributes=tags,
    )


def _zipkin_event(note: Mapping[str, Any]) -> Event:
    """An annotation: the event's name, or `name|attributes as JSON|dropped` when it had attributes."""
    text: str = note["value"]
    time_ns = note["timestamp"] * 1000
    name, bar, rest = text.partition("|{")
    if bar:
        try:
            return Event(time_ns, name, json.loads("{" + rest.rpartition("|")[0]))
        except ValueError:
            pass
    return Event(time_ns, text)


def _zipkin_link(text: str) -> Link:
    """`trace id|span id|trace state|attributes as JSON|dropped`."""
    trace_id, span_id, rest = text.split("|", 2)
    begin = rest.find("|{")
    try:
        attributes = json.loads(rest[begin + 1 :].rpartition("|")[0]) if begin >= 0 else {}
    except ValueError:
        attributes = {}
    return Link(trace_id, span_id, attributes)


# --- asking -----------------------------------------------------------------------------------------------------

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(url: str, path: str, query: Mapping[str, str] | None = None) -> Any:
    """The JSON at `path`, or None for 404: to a back end that is what an unknown trace is."""
    address = url.rstrip("/") + path + ("?" + urllib.parse.urlencode(query) if query else "")
    try:
        with _direct.open(address, timeout=HTTP_TIMEOUT_S) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 404:
                return None
            text = error.read(500).decode(errors="replace")
            raise OSError(f"{address} answered {error.code}: {text}") from error


def wait_for(predicate: Callable[[], _T], deadline_s: float = 10.0, *, what: str = "") -> _T:
    """Call `predicate` until it returns something true, and return that.

    Raises TimeoutError after `deadline_s` seconds, naming `what` was awaited and what came last. A connection that
    is refused counts as "not yet", every other error is raised.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        last: object
        try:
            value = predicate()
            if value:
                return value
            last = value
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
            last = error
        except ConnectionError as error:
            last = error
        if time.monotonic() >= deadline:
            awaited = what or getattr(predicate, "__name__", "it")
            raise TimeoutError(f"waited {deadline_s:g} s for {awaited}; last was {last!r:.2000}")
        time.sleep(POLL_S)


def _by_trace(spans: Iterable[Span]) -> list[list[Span]]:
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    return list(traces.values())


# --- drawing ----------------------------------------------------------------------------------------------------

# In this order; the first MAX_SHOWN of those that a span has are shown.
KEY_ATTRIBUTES = (
    "http.request.method",
    "http.route",
    "url.path",
    "http.response.status_code",
    "rpc.system",
    "rpc.method",
    "db.system.name",
    "db.operation.name",
    "db.collection.name",
    "messaging.system",
    "messaging.operation.type",
    "messaging.destination.name",
    "error.type",
    "server.address",
)
MAX_SHOWN = 4
MAX_VALUE_CHARACTERS = 40


def tree(spans: Iterable[Span], *, attributes: Sequence[str] = KEY_ATTRIBUTES) -> str:
    """Draw each trace among `spans` as a text tree: name, service, kind, duration, status and a few attributes.

    A parent that isn't among the spans is drawn as `(missing parent …)` above its children, spans that are their own
    ancestors below `(cycle)`, and a second span with an id already drawn is marked `(duplicate id)`: nothing is hidden.
    """
    return "\n".join(_draw_trace(trace, attributes) for trace in _by_trace(spans))


def _draw_trace(spans: list[Span], attributes: Sequence[str]) -> str:
    ordered = sorted(spans, key=lambda span: (span.start_ns, -span.duration_ns))
    first: dict[str, Span] = {}
    for span in ordered:
        first.setdefault(span.span_id, span)
    children: dict[str, list[Span]] = {}
    for span in ordered:
        children.setdefault(span.parent_id, []).append(span)

    drawn: set[int] = set()
    lines: list[str] = []

    def draw(span: Span, lead: str, branch: str, below: str) -> None:
        pending = [(span, lead + branch, lead + below)]
        while pending:
            current, head, indent = pending.pop()
            drawn.add(id(current))
            original = first[current.span_id] is current
            lines.append(head + _describe(current, attributes) + ("" if original else "  (duplicate id)"))
            own = [child for child in children.get(current.span_id, ()) if id(child) not in drawn] if original else []
            last = len(own) - 1
            for position in range(last, -1, -1):
                end = position == last
                pending.append((own[position], indent + ("└─ " if end else "├─ "), indent + ("   " if end else "│  ")))

    for root in children.get("", ()):
        draw(root, "", "", "")
    for parent_id, orphans in children.items():
        if parent_id and parent_id not in first:
            lines.append(f"(missing parent {parent_id})")
            for position, orphan in enumerate(orphans):
                end = position == len(orphans) - 1
                draw(orphan, "", "└─ " if end else "├─ ", "   " if end else "│  ")
    for span in ordered:
        if id(span) not in drawn:
            lines.append("(cycle)")
            draw(span, "", "└─ ", "   ")

    services = {span.service for span in spans}
    length = max(span.end_ns for span in spans) - min(span.start_ns for span in spans)
    head = f"trace {spans[0].trace_id} · {_count(len(spans), 'span')} · {_count(len(services), 'service')}"
    return "\n".join([f"{head} · {_duration(length)}", *lines])


def _describe(span: Span, attributes: Sequence[str]) -> str:
    parts = [f"{span.service or '?'}: {span.name or '?'}", f"[{span.kind}]", _duration(span.duration_ns)]
    if span.status != "unset":
        parts.append(span.status.upper() + (f" {_shorten(span.status_message)!r}" if span.status_message else ""))
    shown = [(name, span.attributes[name]) for name in attributes if name in span.attributes][:MAX_SHOWN]
    parts += [f"{name}={_shorten(str(value))}" for name, value in shown]
    if span.links:
        parts.append(f"→ {_count(len(span.links), 'link')}")
    parts += [f"!{event.attributes.get('exception.type', '?')}" for event in span.events if event.name == "exception"]
    return "  ".join(parts)


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_VALUE_CHARACTERS else line[: MAX_VALUE_CHARACTERS - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(nanoseconds: int) -> str:
    for limit, divisor, unit in ((1_000, 1, "ns"), (1_000_000, 1_000, "µs"), (1_000_000_000, 1_000_000, "ms")):
        if abs(nanoseconds) < limit:
            return f"{nanoseconds / divisor:.3g} {unit}"
    return f"{nanoseconds / 1_000_000_000:.3f} s"
