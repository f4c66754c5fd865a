"""The batch between the application's threads and delivery: one daemon thread that drains a source of ended spans."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Protocol

from otelagent.record.queue_losses import QueueLosses
from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.suppression import instrumentation_suppressed
from otelagent.threads import Lock, SimpleQueue, Thread, get_ident
from otelagent.waiting import left_s

if TYPE_CHECKING:
    from otelagent.record.engine import Deliver, LedgerPort

__all__ = ["Batch", "Source"]

_log = RateLimitedLog(logging.getLogger(__name__))


class Source(Protocol):
    """Ended items by priority, each priority in the order of their end, and how they become OTLP requests. The engine
    owns it.

    Appending must be safe from any thread, from a signal handler and from `__del__` while `drain` runs.
    """

    def mark(self) -> int:
        """The moment, for `waits` and `drain`."""

    def waits(self, until: int, /) -> bool:
        """Whether anything still waits that came before a moment."""

    def enough(self) -> bool:
        """Whether as much waits as is worth a request, by items or by bytes."""

    def drain(self, until: int | None = None, /) -> tuple[bytes, int] | None:
        """Takes as much as one request may have, the highest priority first and of each the oldest, and encodes it in
        the order of their end.

        What can't be encoded is left out and counted by the source, so that the count returned can be smaller than
        what was taken. Only one thread at a time calls it. Whatever interrupts it (Ctrl-C, a timeout of gevent's), the
        items it had taken wait again.

        :param until: a `mark()`: leaves out what came later. None for nothing.
        :returns: the encoded request and its item count; None when nothing (encodable) waited.
        """

    def dropped(self) -> Mapping[str, int]:
        """How many items it has given up, by reason, since it was made or `forget`."""

    def discard(self, reason: str, /) -> None:
        """Drops everything that waits, counted under `reason`. Any thread, at any time."""

    def forget(self) -> None:
        """Lets go of everything that waits without counting it: in a fork child it belongs to the parent."""


class Batch:
    """Drains a source into `deliver` when a schedule or a size says so, on flush, and on shutdown.

    The application's side, `added`, takes no lock: a span may end in a signal handler or in `__del__` on a thread that
    is inside this very class.

    :param source: what to drain.
    :param ledger: hears of items whose delivery raised; everything else is counted by the source or behind `deliver`.
    :param deliver: gets each request; called with the API's instrumentation suppressed.
    :param schedule_delay_s: longest wait of an item before its batch is drained, seconds, > 0. What is worth a request
        wakes the thread at once.
    :param signal: what `deliver` is told: `traces`.
    """

    def __init__(
        self,
        source: Source,
        ledger: LedgerPort,
        deliver: Deliver,
        *,
        schedule_delay_s: float,
        signal: str = "traces",
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._deliver = deliver
        self._schedule_delay_s = schedule_delay_s
        self._signal = signal
        self._closed = False
        self._swept = False
        self._renew()

    def _renew(self) -> None:
        self._draining = Lock()
        self._drainer: int | None = None
        # Encoded and not handed on for sure: if something interrupts that, the next drain begins with it.
        self._request: tuple[bytes, int] | None = None
        self._starting = Lock()
        self._thread: Thread | None = None
        self._next_start_s = 0.0
        # A SimpleQueue and not an Event: put() is reentrant, Event.set() deadlocks a signal handler that interrupts it.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._woken = False
        self._losses = QueueLosses(self._signal, self._source.dropped)

    @property
    def closed(self) -> bool:
        """Whether shutdown has begun: an item that ends now is to be dropped as `shutdown`."""
        return self._closed

    def added(self, enough: bool) -> None:
        """Says that the source took an item. Cheap; starts the thread at the first one.

        :param enough: whether as much waits as is worth a request.
        """
        if self._swept:
            # Shutdown's last sweep may have been before this item came in; whoever comes later sweeps it up.
            self._source.discard("shutdown")
            return
        if self._thread is None:
            self._start()
        if enough and not self._woken:
            self._woken = True
            self._wake.put(None)

    def flush(self, deadline_s: float) -> bool:
        """Drains on the calling thread what waited before the call, and waits for a batch that is on its way.

        :param deadline_s: `time.monotonic()` value, seconds.
        :returns: whether all of it was handed to `deliver` in time.
        """
        with instrumentation_suppressed():
            return self._drain(self._source.mark(), deadline_s)

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes, ends the thread and drops what is left or comes later as `shutdown`. Idempotent.

        :param deadline_s: `time.monotonic()` value, seconds.
        :returns: whether everything was handed to `deliver` in time.
        """
        if self._closed:
            return True
        self._closed = True
        self._wake.put(None)
        done = self.flush(deadline_s)
        self._swept = True
        self._source.discard("shutdown")
        self._losses.tell(last=True)
        return done

    def after_fork_in_child(self) -> None:
        """Starts over without the parent's items, locks and thread (which doesn't exist in the child)."""
        self._source.forget()
        self._renew()

    def _start(self) -> None:
        # Not blocking: whoever doesn't get the lock leaves the start to the thread that has it, perhaps itself, outside
        # of the signal handler that this is running in.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is not None or self._closed or time.monotonic() < self._next_start_s:
                return
            thread = Thread(partial(self._run, self._wake), "otelagent-batch")
            try:
                thread.start()
            except RuntimeError:
                # The interpreter shuts down or the process may have no more threads. A flush drains instead.
                self._next_start_s = time.monotonic() + self._schedule_delay_s
            else:
                self._thread = thread
        finally:
            self._starting.release()

    def _run(self, wake: SimpleQueue[None]) -> None:
        with instrumentation_suppressed():
            while not self._closed:
                try:
                    wake.get(timeout=self._schedule_delay_s)
                    scheduled = False
                except Empty:
                    scheduled = True
                self._woken = False
                try:
                    self._drain(self._source.mark() if scheduled else None, None)
                    self._losses.tell()
                except Exception:
                    _log.warning("thread", "The batch thread failed and goes on", exc_info=True)

    def _drain(self, until: int | None, deadline_s: float | None) -> bool:
        """Hands on what waited at a moment, or else what is worth a request, as long as there is such."""
        if self._drainer == get_ident():
            # A signal handler or a __del__ flushes inside a drain on its own thread: waiting would be for ever.
            return False
        while True:
            # The lock is taken at least once, even for nothing: a batch that another thread has taken out of the source
            # must have been handed on too.
            timeout_s = -1.0 if deadline_s is None else left_s(deadline_s, time.monotonic())
            if not self._draining.acquire(timeout=timeout_s):
                return False
            try:
                self._drainer = get_ident()
                self._hand_on()
                if not (self._source.enough() if until is None else self._source.waits(until)):
                    return True
                if timeout_s == 0.0:
                    return False
                self._request = self._source.drain(until)
                if self._request is None:
                    return until is None or not self._source.waits(until)
                self._hand_on()
            except BaseException:
                if self._swept:
                    self._source.discard("shutdown")
                raise
            finally:
                self._drainer = None
                self._draining.release()

    def _hand_on(self) -> None:
        if self._request is None:
            return
        body, count = self._request
        try:
            self._deliver(self._signal, body, count)
        except Exception:
            try:
                # A signal handler's exception may have come in between: the same body is taken once.
                self._deliver(self._signal, body, count)
            except Exception:
                # Against the contract of Deliver; counted all the same, because nothing is lost in silence.
                self._request = None
                self._ledger.dropped(count, "deliver_error")
                _log.warning("deliver", "Delivery refused a batch by raising", exc_info=True)
        self._request = None
