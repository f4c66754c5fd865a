"""W3C Trace Context as its second level has it, where the API's propagator still follows the first or is too strict."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import CarrierT, Getter, Setter, default_getter, default_setter
from opentelemetry.trace import TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otelagent.record.headers import MAX_MEMBERS, Codec, Ids, is_member

__all__ = ["Level2TraceState", "TraceContext", "with_remote_parent"]


class Level2TraceState(TraceState):
    """A tracestate that takes the keys of Trace Context level 2, which the API's refuses: `foo@`, `1abc`, `a@b@c`.

    :param entries: key-value pairs, most recent first. Invalid ones are left out; of duplicate keys the first stays,
        because a vendor that updates its member moves it to the front.
    """

    def __init__(self, entries: Sequence[tuple[str, str]] | None = None) -> None:
        super().__init__()
        for key, value in entries or ():
            if is_member(key, value):
                self._dict.setdefault(key, value)

    @classmethod
    def of(cls, members: dict[str, str]) -> Level2TraceState:
        """The tracestate of members that are valid already."""
        state = cls()
        state._dict = members
        return state

    def add(self, key: str, value: str) -> TraceState:
        """A tracestate with the new pair in front; this one when the pair is invalid, known or one too many."""
        if key in self._dict or len(self._dict) >= MAX_MEMBERS or not is_member(key, value):
            return self
        return Level2TraceState([(key, value), *self._dict.items()])

    def update(self, key: str, value: str) -> TraceState:
        """A tracestate with the pair in front, new or not; this one when it is invalid or one too many."""
        if (key not in self._dict and len(self._dict) >= MAX_MEMBERS) or not is_member(key, value):
            return self
        return Level2TraceState([(key, value), *((k, v) for k, v in self._dict.items() if k != key)])

    def delete(self, key: str) -> TraceState:
        """A tracestate without the key; this one when it isn't there."""
        if key not in self._dict:
            return self
        return Level2TraceState([(k, v) for k, v in self._dict.items() if k != key])


class TraceContext(TraceContextTextMapPropagator):
    """The API's propagator, but: more than one traceparent is none, flags without a meaning are cleared, level-2
    tracestate keys are kept and duplicate ones cost only themselves.

    :param codec: reads and writes its text.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

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
        if not parents or len(parents) != 1:
            return context
        ids = self._codec.parse_traceparent(parents[0])
        if ids is None:
            return context
        states = getter.get(carrier, "tracestate")
        members = self._codec.parse_tracestate(states) if states else None
        return with_remote_parent(context, ids, Level2TraceState.of(members) if members else None)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Writes the current span, where there is one."""
        span = trace.get_current_span(context).get_span_context()
        if not span.is_valid:
            return
        setter.set(
            carrier, "traceparent", self._codec.format_traceparent(span.trace_id, span.span_id, span.trace_flags)
        )
        if span.trace_state:
            setter.set(carrier, "tracestate", span.trace_state.to_header())


def with_remote_parent(context: Context, ids: Ids, trace_state: TraceState | None = None) -> Context:
    """A context whose current span is a caller's in another process."""
    trace_id, span_id, flags = ids
    parent = trace.SpanContext(trace_id, span_id, True, trace.TraceFlags(flags), trace_state)
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
