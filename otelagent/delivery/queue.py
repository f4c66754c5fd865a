"""The queue in front of a destination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from otelagent.delivery.payload import Payload

__all__ = ["Claim", "PayloadQueue", "Place"]

Place: TypeAlias = tuple[int, ...]
"""Where in the order a payload is: how many came before it, and for a part of one which part it is, and of which."""


class Claim:
    """One thread's hold on a payload; see `PayloadQueue.claim`."""

    __slots__ = ("payload", "place")

    def __init__(self, place: Place, payload: Payload) -> None:
        self.place = place
        self.payload = payload


class PayloadQueue:
    """Payloads in the order they came, bounded by their bytes. Its owner's lock guards it; nothing here waits.

    A payload that is being sent, written to disk or taken apart is claimed: nobody else gets it, and it counts against
    the bound until it is removed.

    The process grows by little more than the bodies: 64 MiB of them took 64 MiB in requests of 512 spans, and 84 MiB in
    requests of 1.2 kB.

    :param max_bytes: the most bytes of bodies it takes, at least 1. A payload alone always fits; parts of a claimed
        payload take its place whatever their size, each has the resource and the scope again.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        # Sorted by place.
        self._idle: list[Claim] = []
        self._claimed: dict[Place, Claim] = {}
        self.bytes = 0
        self.added = 0
        """How many payloads were ever put."""

    def __len__(self) -> int:
        return len(self._idle) + len(self._claimed)

    @property
    def items(self) -> int:
        """How many items the waiting payloads hold, claimed ones too."""
        return sum(one.payload.items for one in (*self._claimed.values(), *self._idle))

    @property
    def idle(self) -> int:
        """How many payloads nobody has claimed."""
        return len(self._idle)

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes."""
        return not len(self) or self.bytes + size <= self.max_bytes

    def may_fit(self, size: int) -> bool:
        """Whether there would be, if all went that nobody has claimed."""
        return sum(claim.payload.size for claim in self._claimed.values()) + size <= self.max_bytes

    def put(self, payload: Payload) -> None:
        """Appends the payload, which has to fit."""
        self._idle.append(Claim((self.added,), payload))
        self.bytes += payload.size
        self.added += 1

    def emptied(self, target: int) -> bool:
        """Whether none is left of the first `target` payloads that were ever put, and no part of one."""
        return all(place >= (target,) for place in (*self._claimed, *(one.place for one in self._idle[:1])))

    def claim(self) -> Claim:
        """Claims the oldest payload that nobody has claimed; there has to be one."""
        return self._claim(0)

    def claim_behind(self, place: Place, max_bytes: int) -> Claim | None:
        """Claims the oldest payload behind a place that nobody has claimed and that is no larger than this; None if
        there is none."""
        for index in range(self._index_behind(place), len(self._idle)):
            if self._idle[index].payload.size <= max_bytes:
                return self._claim(index)
        return None

    def holds(self, claim: Claim) -> bool:
        """Whether the payload is still the claimant's; `unclaim_all` and `take_all` end that."""
        return self._claimed.get(claim.place) is claim

    def put_back(self, claim: Claim) -> None:
        """Leaves a claimed payload where it was."""
        del self._claimed[claim.place]
        self._insert(claim.place, claim.payload)

    def remove(self, claim: Claim) -> None:
        """Removes a claimed payload."""
        self.replace(claim, ())

    def replace(self, claim: Claim, parts: Sequence[Payload]) -> None:
        """Puts parts where a claimed payload was."""
        del self._claimed[claim.place]
        self.bytes -= claim.payload.size
        for number, part in enumerate(parts):
            self._insert((*claim.place, number), part)
            self.bytes += part.size

    def unclaim_all(self) -> None:
        """Puts every claimed payload back: whoever holds it comes too late."""
        for claim in tuple(self._claimed.values()):
            self.put_back(claim)

    def take_all(self) -> list[Payload]:
        """Empties the queue, claimed payloads included, the oldest first."""
        self.unclaim_all()
        everything = [one.payload for one in self._idle]
        self._idle.clear()
        self.bytes = 0
        return everything

    def _claim(self, index: int) -> Claim:
        claim = self._idle.pop(index)
        self._claimed[claim.place] = claim
        return claim

    def _insert(self, place: Place, payload: Payload) -> None:
        # A new claim: a thread that comes too late may still have the old one.
        self._idle.insert(self._index_behind(place), Claim(place, payload))

    def _index_behind(self, place: Place) -> int:
        # By hand, because `bisect` is one more module to import at start-up.
        low, high = 0, len(self._idle)
        while low < high:
            middle = (low + high) // 2
            if self._idle[middle].place > place:
                high = middle
            else:
                low = middle + 1
        return low
