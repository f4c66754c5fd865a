"""The destination: a queue, one thread that empties it into a transport, and the books."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping

from otelagent.delivery.failures import FailureLog
from otelagent.delivery.ledger import Ledger
from otelagent.delivery.payload import MAX_REQUEST_BYTES, Payload
from otelagent.delivery.queue import PayloadQueue
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable
from otelagent.delivery.retry import RetryPolicy
from otelagent.delivery.transports import Transport
from otelagent.loss import LossReport
from otelagent.struct import struct
from otelagent.suppression import instrumentation_suppressed
from otelagent.waiting import left_s

__all__ = ["Destination", "Limits"]

THREAD_NAME = "otelagent-export"

# What an ended thread gets to close its connections when shutdown's deadline is already over.
_CLOSING_GRACE_S = 0.05

# What a person is told of a payload that isn't taken; nothing when that was asked for.
_REFUSALS = {
    "queue_full": "the destination is too slow or down",
    "too_large": f"they need more than a request may have, {MAX_REQUEST_BYTES} bytes",
}


@struct(frozen=True)
class Limits:
    """What a destination may use.

    :param queue_max_bytes: bytes of encoded payloads that wait in memory.
    :param try_timeout_s: seconds for one try, > 0.
    """

    queue_max_bytes: int = 64 * 1024 * 1024
    try_timeout_s: float = 10.0


class Destination:
    """Delivers payloads to one place, in order, without ever making its callers wait or fail.

    The payload at the head is sent until it is accepted or rejected; those behind it wait (a server that refuses one
    try would refuse them too). Deadlines are moments of `clock`, which is `time.monotonic` unless a test says
    otherwise.

    The lock is reentrant: a signal handler or a `__del__` may submit or flush in the middle of another call on its
    thread.

    :param ledgers: by signal. Items must be counted as ended before their payload is submitted.
    :param policy: how long to wait between tries.
    """

    def __init__(
        self,
        transport: Transport,
        ledgers: Mapping[str, Ledger],
        policy: RetryPolicy | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._ledgers = dict(ledgers)
        self._policy = policy or RetryPolicy()
        self._limits = limits or Limits()
        self._clock = clock
        self._closed = False
        self._start_empty()

    def _start_empty(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._queue = PayloadQueue(self._limits.queue_max_bytes)
        self._failures = FailureLog(self._transport.describe(), self._clock)
        self._thread: threading.Thread | None = None
        self._sending_inline = False
        self._ending = False
        self._closing_deadline_s = math.inf
        self._lost_items = 0
        self._losses = LossReport(lambda: self._lost_items)
        self._interrupted: bytes | None = None
        self._tries_failed = 0
        self._try_at_once = False
        self._backoff_until_s = -math.inf
        self._server_wait_until_s = -math.inf

    def describe(self) -> str:
        """Where payloads go, secrets masked."""
        return self._transport.describe()

    @property
    def queued_items(self) -> int:
        """How many items wait here or are being sent."""
        with self._changed:
            return self._queue.items

    def submit(self, payload: Payload) -> None:
        """Takes a payload for delivery. Never waits, never raises.

        A payload that doesn't fit into the queue is dropped as ``queue_full``, one that no request can hold as
        ``too_large``, one after shutdown as ``shutdown``; all are counted. Fan-out, when it comes, calls this once for
        each destination.

        A caller that is interrupted inside (Ctrl-C, a timeout of gevent's) can't know whether the payload was taken.
        It may submit the same body again, which is then taken once.
        """
        refusal = ""
        counted = False
        try:
            with self._changed:
                if self._interrupted is payload.body:
                    self._interrupted = None
                elif refusal := self._refusal(payload):
                    self._ledger(payload).dropped(payload.items, refusal)
                    counted = True
                    self._lost_items += payload.items
                else:
                    self._queue.put(payload)
                    counted = True
                if len(self._queue):
                    self._start_thread()
                    self._changed.notify_all()
            if message := _REFUSALS.get(refusal):
                self._failures.failed(refusal, f"{payload.items} new items are dropped", message, logging.ERROR)
        except BaseException:
            if counted:
                self._interrupted = payload.body
            raise

    def flush(self, deadline_s: float) -> bool:
        """Waits until everything submitted before the call is delivered, and tells the truth about it.

        One backoff is cut short, the one in progress or the next: the head is tried at once, unless the server asked
        for a wait. A wait that ends after the deadline ends the flush at once.

        :param deadline_s: when to give up, as a moment of the clock.
        :returns: true only if all of it has been delivered: none still waits, and none was dropped or rejected since
            a flush before this one told of losses.
        """
        with self._changed:
            told = self._losses.begin()
            target = self._queue.added
            self._try_at_once = True
            self._changed.notify_all()
        done = self._wait_or_send(target, deadline_s)
        with self._changed:
            return self._losses.end(told) and done

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes, drops what is left as ``shutdown``, ends the thread and closes the transport.

        A try that is under way at the deadline isn't waited for: its payload counts as dropped whatever comes of it,
        and its thread, a daemon, ends with it.

        :param deadline_s: when to give up, as a moment of the clock.
        :returns: what `flush` returns.
        """
        with self._changed:
            self._closed = True
            self._closing_deadline_s = min(self._closing_deadline_s, deadline_s)
        delivered = self.flush(deadline_s)
        left = 0
        with self._changed:
            self._ending = True
            while len(self._queue):
                # The spool takes these when there is one.
                payload = self._queue.take()
                self._ledger(payload).dropped(payload.items, "shutdown")
                left += payload.items
            self._lost_items += left
            thread, inline = self._thread, self._sending_inline
            self._changed.notify_all()
        if left:
            self._failures.failed("shutdown", f"{left} items are dropped", "not delivered in time", logging.ERROR)
        if thread is None:
            if not inline:
                self._transport.close()
        elif thread is not threading.current_thread():
            thread.join(max(_CLOSING_GRACE_S, left_s(deadline_s, self._clock())))
        return delivered

    def after_fork_in_child(self) -> None:
        """Starts over in a fork's child: what waited is the parent's to deliver, and its thread and locks stayed there.

        The ledgers start from zero too, or they would count the parent's items as waiting here.
        """
        for ledger in self._ledgers.values():
            ledger.after_fork_in_child()
        self._transport.after_fork_in_child()
        self._start_empty()

    def _refusal(self, payload: Payload) -> str:
        if self._closed:
            return "shutdown"
        if payload.size > MAX_REQUEST_BYTES:
            return "too_large"
        return "" if self._queue.fits(payload) else "queue_full"

    def _ledger(self, payload: Payload) -> Ledger:
        ledger = self._ledgers.get(payload.signal)
        if ledger is None:
            ledger = self._ledgers.setdefault(payload.signal, Ledger(payload.signal))
        return ledger

    def _start_thread(self) -> bool:
        if self._thread is None and not self._sending_inline:
            thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            if self._thread is not None:
                return True  # A signal handler on this thread was faster.
            self._thread = thread
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down, or the process may have no more threads. The next submit tries
                # again; until then flush and shutdown send on their caller's thread.
                self._thread = None
        return self._thread is not None

    def _run(self) -> None:
        try:
            with instrumentation_suppressed():
                self._send_until(lambda: self._ending or self._clock() >= self._closing_deadline_s)
                self._transport.close()
        finally:
            # Should anything end the thread early, the next submit or flush starts another.
            with self._changed:
                self._thread = None
                self._changed.notify_all()

    def _wait_or_send(self, target: int, deadline_s: float) -> bool:
        def arrived() -> bool:
            return self._queue.taken >= target

        def over() -> bool:
            return arrived() or not left_s(deadline_s, self._clock()) or self._server_wait_until_s > deadline_s

        with self._changed:
            while not over() and (self._sending_inline or self._start_thread()):
                self._changed.wait(left_s(deadline_s, self._clock()))
            if over():
                return arrived()
            self._sending_inline = True
        try:
            with instrumentation_suppressed():
                self._send_until(over, deadline_s)
        finally:
            with self._changed:
                self._sending_inline = False
                self._changed.notify_all()
        return arrived()

    def _send_until(self, over: Callable[[], bool], deadline_s: float = math.inf) -> None:
        while True:
            with self._changed:
                while True:
                    if over():
                        return
                    payload = self._queue.head()
                    now = self._clock()
                    # The circuit breaker goes here: open, it lets nothing through and payloads go to the spool instead.
                    wait_until_s = self._server_wait_until_s if self._try_at_once else self._backoff_until_s
                    if payload is None:
                        wait_until_s = math.inf
                    elif now >= wait_until_s:
                        break
                    self._changed.wait(left_s(min(wait_until_s, deadline_s), now))
                self._try_at_once = False
                try_until_s = min(now + self._limits.try_timeout_s, self._closing_deadline_s, deadline_s)
            self._settle(payload, self._try(payload, max(try_until_s - now, 0.001)))

    def _try(self, payload: Payload, timeout_s: float) -> Result:
        try:
            return self._transport.send(payload, timeout_s)
        except Exception as error:
            # A bug of the transport must not end the thread, and a payload that triggers it must not block the others.
            # The exception's text may quote a header, so that only its type is shown.
            return Rejected("internal_error", type(error).__name__)

    def _settle(self, payload: Payload, result: Result) -> None:
        with self._changed:
            if self._queue.head() is not payload:
                return  # Shutdown gave it up while it was on the wire, and has counted it.
            if isinstance(result, Retryable):
                self._tries_failed += 1
                now = self._clock()
                self._server_wait_until_s = now + self._policy.requested_s(result.after_s)
                self._backoff_until_s = self._server_wait_until_s + self._policy.backoff_s(self._tries_failed)
            else:
                self._tries_failed = 0
                self._backoff_until_s = self._server_wait_until_s = -math.inf
                self._count(payload, result)
                self._queue.take()
            self._changed.notify_all()
        self._report(payload, result)

    def _count(self, payload: Payload, result: Accepted | Rejected) -> None:
        ledger = self._ledger(payload)
        if isinstance(result, Rejected):
            ledger.rejected(payload.items, result.reason)
            lost = payload.items
        else:
            # A server may claim to have refused more than it was given.
            lost = min(max(result.rejected_items, 0), payload.items)
            ledger.delivered(payload.items - lost)
            if lost:
                ledger.rejected(lost, "partial_success")
        self._lost_items += lost

    def _report(self, payload: Payload, result: Result) -> None:
        if isinstance(result, Retryable):
            self._failures.retried(result.reason, result.message)
        elif isinstance(result, Rejected):
            consequence = f"{payload.items} items are lost"
            self._failures.failed(result.reason, consequence, result.message, logging.ERROR)
        else:
            self._failures.succeeded()
            if result.rejected_items > 0:
                consequence = f"{result.rejected_items} of {payload.items} items are lost"
                self._failures.failed("partial_success", consequence, result.message, logging.ERROR)
            elif result.message:
                self._failures.failed("server_warning", "everything is delivered", result.message)
