"""The books: what became of every item of one signal on its way to one destination."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from otelagent.struct import struct
from otelagent.threads import RLock

__all__ = ["Ledger", "LedgerSnapshot", "Ledgers"]


@struct(frozen=True)
class LedgerSnapshot:
    """The counts of one signal and destination at one moment. `rejected` and `dropped` are by reason; `filtered` counts
    what the destination's routes leave out, `spooled` what is on disk, `adopted` what other processes had left there.
    """

    signal: str
    ended: int
    adopted: int
    sampled_out: int
    filtered: int
    delivered: int
    rejected: Mapping[str, int]
    dropped: Mapping[str, int]
    spooled: int
    queued: int

    @property
    def balanced(self) -> bool:
        """Whether every item is accounted for. False means a bug: something was counted twice or not at all."""
        lost = sum(self.rejected.values()) + sum(self.dropped.values())
        accounted = self.sampled_out + self.filtered + self.delivered + lost + self.spooled + self.queued
        return self.ended + self.adopted == accounted and self.queued >= 0 and self.spooled >= 0

    def to_dict(self) -> dict[str, object]:
        """The counts as plain JSON values, with `balanced`."""
        return {
            "signal": self.signal,
            "ended": self.ended,
            "adopted": self.adopted,
            "sampled_out": self.sampled_out,
            "filtered": self.filtered,
            "delivered": self.delivered,
            "rejected": dict(self.rejected),
            "dropped": dict(self.dropped),
            "spooled": self.spooled,
            "queued": self.queued,
            "balanced": self.balanced,
        }


class Ledger:
    """Counts items so that at every moment, exactly::

        ended + adopted
            = sampled_out + filtered + delivered + rejected{reason} + dropped{reason} + spooled + queued

    `queued` is everything whose fate is open and that is in memory alone, whether it waits to be encoded, to be sent or
    to be retried; `spooled` is what is on disk, being sent or not. What this process leaves there stays `spooled` in
    its books; the process that takes it over counts it as `adopted`, so that over all processes nothing counts twice:
    `adopted` of the one is `spooled` of the other. Where no process has left anything, `adopted` is 0.

    Each method moves `n` items in one step under one lock and never raises. Nothing is ever taken back: moving more
    than is queued is the caller's bug and shows as `balanced == False`.

    The lock is reentrant and every count changes by one in-place addition, because a signal handler or a `__del__`
    may end a span in the middle of any of these methods on the same thread.

    :param signal: ``traces``, ``metrics`` or ``logs``.
    """

    def __init__(self, signal: str) -> None:
        self.signal = signal
        self._included: list[Callable[[], tuple[int, int, Mapping[str, int]]]] = []
        self._zero()

    def _zero(self) -> None:
        self._lock = RLock()
        self._ended = 0
        self._adopted = 0
        self._sampled_out = 0
        self._filtered = 0
        self._delivered = 0
        self._rejected: defaultdict[str, int] = defaultdict(int)
        self._dropped: defaultdict[str, int] = defaultdict(int)
        self._spooled = 0
        self._queued = 0
        self._lost = 0

    def ended(self, n: int, /) -> None:
        """Counts `n` new items that wait from now on."""
        with self._lock:
            self._ended += n
            self._queued += n

    def sampled_out(self, n: int, /) -> None:
        """Counts `n` new items that are left out on purpose and never wait."""
        with self._lock:
            self._ended += n
            self._sampled_out += n

    def filtered(self, n: int, /) -> None:
        """Moves `n` waiting items to those that the destination's routes leave out."""
        with self._lock:
            self._queued -= n
            self._filtered += n

    def delivered(self, n: int, /) -> None:
        """Moves `n` waiting items to those that the destination has taken."""
        with self._lock:
            self._queued -= n
            self._delivered += n

    def rejected(self, n: int, reason: str, /) -> None:
        """Moves `n` waiting items to those that the destination (or the protocol) refused for good."""
        with self._lock:
            self._queued -= n
            self._rejected[reason] += n
            self._lost += n

    def dropped(self, n: int, reason: str, /) -> None:
        """Moves `n` waiting items to those that this process gave up."""
        with self._lock:
            self._queued -= n
            self._dropped[reason] += n
            self._lost += n

    def spooled(self, n: int, /) -> None:
        """Moves `n` waiting items to those that are on disk."""
        with self._lock:
            self._queued -= n
            self._spooled += n

    def unspooled(self, n: int, /) -> None:
        """Moves `n` items that are on disk to those that wait; what became of them is the next move."""
        with self._lock:
            self._spooled -= n
            self._queued += n

    def adopted(self, n: int, /) -> None:
        """Counts `n` items that another process had left on disk and that are this one's to deliver from now on."""
        with self._lock:
            self._adopted += n
            self._spooled += n

    def include(self, counts: Callable[[], tuple[int, int, Mapping[str, int]]], /) -> None:
        """Adds to every snapshot what a recorder counts for itself, because a call here for each of its items would
        cost more than the item.

        :param counts: gives ended, sampled out and dropped by reason, at one moment; they only grow, and start over in
            a fork child.
        """
        self._included.append(counts)

    def recorded(self) -> tuple[int, int, Mapping[str, int]]:
        """Ended, sampled out and dropped by reason, as another ledger's `include` takes them."""
        with self._lock:
            return self._ended, self._sampled_out, dict(self._dropped)

    @property
    def lost(self) -> int:
        """How many items were ever rejected or dropped."""
        with self._lock:
            return self._lost + sum(sum(counts()[2].values()) for counts in self._included)

    def snapshot(self) -> LedgerSnapshot:
        """All counts at one moment."""
        with self._lock:
            ended, sampled_out, dropped, queued = self._ended, self._sampled_out, dict(self._dropped), self._queued
            delivered, rejected, spooled = self._delivered, dict(self._rejected), self._spooled
            adopted, filtered = self._adopted, self._filtered
            # After our own counts: what has been delivered by now has ended in theirs.
            for counts in self._included:
                more_ended, more_sampled_out, more_dropped = counts()
                ended += more_ended
                sampled_out += more_sampled_out
                queued += more_ended - more_sampled_out - sum(more_dropped.values())
                for reason, count in more_dropped.items():
                    dropped[reason] = dropped.get(reason, 0) + count
            return LedgerSnapshot(
                signal=self.signal,
                ended=ended,
                adopted=adopted,
                sampled_out=sampled_out,
                filtered=filtered,
                delivered=delivered,
                rejected=MappingProxyType(rejected),
                dropped=MappingProxyType(dropped),
                spooled=spooled,
                queued=queued,
            )

    def after_fork_in_child(self) -> None:
        """Starts from zero with a new lock: the parent keeps its books, and its lock may have been held at the fork."""
        self._zero()


class Ledgers:
    """The ledgers of one signal's destinations, as what records the signal sees them: it counts once, and each of them
    includes that, so that no item is in the books of one and not in those of another.

    :param ledgers: one for each destination.
    """

    def __init__(self, signal: str, ledgers: Sequence[Ledger]) -> None:
        self._ledgers = tuple(ledgers)
        self._recorded = Ledger(signal)
        self.ended, self.sampled_out = self._recorded.ended, self._recorded.sampled_out
        self.dropped = self._recorded.dropped
        self.include(self._recorded.recorded)

    def include(self, counts: Callable[[], tuple[int, int, Mapping[str, int]]], /) -> None:
        """See `Ledger.include`."""
        for ledger in self._ledgers:
            ledger.include(counts)

    @property
    def lost(self) -> int:
        """How many items were ever rejected or dropped, one that is lost for two destinations twice."""
        return sum(ledger.lost for ledger in self._ledgers)

    def after_fork_in_child(self) -> None:
        """Starts from zero; each ledger is its destination's to renew."""
        self._recorded.after_fork_in_child()
