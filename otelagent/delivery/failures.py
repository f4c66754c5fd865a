"""What a person reads when delivery fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from otelagent.threads import RLock

__all__ = ["FailureLog"]

_logger = logging.getLogger("otelagent.delivery")

INTERVAL_S = 60.0


class FailureLog:
    """Says each kind of failure at most once a minute, with the number of unsaid repeats, and says recovery once.

    A dead backend fails every batch of every process; the application's log must not fill with it.

    :param destination: where the payloads go, secrets masked.
    :param clock: monotonic seconds.
    :param silent: whether nothing is said.
    """

    def __init__(self, destination: str, clock: Callable[[], float] = time.monotonic, *, silent: bool = False) -> None:
        self._destination = destination
        self._silent = silent
        self._clock = clock
        # Reentrant: a signal handler may fail while its thread reports a failure. Never held while logging.
        self._lock = RLock()
        # kind -> (when it was last said, repeats since). Kinds are ledger reasons, a small fixed set.
        self._said: dict[str, tuple[float, int]] = {}
        # kind -> when it was last said. An outage's end changes nothing in it: a connection that comes and goes may not
        # fill the log either.
        self._news: dict[str, float] = {}
        self._failing = 0
        # Whether anything was said of the outage that is going on.
        self._told = False

    def failed(self, kind: str, consequence: str, message: str = "", level: int = logging.WARNING) -> bool:
        """Reports one failure, at most once a minute for each kind.

        :param kind: the ledger's reason.
        :param consequence: what that means for the data, such as ``will be retried``.
        :param message: details for a person, without secrets; empty for none.
        :returns: whether it was said.
        """
        if self._silent:
            return False
        with self._lock:
            now = self._clock()
            last, repeats = self._said.get(kind, (None, 0))
            if last is not None and now - last < INTERVAL_S:
                self._said[kind] = (last, repeats + 1)
                return False
            self._said[kind] = (now, 0)
        detail = f": {message}" if message else ""
        again = f" ({repeats} more since the last message)" if repeats else ""
        _log(
            level, "otelagent: telemetry to %s failed: %s%s; %s%s", self._destination, kind, detail, consequence, again
        )
        return True

    def news(self, kind: str, message: str, level: int = logging.WARNING) -> bool:
        """Reports, at most once a minute, what is no failure.

        :param kind: what it is about; no ledger reason.
        :returns: whether it was said.
        """
        if self._silent:
            return False
        with self._lock:
            last = self._news.get(kind)
            if last is not None and self._clock() - last < INTERVAL_S:
                return False
            self._news[kind] = self._clock()
        _log(level, "otelagent: telemetry to %s: %s", self._destination, message)
        return True

    def retried(self, kind: str, consequence: str, message: str = "") -> None:
        """Reports a try that failed and will be repeated; the next `succeeded` is a recovery. As `failed`."""
        self._failing += 1
        self._told = self.failed(kind, consequence, message) or self._told

    def succeeded(self) -> None:
        """Notes a success and reports it if it ends an outage that was reported.

        Of a server that fails and works in turns, one outage a minute is.
        """
        failing, self._failing = self._failing, 0
        told, self._told = self._told, False
        if not told:
            return
        # As visible as the failures were, or those who read of the outage never read of its end.
        message = "otelagent: telemetry to %s is delivered again after %d failed tries"
        _log(logging.WARNING, message, self._destination, failing)


def _log(level: int, message: str, *args: object) -> None:
    try:
        _logger.log(level, message, *args)
    except Exception:
        # An application's log handler may raise; its trouble must not end the export.
        pass
