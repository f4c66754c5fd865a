"""The life of the process: what the agent does when it forks, when it ends and when it is told to end.

How a process can end, and what delivers its last spans:

- normally, by ``sys.exit``, an uncaught exception or Ctrl-C: `atexit`;
- as a child of multiprocessing or billiard, which never get as far as `atexit`: their own finalizers;
- by SIGTERM where nothing handles it: our handler, after which the signal kills the process as it would have;
- by SIGTERM where the application handles it: whatever it does, mostly the first of these. uvicorn puts the handler
  back that it found and raises the signal again; it finds ours. A handler that was there before us is left in place;
- as a worker of gunicorn's that is of uvicorn's class: it resets all signals first, so ours are set once more after
  that.

Nothing can be done about ``os._exit`` and SIGKILL, nor for spans that end in a thread that outlives a multiprocessing
child's target. A Python handler runs when the interpreter gets to it: while the main thread is inside an extension's
long call, SIGTERM waits for the end of that call.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from otelagent import workers
from otelagent.forks import at_fork
from otelagent.threads import TIMEOUT_MAX, Lock, get_ident, start_thread

__all__ = ["ProcessWatch", "watch_process"]

# How often delivery at the end starts over when a signal's handler leaves it by SystemExit.
_ATTEMPTS = 3

_watch: ProcessWatch | None = None
_hooked = False


def watch_process(
    on_fork_child: Callable[[], object],
    on_exit: Callable[[], object],
    *,
    exit_timeout_s: float,
    on_survived: Callable[[], object] | None = None,
) -> ProcessWatch:
    """Watches this process and the children it forks, in place of the watch that was there before.

    :param on_fork_child: called in every forked child before its own code, with the forking thread as the only one. It
        may be about to execute another program: no threads, no connections.
    :param on_exit: called when the process ends, at the latest moment at which it can deliver something; perhaps more
        than once, perhaps from a thread of its own, and from Python 3.12 on at a time when no thread can be started any
        more. It keeps to `exit_timeout_s` by itself.
    :param exit_timeout_s: after SIGTERM the process ends after this time even if `on_exit` has not returned (plus a
        tenth of it).
    :param on_survived: called instead of `on_exit` when SIGTERM doesn't end the process because it is a container's
        first: it may well be killed next, or run on. Within the same time.
    """
    global _watch, _hooked
    if _watch is not None:
        _watch.stop()
    _watch = ProcessWatch(on_fork_child, on_exit, exit_timeout_s, on_survived)
    _watch.start()
    if not _hooked:
        # Most of these can't be taken back, so they are there once and ask for the watch of the day.
        _hooked = True
        at_fork(before=_before_fork, in_parent=_after_fork_in_parent, in_child=_after_fork_in_child)
        workers.hook(lambda: _watch)
    return _watch


class ProcessWatch:
    """One agent's interest in the life of its process; see `watch_process`."""

    def __init__(
        self,
        on_fork_child: Callable[[], object],
        on_exit: Callable[[], object],
        exit_timeout_s: float,
        on_survived: Callable[[], object] | None = None,
    ) -> None:
        self._on_fork_child = on_fork_child
        self._on_exit = on_exit
        self._on_survived = on_survived
        self._exit_timeout_s = exit_timeout_s
        self._stopped = False
        self._finishing = False
        self._killed_by: int | None = None
        self._handled: list[int] = []
        self._masks: dict[int, set[int]] = {}
        self._pipe: tuple[int, int] | None = None

    @property
    def handles_sigterm(self) -> bool:
        """Whether SIGTERM had no handler when the watch started, and has had ours since."""
        return signal.SIGTERM in self._handled

    @property
    def stopped(self) -> bool:
        """Whether `stop` has been called."""
        return self._stopped

    def start(self) -> None:
        """Registers for the end of the process."""
        atexit.register(self.finish)
        self.handle_signals()
        workers.put()

    def handle_signals(self) -> None:
        """Handles the signals that would kill the process unnoticed. SIGINT is none of them until it is reset."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            if not self._stopped and signal.getsignal(signum) == signal.SIG_DFL:
                try:
                    signal.signal(signum, self._on_signal)
                except ValueError:  # only the main thread of the main interpreter may
                    return
                self._handled.append(signum)

    def stop(self) -> None:
        """Lets the process end without us. Outside the main thread the signals' handler stays, and only passes on."""
        self._stopped = True
        atexit.unregister(self.finish)
        for signum in self._handled:
            if signal.getsignal(signum) == self._on_signal:
                try:
                    signal.signal(signum, signal.SIG_DFL)
                except ValueError:
                    pass
        self._handled.clear()
        workers.restore()

    def finish(self) -> None:
        """Has the agent deliver what it holds, in this thread."""
        self._finishing = True
        for _ in range(_ATTEMPTS):
            try:
                self._call(self._on_exit)
                break
            except SystemExit:
                # From a signal's handler, as gunicorn's when Ctrl-C and its parent both tell it to end. It is ending.
                continue
            except KeyboardInterrupt:
                break  # the user doesn't want to wait, and all that was left to do is end
        self._finishing = False
        if self._killed_by is not None:
            _die(self._killed_by)
        _keep_interrupted()

    def before_fork(self) -> None:
        """Holds our signals back while the process forks.

        Python forgets, in a new child, the signals that have reached their handlers' flags and not the handlers. One
        that is sent to the child that early would have killed it without us; multiprocessing's pool waits for that
        without end.
        """
        ours = {signum for signum in self._handled if signal.getsignal(signum) == self._on_signal}
        if self._pipe is not None:
            ours.add(signal.SIGTERM)
        if ours:
            self._masks[get_ident()] = {int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, ours)}

    def after_fork_in_parent(self) -> None:
        """Takes signals again."""
        mask = self._masks.pop(get_ident(), None)
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def after_fork_in_child(self) -> None:
        """Tells the agent that it is in a forked child now, and takes signals again."""
        self._finishing = False
        self._killed_by = None
        if self._pipe is not None:  # the parent's: nobody reads it here, and writing to it would end the parent
            self._leave_thread()
            self.handle_signals()
        self._call(self._on_fork_child)
        self.after_fork_in_parent()
        self._masks.clear()

    def handle_sigterm_in_thread(self) -> None:
        """Has SIGTERM noticed without the main thread, for workers of a pool.

        Their pool takes the lock that they sleep on, and terminates them. A Python handler waits for its turn in the
        main thread, which may have gone back to sleep on the lock by then: about one pool in fifty never ended.
        faulthandler's handler writes to a pipe at once.
        """
        if self._stopped or signal.getsignal(signal.SIGTERM) != self._on_signal:
            return
        import faulthandler

        self._pipe = read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)  # a full pipe must not keep the handler
        # The thread starts with the signal blocked and keeps it so: faulthandler writes nothing in a thread that Python
        # doesn't know yet.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        faulthandler.register(signal.SIGTERM, file=write_end, all_threads=False)

        def wait() -> None:
            if os.read(read_end, 1):
                if self._finishing:
                    self._killed_by = signal.SIGTERM  # the main thread will see to it
                else:
                    self._finish_beside()
                    faulthandler.unregister(signal.SIGTERM)  # back to the default
                    os.kill(os.getpid(), signal.SIGTERM)

        try:
            start_thread(wait, ())
        except RuntimeError:  # there can be no more threads
            self._leave_thread()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _leave_thread(self) -> None:
        import faulthandler

        faulthandler.unregister(signal.SIGTERM)
        for end in self._pipe or ():
            os.close(end)
        self._pipe = None

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() == 1:
            # The kernel drops the signal for an init process without a handler; with one it must not kill it either.
            # Whoever sent it sends SIGKILL next.
            if self._on_survived is not None and not self._finishing:
                self._beside(self._on_survived)
                self._finishing = False
            return
        if self._finishing:
            # Sent twice (to the process and to its group), or while the process was ending anyway.
            self._killed_by = signum
            return
        self._finish_beside()
        _die(signum)

    def _finish_beside(self) -> None:
        if not self._beside(self._on_exit):
            self.finish()

    def _beside(self, function: Callable[[], object]) -> bool:
        # The signal may have come while the main thread held a lock that the agent needs. In a thread of its own the
        # agent can wait for that lock in vain without keeping the process from ending.
        self._finishing = True
        finished = Lock()
        finished.acquire()

        def work() -> None:
            try:
                self._call(function)
            finally:
                finished.release()

        try:
            start_thread(work, ())
        except RuntimeError:  # the interpreter is ending, or there can be no more threads
            return False
        try:
            finished.acquire(timeout=min(self._exit_timeout_s * 1.1, TIMEOUT_MAX))
        except KeyboardInterrupt:
            pass
        return True

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
    """Has the process end as Python ends after an uncaught Ctrl-C: killed by SIGINT, which shells tell from an exit
    code.

    CPython notes in a flag that KeyboardInterrupt has ended the program. All source code that is run from a string sets
    the flag anew by how it ends, so the named tuples and dataclasses of what delivery imports have cleared it.
    """
    # An interactive session (it has a prompt) keeps the exception of an earlier line there.
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass


def _before_fork() -> None:
    if _watch is not None:
        _watch.before_fork()


def _after_fork_in_parent() -> None:
    if _watch is not None:
        _watch.after_fork_in_parent()


def _after_fork_in_child() -> None:
    if _watch is not None:
        _watch.after_fork_in_child()
