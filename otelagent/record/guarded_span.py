"""Spans and tracers of the stock SDK that keep what goes wrong in them from the application.

The SDK makes its spans and tracers from classes that it names itself, with no place to pass another. Changing an
object's class after it was made leaves the SDK's code untouched and concerns only the spans that we are to export.

What is put right here (seen with opentelemetry-sdk 1.45.2):

- A cyclic or 10⁴ deep attribute value, a `__str__`, `__len__` or `__iter__` that raises, a wrong argument: the stock
  methods raise into the application. Here the attribute, event or link is dropped and counted as such on the span.
- Over the limit of attributes, events or links the stock span gives up the oldest. The specification has the newest
  refused (trace SDK, span limits; common, attribute limits).
- An exception whose `__str__` raises, on its way through `with tracer.start_as_current_span()` or `with span:`, is
  replaced by that second exception. Here the application gets its own. (`trace.use_span` is the API's: not here.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.attributes import BoundedAttributes, _clean_attribute_value
from opentelemetry.sdk.trace import Span, Tracer, _Span
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode, use_span
from opentelemetry.util._decorator import _agnosticcontextmanager

from otelagent.record.rate_limited_log import RateLimitedLog

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry import trace as api
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanContext
    from opentelemetry.trace.status import Status
    from opentelemetry.util.types import AnyValue, Attributes

__all__ = ["GuardedSpan", "GuardedTracer"]

_log = RateLimitedLog(logging.getLogger(__name__))

# What a value's own code may raise. SystemExit is one that calls sys.exit().
_ISOLATED = (Exception, SystemExit)


# Values of exactly these types are stored as they are.
_PLAIN = frozenset({bool, int, float})


class GuardedAttributes(BoundedAttributes):
    """Attributes that refuse a new key when full and drop, counted, what they can't keep.

    A known key gets its new value and keeps its place.
    """

    def __setitem__(self, key: str, value: AnyValue) -> None:
        self._raise_if_immutable()
        try:
            if not key or not isinstance(key, str):
                super().__setitem__(key, value)  # Which drops it.
                return
            if type(value) not in _PLAIN:
                value = _clean_attribute_value(value, self.max_value_len)
        except _ISOLATED:
            self._refused()
            return
        with self._lock:
            self._setitem_locked(key, value)

    def _set_items(self, attributes: Mapping[str, AnyValue]) -> None:
        try:
            super()._set_items(attributes)
            return
        except _ISOLATED:
            pass
        # One value can't be kept, and none has been so far. One at a time, so that the good ones are.
        try:
            items = list(attributes.items())
        except _ISOLATED:
            self._refused()
            return
        for key, value in items:
            self[key] = value

    def _setitem_locked(self, key: str, value: AnyValue) -> None:
        if key not in self._dict and self.maxlen is not None and len(self._dict) >= self.maxlen:
            self.dropped += 1
        else:
            self._dict[key] = value

    def _refused(self) -> None:
        self.dropped += 1
        _log.warning("attribute", "A span's attribute can't be kept", exc_info=True)


class GuardedSpan(_Span):
    """A stock span whose methods don't raise and whose limits refuse the newest."""

    @staticmethod
    def guard(span: Span) -> None:
        """Makes a span that has just started a guarded one. A span of some other class stays as it is."""
        if type(span) is _Span:
            span.__class__ = GuardedSpan
            if type(span._attributes) is BoundedAttributes:
                span._attributes.__class__ = GuardedAttributes

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """As the API says; when its attributes can't be kept, the event is, without them."""
        if self._full(self._events):
            return
        try:
            _Span.add_event(self, name, attributes, timestamp)
        except _ISOLATED:
            self._complain("event's attributes")
            _Span.add_event(self, name, None, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """As the API says; a link to something that is no span context is dropped."""
        if self._full(self._links):
            return
        try:
            _Span.add_link(self, context, attributes)
        except _ISOLATED:
            self._complain("link")

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """As the API says."""
        try:
            _Span.set_status(self, status, description)
        except _ISOLATED:
            self._complain("status")

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """As the API says; an exception that can't be formatted is recorded with its type alone."""
        try:
            _Span.record_exception(self, exception, attributes, timestamp, escaped)
        except _ISOLATED:
            self._complain("exception")
            kind = type(exception)
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            self.add_event("exception", {"exception.type": name}, timestamp)

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
        if record:
            self.record_exception(error)
        if set_status:
            try:
                description = f"{type(error).__name__}: {error}"
            except _ISOLATED:
                description = type(error).__name__
            self.set_status(StatusCode.ERROR, description)

    def _full(self, items: Any) -> bool:
        # The SDK's BoundedList is typed as a plain sequence where the span declares it.
        if items._dq.maxlen is None or len(items._dq) < items._dq.maxlen or self._end_time is not None:
            return False
        items.dropped += 1
        return True

    def _complain(self, what: str) -> None:
        _log.warning(what, "A span's %s can't be kept whole", what, exc_info=True)


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
        with use_span(span, end_on_exit=end_on_exit, record_exception=False, set_status_on_exception=False):
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
        options = (start_time, record_exception, set_status_on_exception)
        try:
            limit = self._span_limits.max_span_attributes
            if attributes and limit is not None and len(attributes) > limit:
                first = dict(islice(attributes.items(), limit))
                span = super().start_span(name, context, kind, first, links, *options)
                if isinstance(span, GuardedSpan):
                    cast("BoundedAttributes", span._attributes).dropped += len(attributes) - limit
                return span
            return super().start_span(name, context, kind, attributes, links, *options)
        except _ISOLATED:
            _log.warning("start", "A span starts without its attributes or links", exc_info=True)
        try:
            span = super().start_span(name, context, kind, None, (), *options)
            # One at a time, so that the good ones stay.
            span.set_attributes(cast("Mapping[str, AnyValue]", attributes or {}))
            for link in links or ():
                span.add_link(link.context, link.attributes)
            return span
        except _ISOLATED:
            _log.warning("start", "A span can't start", exc_info=True)
            return INVALID_SPAN
