"""When the next try may begin: backoff, what the server asked for, the circuit breaker and the limits on the rate."""

from __future__ import annotations

import math

from otelagent.delivery.breaker import CircuitBreaker
from otelagent.delivery.result import TOO_LARGE, Accepted, Rejected, Result, Retryable
from otelagent.delivery.retry import RetryPolicy
from otelagent.delivery.token_bucket import TokenBucket

__all__ = ["Pace"]

# These say that something is wrong with the payload. Every other refusal would hit any payload: credentials, the wrong
# place, a broken server.
_OF_THE_PAYLOAD = TOO_LARGE | frozenset(
    {
        "http_400",
        "http_422",
        "grpc_invalid_argument",
        "unsupported_signal",
        "encode_error",
        "internal_error",
        "console",
    }
)


class Pace:
    """Of one destination. Its owner's lock guards it, and says what time it is in monotonic seconds.

    :param export_bytes_per_s: limit on everything that is sent; infinity for none.
    :param replay_bytes_per_s: limit on what is sent from the spool.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        export_bytes_per_s: float = math.inf,
        replay_bytes_per_s: float = math.inf,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.breaker = breaker or CircuitBreaker()
        self._policy = policy
        self._export = TokenBucket(export_bytes_per_s)
        self._replay = TokenBucket(replay_bytes_per_s)
        self._failures = 0
        self._at_once = False
        self.retrying = False
        """Whether the last try is to be made again: nobody knows how long what waits in memory would stay there."""
        self._backoff_until_s = -math.inf
        self.server_wait_until_s = -math.inf
        """Before this moment the server doesn't want to be asked, whoever is in a hurry."""

    def hurry(self) -> None:
        """One backoff is cut short, the one in progress or the next; a server's own wait is not."""
        self._at_once = True

    @property
    def hurried(self) -> bool:
        """Whether that backoff is still to come."""
        return self._at_once

    def ready_at_s(self, now_s: float, *, replay: bool = False) -> float:
        """The moment from which on a try may begin, in the past or now if it may.

        :param replay: whether the payload comes from the spool.
        """
        at_s = self.server_wait_until_s if self._at_once else self._backoff_until_s
        at_s = max(at_s, self._export.ready_at_s(now_s))
        return max(at_s, self._replay.ready_at_s(now_s)) if replay else at_s

    def began(self, size: int, now_s: float, *, replay: bool = False) -> None:
        """A try begins.

        :param size: of the payload, bytes.
        """
        self._at_once = False
        self._export.take(size, now_s)
        if replay:
            self._replay.take(size, now_s)
        self.breaker.admit_now(now_s)
        self.breaker.began()

    def ended(self, result: Result, now_s: float) -> None:
        """A try has ended."""
        self.retrying = isinstance(result, Retryable)
        if isinstance(result, Retryable):
            self._failures += 1
            self.server_wait_until_s = now_s + self._policy.requested_s(result.after_s)
            self._backoff_until_s = self.server_wait_until_s + self._policy.backoff_s(self._failures)
            self.breaker.failed(now_s, self._backoff_until_s - now_s)
            return
        self.server_wait_until_s = self._backoff_until_s = -math.inf
        if isinstance(result, Accepted):
            self._failures = 0
            self.breaker.succeeded(now_s)
        elif isinstance(result, Rejected) and result.reason not in _OF_THE_PAYLOAD:
            self._refused(now_s)
        else:
            self._failures = 0
            self.breaker.told_nothing()

    def _refused(self, now_s: float) -> None:
        # Not a word of waiting in the specification: the next payload may be tried at once, until the breaker opens.
        self._failures += 1
        wait_s = self._policy.backoff_s(self._failures)
        self.breaker.failed(now_s, wait_s)
        if not self.breaker.closed:
            self._backoff_until_s = now_s + wait_s
