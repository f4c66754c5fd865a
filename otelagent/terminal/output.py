"""Standard error as a place to show things: what it can, and writing to it without ever waiting for it."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Sequence

from otelagent.terminal.view import Style
from otelagent.threads import Thread

__all__ = ["Output"]

_STDERR = 2
# Where it isn't a terminal and nothing says how wide it is.
_COLUMNS = 120
_MIN_COLUMNS = 40
# Writes up to this are whole in a pipe (POSIX, PIPE_BUF of Linux): smaller texts go together, a larger one goes alone.
_PIPE_BYTES = 4096
# How long a reader may take to make room for more.
_PATIENCE_MS = 500
# Signals that a write could raise in the application: of a pipe without reader, of a terminal that another job has.
_SIGNALS = ("SIGPIPE", "SIGTTOU")


class Output:
    """Standard error of the process: the descriptor itself, for Python's own stream has a lock that an application may
    need while a write hangs.

    A write happens in a thread of its own, so that one that hangs (a pager that reads no more, Ctrl-S) holds up nobody.
    """

    def __init__(self, descriptor: int = _STDERR) -> None:
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

    def write(self, texts: Sequence[str], timeout_s: float) -> str | None:
        """Writes texts, each with one write at most, so that those of several processes don't mix.

        Not to be called before what was written earlier has ended.

        :param timeout_s: how long to wait for its end, seconds.
        :returns: why it could not be done, a token; empty if it was; None if it hasn't ended, see `wait`.
        """
        encoding = self._encoding()
        task = _Write(self._descriptor, _together([text.encode(encoding, "backslashreplace") for text in texts]))
        thread = Thread(task.run, "otelagent-terminal")
        try:
            thread.start()
        except RuntimeError:
            # The interpreter ends, or there can be no more threads: this one writes, if it won't have to wait.
            task.run_at_once()
            return task.problem
        self._writing = thread, task
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> str | None:
        """Waits for the end of what is being written.

        :returns: what `write` does.
        """
        if self._writing is None:
            return ""
        thread, task = self._writing
        thread.join(timeout_s)
        if thread.is_alive():
            return None
        self._writing = None
        return task.problem

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

    :ivar problem: why they could not be done; empty if they were.
    """

    def __init__(self, descriptor: int, pieces: Sequence[bytes]) -> None:
        self._descriptor = descriptor
        self._pieces = pieces
        self.problem = ""

    def run(self) -> None:
        """Writes, in a thread that ends with it: signals that it causes wait in there, and go with it."""
        blocked = {getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)}
        signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        self._write()

    def run_at_once(self) -> None:
        """Writes in the caller's thread, no more at a time than a pipe takes that takes anything: it never hangs."""
        whole = b"".join(self._pieces)
        for start in range(0, len(whole), _PIPE_BYTES):
            if not self._ready(_PATIENCE_MS):
                self.problem = self.problem or "terminal_blocked"
                return
            self._pieces = [whole[start : start + _PIPE_BYTES]]
            self._write()
            if self.problem:
                return

    def _write(self) -> None:
        try:
            for piece in self._pieces:
                rest = memoryview(piece)
                while rest:
                    try:
                        rest = rest[os.write(self._descriptor, rest) :]
                    except BlockingIOError:  # Somebody has made it so for all that have it.
                        if not self._ready(_PATIENCE_MS):
                            self.problem = self.problem or "terminal_blocked"
                            return
        except OSError:
            self.problem = "terminal_closed"

    def _ready(self, timeout_ms: int) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        events = [event for _, event in poll.poll(timeout_ms)]
        if any(event & (select.POLLERR | select.POLLNVAL | select.POLLHUP) for event in events):
            self.problem = "terminal_closed"
            return False
        return bool(events)


def _together(pieces: Sequence[bytes]) -> list[bytes]:
    joined = [b""]
    for piece in pieces:
        if joined[-1] and len(joined[-1]) + len(piece) > _PIPE_BYTES:
            joined.append(b"")
        joined[-1] += piece
    return [piece for piece in joined if piece]
