"""Spans that have started and not ended, for whoever shows them while they run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from time import time_ns
from typing import TYPE_CHECKING, Any
from weakref import ref

from otelagent.environment import SDK_VARIABLES, hidden
from otelagent.fork_gate import whole_imports
from otelagent.record.isolation import ISOLATED

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["OpenSpans", "requests"]

_MAX_SPANS = 2_000
"""At a time: of more, those that came last are not known here, so that looking for old ones stays cheap."""
# In memory, about: of one span, of one request, of all requests at a time.
_MAX_SPAN_BYTES = 256 * 1024
_REQUEST_BYTES = 1024 * 1024
_MAX_BYTES = 8 * 1024 * 1024


class OpenSpans:
    """What an engine tells of its spans' starts and ends: no lock, and no span is kept from being collected.

    :ivar on_first: called when there is a span after there was none that `watched` knew of.
    """

    def __init__(self) -> None:
        self.on_first: Callable[[], object] = lambda: None
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Forgets the parent's spans."""
        self._spans: dict[int, ref[Any]] = {}
        self._unwatched = True

    def started(self, key: int, span: Any) -> None:
        """Notes a span; one that isn't recorded or exported may be among them.

        :param key: what `ended` will get.
        """
        if len(self._spans) >= _MAX_SPANS:
            return
        self._spans[key] = ref(span)
        if self._unwatched:
            self._unwatched = False
            self.on_first()

    def ended(self, key: int) -> None:
        """Forgets a span."""
        self._spans.pop(key, None)

    def watched(self, min_age_ns: int) -> dict[int, Any]:
        """The spans that have been open for so long, the oldest first, by their keys."""
        now_ns = time_ns()
        found = []
        for key, reference in self._spans.copy().items():
            span = reference()
            if span is None or not span.is_recording():
                self._spans.pop(key, None)
            elif span.get_span_context().trace_flags & 1 and now_ns - span.start_time >= min_age_ns:
                found.append((span.start_time, key, span))
        found.sort(key=lambda one: one[0])
        return {key: span for _, key, span in found}

    def rest(self) -> bool:
        """Whether there is none: then `on_first` is called for the next one."""
        self._unwatched = True
        if self._spans:
            self._unwatched = False
            return False
        return True


def requests(spans: Iterable[Any]) -> Iterator[bytes]:
    """Encoded OTLP requests of open spans as they are now.

    What can't be read or encoded is left out, and so are large spans and what is too much for once: it is told when it
    ends.
    """
    weigh, _ = _sdk()
    waiting: list[ReadableSpan] = []
    size = total = 0
    for span in spans:
        try:
            readable = span._readable_span()
            weight = weigh(readable)[1]
        except ISOLATED:
            continue
        # It may have ended meanwhile.
        if readable.end_time is not None or weight > _MAX_SPAN_BYTES or total + weight > _MAX_BYTES:
            continue
        total += weight
        if size + weight > _REQUEST_BYTES:
            yield from _encoded(waiting)
            waiting, size = [], 0
        waiting.append(readable)
        size += weight
    if waiting:
        yield from _encoded(waiting)


def _encoded(spans: list[ReadableSpan]) -> Iterator[bytes]:
    _, encode = _sdk()
    try:
        yield encode(spans)
    except ISOLATED:
        if len(spans) > 1:
            for span in spans:
                yield from _encoded([span])


@cache
def _sdk() -> tuple[Callable[[ReadableSpan], tuple[int, int]], Callable[[Sequence[ReadableSpan]], bytes]]:
    # Open spans are read and encoded as the stock SDK's, whichever engine records them: there are few.
    with whole_imports(), hidden(*SDK_VARIABLES):
        from otelagent.record.span_queue import encode_spans
        from otelagent.record.weight import weigh_span

    return weigh_span, encode_spans
