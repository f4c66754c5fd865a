"""Which spans belong to which test: those that began while it ran, and not by what an earlier test had begun.

OpenTelemetry allows one provider for the life of a process and takes no processor back, so there is one `SpanTap` in a
process, for all its tests.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

__all__ = ["TAP", "SpanTap", "Window"]

_MAX_KNOWN = 100_000


class Window:
    """The time of one test.

    :ivar closed: whether it is over.
    :ivar ended: its spans that have ended and wait to be taken.
    """

    def __init__(self) -> None:
        self.closed = False
        self.ended: list[ReadableSpan] = []

    def take(self) -> list[ReadableSpan]:
        """Its spans that have ended since the last time."""
        taken = self.ended[:]
        # What comes meanwhile, on another thread, is behind these.
        del self.ended[: len(taken)]
        return taken


class SpanTap(SpanProcessor):
    """Hears of every span of the providers it was added to, and gives it to the windows it belongs to.

    It takes no lock: a span may begin in a signal handler or in ``__del__``, on a thread that is in here.
    """

    def __init__(self) -> None:
        self.active: tuple[Window, ...] = ()
        # By span id, of what has begun: the windows it belongs to, and, until it ends, the span.
        self._windows: dict[int, tuple[Window, ...]] = {}
        self._open: dict[int, Span] = {}

    def begin(self, window: Window) -> None:
        """Opens a window."""
        # A span that an earlier test has left current: what is below it from now on is this one's.
        left = trace.get_current_span().get_span_context().span_id
        self._windows.pop(left, None)
        self.active = (*self.active, window)

    def end(self, window: Window) -> None:
        """Closes it: what was begun in it and by that is nobody's from now on."""
        window.closed = True
        self.active = tuple(one for one in self.active if one is not window)
        window.ended = []

    def has(self, window: Window, span_id: int) -> bool:
        """Whether a span belongs to a window, or may: it isn't known to belong to others only."""
        return window in (self._windows.get(span_id) or (window,))

    def open_in(self, window: Window) -> list[Span]:
        """What has begun in a window and hasn't ended."""
        return [span for id_, span in list(self._open.items()) if window in self._windows.get(id_, ())]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Notes whose span it is."""
        windows = self.active
        parent: Any = span.parent
        if parent is not None:
            above = self._windows.get(parent.span_id, ())
            if any(window.closed for window in above):
                # Those of them that are still open; otherwise it stays that of a test that is over.
                windows = tuple(window for window in above if not window.closed) or above
        if not windows:
            return
        id_ = span.get_span_context().span_id
        self._windows[id_] = windows
        self._open[id_] = span
        if len(self._windows) > _MAX_KNOWN:
            for old in list(self._windows)[: _MAX_KNOWN // 2]:
                self._windows.pop(old, None)
                self._open.pop(old, None)

    def on_end(self, span: ReadableSpan) -> None:
        """Gives it to its windows, unless it was recorded for processors alone (RECORD_ONLY)."""
        context: Any = span.context
        self._open.pop(context.span_id, None)
        if context.trace_flags.sampled:
            for window in self._windows.get(context.span_id, ()):
                if not window.closed:
                    window.ended.append(span)


TAP = SpanTap()
