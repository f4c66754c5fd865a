"""The life of the process: what the agent does when it forks, when it ends and when it is told to end.

How a process can end, and what delivers its last spans:

- normally, by ``sys.exit``, an uncaught exception or Ctrl-C: `atexit`;
- as a child of multiprocessing or billiard, which never get as far as `atexit`: their own finalizers;
- by SIGTERM where nothing handles it: our handler, after which the signal kills the process as it would have;
- by SIGTERM where the application handles it: whatever it does, mostly the first of these. uvicorn puts the handler
  back that it found and raises the signal again; it finds ours. A handler that was there before us is left in place.

Nothing can be done about ``os._exit`` and SIGKILL, nor for spans that end in a thread that outlives a multiprocessing
child's target. A Python handler runs when the interpreter gets to it: while the main thread is inside an extension's
long call, SIGTERM waits for the end of that call.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys

# Bound before gevent may replace them: the last flush runs in a real thread whatever loop the application is in.
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any

__all__ = ["ProcessWatch", "watch_process"]

# Among multiprocessing's finalizers, high numbers run first: ours is the last.
_LAST = -(2**31)

_watch: ProcessWatch | None = None
_hooked = False


def watch_process(
    on_fork_child: Callable[[], object], on_exit: Callable[[], object], *, exit_timeout_s: float
) -> ProcessWatch:
    """Watches this process and the children it forks, in place of the watch that was there before.

    :param on_fork_child: called in every forked child before its own code, with the forking thread as the only one. It
        may be about to execute another program: no threads, no connections.
    :param on_exit: called when the process ends, at the latest moment at which it can deliver something; perhaps more
        than once, perhaps from a thread of its own, and from Python 3.12 on at a time when no thread can be started any
        more. It keeps to `exit_timeout_s` by itself.
    :param exit_timeout_s: after SIGTERM the process ends after this time even if `on_exit` has not returned (plus a
        tenth of it).
    """
    global _watch, _hooked
    if _watch is not None:
        _watch.stop()
    _watch = ProcessWatch(on_fork_child, on_exit, exit_timeout_s)
    _watch.start()
    if not _hooked:
        # None of these can be taken back, so they are there once and ask for the watch of the day.
        _hooked = True
        os.register_at_fork(after_in_child=_after_fork_in_child)
        _when_imported("multiprocessing.util", _finish_in_children_of)
        _when_imported("billiard.util", _finish_in_children_of)
        _when_imported("billiard.pool", _finish_in_pool_workers_of)
    return _watch


class ProcessWatch:
    """One agent's interest in the life of its process; see `watch_process`.

    :ivar handles_sigterm: whether SIGTERM had no handler when the watch started, and has ours since.
    """

    def __init__(
        self, on_fork_child: Callable[[], object], on_exit: Callable[[], object], exit_timeout_s: float
    ) -> None:
        self._on_fork_child = on_fork_child
        self._on_exit = on_exit
        self._exit_timeout_s = exit_timeout_s
        self._stopped = False
        self._finishing = False
        self._terminated = False
        self.handles_sigterm = False

    def start(self) -> None:
        """Registers for the end of the process."""
        atexit.register(self.finish)
        if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            try:
                signal.signal(signal.SIGTERM, self._on_sigterm)
                self.handles_sigterm = True
            except ValueError:  # only the main thread of the main interpreter may
                pass

    def stop(self) -> None:
        """Lets the process end without us. Outside the main thread SIGTERM's handler stays, and only passes on."""
        self._stopped = True
        atexit.unregister(self.finish)
        if self.handles_sigterm and signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            except ValueError:
                pass
        self.handles_sigterm = False

    def finish(self) -> None:
        """Has the agent deliver what it holds, in this thread."""
        self._finishing = True
        try:
            self._call(self._on_exit)
        except KeyboardInterrupt:
            pass  # the user doesn't want to wait, and all that was left to do is end
        finally:
            self._finishing = False
        if self._terminated:
            _die(signal.SIGTERM)
        _keep_interrupted()

    def after_fork_in_child(self) -> None:
        """Tells the agent that it is in a forked child now."""
        self._finishing = self._terminated = False
        self._call(self._on_fork_child)

    def _on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() == 1:
            # The kernel drops the signal for an init process without a handler; with one it must not kill it either.
            return
        if self._finishing:
            # Sent twice (to the process and to its group), or while the process was ending anyway.
            self._terminated = True
            return
        self._finish_beside()
        _die(signum)

    def _finish_beside(self) -> None:
        # The signal may have come while the main thread held a lock that the agent needs. In a thread of its own the
        # agent can wait for that lock in vain without keeping the process from ending.
        self._finishing = True
        finished = allocate_lock()
        finished.acquire()

        def work() -> None:
            try:
                self._call(self._on_exit)
            finally:
                finished.release()

        try:
            start_new_thread(work, ())
        except RuntimeError:  # the interpreter is ending, or there can be no more threads
            self.finish()
            return
        try:
            finished.acquire(timeout=self._exit_timeout_s * 1.1)
        except KeyboardInterrupt:
            pass

    def _call(self, function: Callable[[], object]) -> None:
        if self._stopped:
            return
        try:
            function()
        except Exception:
            import logging

            logging.getLogger("otelagent").warning("%s failed", function, exc_info=True)


def _die(signum: int) -> None:
    signal.signal(signum, signal.SIG_DFL)
    signal.raise_signal(signum)


def _keep_interrupted() -> None:
    """Has the process end as Python ends after an uncaught Ctrl-C: killed by SIGINT, which shells tell from an exit code.

    CPython notes in a flag that KeyboardInterrupt has ended the program. All source code that is run from a string sets
    the flag anew by how it ends, so the named tuples and dataclasses of what delivery imports have cleared it.
    """
    # An interactive session (it has a prompt) keeps the exception of an earlier line there.
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass


def _after_fork_in_child() -> None:
    if _watch is not None:
        _watch.after_fork_in_child()


def _finish() -> None:
    if _watch is not None:
        _watch.finish()


def _when_imported(name: str, hook: Callable[[Any], None]) -> None:
    module = sys.modules.get(name)
    if module is not None:
        hook(module)
        return
    # Instrumentations stand on wrapt, so it has been imported by now unless there are none.
    from wrapt import register_post_import_hook

    register_post_import_hook(hook, name)


def _finish_in_children_of(util: Any) -> None:
    """Has the children of multiprocessing (or billiard) deliver before they end by ``os._exit``.

    :param util: ``multiprocessing.util``. A child forgets its parent's finalizers, then runs the hooks for after a
        fork, whether it was forked or spawned; there the finalizer is registered anew.
    """
    util.register_after_fork(util, _finish_at_end_of_child)
    parent_process = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    if util.__name__.startswith("multiprocessing.") and parent_process is not None and parent_process() is not None:
        _finish_at_end_of_child(util)  # the child's own code started the agent, after those hooks


def _finish_at_end_of_child(util: Any) -> None:
    util.Finalize(None, _finish, exitpriority=_LAST)


def _finish_in_pool_workers_of(pool: ModuleType) -> None:
    """Has the workers of Celery's prefork pool deliver: they end by ``os._exit`` before any finalizer."""
    worker: Any = getattr(pool, "Worker", None)
    end = getattr(worker, "_do_exit", None)
    if end is None:
        return

    def _do_exit(self: Any, *arguments: Any, **keywords: Any) -> Any:
        on_exit = self.on_exit

        def then_finish(*arguments: Any, **keywords: Any) -> None:
            try:
                if on_exit is not None:
                    on_exit(*arguments, **keywords)  # Celery's worker_process_shutdown: may still end spans
            finally:
                _finish()

        self.on_exit = then_finish
        return end(self, *arguments, **keywords)

    worker._do_exit = _do_exit
