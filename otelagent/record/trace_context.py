"""W3C Trace Context as its second level has it, where the API's propagator still follows the first or is too strict."""

from __future__ import annotations

import re
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import CarrierT, Getter, default_getter
from opentelemetry.trace import TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["Level2TraceState", "TraceContext"]

# https://www.w3.org/TR/trace-context-2/#traceparent-header-field-values. A later version may append `-…`.
_TRACEPARENT = re.compile(
    r"[ \t]*(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[^\r\n]*)?[ \t]*"
)
_TRACEPARENT_MAX = 512

# https://www.w3.org/TR/trace-context-2/#key: a letter or digit, then up to 255 of these, `@` among them.
_KEY = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}")
_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MAX_MEMBERS = 32
# The specification asks for at least 512 characters; the API cuts off here too.
_TRACESTATE_MAX = 8192

# Bits of trace-flags with a meaning; "vendors MUST set the others to zero" when they propagate.
_KNOWN_FLAGS = trace.TraceFlags.SAMPLED | trace.TraceFlags.RANDOM_TRACE_ID


class Level2TraceState(TraceState):
    """A tracestate that takes the keys of Trace Context level 2, which the API's refuses: `foo@`, `1abc`, `a@b@c`.

    :param entries: key-value pairs, most recent first. Invalid ones are left out; of duplicate keys the first stays,
        because a vendor that updates its member moves it to the front.
    """

    def __init__(self, entries: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__()
        for key, value in entries or ():
            if _is_pair(key, value):
                self._dict.setdefault(key, value)

    def add(self, key: str, value: str) -> TraceState:
        """A tracestate with the new pair in front; this one when the pair is invalid, known or one too many."""
        if key in self._dict or len(self._dict) >= _MAX_MEMBERS or not _is_pair(key, value):
            return self
        return Level2TraceState([(key, value), *self._dict.items()])

    def update(self, key: str, value: str) -> TraceState:
        """A tracestate with the pair in front, new or not; this one when it is invalid or one too many."""
        if (key not in self._dict and len(self._dict) >= _MAX_MEMBERS) or not _is_pair(key, value):
            return self
        return Level2TraceState([(key, value), *((k, v) for k, v in self._dict.items() if k != key)])

    def delete(self, key: str) -> TraceState:
        """A tracestate without the key; this one when it isn't there."""
        if key not in self._dict:
            return self
        return Level2TraceState([(k, v) for k, v in self._dict.items() if k != key])

    @classmethod
    def from_header(cls, header_list: list[str]) -> Level2TraceState:
        """Parses one or more tracestate header values, in order.

        :returns: an empty one when any member is malformed, there are more than 32, or all are longer than 8192
            characters together: half a tracestate would break the vendors in the other half.
        """
        if sum(map(len, header_list)) + len(header_list) - 1 > _TRACESTATE_MAX:
            return cls()
        entries: dict[str, str] = {}
        for header in header_list:
            for member in header.split(","):
                key, equals, value = member.strip(" \t").partition("=")
                if not key and not equals:
                    continue  # Empty members are allowed.
                if not _is_pair(key, value):
                    return cls()
                entries.setdefault(key, value)
        if len(entries) > _MAX_MEMBERS:
            return cls()
        state = cls()
        state._dict = entries
        return state


class TraceContext(TraceContextTextMapPropagator):
    """The API's propagator with another `extract`: more than one traceparent is none, flags without a meaning are
    cleared, level-2 tracestate keys are kept and duplicate ones cost only themselves."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Puts the remote parent into the context; returns it as it was when there is no single valid traceparent."""
        if context is None:
            context = Context()
        parents = getter.get(carrier, "traceparent")
        # Several traceparent headers: no telling which is the caller's, so a new trace (W3C trace-context test suite).
        if not parents or len(parents) != 1 or len(parents[0]) > _TRACEPARENT_MAX:
            return context
        match = _TRACEPARENT.fullmatch(parents[0])
        if match is None or (match[1] == "00" and match[5]):
            return context
        states = getter.get(carrier, "tracestate")
        parent = trace.SpanContext(
            trace_id=int(match[2], 16),
            span_id=int(match[3], 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(match[4], 16) & _KNOWN_FLAGS),
            trace_state=Level2TraceState.from_header(states) if states else None,
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(parent), context)


def _is_pair(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, str)
        and _KEY.fullmatch(key) is not None
        and _VALUE.fullmatch(value) is not None
    )
