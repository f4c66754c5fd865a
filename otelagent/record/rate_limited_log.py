"""Logging that says the same thing at most once a minute, however often it happens."""

from __future__ import annotations

import logging
import time

__all__ = ["RateLimitFilter", "RateLimitedLog"]


class RateLimitedLog:
    """Passes one warning per topic and interval to a logger and tells how many it kept back.

    A hot path that fails a thousand times a second must not fill the application's log a thousand times a second.

    :param logger: where the warnings go.
    :param interval_s: the shortest time between two warnings of one topic, seconds.
    """

    def __init__(self, logger: logging.Logger, interval_s: float = 60.0) -> None:
        self._logger = logger
        self._interval_s = interval_s
        # topic -> [monotonic time of the next warning, warnings kept back since the last]. No lock: a race costs one
        # warning too many, a lock could deadlock a signal handler.
        self._topics: dict[str, list[float]] = {}

    def warning(self, topic: str, message: str, *args: object, exc_info: bool | BaseException | None = False) -> None:
        """Logs `message % args`, unless the topic had its warning within the interval. Never raises."""
        now = time.monotonic()
        state = self._topics.setdefault(topic, [0.0, 0.0])
        if now < state[0]:
            state[1] += 1
            return
        kept_back, state[0], state[1] = int(state[1]), now + self._interval_s, 0.0
        suffix = f" ({kept_back} more like this since the last message)" if kept_back else ""
        try:
            self._logger.warning(message + "%s", *args, suffix, exc_info=exc_info)
        except Exception:  # An application's handler may raise; its trouble is not a span's.
            pass


class RateLimitFilter(logging.Filter):
    """For another library's logger: lets each of its messages (before their arguments) through once per interval.

    :param interval_s: seconds.
    """

    def __init__(self, interval_s: float = 60.0) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._next: dict[object, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record goes on."""
        now = time.monotonic()
        if now < self._next.get(record.msg, 0.0):
            return False
        if len(self._next) > 100:  # Messages formatted before they are logged are all different.
            self._next.clear()
        self._next[record.msg] = now + self._interval_s
        return True
