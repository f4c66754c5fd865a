"""Calls of what others wrote (processors, exporters behind them): what goes wrong in one stays in it."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from otelagent.record.rate_limited_log import RateLimitedLog
from otelagent.waiting import left_s

__all__ = ["ISOLATED", "complain", "flush_all", "shutdown_all"]

ISOLATED = (Exception, SystemExit)
"""What the code of others may raise without reaching the application. SystemExit is one that calls sys.exit()."""

_log = RateLimitedLog(logging.getLogger(__name__))

T = TypeVar("T")

# What each gets at least to shut down, however little time is left.
_GRACE_S = 0.1


class _Processor(Protocol):
    def force_flush(self, timeout_millis: int = 30000, /) -> bool: ...
    def shutdown(self) -> None: ...


def flush_all(processors: Sequence[_Processor], deadline_s: float) -> bool:
    """Flushes them all at the same time.

    :param deadline_s: a `time.monotonic()` value.
    :returns: whether each says that it has flushed, in time.
    """
    left_ms = int(left_s(deadline_s, time.monotonic()) * 1000)
    if left_ms <= 0:
        return not processors
    return _call_all(processors, lambda processor: processor.force_flush(left_ms), deadline_s)


def shutdown_all(processors: Sequence[_Processor], deadline_s: float) -> None:
    """Shuts them all down at the same time. Half of the time is kept for what comes after them.

    :param deadline_s: a `time.monotonic()` value.
    """
    now_s = time.monotonic()
    _call_all(processors, lambda processor: processor.shutdown(), now_s + max(left_s(deadline_s, now_s) / 2, _GRACE_S))


def _call_all(called: Sequence[T], call: Callable[[T], object], deadline_s: float) -> bool:
    """Calls each on a thread of its own, and waits for them until a deadline. One that hangs keeps its thread, which is
    a daemon, and holds up neither the others nor the caller for longer.

    :param called: what to call, for instance processors.
    :param call: how.
    :param deadline_s: a `time.monotonic()` value.
    :returns: whether each has returned in time, and not False.
    """
    returned: dict[int, bool] = {}

    def run(number: int, one: T) -> None:
        try:
            returned[number] = call(one) is not False
        except ISOLATED:
            returned[number] = False
            complain(one)

    threads: list[threading.Thread] = []
    for number, one in enumerate(called):
        # In the caller's context: what is suppressed there stays so.
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(run, number, one), name="otelagent-processor", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            run(number, one)  # The interpreter is shutting down, or the process may have no more threads.
        else:
            threads.append(thread)
    for thread in threads:
        thread.join(left_s(deadline_s, time.monotonic()))
    for number, one in enumerate(called):
        if number not in returned:
            kind = type(one).__qualname__
            _log.warning(f"{kind} hangs", "%s has not returned in time and isn't waited for any longer", kind)
    return all(returned.get(number, False) for number in range(len(called)))


def complain(one: object) -> None:
    """Logs what one of them has raised, once a minute."""
    kind = type(one).__qualname__
    _log.warning(kind, "%s failed", kind, exc_info=True)
