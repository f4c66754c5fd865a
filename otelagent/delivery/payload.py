"""What delivery carries: one encoded OTLP request."""

from __future__ import annotations

from otelagent.struct import struct

__all__ = ["MAX_REQUEST_BYTES", "Payload"]

MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Larger requests are not sent (OTLP specification, "Maximum request size"), in bytes before compression."""


@struct(frozen=True)
class Payload:
    """An encoded OTLP request; nothing behind this seam looks inside it or changes it.

    :param signal: ``traces``, ``metrics`` or ``logs``.
    :param body: the protobuf bytes of the signal's ``Export*ServiceRequest``.
    :param items: how many spans, data points or log records it holds; what the ledger counts.
    """

    signal: str
    body: bytes
    items: int

    @property
    def size(self) -> int:
        """The uncompressed size in bytes."""
        return len(self.body)
