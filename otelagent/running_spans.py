"""Telling viewers on this machine of the spans that are still open, so that a request that hangs can be seen.

Spans are delivered when they end, once and with an account. These notices are beside that: they are sent once or not at
all and counted nowhere, and what a viewer makes of them gives way to the span itself. Each is repeated as long as the
span is open, so that the viewer notices when a process has died.
"""

from __future__ import annotations

import logging
import time
from functools import cache
from typing import TYPE_CHECKING

from otelagent.fork_gate import whole_imports
from otelagent.suppression import instrumentation_suppressed
from otelagent.threads import Lock, SimpleQueue, Thread, sleep

if TYPE_CHECKING:
    from otelagent.config import Config
    from otelagent.delivery.notices import Notices
    from otelagent.record.open_spans import OpenSpans

__all__ = ["RunningSpans", "viewer_endpoints"]

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_MIN_AGE_NS = 500_000_000
_REPEAT_EVERY_S = 5.0
"""A third of the time after which a viewer takes a span for lost."""
_MAX_TOLD = 1_000
"""Spans, the oldest."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def viewer_endpoints(config: Config) -> tuple[str, ...]:
    """Where traces go that may be a viewer: on this machine, by OTLP/HTTP in plaintext."""
    from urllib.parse import urlsplit

    found = []
    for name in config.destination_names("traces"):
        export = config.export("traces", name)
        url = urlsplit(export.otlp.endpoint)
        by_http = export.exporter == "otlp" and export.otlp.protocol == "http/protobuf"
        if by_http and url.scheme == "http" and url.hostname in _LOOPBACK:
            found.append(export.otlp.endpoint)
    return tuple(dict.fromkeys(found))


class RunningSpans:
    """Looks for old ones twice a second while any span is open, in a thread of its own; rests while none is.

    :param open_spans: the engine's.
    :param endpoints: see `viewer_endpoints`.
    """

    def __init__(self, open_spans: OpenSpans, endpoints: tuple[str, ...]) -> None:
        self._open = open_spans
        self._endpoints = endpoints
        self._closed = False
        self._renew()
        open_spans.on_first = self._wake_up

    def _renew(self) -> None:
        self._starting = Lock()
        self._thread: Thread | None = None
        # See `otelagent.record.batch`: put() is reentrant.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._told: set[int] = set()
        self._repeat_s = 0.0
        self._notices: list[Notices] | None = None

    def stop(self) -> None:
        """Nothing is told any more."""
        self._closed = True
        self._wake.put(None)

    def after_fork_in_child(self) -> None:
        """Starts over: the parent tells of its own spans."""
        self._open.after_fork_in_child()
        for notices in self._notices or ():
            notices.abandon()
        self._renew()

    def _wake_up(self) -> None:
        if self._thread is None:
            self._start()
        self._wake.put(None)

    def _start(self) -> None:
        # Not blocking: whoever doesn't get the lock leaves it to who has it, see `otelagent.record.batch`.
        if self._closed or not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None:
                thread = Thread(self._run, "otelagent-running-spans")
                thread.start()
                self._thread = thread
        except RuntimeError:
            pass  # There can be no more threads: nobody is told.
        finally:
            self._starting.release()

    def _run(self) -> None:
        wake = self._wake
        with instrumentation_suppressed():
            while not self._closed:
                wake.get()
                while not self._closed and not self._open.rest():
                    sleep(_LOOK_EVERY_S)
                    try:
                        self._look()
                    except Exception:
                        _log.debug("running spans could not be told", exc_info=True)

    def _look(self) -> None:
        now_s = time.monotonic()
        spans = dict(list(self._open.watched(_MIN_AGE_NS).items())[:_MAX_TOLD])
        repeat = now_s >= self._repeat_s
        due = [span for key, span in spans.items() if repeat or key not in self._told]
        self._told &= spans.keys()
        if not due:
            return
        from otelagent.record.open_spans import requests

        encoded = cache(lambda: list(requests(due)))
        told = [notices.send(encoded) for notices in self._viewers()]
        if any(told):
            self._told = set(spans)
            if repeat:
                self._repeat_s = now_s + _REPEAT_EVERY_S

    def _viewers(self) -> list[Notices]:
        if self._notices is None:
            with whole_imports():
                from otelagent.delivery.notices import Notices

                self._notices = [Notices(endpoint) for endpoint in self._endpoints]
        return self._notices
