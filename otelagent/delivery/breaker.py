"""The circuit breaker: whether a destination is worth trying."""

from __future__ import annotations

from collections import deque
from typing import Literal

__all__ = ["CircuitBreaker"]

State = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Closed, it lets every try through. It opens after some failures in a row, or when more than half of the tries in
    its window have failed; how long it stays so, the caller says (the backoff and what the server asked for). Then it
    is half-open and lets one try through as a probe: a success closes it, a failure opens it again.

    Pure: the caller says what time it is, in monotonic seconds.

    :param consecutive: failures in a row that open it, >= 1.
    :param error_rate: the share of failures in the window above which it opens, 0 to 1.
    :param window_s: how long a try counts, seconds.
    :param window_tries: how few tries in the window say nothing about a rate.
    """

    def __init__(
        self, consecutive: int = 5, error_rate: float = 0.5, window_s: float = 60.0, window_tries: int = 10
    ) -> None:
        self._consecutive = consecutive
        self._error_rate = error_rate
        self._window_s = window_s
        self._window_tries = window_tries
        self._in_a_row = 0
        self._tries: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._open_until_s: float | None = None
        self._probing = False

    @property
    def closed(self) -> bool:
        """Whether tries pass freely."""
        return self._open_until_s is None

    def state(self, now_s: float) -> State:
        """What it is."""
        if self._open_until_s is None:
            return "closed"
        return "half-open" if self._probing or now_s >= self._open_until_s else "open"

    def admits(self, now_s: float) -> bool:
        """Whether a try may begin; say `began` when it does."""
        return self._open_until_s is None or (not self._probing and now_s >= self._open_until_s)

    def began(self) -> None:
        """A try that was admitted begins. While the breaker isn't closed, none is admitted until its end is told."""
        self._probing = self._open_until_s is not None

    def admit_now(self, now_s: float) -> None:
        """Ends the time for which it is open: somebody can't wait."""
        if self._open_until_s is not None:
            self._open_until_s = min(self._open_until_s, now_s)

    def succeeded(self, now_s: float) -> None:
        """A try has shown that the destination works."""
        self._probing = False
        if self._open_until_s is not None:
            # What failed before the outage's end says nothing about now.
            self._tries.clear()
            self._failed = 0
        self._open_until_s = None
        self._in_a_row = 0
        self._note(now_s, False)

    def failed(self, now_s: float, wait_s: float) -> None:
        """A try has failed.

        :param wait_s: if that opens it, for how long, seconds.
        """
        self._probing = False
        self._in_a_row += 1
        self._note(now_s, True)
        many = len(self._tries) >= self._window_tries and self._failed > self._error_rate * len(self._tries)
        if self._open_until_s is not None or self._in_a_row >= self._consecutive or many:
            self._open_until_s = now_s + wait_s

    def told_nothing(self) -> None:
        """A try has ended in a way that says nothing about the destination."""
        self._probing = False

    def _note(self, now_s: float, failed: bool) -> None:
        self._tries.append((now_s, failed))
        self._failed += failed
        # Bounded by time and by number: a busy process makes a thousand tries in a window.
        while self._tries and (now_s - self._tries[0][0] > self._window_s or len(self._tries) > 1000):
            self._failed -= self._tries.popleft()[1]
