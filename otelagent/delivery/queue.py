"""The queue in front of a destination."""

from __future__ import annotations

from collections import deque

from otelagent.delivery.payload import Payload

__all__ = ["Claim", "PayloadQueue"]


class Claim:
    """One thread's hold on a payload; see `PayloadQueue.claim`."""

    __slots__ = ("number", "payload")

    def __init__(self, number: int, payload: Payload) -> None:
        self.number = number
        self.payload = payload


class PayloadQueue:
    """Payloads in the order they came, bounded by their bytes. Its owner's lock guards it; nothing here waits.

    A payload that is being sent or written to disk is claimed: nobody else gets it, and it counts against the bound
    until it is removed.

    :param max_bytes: the most bytes of bodies it holds, at least 1. What doesn't fit is refused, not what is already
        in: the older payload may be on the wire. (Shedding by priority comes here.) A payload alone always fits.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._idle: deque[tuple[int, Payload]] = deque()
        self._claimed: dict[int, Claim] = {}
        self.bytes = 0
        self.added = 0
        """How many payloads were ever put."""

    def __len__(self) -> int:
        return len(self._idle) + len(self._claimed)

    @property
    def items(self) -> int:
        """How many items the waiting payloads hold, claimed ones too."""
        return sum(payload.items for payload in self._payloads())

    @property
    def idle(self) -> int:
        """How many payloads nobody has claimed."""
        return len(self._idle)

    def fits(self, payload: Payload) -> bool:
        """Whether there is room for the payload."""
        return not len(self) or self.bytes + payload.size <= self.max_bytes

    def put(self, payload: Payload) -> None:
        """Appends the payload, which has to fit."""
        self._idle.append((self.added, payload))
        self.bytes += payload.size
        self.added += 1

    def emptied(self, target: int) -> bool:
        """Whether none is left of the first `target` payloads that were ever put."""
        oldest = min((*self._claimed, *(number for number, _ in list(self._idle)[:1])), default=target)
        return oldest >= target

    def head(self) -> Payload | None:
        """The oldest payload that nobody has claimed."""
        return self._idle[0][1] if self._idle else None

    def claim(self) -> Claim:
        """Claims the oldest payload that nobody has claimed; there has to be one."""
        claim = Claim(*self._idle.popleft())
        self._claimed[claim.number] = claim
        return claim

    def holds(self, claim: Claim) -> bool:
        """Whether the payload is still the claimant's; `unclaim_all` and `take_all` end that."""
        return self._claimed.get(claim.number) is claim

    def put_back(self, claim: Claim) -> None:
        """Leaves a claimed payload where it was."""
        del self._claimed[claim.number]
        behind = 0  # Whoever claimed after it may have put back before it.
        while behind < len(self._idle) and self._idle[behind][0] < claim.number:
            behind += 1
        self._idle.insert(behind, (claim.number, claim.payload))

    def remove(self, claim: Claim) -> None:
        """Removes a claimed payload."""
        del self._claimed[claim.number]
        self.bytes -= claim.payload.size

    def unclaim_all(self) -> None:
        """Puts every claimed payload back: whoever holds it comes too late."""
        for claim in tuple(self._claimed.values()):
            self.put_back(claim)

    def take_all(self) -> list[Payload]:
        """Empties the queue, claimed payloads included, the oldest first."""
        self.unclaim_all()
        everything = [payload for _, payload in self._idle]
        self._idle.clear()
        self.bytes = 0
        return everything

    def _payloads(self) -> list[Payload]:
        return [*(claim.payload for claim in self._claimed.values()), *(payload for _, payload in self._idle)]
