"""The destination: a queue, one thread that empties it into a transport, and what keeps the rest on disk."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from otelagent.delivery.accounts import Accounts
from otelagent.delivery.attempt import Halves, attempt
from otelagent.delivery.failures import FailureLog
from otelagent.delivery.intake import Intake
from otelagent.delivery.ledger import Ledger
from otelagent.delivery.pace import Pace
from otelagent.delivery.payload import Payload
from otelagent.delivery.queue import Claim, PayloadQueue
from otelagent.delivery.result import Result, Retryable
from otelagent.delivery.retry import RetryPolicy
from otelagent.delivery.spooling import SpoolAt, Spooling
from otelagent.delivery.transports import Transport
from otelagent.loss import LossReport
from otelagent.struct import struct
from otelagent.suppression import instrumentation_suppressed
from otelagent.threads import Condition, Thread
from otelagent.waiting import left_s

__all__ = ["Destination", "Flush", "Limits"]

THREAD_NAME = "otelagent-export"

# What an ended thread gets to close its connections when shutdown's deadline is already over.
_CLOSING_GRACE_S = 0.05
# How often a flush that waits asks whether it waits in vain.
_LOOK_S = 0.25
# The share of shutdown's time that is kept for putting on disk what could not be sent, and the most it comes to.
_SPOOLING_SHARE = 0.25
_SPOOLING_S = 0.5


@struct(frozen=True)
class Limits:
    """What a destination may use.

    :param queue_max_bytes: bytes of encoded payloads that wait in memory.
    :param try_timeout_s: seconds for one try, > 0; infinity for a transport that is never given up, see `stalled`.
    :param export_bytes_per_s: bytes sent a second, on the average; infinity for no limit.
    :param replay_bytes_per_s: bytes sent from the spool a second, on the average, so that what comes back after an
        outage floods neither the collector nor the way of what is new.
    """

    queue_max_bytes: int = 64 * 1024 * 1024
    try_timeout_s: float = 10.0
    export_bytes_per_s: float = math.inf
    replay_bytes_per_s: float = 1024 * 1024


@struct(frozen=True)
class Flush:
    """A flush that has begun: the losses that were told before it, and how many payloads had come."""

    told: int
    target: int


class Destination:
    """Delivers payloads to one place without ever making its callers wait or fail.

    What is in memory is sent in the order it came; the payload at the head is sent until it is accepted or rejected,
    and those behind it wait (a server that refuses one try would refuse them too). With a spool, payloads go to disk
    while tries fail, when memory is half full and at the end; they come back from there between new ones and in the
    order they came, at a limited rate unless only a few tries have failed, see `Spooling.passing`. Deadlines are
    moments of `clock`, which is `time.monotonic` unless a test says otherwise.

    The lock is reentrant: a signal handler or a `__del__` may submit or flush in the middle of another call on its
    thread.

    :param ledgers: by signal. Items must be counted as ended before their payload is submitted.
    :param policy: how long to wait between tries.
    :param spool: None to keep everything in memory.
    :param silent: whether failures are only counted: the log may go to the very place that fails.
    :param stalled: says whether the try that is under way gets on no more, though it may yet: a flush doesn't wait for
        it, nor does a shutdown.
    """

    def __init__(
        self,
        transport: Transport,
        ledgers: Mapping[str, Ledger],
        policy: RetryPolicy | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        spool: SpoolAt | None = None,
        *,
        silent: bool = False,
        stalled: Callable[[], bool] | None = None,
    ) -> None:
        self._transport = transport
        self._ledgers = dict(ledgers)
        self._policy = policy or RetryPolicy()
        self._limits = limits or Limits()
        self._clock = clock
        self._spool = spool
        self._silent = silent
        self._stalled = stalled or (lambda: False)
        self._closed = False
        self._start_empty()

    def _start_empty(self) -> None:
        limits = self._limits
        self._changed = Condition()
        self._queue = PayloadQueue(limits.queue_max_bytes)
        self._failures = FailureLog(self._transport.describe(), self._clock, silent=self._silent)
        self._accounts = Accounts(
            self._ledgers, self._failures, self._spool.directory if self._spool is not None else None
        )
        self._pace = Pace(self._policy, limits.export_bytes_per_s, limits.replay_bytes_per_s)
        self._spooling = (
            Spooling(
                self._spool,
                self._queue,
                self._pace,
                self._accounts,
                self._changed,
                self._clock,
                on_ahead=self._start_thread,
            )
            if self._spool is not None
            else None
        )
        self._thread: Thread | None = None
        self._sending_inline = False
        self._sending = False
        self._replayed = False
        self._ending = False
        self._closing_deadline_s = math.inf
        self._losses = LossReport(lambda: self._accounts.lost_items)
        self._intake = Intake(self._queue, self._accounts, self._changed, lambda: self._closed, self._begin)

    def describe(self) -> str:
        """Where payloads go, secrets masked."""
        return self._transport.describe()

    def status(self) -> dict[str, object]:
        """The circuit breaker's state, the last try that failed (None if none has, see `Accounts.last_error`) and the
        spool's state (None without one), as plain JSON values."""
        with self._changed:
            breaker, error = self._pace.breaker.state(self._clock()), self._accounts.last_error
        return {
            "breaker": breaker,
            "last_error": dict(error) if error is not None else None,
            "spool": self._spooling.status() if self._spooling is not None else None,
        }

    @property
    def queued_items(self) -> int:
        """How many items wait in memory or are being sent from there."""
        with self._changed:
            return self._queue.items

    def start(self) -> None:
        """Begins with what another process has left on disk, if there is any; else the first payload starts all."""
        with self._changed:
            self._look()

    def submit(self, payload: Payload) -> None:
        """Takes a payload for delivery. Never waits, never raises.

        When the queue is full, items go by priority, see `Intake`, as ``queue_full``; a payload that no request can
        hold is split, and an item that none can is dropped as ``too_large``; what comes after shutdown as
        ``shutdown``. All are counted.

        A caller that is interrupted inside (Ctrl-C, a timeout of gevent's) can't know whether the payload was taken.
        It may submit the same body again, which is then taken once.
        """
        self._intake.submit(payload)

    def flush(self, deadline_s: float) -> bool:
        """Waits until everything submitted before the call is delivered, and tells the truth about it.

        One backoff is cut short, the one in progress or the next: the head is tried at once, unless the server asked
        for a wait. A wait that ends after the deadline ends the flush at once, and so does a circuit breaker that is
        open when all is on disk.

        :param deadline_s: when to give up, as a moment of the clock.
        :returns: true only if all of it has been delivered: none still waits, be it in memory or on disk, and none was
            dropped or rejected since a flush before this one told of losses. What other processes had left on disk
            doesn't count.
        """
        return self.end_flush(self.begin_flush(), deadline_s)

    def begin_flush(self) -> Flush:
        """The part of `flush` that doesn't wait, so that several destinations can be flushed at a time."""
        with self._changed:
            told = self._losses.begin()
            target = self._queue.added
            self._pace.hurry()
            self._changed.notify_all()
        return Flush(told, target)

    def end_flush(self, flush: Flush, deadline_s: float) -> bool:
        """The rest of `flush`."""
        done = self._wait_or_send(flush.target, deadline_s)
        with self._changed:
            return self._losses.end(flush.told) and done

    def sends_by_itself(self) -> bool:
        """Whether what waits is sent without the help of a flush's thread: false where no thread can be started."""
        with self._changed:
            return not len(self._queue) or self._sending_inline or self._start_thread()

    def shutdown(self, deadline_s: float) -> bool:
        """Flushes, leaves what can't be sent at once to the spool, ends the threads and closes the transport.

        Without a spool, what is not delivered at the deadline is dropped as ``shutdown``. A try that is under way then
        isn't waited for: its payload counts as dropped (or is on disk) whatever comes of it, and its thread, a daemon,
        ends with it.

        :param deadline_s: when to give up, as a moment of the clock.
        :returns: what `flush` returns.
        """
        flush, send_until_s = self.begin_shutdown(deadline_s)
        delivered = self.end_flush(flush, send_until_s)
        self.join(self.leave(deadline_s), deadline_s)
        return delivered

    def begin_shutdown(self, deadline_s: float) -> tuple[Flush, float]:
        """The first part of `shutdown`: takes nothing more, and says what `end_flush` is to be called with; after that
        come `leave` and `join`."""
        left = left_s(deadline_s, self._clock())
        send_until_s = deadline_s
        if self._spooling is not None:
            send_until_s = self._clock() + left - min(left * _SPOOLING_SHARE, _SPOOLING_S)
        with self._changed:
            self._closed = True
            if self._spooling is not None:
                self._spooling.closing = True
            self._closing_deadline_s = min(self._closing_deadline_s, send_until_s)
        return self.begin_flush(), send_until_s

    def leave(self, deadline_s: float) -> Thread | None:
        """Leaves what could not be sent to the spool, and gives up the rest; returns what `join` wants."""
        with self._changed:
            self._ending = True
            thread = self._thread
            self._changed.notify_all()
        if self._spooling is not None:
            self._spooling.finish(deadline_s)
            self._accounts.tell_spooled(self._spooling.service())
        lost = 0
        with self._changed:
            for payload in self._queue.take_all():
                self._accounts.dropped(payload, "shutdown")
                lost += payload.items
            self._changed.notify_all()
        self._accounts.tell_left(lost)
        return thread

    def join(self, thread: Thread | None, deadline_s: float) -> None:
        """Waits for the thread, which closes the transport."""
        if thread is None:
            if not self._sending_inline:
                self._transport.close()
        elif not thread.is_current:
            left = 0.0 if self._stalled() else left_s(deadline_s, self._clock())
            thread.join(max(_CLOSING_GRACE_S, left))

    def after_fork_in_child(self) -> None:
        """Starts over in a fork's child: what waited is the parent's to deliver, in memory and on disk, and its threads
        and locks stayed there."""
        self._accounts.after_fork_in_child()
        self._transport.after_fork_in_child()
        if self._spooling is not None:
            self._spooling.after_fork_in_child()
        self._start_empty()

    def _begin(self) -> None:
        self._start_thread()
        self._look()

    def _look(self) -> None:
        if self._spooling is not None:
            self._spooling.look()
            self._spooling.wake()

    def _start_thread(self) -> bool:
        if self._thread is None and not self._sending_inline:
            thread = Thread(self._run, THREAD_NAME)
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
            on_disk = self._spooling.own_items() if self._spooling is not None else 0
            return self._queue.emptied(target) and not on_disk

        def over() -> bool:
            late = not left_s(deadline_s, self._clock()) or self._pace.server_wait_until_s > deadline_s
            return late or arrived() or self._stalled() or self._left_to_disk(target)

        with self._changed:
            while not over() and (self._sending_inline or self._start_thread()):
                self._changed.wait(min(left_s(deadline_s, self._clock()), _LOOK_S))
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

    def _left_to_disk(self, target: int) -> bool:
        """Whether waiting is of no use: it ends, or the breaker is open, and what waits is on disk or can go there."""
        if self._spooling is None or self._sending:
            return False
        failing = not self._pace.hurried and self._pace.ready_at_s(self._clock()) > self._clock()
        if self._closed:
            on_disk = self._queue.emptied(target) and not self._spooling.passing()
            return on_disk or (failing and self._spooling.usable())
        return failing and not self._pace.breaker.closed and self._queue.emptied(target)

    def _send_until(self, over: Callable[[], bool], deadline_s: float = math.inf) -> None:
        while True:
            with self._changed:
                while True:
                    if over():
                        return
                    now = self._clock()
                    live_at_s, replay_at_s = self._ready(now)
                    if min(live_at_s, replay_at_s) <= now:
                        break
                    self._changed.wait(left_s(min(live_at_s, replay_at_s, deadline_s), now))
                # New payloads come first, and then every other time.
                replay = live_at_s > now or (replay_at_s <= now and not self._replayed)
                claim, payload = self._choose(replay)
                self._pace.began(payload.size, now, replay=replay and not self._passing())
                self._sending, self._replayed = True, replay
                try_until_s = min(now + self._limits.try_timeout_s, deadline_s)
                if try_until_s < math.inf:
                    try_until_s = min(try_until_s, self._closing_deadline_s)
            try:
                result, halves = attempt(self._transport, payload, max(try_until_s - now, 0.001))
            except BaseException:
                with self._changed:
                    self._sending = False
                    if claim is not None and self._queue.holds(claim):
                        self._queue.put_back(claim)
                raise
            self._settle(payload, claim, result, halves)

    def _ready(self, now_s: float) -> tuple[float, float]:
        """From when on a payload from memory may be sent, and from when on one from disk."""
        passing = self._passing()
        ahead = self._spooling.ahead() if self._spooling is not None and (passing or not self._closed) else None
        return (
            self._pace.ready_at_s(now_s) if self._queue.idle else math.inf,
            self._pace.ready_at_s(now_s, replay=not passing) if ahead is not None else math.inf,
        )

    def _passing(self) -> bool:
        return self._spooling is not None and self._spooling.passing()

    def _choose(self, replay: bool) -> tuple[Claim | None, Payload]:
        if replay:
            assert self._spooling is not None
            ahead = self._spooling.ahead()
            assert ahead is not None
            return None, ahead
        claim = self._queue.claim()
        return claim, claim.payload

    def _settle(self, payload: Payload, claim: Claim | None, result: Result, halves: Halves | None) -> None:
        with self._changed:
            self._sending = False
            self._pace.ended(result, self._clock())
            self._accounts.tried(result)
            ours = self._queue.holds(claim) if claim is not None else not self._ending
            if ours and halves is not None:
                if claim is not None:
                    self._queue.replace(claim, halves)
                elif self._spooling is not None:
                    self._spooling.replace(halves)
            elif ours and not isinstance(result, Retryable):
                self._accounts.settled(payload, result, from_spool=claim is None)
                if claim is not None:
                    self._queue.remove(claim)
                elif self._spooling is not None:
                    self._spooling.settle()
            elif ours and claim is not None:
                self._queue.put_back(claim)
            if self._spooling is not None:
                self._spooling.wake()
            self._changed.notify_all()
        # Else shutdown gave it up while it was on the wire, and has counted it or put it on disk.
        if ours:
            self._accounts.tell(payload, result, in_halves=halves is not None)
