"""Standard streams that a process was started without (``2>&-``): no file of ours gets the number of one."""

from __future__ import annotations

import os
import sys

__all__ = ["keep_closed", "open_missing"]

# (the stream in `sys`, its mode) by descriptor.
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing() -> None:
    """For a command of ours: what it says to a stream that isn't there is dropped, and what it is asked is the end.

    Without it, `print(…, file=sys.stderr)` would write to standard output. A program that takes this one's place still
    finds the descriptor closed.
    """
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the process's life


def keep_closed() -> None:
    """For an application: takes the numbers of standard streams that are closed.

    Else the next socket or spool file of ours would be one of them, and what a C library writes to descriptor 2 would
    go in there. As in glibc's programs with privileges, what is put there can't be used: reading from 0 and writing to
    1 and 2 fail with EBADF, as before. Programs that the application starts find them closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            try:
                # The lowest number that is free.
                taken = os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)
            except OSError:
                return
            if taken != descriptor:  # another thread was faster
                os.close(taken)
