"""Fan-out: one signal's requests to several destinations, none of which waits for another."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from otelagent.delivery.ledger import Ledger
from otelagent.delivery.payload import Payload
from otelagent.delivery.worker import Destination, Flush
from otelagent.fork_gate import whole_imports
from otelagent.waiting import left_s

if TYPE_CHECKING:
    from otelagent.config.model import Rule
    from otelagent.delivery.routing import Router

__all__ = ["FanOut", "flush_all", "shutdown_all"]

_log = logging.getLogger("otelagent.delivery")


class FanOut:
    """The destinations of one signal, behind one `submit`.

    Each has its own queue, threads, circuit breaker, spool and ledger. Only the bytes are shared, by those that take
    everything and by those whose routes take the same of a request.

    :param destinations: at least one, each with the signal's ledger of it.
    :param routes: of each destination, in the same order; empty for one that takes everything.
    :ivar untaken: how many items no destination's routes took. They count as filtered in each ledger.
    """

    def __init__(
        self, destinations: Sequence[tuple[Destination, Ledger]], routes: Sequence[Collection[Rule]] = ()
    ) -> None:
        self._destinations = tuple(destinations)
        self._router: Router | None = None
        if any(routes):
            from otelagent.delivery.routing import Router  # for those who have any

            self._router = Router(routes)
        self.untaken = 0
        # What is being handed on, and what has still to be done for it, each thing once, the last first.
        self._body: bytes | None = None
        self._steps: list[Callable[[], object]] = []

    def submit(self, payload: Payload) -> None:
        """Takes a payload for all destinations; see `Destination.submit`, also for a caller that is interrupted.

        Requests are looked into where there are routes, and nowhere else. One that can't be goes to all destinations.
        One thread at a time calls it.
        """
        if self._body is not payload.body:
            self._steps = self._plan(payload)
            self._body = payload.body
        while self._steps:
            self._steps[-1]()
            # Interrupted in the step, the caller comes again with the same body, and the destination knows it.
            del self._steps[-1]
        # The body stays known: an interruption between this and the caller's next line brings it once more.

    def after_fork_in_child(self) -> None:
        """Starts over: what was being handed on is the parent's."""
        self.untaken = 0
        self._body, self._steps = None, []

    def _plan(self, payload: Payload) -> list[Callable[[], object]]:
        parts, untaken = self._parts(payload)
        steps: list[Callable[[], object]] = []
        for (destination, ledger), part in zip(self._destinations, parts, strict=True):
            if part is not None:
                steps.append(partial(destination.submit, part))
            if left_out := payload.items - (part.items if part is not None else 0):
                steps.append(partial(ledger.filtered, left_out))
        if untaken:
            steps.append(partial(self._count_untaken, untaken))
        return steps

    def _parts(self, payload: Payload) -> tuple[list[Payload | None], int]:
        """What of a payload each destination gets, and how many items none does."""
        ways = len(self._destinations)
        router = self._router
        if router is None:
            return [payload] * ways, 0
        untaken = 0

        def mark(item: Any, resource: Any) -> int:
            nonlocal untaken
            taken = router.mark(item, resource)
            untaken += not taken
            return taken

        try:
            with whole_imports():
                from otelagent.delivery.items import shares

            parts = shares(payload, mark, ways)
            return parts, 0 if any(part is payload for part in parts) else untaken
        except Exception:
            _log.error("otelagent: a request could not be routed and goes to all destinations", exc_info=True)
            return [payload] * ways, 0

    def _count_untaken(self, items: int) -> None:
        self.untaken += items


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
