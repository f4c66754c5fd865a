"""What has changed, as it changes: notifications for the page (server-sent events) and lines for scripts (NDJSON)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from otelagent.viewer.store.touched import Touched

__all__ = ["Changes"]

_EVERY_S = 0.25
_KEEPALIVE_S = 15.0
_MAX_TRACES = 200
_MAX_WATCHERS = 32


class Changes:
    """Spreads what the writer has committed to those who watch.

    A watcher that is slow gets one notification for all that happened meanwhile, so that none holds memory.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchers: set[_Watcher] = set()
        self.closing = False

    def start(self) -> None:
        """Remembers the event loop that watchers run in."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Ends every watcher."""
        self.closing = True
        for watcher in self._watchers:
            watcher.changed.set()

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    @property
    def full(self) -> bool:
        """Whether nobody more may watch."""
        return len(self._watchers) >= _MAX_WATCHERS

    def written(self, touched: Touched) -> None:
        """Called on the writer's thread."""
        if self._watchers and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._spread, touched)

    def _spread(self, touched: Touched) -> None:
        for watcher in self._watchers:
            watcher.add(touched)

    async def watch(self) -> AsyncIterator[dict[str, Any] | None]:
        """Notifications, at most four a second; None now and then when there are none.

        Ends at once where it is `full`.
        """
        if self.full:
            return
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            while not self.closing:
                try:
                    await asyncio.wait_for(watcher.changed.wait(), _KEEPALIVE_S)
                except asyncio.TimeoutError:
                    yield None
                    continue
                if self.closing:
                    return
                yield watcher.take()
                await asyncio.sleep(_EVERY_S)
        finally:
            self._watchers.discard(watcher)

    async def events(self) -> AsyncIterator[bytes]:
        """The stream of ``text/event-stream``."""
        yield b"retry: 1000\n\n"
        async for one in self.watch():
            yield b": still here\n\n" if one is None else f"data: {json.dumps(one)}\n\n".encode()


class _Watcher:
    """What one watcher hasn't been told yet."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self._empty()

    def _empty(self) -> None:
        self._traces: dict[bytes, None] = {}
        self._more = False
        self._spans = self._logs = self._points = 0

    def add(self, touched: Touched) -> None:
        for trace in touched.traces:
            if len(self._traces) >= _MAX_TRACES:
                self._more = True
                break
            self._traces[trace] = None
        self._spans += touched.spans
        self._logs += touched.logs
        self._points += touched.points
        self.changed.set()

    def take(self) -> dict[str, Any]:
        """All of it; ``more`` says that not all traces are named."""
        told = {
            "traces": [trace.hex() for trace in self._traces],
            "more": self._more,
            "spans": self._spans,
            "logs": self._logs,
            "points": self._points,
        }
        self.changed.clear()
        self._empty()
        return told
