"""How a payload gets into a destination's queue, and what goes when memory is full."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from otelagent.delivery.accounts import Accounts
from otelagent.delivery.payload import MAX_REQUEST_BYTES, Payload
from otelagent.delivery.queue import Claim, PayloadQueue, Place
from otelagent.fork_gate import whole_imports
from otelagent.threads import Condition

__all__ = ["Intake"]

# The bytes of waiting payloads that one submit looks at for each priority; if that makes no room, what is new has to
# go. A larger one is not looked at: it would cost the application too, see `otelagent.delivery.items`, and much would
# go for little.
_MAX_LOOKED_AT_BYTES = 4 * 1024 * 1024


class Intake:
    """Takes payloads into a queue. What doesn't fit makes room by priority, see `otelagent.delivery.items.priority`:
    first all goes that has the lowest, then all that has the next one; of what waits the oldest first, and last what is
    new. What has the highest priority only goes when it is new. All of it is counted as dropped, ``queue_full``.

    Requests are taken apart while nobody waits: the lock is not held, and the payload is claimed. Each is looked at
    once for each priority, and a submit looks at a few megabytes.

    :param changed: the destination's condition.
    :param closed: whether nothing more is to be taken; the lock is held.
    :param on_taken: called with the lock held when something waits.
    """

    def __init__(
        self,
        queue: PayloadQueue,
        accounts: Accounts,
        changed: Condition,
        closed: Callable[[], bool],
        on_taken: Callable[[], object],
    ) -> None:
        self._queue = queue
        self._accounts = accounts
        self._changed = changed
        self._closed = closed
        self._on_taken = on_taken
        self._interrupted: bytes | None = None
        # priority -> up to where the queue holds nothing below it any more.
        self._thinned: defaultdict[int, Place] = defaultdict(tuple)

    def submit(self, payload: Payload) -> None:
        """See `Destination.submit`."""
        new = _New(payload)
        try:
            with self._changed:
                if self._interrupted is payload.body:
                    new.counted = True
                    self._interrupted = None
            if not new.counted:
                self._take(new)
            with self._changed:
                if len(self._queue):
                    self._on_taken()
                    self._changed.notify_all()
            for reason, items in new.lost.items():
                self._accounts.tell_dropped(items, reason)
        except BaseException:
            if new.counted:
                self._interrupted = payload.body
            raise

    def _take(self, new: _New) -> None:
        if new.parts[0].size > MAX_REQUEST_BYTES:
            new.parts = _pieces(new.parts[0])
        if self._settled(new):
            return
        for least in _priorities(new.parts[0].signal)[1:]:
            looked_at = 0
            while looked_at < _MAX_LOOKED_AT_BYTES and (claim := self._next(new, least)) is not None:
                looked_at += claim.payload.size
                self._thin(claim, least, new)
                if self._settled(new):
                    return
            new.thin(least)
            if self._settled(new):
                return
        self._settled(new, refuse=True)

    def _settled(self, new: _New, *, refuse: bool = False) -> bool:
        """Counts what becomes of what is new, if that is clear by now; in one step, or an interruption would leave it
        half taken."""
        with self._changed:
            size = sum(part.size for part in new.parts)
            if self._closed():
                refusal = "shutdown"
            elif self._queue.fits(size):
                refusal = ""
            elif refuse:
                refusal = "queue_full"
            else:
                return False
            for part in new.parts:
                if reason := refusal or ("too_large" if part.size > MAX_REQUEST_BYTES else ""):
                    self._drop(part, reason, new)
                else:
                    self._queue.put(part)
            for part in new.shed:
                self._drop(part, "queue_full", new)
            new.counted = True
        return True

    def _next(self, new: _New, least: int) -> Claim | None:
        """The oldest payload that was not looked at for this priority; none if that would be in vain."""
        with self._changed:
            if not self._queue.may_fit(sum(part.size for part in new.parts)):
                return None
            claim = self._queue.claim_behind(self._thinned[least], _MAX_LOOKED_AT_BYTES)
            if claim is not None:
                self._thinned[least] = claim.place
            return claim

    def _thin(self, claim: Claim, least: int, new: _New) -> None:
        try:
            kept, shed = _partition(claim.payload, least)
        except BaseException:
            with self._changed:
                if self._queue.holds(claim):
                    self._queue.put_back(claim)
            raise
        with self._changed:
            if not self._queue.holds(claim):
                return  # The end came first, and has counted all of it.
            if shed is None:
                self._queue.put_back(claim)
            else:
                self._queue.replace(claim, (kept,) if kept is not None else ())
                self._drop(shed, "queue_full", new)
            self._changed.notify_all()

    def _drop(self, payload: Payload, reason: str, new: _New) -> None:
        self._accounts.dropped(payload, reason)
        new.lost[reason] += payload.items


class _New:
    """A payload on its way in.

    :ivar parts: what of it is to be taken.
    :ivar shed: what of it is to be dropped.
    :ivar counted: whether either has happened.
    :ivar lost: the items that were dropped for it and of it, by reason.
    """

    def __init__(self, payload: Payload) -> None:
        self.parts = [payload]
        self.shed: list[Payload] = []
        self.counted = False
        self.lost: defaultdict[str, int] = defaultdict(int)

    def thin(self, least: int) -> None:
        """Keeps what has this priority or more."""
        thinned = [_partition(part, least) for part in self.parts]
        self.parts = [kept for kept, _ in thinned if kept is not None]
        self.shed += [shed for _, shed in thinned if shed is not None]


def _priorities(signal: str) -> tuple[int, ...]:
    with whole_imports():
        from otelagent.delivery.items import PRIORITIES
    return PRIORITIES.get(signal, ())


def _partition(payload: Payload, least: int) -> tuple[Payload | None, Payload | None]:
    with whole_imports():
        from otelagent.delivery.items import partition, priority
    try:
        return partition(payload, lambda item, _: priority(item) >= least)
    except Exception:
        return payload, None  # As little as one that can't be taken apart.


def _pieces(payload: Payload) -> list[Payload]:
    """A request in parts that may be sent, and the items that never may."""
    with whole_imports():
        from otelagent.delivery.items import split
    try:
        halves = split(payload) if payload.size > MAX_REQUEST_BYTES else None
    except Exception:
        halves = None
    return [piece for half in halves for piece in _pieces(half)] if halves is not None else [payload]
