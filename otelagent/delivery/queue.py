"""The queue in front of a destination."""

from __future__ import annotations

from collections import deque

from otelagent.delivery.payload import Payload

__all__ = ["PayloadQueue"]


class PayloadQueue:
    """Payloads in the order they came, bounded by their bytes. Its owner's lock guards it; nothing here waits.

    A payload stays at the head while it is sent, and counts against the bound until its fate is known.

    :param max_bytes: the most bytes of bodies it holds, at least 1. What doesn't fit is refused, not what is already
        in: the older payload may be on the wire. (Shedding by priority comes here.) A payload alone always fits.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._payloads: deque[Payload] = deque()
        self.bytes = 0
        self.added = 0
        """How many payloads were ever put; `added - taken` wait."""
        self.taken = 0

    def __len__(self) -> int:
        return len(self._payloads)

    @property
    def items(self) -> int:
        """How many items the waiting payloads hold."""
        return sum(payload.items for payload in self._payloads)

    def fits(self, payload: Payload) -> bool:
        """Whether there is room for the payload."""
        return not self._payloads or self.bytes + payload.size <= self._max_bytes

    def put(self, payload: Payload) -> None:
        """Appends the payload, which has to fit."""
        self._payloads.append(payload)
        self.bytes += payload.size
        self.added += 1

    def head(self) -> Payload | None:
        """The oldest payload, which stays in the queue."""
        return self._payloads[0] if self._payloads else None

    def take(self) -> Payload:
        """Removes the oldest payload.

        :raises IndexError: the queue is empty.
        """
        payload = self._payloads.popleft()
        self.bytes -= payload.size
        self.taken += 1
        return payload
