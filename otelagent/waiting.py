"""How long a wait for a deadline may be."""

from __future__ import annotations

import threading

__all__ = ["left_s"]


def left_s(deadline_s: float, now_s: float) -> float:
    """The seconds until a deadline as every lock and thread takes them: from 0 to `threading.TIMEOUT_MAX`.

    :param deadline_s: a moment of the clock that `now_s` is of; infinity is as long as a wait can be, NaN is over.
    """
    # In this order: compared with NaN, `max` keeps its first argument.
    return min(max(0.0, deadline_s - now_s), threading.TIMEOUT_MAX)
