"""What delivery carries: one encoded OTLP request."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Payload"]


@dataclass(frozen=True, slots=True)
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
