"""Propagation headers: their text to ids and back, in Python. The native engine brings the same functions of its own.

What is malformed is as if it weren't there. Nothing here raises for what a caller sends, or looks further than so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import TraceState

__all__ = [
    "MAX_MEMBERS",
    "Codec",
    "Formats",
    "Ids",
    "format_b3",
    "format_traceparent",
    "formats",
    "is_member",
    "parse_b3",
    "parse_b3_multi",
    "parse_traceparent",
    "parse_tracestate",
]

Ids = tuple[int, int, int]
"""Trace id, span id, trace flags."""

# https://www.w3.org/TR/trace-context-2/#traceparent-header-field-values. A later version may append `-…`.
_TRACEPARENT = re.compile(
    r"[ \t]*(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[\t -~]*)?[ \t]*"
)
_MAX_LENGTH = 512

# Bits of trace-flags with a meaning, sampled and random-trace-id; "vendors MUST set the others to zero" when they
# propagate.
_KNOWN_FLAGS = 3
_SAMPLED = 1

# https://www.w3.org/TR/trace-context-2/#key: a letter or digit, then up to 255 of these, `@` among them.
_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
#: Most members of a tracestate.
MAX_MEMBERS = 32
# The specification asks for at least 512 characters; the API cuts off here too.
_TRACESTATE_MAX = 8192

# https://github.com/openzipkin/b3-propagation. 64-bit trace ids are padded on the left.
_B3_TRACE_ID = re.compile(r"(?!0+$)(?:[0-9a-fA-F]{16}|[0-9a-fA-F]{32})")
_B3_SPAN_ID = re.compile(r"(?!0+$)[0-9a-fA-F]{16}")
# `true` is what older senders write, `d` asks for debugging.
_B3_SAMPLED = frozenset(("1", "d", "true", "True"))


MakeTraceState = Callable[[dict[str, str]], "TraceState"]


class Formats(Protocol):
    """All formats of a propagator at once, read and written by an engine that needs no propagators for them.

    Its tracers take it in their `begin_call`.
    """

    def inject(self, carrier: Any, context: Context | None, setter: Any = None, /) -> bool:
        """Writes the headers of the span in a context, the current one by default.

        :param setter: None for item assignment.
        :returns: whether it did; if not, nothing is written and it is for the propagators.
        """


class Codec(Protocol):
    """The functions of this module, or the native engine's."""

    def parse_traceparent(self, value: str, /) -> Ids | None: ...
    def format_traceparent(self, trace_id: int, span_id: int, flags: int, /) -> str: ...
    def parse_tracestate(self, values: Sequence[str], /) -> dict[str, str]: ...
    def parse_b3(self, value: str, /) -> Ids | None: ...
    def parse_b3_multi(self, trace_id: str, span_id: str, sampled: str, flags: str, /) -> Ids | None: ...
    def format_b3(self, trace_id: int, span_id: int, flags: int, /) -> str: ...
    def formats(self, names: Sequence[str], make_trace_state: MakeTraceState, /) -> Formats | None: ...


def formats(names: Sequence[str], make_trace_state: MakeTraceState) -> Formats | None:
    """None: propagators do it.

    :param names: as `OTEL_PROPAGATORS` has them.
    :param make_trace_state: makes a tracestate of valid members.
    """
    return None


def parse_traceparent(value: str) -> Ids | None:
    """The ids of a traceparent header of W3C Trace Context level 2, without the flags that have no meaning."""
    if not isinstance(value, str) or len(value) > _MAX_LENGTH:
        return None
    match = _TRACEPARENT.fullmatch(value)
    if match is None or (match[1] == "00" and match[5]):
        return None
    return int(match[2], 16), int(match[3], 16), int(match[4], 16) & _KNOWN_FLAGS


def format_traceparent(trace_id: int, span_id: int, flags: int) -> str:
    """A traceparent header."""
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


def parse_tracestate(values: Sequence[str]) -> dict[str, str]:
    """The members of one or more tracestate headers, in order; of duplicate keys the first stays, because a vendor that
    updates its member moves it to the front.

    :returns: an empty one when any member is malformed, there are more than 32, or all are longer than 8192 characters
        together: half a tracestate would break the vendors in the other half.
    """
    if not all(isinstance(value, str) for value in values):
        return {}
    if sum(map(len, values)) + len(values) - 1 > _TRACESTATE_MAX:
        return {}
    members: dict[str, str] = {}
    for header in values:
        for member in header.split(","):
            key, equals, value = member.strip(" \t").partition("=")
            if not key and not equals:
                continue  # Empty members are allowed.
            if not is_member(key, value):
                return {}
            members.setdefault(key, value)
    return members if len(members) <= MAX_MEMBERS else {}


def is_member(key: object, value: object) -> bool:
    """Whether a key and a value may stand in a tracestate."""
    return (
        isinstance(key, str)
        and isinstance(value, str)
        and _KEY.fullmatch(key) is not None
        and _VALUE.fullmatch(value) is not None
    )


def parse_b3(value: str) -> Ids | None:
    """The ids of a `b3` header. A sampling state that is left out ("deferred") counts as sampled; a header that has
    nothing but the state names no parent."""
    if not isinstance(value, str) or len(value) > _MAX_LENGTH or not value.isascii():
        return None
    trace_id, _, rest = value.partition("-")
    span_id, *rest_fields = rest.split("-")
    if len(rest_fields) > 2:
        return None
    return _b3(trace_id, span_id, not rest_fields or rest_fields[0] in _B3_SAMPLED)


def parse_b3_multi(trace_id: str, span_id: str, sampled: str, flags: str) -> Ids | None:
    """The ids of the headers `x-b3-traceid` and so on, each empty where it is absent. Without a sampling state the
    caller hasn't sampled."""
    if not isinstance(trace_id, str) or not isinstance(span_id, str):
        return None
    return _b3(trace_id, span_id, sampled in _B3_SAMPLED or flags == "1")


def _b3(trace_id: str, span_id: str, sampled: bool) -> Ids | None:
    if _B3_TRACE_ID.fullmatch(trace_id) is None or _B3_SPAN_ID.fullmatch(span_id) is None:
        return None
    return int(trace_id, 16), int(span_id, 16), _SAMPLED if sampled else 0


def format_b3(trace_id: int, span_id: int, flags: int) -> str:
    """A `b3` header. Its fields are the values of the several headers."""
    return f"{trace_id:032x}-{span_id:016x}-{flags & _SAMPLED}"
