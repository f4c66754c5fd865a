"""Spans and tracers of the stock SDK that keep what goes wrong in them from the application.

The SDK makes its spans and tracers from classes that it names itself, with no place to pass another. Changing an
object's class after it was made leaves the SDK's code untouched and concerns only the spans that we are to export.

What is put right here (seen with opentelemetry-sdk 1.45.2):

- A cyclic or 10⁴ deep attribute value, a `__str__`, `__len__` or `__iter__` that raises, a wrong argument: the stock
  methods raise into the application. A lone surrogate, a name that is no string, a time or an id beyond its bits: the
  stock encoder refuses the span. Here all of them are made fit (`otelagent.record.values`), and no code of a value's
  runs under the span's lock.
- Over the limit of attributes, events or links the stock span gives up the oldest. The specification has the newest
  refused (trace SDK, span limits; common, attribute limits).
- An exception whose `__str__` raises, on its way through `with tracer.start_as_current_span()` or `with span:`, is
  replaced by that second exception. Here the application gets its own. (`trace.use_span` is the API's: not here.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, Span, SpanLimits, Tracer, _Span
from opentelemetry.trace import INVALID_SPAN, Link, SpanContext, SpanKind, Status, StatusCode, TraceState, use_span
from opentelemetry.util._decorator import _agnosticcontextmanager

from otelagent.record.guarded_attributes import GuardedAttributes, all_plain, collected, exception_attributes, is_plain
from otelagent.record.isolation import ISOLATED
from otelagent.record.values import (
    MAX_BYTES,
    complain,
    pairs,
    text,
    time_of,
    truthy,
    type_name,
)
from otelagent.threads import RLock

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry import trace as api
    from opentelemetry.util.types import AnyValue, Attributes

__all__ = ["GuardedSpan", "GuardedTracer"]

_BEYOND_TIME = 1 << 64


class GuardedSpan(_Span):
    """A stock span whose methods don't raise and whose limits refuse the newest."""

    @staticmethod
    def guard(span: Span) -> None:
        """Makes a span that has just started a guarded one. A span of some other class stays as it is."""
        if type(span) is not _Span:
            return
        span.__class__ = GuardedSpan
        # The stock ones aren't reentrant: what a signal handler tells the current span would wait for itself.
        span._lock = RLock()
        events: Any = span._events
        events._lock = RLock()
        attributes = span._attributes
        if type(attributes) is BoundedAttributes:
            attributes.__class__ = GuardedAttributes
            if attributes._dict:
                cast("GuardedAttributes", attributes).clean()
        name: object = span._name
        if type(name) is not str or not name.isascii() or len(name) > MAX_BYTES:
            span._name = text(name, "A span's name")
        if type(span._kind) is not SpanKind:
            span._kind = SpanKind.INTERNAL
        start: object = span._start_time
        if type(start) is not int or not 0 <= start < _BEYOND_TIME:
            span._start_time = time_of(start, "A span's start")
        context: Any = span._context
        if type(context.trace_state) is not TraceState:
            _fit_trace_state(span)
        links: Any = span._links
        if links._dq:
            _fit_links(span)

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """As the API says."""
        attributes: Any = self._attributes
        fit = None
        if not is_plain(key, value, attributes.max_value_len) and self._end_time is None:
            fit = attributes.fit(key, value)
            if fit is None:
                return
        with self._lock:
            if self._end_time is None:
                if fit is None:
                    attributes.put(key, value)
                else:
                    attributes.put_fit(*fit)
                return
        complain("ended", "set_attribute() on an ended span changes nothing")

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """As the API says."""
        if self._end_time is not None:
            complain("ended", "set_attributes() on an ended span changes nothing")
            return
        found, refused = pairs(attributes)
        for key, value in found:
            self.set_attribute(cast("str", key), cast("AnyValue", value))
        cast("GuardedAttributes", self._attributes).dropped += refused

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """As the API says."""
        self._event(name, (attributes,), timestamp)

    def _event(self, name: object, given: Sequence[object], timestamp: object) -> None:
        if self._full(self._events):
            return
        time = time_of(timestamp, "An event's time")
        kept = collected(given, self._limits.max_event_attributes, self._limits.max_attribute_length)
        self._add_event(Event(text(name, "An event's name"), kept, time))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """As the API says; a link to something that is no span context is dropped."""
        if not _is_linkable(context):
            cast("Any", self._links).dropped += 1
            return
        if not _says_something(context, attributes) or self._full(self._links):
            return
        kept = collected((attributes,), self._limits.max_link_attributes, self._limits.max_attribute_length)
        self._add_link(Link(context, kept))

    def update_name(self, name: str) -> None:
        """As the API says."""
        _Span.update_name(self, text(name, "A span's name"))

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """As the API says."""
        try:
            if isinstance(status, Status):
                code, own = status.status_code, status.description
                if description is not None:
                    complain("status", "A Status has its own description: the other is ignored")
                description = own
            else:
                code = status
            if not isinstance(code, StatusCode):
                complain("status", "A status (%s) is none", type_name(type(status)))
                return
            if description is not None:
                description = text(description, "A status description")
        except ISOLATED as error:
            complain("status", "A span's status can't be kept", error=error)
            return
        _Span.set_status(self, Status(code, description if code is StatusCode.ERROR else None))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """As the API says; an exception whose text can't be had is recorded by its type's name."""
        described = exception_attributes(exception)
        described["exception.escaped"] = text(escaped, "Whether an exception escaped")
        self._event("exception", (described, attributes), timestamp)

    def end(self, end_time: int | None = None) -> None:
        """As the API says; a span that ends before it starts ends with its start."""
        end_ns = time_ns() if end_time is None else time_of(end_time, "A span's end")
        if end_ns < cast("int", self._start_time):
            end_ns = cast("int", self._start_time)
            complain("end", "A span ends before it starts: it ends with its start")
        _Span.end(self, end_ns)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """As the API says: records what was raised in the block, ends the span."""
        if exc_val is not None:
            self.failed(exc_val, self._record_exception, self._set_status_on_exception)
        self.end()

    def failed(self, error: BaseException, record: bool, set_status: bool) -> None:
        """Notes the exception that leaves the span's block.

        :param record: whether it becomes an event.
        :param set_status: whether the status becomes ERROR, with the exception's type and text.
        """
        if not self.is_recording():
            return
        if truthy(record):
            self.record_exception(error)
        if truthy(set_status):
            message = text(error, "An exception's message")
            self.set_status(StatusCode.ERROR, f"{type(error).__name__}: {message}")

    def _full(self, items: Any) -> bool:
        # The SDK's BoundedList is typed as a plain sequence where the span declares it.
        if items._dq.maxlen is None or len(items._dq) < items._dq.maxlen or self._end_time is not None:
            return False
        items.dropped += 1
        return True


def _is_linkable(context: object) -> bool:
    # Whether the wire has room for the context; says so if not. It need not be valid.
    if isinstance(context, SpanContext):
        ids = context.trace_id, context.span_id
        if all(isinstance(one, int) for one in ids) and 0 <= ids[0] < 1 << 128 and 0 <= ids[1] < 1 << 64:
            return True
    complain("link", "A link (%s) to what is no span context is left out", type_name(type(context)))
    return False


def _says_something(context: SpanContext, attributes: object) -> bool:
    # A link with an invalid context is one if it has attributes or a tracestate (trace SDK, add link).
    return context.is_valid or (attributes is not None and truthy(attributes)) or truthy(context.trace_state)


def _fit_trace_state(span: Span) -> None:
    context: Any = span._context
    if isinstance(context.trace_state, TraceState):
        return
    complain("tracestate", "A tracestate can't be written")
    span._context = SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState())


def _fit_links(span: Span) -> None:
    links = cast("Any", span._links)
    fit = []
    for link in links._dq:
        if not _is_linkable(link.context):
            links.dropped += 1
            continue
        attributes: Any = link._attributes
        if type(attributes) is BoundedAttributes:
            attributes.__class__ = GuardedAttributes
            attributes._immutable = False
            cast("Any", attributes).clean()
            attributes._immutable = True
        fit.append(link)
    links._dq.clear()
    links._dq.extend(fit)


class GuardedTracer(Tracer):
    """A stock tracer that doesn't raise."""

    @_agnosticcontextmanager
    def start_as_current_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[api.Span]:
        """As the API says; what the block raises comes out as it was."""
        span = self.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        with use_span(
            span,
            end_on_exit=end_on_exit is True or truthy(end_on_exit),
            record_exception=False,
            set_status_on_exception=False,
        ):
            try:
                yield span
            except Exception as error:
                if isinstance(span, GuardedSpan):
                    span.failed(error, record_exception, set_status_on_exception)
                raise

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> api.Span:
        """As the API says. A span whose attributes or links can't be kept starts without the bad ones."""
        limits = self._span_limits
        dropped, refused = 0, 0
        linked: list[Link] = []
        if attributes is not None and not _may_start(attributes, limits):
            kept = collected((attributes,), limits.max_span_attributes, limits.max_span_attribute_length)
            attributes, dropped = kept._dict, kept.dropped
        if links is not None and (type(links) is not tuple or links) and truthy(links):
            linked, refused = self._fit_links(links)
        kept_of = [link._attributes for link in linked]
        if type(record_exception) is not bool:
            record_exception = truthy(record_exception)
        if type(set_status_on_exception) is not bool:
            set_status_on_exception = truthy(set_status_on_exception)
        flags = (record_exception, set_status_on_exception)
        try:
            span = super().start_span(name, context, kind, attributes, linked, start_time, *flags)
        except ISOLATED as error:
            complain("start", "A span starts without its context", error=error)
            try:
                span = super().start_span(name, Context(), kind, attributes, linked, start_time, *flags)
            except ISOLATED as second:
                complain("start", "A span can't start", error=second)
                return INVALID_SPAN
        if isinstance(span, GuardedSpan):
            if dropped:
                cast("GuardedAttributes", span._attributes).dropped += dropped
            if linked or refused:
                for link, own in zip(linked, kept_of, strict=True):
                    link._attributes = own
                cast("Any", span._links).dropped += refused
        return span

    def _fit_links(self, links: object) -> tuple[list[Link], int]:
        # The first links as they can be kept, and how many are refused.
        limits = self._span_limits
        fit: list[Link] = []
        refused = 0
        try:
            for link in cast("Any", links):
                try:
                    context, attributes = link.context, link.attributes
                except ISOLATED as error:
                    complain("link", "A link (%s) can't be read", type_name(type(link)), error=error)
                    refused += 1
                    continue
                if not _is_linkable(context):
                    refused += 1
                elif _says_something(context, attributes):
                    if limits.max_links is not None and len(fit) >= limits.max_links:
                        refused += 1
                    else:
                        kept = collected((attributes,), limits.max_link_attributes, limits.max_attribute_length)
                        fit.append(Link(context, kept))
        except ISOLATED as error:
            complain("link", "Links (%s) can't be read", type_name(type(links)), error=error)
            refused += 1
        return fit, refused


def _may_start(attributes: object, limits: SpanLimits) -> bool:
    # Whether the attributes of a start may be passed on as they are.
    most = limits.max_span_attributes
    return (
        type(attributes) is dict
        and (most is None or len(attributes) <= most)
        and all_plain(attributes, limits.max_span_attribute_length)
    )
