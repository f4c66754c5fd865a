"""Propagators by name, joined so that no header and no propagator can harm the application."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, cast

from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)

from otelagent.errors import ConfigError
from otelagent.record import headers
from otelagent.record.headers import Codec, Formats
from otelagent.record.rate_limited_log import RateLimitedLog, RateLimitFilter

if TYPE_CHECKING:
    from opentelemetry.trace import TraceState

__all__ = ["ENTRY_POINT_GROUP", "BoundedGetter", "SafePropagator", "build_propagator"]

ENTRY_POINT_GROUP = "opentelemetry_propagator"

_log = RateLimitedLog(logging.getLogger(__name__))

_MAX_VALUES = 64
_MAX_LENGTH = 8192
_MAX_KEYS = 1024
# The most that the API's propagator takes, and logs of, one by one.
_MAX_BAGGAGE_MEMBERS = 180

# One instance, or each propagator that is built would add another.
_baggage_log_filter = RateLimitFilter()


def build_propagator(
    names: Sequence[str], source: str = "the configuration", codec: Codec = headers
) -> TextMapPropagator:
    """Builds one propagator of several, which extracts and injects in their order.

    :param names: names of `OTEL_PROPAGATORS` (SDK environment variables specification): tracecontext, baggage, b3,
        b3multi, jaeger, none; any other is looked up in the entry-point group `opentelemetry_propagator`. Duplicates
        count once.
    :param source: where the names were set, for the error.
    :param codec: reads and writes the text of our own propagators' headers.
    :raises ConfigError: a name is unknown or its propagator can't be built.
    """
    chosen = [name for name in dict.fromkeys(names) if name != "none"]
    formats = codec.formats(chosen, _trace_state) if _READABLE.issuperset(chosen) else None
    return SafePropagator([_build(name, source, codec) for name in chosen], formats)


def _trace_state(members: dict[str, str]) -> TraceState:
    from otelagent.record.trace_context import Level2TraceState

    return Level2TraceState.of(members)


_OWN = {
    "tracecontext": ("otelagent.record.trace_context", "TraceContext"),
    "b3": ("otelagent.record.b3", "B3"),
    "b3multi": ("otelagent.record.b3", "B3Multi"),
}
# What an engine may do without propagators.
_READABLE = frozenset((*_OWN, "baggage"))
_MAINTAINED = {
    "baggage": ("opentelemetry.baggage.propagation", "W3CBaggagePropagator"),
    "jaeger": ("opentelemetry.propagators.jaeger", "JaegerPropagator"),
}


def _build(name: str, source: str, codec: Codec) -> TextMapPropagator:
    if name == "baggage":
        # It logs each member of a header that it can't read, and whoever can reach the application writes headers.
        logging.getLogger("opentelemetry.baggage.propagation").addFilter(_baggage_log_filter)
    if name in _OWN:
        module, attribute = _OWN[name]
        return cast("TextMapPropagator", getattr(import_module(module), attribute)(codec))
    if name in _MAINTAINED:
        module, attribute = _MAINTAINED[name]
        theirs = cast("TextMapPropagator", getattr(import_module(module), attribute)())
        return SampledFlagOnly(theirs) if name == "jaeger" else theirs
    from importlib.metadata import entry_points

    found = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)
    if found is None:
        raise ConfigError(
            "propagators", name, source, "no such propagator", f"install one that registers in {ENTRY_POINT_GROUP}"
        )
    try:
        loaded = found.load()
        propagator: object = loaded() if callable(loaded) else loaded
    except (Exception, SystemExit) as error:
        raise ConfigError("propagators", name, source, f"{found.value} failed: {error!r}") from error
    if not isinstance(propagator, TextMapPropagator):
        raise ConfigError("propagators", name, source, f"{found.value} is not a TextMapPropagator")
    return propagator


class SampledFlagOnly(TextMapPropagator):
    """Jaeger's propagator without its debug flag. The maintained one sets it on every sampled span, and every service
    that honours it keeps the trace whatever its own sampler says.

    :param inner: the propagator.
    """

    def __init__(self, inner: TextMapPropagator) -> None:
        self._inner = inner

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """As the inner one does."""
        return self._inner.extract(carrier, context, getter)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """As the inner one does, flags but the sampled one taken away."""
        written: dict[str, str] = {}
        self._inner.inject(written, context)
        for key, value in written.items():
            head, colon, flags = value.rpartition(":")
            setter.set(carrier, key, f"{head}:{int(flags, 16) & 1:02x}" if key == "uber-trace-id" and colon else value)

    @property
    def fields(self) -> set[str]:
        """As the inner one's."""
        return self._inner.fields


class SafePropagator(TextMapPropagator):
    """Runs several propagators in order; one that raises is skipped and logged once a minute.

    :param propagators: none of them is "no propagation": extract returns the context as it is.
    :param formats: does the same as all of them together, for the spans and carriers that it knows.
    :ivar formats: see the parameter.
    """

    def __init__(self, propagators: Sequence[TextMapPropagator], formats: Formats | None = None) -> None:
        self._propagators = tuple(propagators)
        self.formats = formats

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Reads the carrier through a `BoundedGetter`. Never raises; what is malformed is as if it weren't there."""
        if not self._propagators:
            return get_current() if context is None else context
        # The stock propagators don't agree on None: tracecontext takes it for an empty context, baggage for the current
        # one. Empty it is, or a server span without a parent would hang on whatever the accepting task was doing.
        result = Context() if context is None else context
        bounded: Getter[CarrierT] = BoundedGetter(getter)
        for propagator in self._propagators:
            try:
                result = propagator.extract(carrier, result, getter=bounded)
            except (Exception, SystemExit):
                _log.warning(
                    f"extract {type(propagator).__name__}", "%s can't extract", type(propagator).__name__, exc_info=True
                )
        return result

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Writes into the carrier. Never raises."""
        if self.formats is not None:
            try:
                if self.formats.inject(carrier, context, None if setter is default_setter else setter):
                    return
            except (Exception, SystemExit):
                _log.warning("inject", "the context can't be written into a carrier", exc_info=True)
                return
        for propagator in self._propagators:
            try:
                propagator.inject(carrier, context, setter=setter)
            except (Exception, SystemExit):
                _log.warning(
                    f"inject {type(propagator).__name__}", "%s can't inject", type(propagator).__name__, exc_info=True
                )

    @property
    def fields(self) -> set[str]:
        """Every field that `inject` may set."""
        return {field for propagator in self._propagators for field in propagator.fields}


class BoundedGetter(Getter[CarrierT]):
    """A getter that keeps hostile headers away from propagators, which log and parse whatever they get.

    At most 64 values of a field, 8192 characters together (the limit of W3C Baggage and of tracestate here); a field
    beyond either is as if it weren't there. Only strings. Several baggage headers are joined into one, which the API's
    propagator needs to see more than the first; of it the first 180 members that have a value are kept.

    :param inner: the getter of the carrier.
    """

    def __init__(self, inner: Getter[CarrierT]) -> None:
        self._inner = inner

    def get(self, carrier: CarrierT, key: str) -> list[str] | None:
        """The values of a field, or None."""
        values = cast("Iterable[object] | str | None", self._inner.get(carrier, key))
        if values is None:
            return None
        kept: list[str] = []
        length = 0
        for value in (values,) if isinstance(values, str) else islice(values, _MAX_VALUES + 1):
            if isinstance(value, str):
                kept.append(value)
                length += len(value)
        if not kept or len(kept) > _MAX_VALUES or length > _MAX_LENGTH:
            return None
        if key != "baggage":
            return kept
        members = [member for member in ",".join(kept).split(",") if "=" in member]
        return [",".join(members[:_MAX_BAGGAGE_MEMBERS])] if members else None

    def keys(self, carrier: CarrierT) -> list[str]:
        """The first 1024 field names (the Jaeger propagator looks for its baggage among them)."""
        return [key for key in islice(self._inner.keys(carrier), _MAX_KEYS) if isinstance(key, str)]
