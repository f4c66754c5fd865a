"""What a terminal shows of a span, read from an encoded request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["Span", "read_request"]

# Characters kept of a text: no line is longer, and what waits for its root stays small.
_MAX_TEXT = 300

_STATUS_ERROR = 2
# SpanFlags of opentelemetry/proto/trace/v1/trace.proto.
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
_KINDS = {2: "server", 3: "client", 4: "producer", 5: "consumer"}
_SERVED = ("server", "consumer")

# What says more than the name does, the first that is there. The older names are those of contrib instrumentations.
_ABOUT = (
    "db.query.text",
    "db.statement",
    "url.full",
    "http.url",
    "rpc.method",
    "messaging.destination.name",
)
_HTTP_STATUS = ("http.response.status_code", "http.status_code")
_EXCEPTION = ("exception.type", "exception.message")
_WANTED = frozenset((*_ABOUT, *_HTTP_STATUS, "error.type", "url.path"))


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended. Its texts are as they came, cut: whoever shows them escapes them.

    :ivar parent_id: empty for none.
    :ivar local_root: whether its parent is in another process, or there is none.
    :ivar kind: ``server``, ``client``, ``producer``, ``consumer``, or empty.
    :ivar http_status: empty for none.
    :ivar about: what it does in particular: SQL, an address.
    :ivar error: what went wrong if it failed: the exception's type and message, or what its status says.
    """

    service: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    local_root: bool
    name: str
    kind: str
    start_ns: int
    end_ns: int
    failed: bool
    http_status: str
    about: str
    error: str

    @property
    def duration_ns(self) -> int:
        """Never negative, whatever the clock did."""
        return max(self.end_ns - self.start_ns, 0)


def read_request(body: bytes) -> list[Span]:
    """The spans of an ``ExportTraceServiceRequest`` in its order, but for those that still run (they have no end).

    :raises google.protobuf.message.DecodeError: the body is no such request.
    """
    return list(_spans(ExportTraceServiceRequest.FromString(body)))


def _spans(request: Any) -> Iterator[Span]:
    for group in request.resource_spans:
        service = next((_text(one.value) for one in group.resource.attributes if one.key == "service.name"), "")
        for scope in group.scope_spans:
            for span in scope.spans:
                if span.end_time_unix_nano:
                    yield _span(span, service)


def _span(span: Any, service: str) -> Span:
    kind = _KINDS.get(span.kind, "")
    found = {one.key: _text(one.value) for one in span.attributes if one.key in _WANTED}
    failed = span.status.code == _STATUS_ERROR
    return Span(
        service=service,
        trace_id=span.trace_id,
        span_id=span.span_id,
        parent_id=span.parent_span_id,
        local_root=_is_local_root(span, kind),
        name=_cut(span.name),
        kind=kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=failed,
        http_status=next((found[key] for key in _HTTP_STATUS if key in found), ""),
        about=next((found[key] for key in _ABOUT if key in found), "") or _path(span.name, kind, found),
        error=_error(span, found) if failed else "",
    )


def _is_local_root(span: Any, kind: str) -> bool:
    if not span.parent_span_id:
        return True
    if span.flags & _HAS_IS_REMOTE:
        return bool(span.flags & _IS_REMOTE)
    return kind in _SERVED  # An encoder that doesn't say; most of these have been called from elsewhere.


def _path(name: str, kind: str, found: dict[str, str]) -> str:
    """The path of a request whose span isn't named after a route."""
    path = found.get("url.path", "")
    return path if kind == "server" and "/" not in name else ""


def _error(span: Any, found: dict[str, str]) -> str:
    for event in reversed(span.events):
        if event.name == "exception":
            parts = {one.key: _text(one.value) for one in event.attributes if one.key in _EXCEPTION}
            return ": ".join(parts[key] for key in _EXCEPTION if parts.get(key)) or "exception"
    return _cut(span.status.message) or found.get("error.type", "")


def _text(value: Any) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return _cut(value.string_value)
    return str(getattr(value, kind)) if kind in ("int_value", "double_value", "bool_value") else ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
