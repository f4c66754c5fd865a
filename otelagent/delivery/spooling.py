"""Between a destination's queue and its spool: one thread, which does everything that touches the disk.

A disk that hangs delays neither the application nor what is sent from memory.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from otelagent.delivery.accounts import Accounts
from otelagent.delivery.disk_errors import explain, token
from otelagent.delivery.pace import Pace
from otelagent.delivery.payload import Payload
from otelagent.delivery.queue import Claim, PayloadQueue
from otelagent.fork_gate import whole_imports
from otelagent.struct import struct
from otelagent.suppression import instrumentation_suppressed
from otelagent.threads import Condition, Lock, Thread
from otelagent.waiting import left_s

if TYPE_CHECKING:
    from otelagent.delivery.spool.spool import Spool

__all__ = ["THREAD_NAME", "SpoolAt", "Spooling"]

THREAD_NAME = "otelagent-spool"

T = TypeVar("T")

# How long the disk is left alone after it took nothing, and how often there is a look at what dead processes left.
_PAUSE_S = 1.0
_IDLE_S = 30.0
# What the last writes get when the time to end is over already.
_GRACE_S = 0.2


@struct(frozen=True)
class SpoolAt:
    """A spool that is opened, and imported, when it is needed.

    :param directory: where it is; when it exists, another process may have left something there.
    """

    directory: str
    open: Callable[[], Spool]


class Spooling:
    """Moves payloads from the queue to disk while tries fail or the queue is more than half full, and
    reads one payload ahead from disk for the sender.

    Where a method says so, the caller holds the lock of `changed`.

    :param changed: the destination's condition: notified when there may be something to do, here or there.
    :param on_ahead: called with the lock held when there is something to send.
    """

    def __init__(
        self,
        at: SpoolAt,
        queue: PayloadQueue,
        pace: Pace,
        accounts: Accounts,
        changed: Condition,
        clock: Callable[[], float],
        on_ahead: Callable[[], object],
    ) -> None:
        self._at = at
        self._spool: Spool | None = None
        self._queue = queue
        self._pace = pace
        self._accounts = accounts
        self._changed = changed
        self._clock = clock
        self._on_ahead = on_ahead
        # Held while the spool is used; taken before the lock of `changed`, never inside of it.
        self._disk = Lock()
        self._thread: Thread | None = None
        self._ending = False
        self.closing = False
        """Whether nothing more comes: what is on disk then is told once, at the end."""
        # Whether there was a look, whether the thread has yet to give its answer, and the answer.
        self._looked = self._looking = self._found = False
        self._backlog = False
        # The payload that was read ahead, or what is left of it to be sent.
        self._ahead: deque[Payload] = deque()
        self._settled = self._partly_settled = False
        self._problem = ""
        self._append_after_s = self._read_after_s = self._maintain_after_s = -math.inf

    def look(self) -> None:
        """Has the thread look, once, whether another process may have left something on disk; with nothing there and
        nothing to do, it ends. The lock is held."""
        if not self._looked:
            self._looked = self._looking = True
            self._start()

    def wake(self) -> None:
        """Starts the thread if there is something for it to do. The lock is held."""
        if not self._pace.breaker.closed or self._crowded():
            self._backlog = True
        elif self._backlog and not self._items():
            self._backlog = False
        if self._wanted():
            self._start()

    def passing(self) -> bool:
        """Whether what is on disk is what came between two tries, to be sent as if it were in memory: no other process
        has left any of it, no outage in which the circuit breaker has opened, no lack of memory. The lock is held."""
        if self._backlog or self._spool is None or self._thread is None:
            return False
        return self._spool.items() == self._spool.items(own_only=True)

    def ahead(self) -> Payload | None:
        """The payload to send next from disk. The lock is held."""
        return self._ahead[0] if self._ahead else None

    def settle(self) -> None:
        """What `ahead` gave never comes again. The lock is held."""
        self._ahead.popleft()
        self._settled, self._partly_settled = not self._ahead, bool(self._ahead)
        self._changed.notify_all()

    def replace(self, parts: Sequence[Payload]) -> None:
        """What `ahead` gave is sent in parts; on disk it is settled with the last of them. The lock is held."""
        self._ahead.popleft()
        self._ahead.extendleft(reversed(parts))

    def own_items(self) -> int:
        """How many items of this process are on disk."""
        return self._spool.items(own_only=True) if self._spool is not None else 0

    def usable(self) -> bool:
        """Whether the disk takes payloads, as far as one knows."""
        return not self._problem and (self._spool is None or not self._spool.problem)

    def service(self) -> str:
        """Whose payloads are on disk; empty if nothing says it."""
        return self._spool.place.about.get("service.name", "") if self._spool is not None else ""

    def status(self) -> dict[str, object]:
        """See `Spool.status`."""
        if self._spool is not None:
            status = self._spool.status()
            return {**status, "problem": status["problem"] or self._problem}
        return {"directory": self._at.directory, "items": 0, "bytes": 0, "segments": 0, "problem": self._problem}

    def finish(self, deadline_s: float) -> None:
        """Ends the thread and puts on disk what is in the queue, payloads being sent included: their sender comes too
        late. What stays in the queue could not be put there.

        :param deadline_s: a moment of the clock. A write that is under way isn't interrupted, and some come anyway.
        """
        with self._changed:
            self._ending = True
            thread = self._thread
            if self._looking and not len(self._queue):
                deadline_s = -math.inf  # There is nothing to write that would be worth the wait for a disk that hangs.
            self._changed.notify_all()
        deadline_s = max(deadline_s, self._clock() + _GRACE_S)
        if thread is not None and not thread.is_current:
            thread.join(left_s(deadline_s, self._clock()))
        if not self._disk.acquire(timeout=left_s(deadline_s, self._clock())):
            return
        try:
            with self._changed:
                self._queue.unclaim_all()
                claims = [self._queue.claim() for _ in range(self._queue.idle)]
            if self._partly_settled:
                self._settled = self._keep_parts()
            if self._settled:
                self._do_settle()
            for claim in claims:
                if self._clock() >= deadline_s or not self._append(claim):
                    break
            if self._spool is not None:
                in_time = self._clock() < deadline_s
                self._use(lambda spool: spool.close(sync=in_time), None)
        finally:
            self._disk.release()

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's files; a new object takes over."""
        if self._spool is not None:
            self._spool.after_fork_in_child()

    def _wanted(self) -> bool:
        failing = self._pace.retrying or not self._pace.breaker.closed
        return (failing or self._crowded()) and self._queue.idle > 0

    def _crowded(self) -> bool:
        return self._queue.bytes * 2 > self._queue.max_bytes

    def _opened(self) -> Spool:
        if self._spool is None:
            with whole_imports():
                spool = self._at.open()
            spool.attach(self._accounts)
            self._spool = spool
        return self._spool

    def _use(self, what: Callable[[Spool], T], otherwise: T) -> T:
        """What the spool answers. A bug in it, or a module of it that can't be imported, ends neither the thread nor
        what it holds: the payload stays in memory, or comes again."""
        try:
            answer = what(self._opened())
        except OSError as error:  # The spool raises none; where there are no more descriptors, its import does.
            self._problem = error.strerror or str(error)
            self._accounts.failed(token("spool", error), explain(error, self._at.directory, "spool_directory"))
        except Exception as error:
            self._problem = type(error).__name__
            self._accounts.failed("spool_internal_error", self._problem)
        else:
            self._problem = ""
            return answer
        return otherwise

    def _items(self) -> int:
        return self._spool.items() if self._spool is not None else 0

    def _start(self) -> None:
        if self._thread is not None or self._ending:
            return
        thread = Thread(self._run, THREAD_NAME)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            self._thread = None  # Like the sender's, see `Destination`.

    def _run(self) -> None:
        try:
            with instrumentation_suppressed():
                while (work := self._work()) is not None:
                    with self._disk:
                        work()
        finally:
            with self._changed:
                if (
                    self._thread is not None and self._thread.is_current
                ):  # Else it has ended, and another may have started.
                    self._thread = None
                self._changed.notify_all()

    def _work(self) -> Callable[[], object] | None:
        """What to do next; waits for it. None when the thread is to end."""
        with self._changed:
            while not self._ending:
                if self._looking:
                    return self._do_look
                if not (self._found or self._spool is not None or self._wanted()):
                    break
                now = self._clock()
                if self._settled:
                    return self._do_settle
                if self._wanted() and now >= self._append_after_s:
                    return partial(self._append, self._queue.claim())
                if now >= self._maintain_after_s:
                    self._maintain_after_s = now + (_PAUSE_S if self._items() else _IDLE_S)
                    return self._maintain
                if not self._ahead and now >= self._read_after_s and self._items():
                    return self._read_ahead
                until_s = self._maintain_after_s
                if not self._ahead and self._items():
                    until_s = min(until_s, self._read_after_s)
                if self._wanted():
                    until_s = min(until_s, self._append_after_s)
                self._changed.wait(left_s(until_s, now))
            self._thread = None  # With the decision to end: whoever has something to do now, starts another.
            return None

    def _do_look(self) -> None:
        found = os.path.isdir(self._at.directory)
        with self._changed:
            self._looking, self._found = False, found

    def _append(self, claim: Claim) -> bool:
        appended = self._use(lambda spool: spool.append(claim.payload).name, "FAILED")
        stored = appended == "STORED"
        with self._changed:
            if not stored:
                self._append_after_s = self._clock() + _PAUSE_S
            if not self._queue.holds(claim):
                pass  # The end came first: it is counted as dropped, and may come again all the same.
            elif stored:
                self._queue.remove(claim)
                self._accounts.spooled(claim.payload)
                # Of what is new on disk, a part may be old enough to sync.
                self._maintain_after_s = min(self._maintain_after_s, self._clock() + _PAUSE_S)
            else:
                self._queue.put_back(claim)
            self._changed.notify_all()
        if appended == "FULL":
            self._accounts.spool_full()
        elif stored and not self.closing:
            self._accounts.tell_spooling()
        return stored

    def _read_ahead(self) -> None:
        payload = self._use(lambda spool: spool.next(), None)
        with self._changed:
            if payload is None:
                self._read_after_s = self._clock() + _PAUSE_S
            else:
                self._ahead.append(payload)
                self._on_ahead()
            self._changed.notify_all()

    def _do_settle(self) -> None:
        self._use(lambda spool: spool.settle(), None)
        with self._changed:
            self._settled = False
            self._changed.notify_all()

    def _keep_parts(self) -> bool:
        """Puts what is left of a payload that was sent in part on disk by itself, so that the rest doesn't come again.
        If that fails, all of it does."""
        parts = tuple(self._ahead)
        return self._use(lambda spool: all(spool.append(part).name == "STORED" for part in parts), False)

    def _maintain(self) -> None:
        self._use(lambda spool: spool.maintain(), None)
        with self._changed:
            if self._items():
                self._maintain_after_s = min(self._maintain_after_s, self._clock() + _PAUSE_S)
            self._changed.notify_all()
