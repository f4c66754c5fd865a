"""What a person reads when items are given up before they are encoded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

__all__ = ["QueueLosses"]

_logger = logging.getLogger(__name__)

_INTERVAL_S = 60.0

# What to do about it, by the ledger's reason. The other reasons are told where they come from, or were asked for.
_ADVICE = {
    "queue_full": "too many at once: raise {prefix}batch_max_queue_size or {prefix}batch_queue_max_bytes",
    "too_large": "each alone has more than {prefix}batch_queue_max_bytes, which bounds all that wait",
}
_NOUNS = {"traces": "spans", "logs": "log records"}


class QueueLosses:
    """Says how many items a source has dropped for want of room, at most once a minute and once more at the end.

    :param signal: `traces` or `logs`.
    :param dropped: counts by reason; they only grow.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, signal: str, dropped: Callable[[], Mapping[str, int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._noun = _NOUNS.get(signal, signal)
        self._prefix = "" if signal == "traces" else f"{signal}_"
        self._dropped = dropped
        self._clock = clock
        self._told: dict[str, int] = {}
        self._next_s: dict[str, float] = {}

    def tell(self, *, last: bool = False) -> None:
        """Says what is new. Never raises.

        :param last: whether nothing will be said later.
        """
        dropped, now_s = self._dropped(), self._clock()
        for reason, advice in _ADVICE.items():
            count = dropped.get(reason, 0) - self._told.get(reason, 0)
            if count <= 0 or (now_s < self._next_s.get(reason, now_s) and not last):
                continue
            self._told[reason] = dropped[reason]
            self._next_s[reason] = now_s + _INTERVAL_S
            try:
                _logger.error(
                    "otelagent: dropped before encoding: %s %s (%s); %s",
                    f"{count:,}",
                    self._noun if count != 1 else self._noun[:-1],
                    reason,
                    advice.format(prefix=self._prefix),
                )
            except Exception:  # An application's handler may raise; its trouble is not a span's.
                pass
