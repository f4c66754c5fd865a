"""What one try to send a payload came to.

A reason is a short stable token for the ledger (``http_400``, ``connection``); a message is for people, holds no
secret and may be empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Accepted", "Rejected", "Result", "Retryable"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server has taken the payload, without `rejected_items` of it that it refused for good (partial success)."""

    rejected_items: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retryable:
    """The payload may be sent again.

    :param after_s: the shortest wait that the server asked for, in seconds; None when it didn't ask.
    """

    reason: str
    after_s: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The payload must not be sent again."""

    reason: str
    message: str = ""


Result: TypeAlias = Accepted | Retryable | Rejected
