"""A limit on a rate that allows short bursts."""

from __future__ import annotations

import math

__all__ = ["TokenBucket"]


class TokenBucket:
    """Tokens that come at a constant rate, up to one second's worth; whoever takes more than there are is in debt.

    A debt delays the next taker, so that amounts larger than the bucket pass too and the rate holds on the average.
    Pure: the caller says what time it is.

    :param rate: tokens a second, > 0; infinity is no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = rate
        self._at_s = -math.inf

    def ready_at_s(self, now_s: float) -> float:
        """The moment from which on `take` may be called: `now_s` or later."""
        self._fill(now_s)
        return now_s if self._tokens > 0 else now_s - self._tokens / self._rate + 1e-6

    def take(self, amount: float, now_s: float) -> None:
        """Takes tokens, as many as it may be."""
        self._fill(now_s)
        self._tokens -= amount

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            if self._rate != math.inf:
                self._tokens = min(self._rate, self._tokens + (now_s - self._at_s) * self._rate)
            self._at_s = now_s
        if self._rate == math.inf:
            self._tokens = math.inf
