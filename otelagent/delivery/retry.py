"""When to try again: a pure policy, and the reading of what a server asks for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from otelagent.fork_gate import whole_imports
from otelagent.struct import struct

__all__ = ["MAX_RETRY_AFTER_S", "RetryPolicy", "parse_http_date", "parse_retry_after", "uniform"]

MAX_RETRY_AFTER_S = 300.0
"""The longest wait a server may ask for: more is taken as this much, so that one wrong header can't silence an
agent."""


def uniform() -> float:
    """A random number in [0, 1)."""
    # Not by `random`: an application that has seeded it counts on the sequence, which each failure would shorten.
    return (int.from_bytes(os.urandom(7), "big") >> 3) / 2**53


@struct(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter: the n-th wait is anywhere between 0 and `initial_s * 2**(n-1)`, evenly.

    Full jitter spreads the agents that failed at the same moment most evenly. A wait that the server asks for comes
    first and the jitter on top of it: the answer is a minimum, and those who were told the same must not return
    together.

    Source: OTLP specification, "OTLP/HTTP Throttling" and "OTLP/gRPC Throttling".

    :param initial_s: bound of the first wait, seconds, > 0.
    :param max_s: bound of every wait, seconds, >= `initial_s`.
    :param max_retry_after_s: bound of what a server may ask for, seconds.
    :param uniform: a random number in [0, 1).
    """

    initial_s: float = 1.0
    max_s: float = 30.0
    max_retry_after_s: float = MAX_RETRY_AFTER_S
    uniform: Callable[[], float] = uniform

    def requested_s(self, after_s: float | None) -> float:
        """The wait that the server asked for as it is honoured: from 0 to `max_retry_after_s` seconds."""
        if after_s is None or math.isnan(after_s):
            return 0.0
        return min(max(after_s, 0.0), self.max_retry_after_s)

    def backoff_s(self, failures: int) -> float:
        """The jittered wait in seconds after `failures` (>= 1) tries in a row have failed, on top of `requested_s`."""
        # 2**1000 would overflow a float; after 60 doublings every bound is the maximum anyway.
        bound = min(self.max_s, self.initial_s * 2.0 ** min(max(failures, 1) - 1, 60))
        return self.uniform() * bound


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """A Retry-After header as seconds to wait, >= 0 and possibly infinite; None when it is missing or makes no sense.

    Source: RFC 9110 section 10.2.3: seconds or an HTTP-date. Negative numbers and NaN make no sense; a date in the past
    means now.

    :param now_s: the current wall-clock time in seconds since 1970, best the server's own (its Date header).
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date_s = parse_http_date(value)
        return None if date_s is None else max(0.0, date_s - now_s)
    return seconds if seconds >= 0 else None


def parse_http_date(value: str | None) -> float | None:
    """An HTTP-date as seconds since 1970; None when it is missing or isn't one."""
    if value is None or len(value) > 100:
        return None
    with whole_imports():
        from datetime import timezone
        from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
        # An HTTP-date is always in GMT, however the zone is written.
        return (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
