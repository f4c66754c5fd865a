"""Threads and locks of the operating system, whatever loop the application runs in.

gevent's monkey patching makes greenlets of the threads that `threading` starts. One of ours, waiting as a thread does,
would stop the application for as long: every greenlet that serves a request is in the same thread. So threads, locks
and queues are the original ones here, whether gevent came before this module or comes later. A greenlet that holds one
of these locks must not do anything that could switch to another: no input or output, no logging.
"""

from __future__ import annotations

import sys
import threading
from _queue import SimpleQueue  # the one gevent doesn't replace; `queue` has it by another name
from collections import deque

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = [
    "TIMEOUT_MAX",
    "Condition",
    "Lock",
    "RLock",
    "SimpleQueue",
    "Thread",
    "get_ident",
    "hold_back",
    "sleep",
    "start_thread",
]

TIMEOUT_MAX = threading.TIMEOUT_MAX


def _original(module: str, name: str) -> Any:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original(module, name)
    return getattr(sys.modules.get(module) or __import__(module), name)


start_thread = _original("_thread", "start_new_thread")
Lock = _original("_thread", "allocate_lock")
RLock = _original("_thread", "RLock")
get_ident = _original("_thread", "get_ident")
sleep = _original("time", "sleep")


_held_back = ""


def hold_back(reason: str) -> None:
    """From now on no thread of ours starts, as at the interpreter's end: flushes do their work.

    :param reason: in words; empty to end it.
    """
    global _held_back
    _held_back = reason


class Thread:
    """A daemon thread, as `threading.Thread` but for what gevent replaces of that.

    :param target: what it runs; an exception ends it and is told as in every thread.
    :param name: how debuggers and `threading.enumerate` show it.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        self.name = name
        self._target = target
        self._ident: int | None = None
        self._running = Lock()

    def start(self) -> None:
        """Starts it, once.

        :raises RuntimeError: there can be no more threads, or none now, or the interpreter is shutting down.
        """
        if _held_back:
            raise RuntimeError(_held_back)
        self._running.acquire()
        try:
            start_thread(self._run, ())
        except BaseException:
            self._running.release()
            raise

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in it."""
        return bool(self._ident == get_ident())

    def join(self, timeout_s: float) -> None:
        """Waits for its end.

        :param timeout_s: seconds, from 0 to `TIMEOUT_MAX`.
        """
        if self._running.acquire(timeout=timeout_s):
            self._running.release()

    def is_alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return bool(self._running.locked())

    def _run(self) -> None:
        self._ident = get_ident()
        try:
            # What Python makes for a thread that it has not started. gevent would make a greenlet's.
            if "gevent.monkey" not in sys.modules:
                threading.current_thread().name = self.name
            self._target()
        finally:
            # Python forgets it only when the number of the thread comes again.
            getattr(threading, "_active", {}).pop(self._ident, None)
            self._ident = None
            self._running.release()


class Condition:
    """A condition of `threading` with a reentrant lock, but for what gevent replaces of that."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._waiting: deque[Any] = deque()

    def __enter__(self) -> bool:
        return bool(self._lock.acquire())

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout_s: float) -> bool:
        """Lets go of the lock, which the caller holds, until `notify_all`.

        :param timeout_s: seconds, from 0 to `TIMEOUT_MAX`.
        :returns: whether it was notified.
        """
        notified = Lock()
        notified.acquire()
        self._waiting.append(notified)
        held = self._lock._release_save()
        try:
            return bool(notified.acquire(timeout=timeout_s))
        finally:
            self._lock._acquire_restore(held)
            try:
                self._waiting.remove(notified)
            except ValueError:
                pass  # whoever notified has taken it out

    def notify_all(self) -> None:
        """Wakes everyone that waits; the caller holds the lock."""
        while True:
            try:
                self._waiting.popleft().release()
            except IndexError:  # perhaps a `__del__` in the middle of this has woken the last
                return
