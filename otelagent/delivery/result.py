"""What one try to send a payload came to.

A reason is a short stable token for the ledger (``http_400``, ``connection``); a message is for people, holds no
secret and may be empty.
"""

from __future__ import annotations

from typing import TypeAlias

from otelagent.struct import struct

__all__ = ["REFUSED", "TOO_LARGE", "Accepted", "Rejected", "Result", "Retryable"]

TOO_LARGE = frozenset({"http_413", "http_body_too_large", "grpc_message_too_large", "too_large"})
"""The reasons of a rejection that would not hit a smaller payload."""

REFUSED = frozenset({"http_401", "http_403", "grpc_unauthenticated", "grpc_permission_denied"})
"""The reasons of a rejection that is due to the credentials, whatever was sent with them."""


@struct(frozen=True)
class Accepted:
    """The server has taken the payload, without `rejected_items` of it that it refused for good (partial success)."""

    rejected_items: int = 0
    message: str = ""


@struct(frozen=True)
class Retryable:
    """The payload may be sent again.

    :param after_s: the shortest wait that the server asked for, in seconds; None when it didn't ask.
    """

    reason: str
    after_s: float | None = None
    message: str = ""


@struct(frozen=True)
class Rejected:
    """The payload must not be sent again."""

    reason: str
    message: str = ""


Result: TypeAlias = Accepted | Retryable | Rejected
