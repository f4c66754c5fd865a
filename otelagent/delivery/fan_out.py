"""Fan-out: one signal's requests to several destinations, none of which waits for another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from otelagent.delivery.payload import Payload
from otelagent.delivery.worker import Destination, Flush
from otelagent.waiting import left_s

__all__ = ["FanOut", "flush_all", "shutdown_all"]


class FanOut:
    """The destinations of one signal, behind one `submit`.

    Each has its own queue, threads, circuit breaker, spool and ledger, and only the bytes are shared.

    :param destinations: at least one.
    """

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = tuple(destinations)
        # What is being handed on, and what has still to be done for it, the last first.
        self._body: bytes | None = None
        self._steps: list[Callable[[], object]] = []

    def submit(self, payload: Payload) -> None:
        """Takes a payload for all destinations; see `Destination.submit`, also for a caller that is interrupted.

        One thread at a time calls it.
        """
        if self._body is not payload.body:
            self._steps = self._plan(payload)
            self._body = payload.body
        while self._steps:
            self._steps[-1]()
            # Interrupted in the step, the caller comes again with the same body, and the destination knows it.
            del self._steps[-1]
        self._body = None

    def after_fork_in_child(self) -> None:
        """Starts over: what was being handed on is the parent's."""
        self._body, self._steps = None, []

    def _plan(self, payload: Payload) -> list[Callable[[], object]]:
        return [partial(destination.submit, payload) for destination in reversed(self._destinations)]


def flush_all(destinations: Iterable[Destination], deadline_s: float) -> bool:
    """Flushes destinations at the same time; see `Destination.flush`.

    :returns: whether all of them say so.
    """
    return _end_flushes([(one, one.begin_flush(), deadline_s) for one in destinations])


def shutdown_all(destinations: Iterable[Destination], deadline_s: float) -> bool:
    """Shuts destinations down at the same time; see `Destination.shutdown`.

    :returns: whether all of them say so.
    """
    every = tuple(destinations)
    delivered = _end_flushes([(one, *one.begin_shutdown(deadline_s)) for one in every])
    threads = [one.leave(deadline_s) for one in every]
    for one, thread in zip(every, threads, strict=True):
        one.join(thread, deadline_s)
    return delivered


def _end_flushes(flushes: Sequence[tuple[Destination, Flush, float]]) -> bool:
    # At the end of an interpreter no thread can be started, and those that have none yet are sent for by this one: one
    # after the other, each with an equal share of the time, so that a dead one leaves the next its own.
    by_itself = [destination.sends_by_itself() for destination, _, _ in flushes]
    waiting = by_itself.count(False)
    done = []
    for (destination, flush, deadline_s), alone in sorted(zip(flushes, by_itself, strict=True), key=lambda one: one[1]):
        until_s = deadline_s
        if not alone:
            now_s = time.monotonic()
            until_s = min(deadline_s, now_s + left_s(deadline_s, now_s) / waiting)
            waiting -= 1
        done.append(destination.end_flush(flush, until_s))
    return all(done)
