"""B3, of one header (`b3`) and of several (`x-b3-…`); both are read by either. It carries no baggage and no tracestate.

Source: https://github.com/openzipkin/b3-propagation
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otelagent.record.headers import Codec
from otelagent.record.trace_context import with_remote_parent

__all__ = ["B3", "B3Multi"]

_SINGLE = "b3"
_MULTI = ("x-b3-traceid", "x-b3-spanid", "x-b3-sampled")
_FLAGS = "x-b3-flags"


class B3(TextMapPropagator):
    """Writes one header.

    :param codec: reads and writes its text.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Puts the remote parent into the context; returns it as it was when there is none. The one header goes before
        the several, and one that comes twice is none, as in W3C Trace Context."""
        if context is None:
            context = Context()
        if (single := _one(getter.get(carrier, _SINGLE))) != "":
            ids = self._codec.parse_b3(single)
        elif (trace_id := _one(getter.get(carrier, _MULTI[0]))) != "":
            span_id, sampled, flags = (_one(getter.get(carrier, key)) for key in (*_MULTI[1:], _FLAGS))
            ids = self._codec.parse_b3_multi(trace_id, span_id, sampled, flags)
        else:
            return context
        return context if ids is None else with_remote_parent(context, ids)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Writes the current span, where there is one."""
        if (header := self._header(context)) is not None:
            setter.set(carrier, _SINGLE, header)

    def _header(self, context: Context | None) -> str | None:
        span = trace.get_current_span(context).get_span_context()
        return self._codec.format_b3(span.trace_id, span.span_id, span.trace_flags) if span.is_valid else None

    @property
    def fields(self) -> set[str]:
        """What `inject` sets."""
        return {_SINGLE}


class B3Multi(B3):
    """Writes several headers."""

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Writes the current span, where there is one."""
        if (header := self._header(context)) is not None:
            for key, value in zip(_MULTI, header.split("-"), strict=True):
                setter.set(carrier, key, value)

    @property
    def fields(self) -> set[str]:
        """What `inject` sets."""
        return set(_MULTI)


def _one(values: list[str] | None) -> str:
    """The only value of a header; empty where it is absent, or there are several and no telling which is right."""
    return values[0] if values is not None and len(values) == 1 else ""
