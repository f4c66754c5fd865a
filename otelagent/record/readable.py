"""What native spans and tracers are read by: the stock SDK's classes, imported when somebody reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from warnings import warn

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.fork_gate import whole_imports

if TYPE_CHECKING:
    from types import ModuleType

    from opentelemetry.attributes import BoundedAttributes
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationInfo, InstrumentationScope
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.util.types import Attributes

    from otelagent_native import Span

__all__ = ["Scope", "register_with_sdk"]

_Values = Mapping[str, Any]


def register_with_sdk(trace: ModuleType) -> None:
    """Lets `isinstance` with the SDK's `Span`, `Tracer` and `TracerProvider` hold for the native ones.

    For whoever asks so before using what is public there, all of which they have. `ReadableSpan` can't be told: what
    processors get at a span's end is a true one.

    :param trace: the module `opentelemetry.sdk.trace`.
    """
    from otelagent.record.native_provider import NativeProvider
    from otelagent_native import SpanBase, TracerBase

    trace.Span.register(SpanBase)
    trace.Tracer.register(TracerBase)
    trace.TracerProvider.register(NativeProvider)


@cache
def _sdk_trace() -> ModuleType:
    with whole_imports(), hidden(*SDK_VARIABLES):
        from opentelemetry.sdk import trace

        return trace


class Scope:
    """An instrumentation scope as its tracer and spans show it.

    :param resource: gives the resource of the process as it is now.
    """

    def __init__(
        self, name: str, version: str, schema_url: str, attributes: Attributes, resource: Callable[[], Resource]
    ) -> None:
        self.name = name
        self.version = version
        self.schema_url = schema_url
        self.attributes = attributes
        self._resource = resource

    @property
    def resource(self) -> Resource:
        """The provider's resource."""
        return self._resource()

    @cached_property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The SDK's object of the same content."""
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        return InstrumentationScope(self.name, self.version, self.schema_url, self.attributes)

    @cached_property
    def instrumentation_info(self) -> InstrumentationInfo:
        """What the SDK had before it had scopes."""
        from opentelemetry.sdk.util.instrumentation import InstrumentationInfo

        # Its constructor warns that it is deprecated, and nobody may have asked for it.
        info = InstrumentationInfo.__new__(InstrumentationInfo)
        info._name, info._version, info._schema_url = self.name, self.version, self.schema_url
        return info

    def deprecated_info(self) -> InstrumentationInfo:
        """The same for who asks a span for it."""
        warn("instrumentation_info is deprecated: use instrumentation_scope", DeprecationWarning, stacklevel=2)
        return self.instrumentation_info

    def events(self, items: Iterable[tuple[str, _Values, int, int]]) -> tuple[Event, ...]:
        """The SDK's events.

        :param items: of each its name, attributes, time in nanoseconds and how many attributes were refused.
        """
        make = _sdk_trace().Event
        return tuple(make(name, _bounded(values, dropped), time_ns) for name, values, time_ns, dropped in items)

    def links(self, items: Iterable[tuple[SpanContext, _Values, int]]) -> tuple[Link, ...]:
        """The API's links.

        :param items: of each its context, attributes and how many attributes were refused.
        """
        from opentelemetry.trace import Link

        return tuple(Link(context, _bounded(values, dropped)) for context, values, dropped in items)

    def readable(self, span: Span) -> ReadableSpan:
        """The span as it is now, for exporters."""
        readable: ReadableSpan = _sdk_trace().ReadableSpan(
            name=span.name,
            context=span.get_span_context(),
            parent=span.parent,
            resource=self.resource,
            attributes=_bounded(span.attributes, span.dropped_attributes),
            events=_list(span.events, span.dropped_events),
            links=_list(span.links, span.dropped_links),
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_info=self.instrumentation_info,
            instrumentation_scope=self.instrumentation_scope,
        )
        return readable


def _bounded(values: _Values, dropped: int) -> BoundedAttributes:
    from opentelemetry.attributes import BoundedAttributes

    attributes = BoundedAttributes(attributes=values, immutable=True)
    attributes.dropped = dropped
    return attributes


def _list(items: tuple[Any, ...], dropped: int) -> Any:
    from opentelemetry.sdk.util import BoundedList

    bounded: BoundedList[Any] = BoundedList(None)
    bounded.extend(items)
    bounded.dropped = dropped
    return bounded
