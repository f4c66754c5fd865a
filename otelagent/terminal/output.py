"""Standard error as a place to show things: what it can, and writing to it without ever waiting for it."""

from __future__ import annotations

import fcntl
import math
import os
import select
import signal
import stat
import sys
import termios
import time
from collections.abc import Callable, Sequence

from otelagent.terminal.view import Style
from otelagent.threads import Thread

__all__ = ["Output"]

_STDERR = 2
# Where it isn't a terminal and nothing says how wide it is.
_COLUMNS = 120
_MIN_COLUMNS = 40
# Writes up to this are whole in a pipe (POSIX, PIPE_BUF of Linux): smaller texts go together, a larger one goes alone.
_PIPE_BYTES = 4096
# How long a reader may take to make room for more, where nobody has the time to wait for it.
_STALLED_S = 1.0
_LOOK_S = 0.25
# Signals that a write could raise in the application: of a pipe without reader, of a terminal that another job has.
_SIGNALS = ("SIGPIPE", "SIGTTOU")


class Output:
    """Standard error of the process: the descriptor itself, for Python's own stream has a lock that an application may
    need while a write hangs.

    A write happens in a thread of its own, so that one that hangs (a pager that reads no more, Ctrl-S) holds up nobody.
    """

    def __init__(self, descriptor: int = _STDERR, problem: Callable[[], str] = lambda: "") -> None:
        """
        :param problem: says, before each write, why the descriptor must be left alone, a token; empty if it needn't.
        """
        self._problem = problem
        self._descriptor = descriptor
        self._writing: tuple[Thread, _Write] | None = None

    def style(self) -> Style:
        """How to draw there now: in colours and lines on a terminal, in ASCII elsewhere.

        ``NO_COLOR``, ``FORCE_COLOR`` and ``TERM=dumb`` say otherwise (no-color.org, force-color.org).
        """
        terminal = self.is_terminal()
        colour = terminal and os.environ.get("TERM") != "dumb"
        if os.environ.get("FORCE_COLOR"):
            colour = True
        if os.environ.get("NO_COLOR"):
            colour = False
        return Style(colour, terminal and self._encoding() == "utf-8", self._columns(), clipped=terminal)

    def is_terminal(self) -> bool:
        """Whether a person sits before it."""
        try:
            return os.isatty(self._descriptor)
        except OSError:
            return False

    def write(self, texts: Sequence[str], timeout_s: float) -> str:
        """Writes texts, each with one write at most, so that those of several processes don't mix.

        :param timeout_s: how long to wait for its end, seconds, and then no longer than it gets on; infinity for as
            long as it takes. What hasn't ended then goes on, and nothing else is written before its end.
        :returns: why it could not be done, a token; empty if it was.
        """
        if not self._ended(timeout_s):
            return "terminal_blocked"
        encoding = self._encoding()
        pieces = _together([text.encode(encoding, "backslashreplace") for text in texts])
        task = _Write(self._descriptor, pieces, self._problem)
        thread = Thread(task.run, "otelagent-terminal")
        self._writing = thread, task
        try:
            thread.start()
        except RuntimeError:
            # The interpreter ends, or there can be no more threads: this one writes, if it won't have to wait.
            task.run_at_once()
        return task.problem if self._ended(timeout_s) else "terminal_blocked"

    def stalled(self) -> bool:
        """Whether something is being written and hasn't got on for a second."""
        if (writing := self._writing) is None:
            return False
        thread, task = writing
        return thread.is_alive() and time.monotonic() - task.moved_s > _STALLED_S

    def _ended(self, timeout_s: float) -> bool:
        """Waits for the end of what is being written."""
        if self._writing is None:
            return True
        thread, _ = self._writing
        until_s = time.monotonic() + timeout_s
        while thread.is_alive():
            left = until_s - time.monotonic()
            if left <= 0 or (left < math.inf and self.stalled()):
                return False
            thread.join(min(left, _LOOK_S))
        self._writing = None
        return True

    def after_fork_in_child(self) -> None:
        """The thread of a write that hangs is the parent's."""
        self._writing = None

    def _encoding(self) -> str:
        encoding = getattr(sys.__stderr__, "encoding", None) or "ascii"
        return encoding.lower() if isinstance(encoding, str) else "ascii"

    def _columns(self) -> int:
        try:
            columns = os.get_terminal_size(self._descriptor).columns
        except OSError:
            text = os.environ.get("COLUMNS", "")
            columns = int(text) if text.isdecimal() and len(text) < 5 else 0
        return max(columns or _COLUMNS, _MIN_COLUMNS)


class _Write:
    """One or several writes to a descriptor.

    :param forbidden: see `Output`.
    :ivar problem: why they could not be done; empty if they were.
    :ivar moved_s: when something was written last, by the monotonic clock.
    """

    def __init__(self, descriptor: int, pieces: Sequence[bytes], forbidden: Callable[[], str]) -> None:
        self._descriptor = descriptor
        self._pieces = pieces
        self._forbidden = forbidden
        self.problem = ""
        self.moved_s = time.monotonic()

    def run(self) -> None:
        """Writes, in a thread that ends with it: signals that it causes wait in there, and go with it."""
        blocked = {getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        self._write(math.inf)

    def run_at_once(self) -> None:
        """Writes in the caller's thread, no more at a time than a pipe takes that takes anything: it never hangs."""
        whole = b"".join(self._pieces)
        for start in range(0, len(whole), _PIPE_BYTES):
            if not self._ready(_STALLED_S):
                return
            self._pieces = [whole[start : start + _PIPE_BYTES]]
            self._write(_STALLED_S)
            if self.problem:
                return

    def _write(self, patience_s: float) -> None:
        try:
            for piece in self._pieces:
                rest = memoryview(piece)
                while rest:
                    self.problem = self._forbidden()
                    if self.problem:
                        return
                    try:
                        rest = rest[os.write(self._descriptor, rest[: _at_once(self._descriptor, len(rest))]) :]
                        self.moved_s = time.monotonic()
                    except BlockingIOError:  # Somebody has made it so for all that have it.
                        if not self._ready(patience_s):
                            return
        except OSError:
            self.problem = "terminal_closed"

    def _ready(self, patience_s: float) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        events = [event for _, event in poll.poll(None if patience_s == math.inf else patience_s * 1000)]
        if any(event & (select.POLLERR | select.POLLNVAL | select.POLLHUP) for event in events):
            self.problem = "terminal_closed"
        elif not events:
            self.problem = "terminal_blocked"
        return not self.problem


def _at_once(descriptor: int, size: int) -> int:
    """How much of so many bytes is to be written at once.

    All, so that nothing comes between; but to a pipe without room for them no more than it keeps whole, so that a slow
    reader is seen to read.
    """
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return size
        filled = int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)
        room = fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) - filled
    except (OSError, AttributeError):  # not Linux
        room = 0
    return size if size <= room else min(size, _PIPE_BYTES)


def _together(pieces: Sequence[bytes]) -> list[bytes]:
    joined = [b""]
    for piece in pieces:
        if joined[-1] and len(joined[-1]) + len(piece) > _PIPE_BYTES:
            joined.append(b"")
        joined[-1] += piece
    return [piece for piece in joined if piece]
