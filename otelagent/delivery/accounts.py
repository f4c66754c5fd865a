"""The accounts of one destination: what became of each payload, for the ledger and, if it is bad news, the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from otelagent.delivery.failures import FailureLog
from otelagent.delivery.ledger import Ledger
from otelagent.delivery.payload import MAX_REQUEST_BYTES, Payload
from otelagent.delivery.result import Accepted, Rejected, Result, Retryable
from otelagent.delivery.signals import SIGNALS
from otelagent.threads import RLock

__all__ = ["Accounts"]

# What a person is told of items that are dropped; nothing when that was asked for.
_DROPPED = {
    "queue_full": "the destination is too slow or down",
    "too_large": f"more than a request may have, {MAX_REQUEST_BYTES} bytes",
}
_LOST_ON_DISK = {
    "spool_full": "the spool is full, the oldest goes first",
    "spool_expired": "kept for as long as the spool may",
    "spool_corrupt": "the disk has changed the data",
    "spool_missing": "the file was removed",
    "spool_unreadable": "the disk doesn't give the data back",
}


class Accounts:
    """Counts and tells; also what the spool has to say.

    :param ledgers: by signal.
    :param spool_directory: where the spool is; None without one.
    :ivar lost_items: how many items were ever rejected or dropped.
    :ivar last_error: the last try that the destination did not take whole, as plain JSON values: `reason`, `message`
        (for a person, without secrets) and `when` (UTC, ISO 8601). It stays when all is well again.
    """

    def __init__(self, ledgers: Mapping[str, Ledger], failures: FailureLog, spool_directory: str | None = None) -> None:
        self._ledgers = dict(ledgers)
        self._failures = failures
        self._spool_directory = spool_directory
        self._spooling_told = False
        self._adopted_untold = 0
        self._lock = RLock()
        self.lost_items = 0
        self.last_error: dict[str, object] | None = None

    def ledger(self, signal: str) -> Ledger:
        """The signal's books; new ones for a signal that had none."""
        ledger = self._ledgers.get(signal)
        return ledger if ledger is not None else self._ledgers.setdefault(signal, Ledger(signal))

    def dropped(self, payload: Payload, reason: str) -> None:
        """A payload that waited in memory is given up. Only counts; see `tell_dropped`."""
        self.ledger(payload.signal).dropped(payload.items, reason)
        self._lose(payload.items)

    def tell_dropped(self, items: int, reason: str) -> None:
        """Tells of what was dropped because something new came."""
        if message := _DROPPED.get(reason):
            self._failures.failed(reason, f"{_count(items)} {_are(items)} dropped", message, logging.ERROR)

    def tell_left(self, items: int) -> None:
        """Tells of what was dropped at the end."""
        if items:
            self._failures.failed(
                "shutdown", f"{_count(items)} {_are(items)} dropped", "not delivered in time", logging.ERROR
            )

    def tell_spooled(self, service: str) -> None:
        """Tells, at the end, of what is left on disk, whichever process made it.

        :param service: whose it is; empty if nobody knows.
        """
        of = f" of service {service!r}" if service else ""
        for signal, ledger in tuple(self._ledgers.items()):
            if items := ledger.snapshot().spooled:
                verb, them = ("waits", "it") if items == 1 else ("wait", "them")
                waiting = f"{_count(items, _nouns(signal))} {verb} in {self._spool_directory}"
                self._failures.news(
                    f"left {signal}",
                    f"{waiting}; the next process{of} sends {them} to the same destination, "
                    f"`otelagent spool replay KEY` to another",
                )

    def tell_spooling(self) -> None:
        """Tells, once in an outage, where the payloads go that can't be sent now."""
        if not self._spooling_told:
            message = f"what can't be sent now goes to {self._spool_directory}, and from there as soon as it can"
            self._spooling_told = self._failures.news("spooling", message)

    def spooled(self, payload: Payload) -> None:
        """A payload is on disk."""
        self.ledger(payload.signal).spooled(payload.items)

    def spool_full(self) -> None:
        """The spool takes nothing more."""
        self._failures.failed("spool_full", "what comes now waits in memory", "", logging.WARNING)

    def tried(self, result: Result) -> None:
        """Keeps what was wrong with a try, if anything was."""
        if isinstance(result, Accepted):
            if result.rejected_items <= 0:
                return
            reason = "partial_success"
        else:
            reason = result.reason
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.last_error = {"reason": reason, "message": result.message, "when": when}

    def settled(self, payload: Payload, result: Accepted | Rejected, *, from_spool: bool) -> None:
        """Counts what became of a payload that was sent."""
        ledger = self.ledger(payload.signal)
        if from_spool:
            ledger.unspooled(payload.items)
        if isinstance(result, Rejected):
            ledger.rejected(payload.items, result.reason)
            lost = payload.items
        else:
            # A server may claim to have refused more than it was given.
            lost = min(max(result.rejected_items, 0), payload.items)
            ledger.delivered(payload.items - lost)
            if lost:
                ledger.rejected(lost, "partial_success")
        self._lose(lost)

    def tell(self, payload: Payload, result: Result, *, in_halves: bool = False) -> None:
        """Tells what a try came to.

        :param in_halves: whether a payload that was too large for the server is sent in two now.
        """
        if isinstance(result, Retryable):
            kept = "it is kept and sent again"
            if self._spool_directory is None:
                kept = "it is kept in memory and tried again while the process runs"
            self._failures.retried(result.reason, kept, result.message)
        elif isinstance(result, Rejected) and in_halves:
            # Not under its reason, or it would hide the loss of an item that is too large alone.
            detail = f"{result.reason}: {result.message}" if result.message else result.reason
            self._failures.news("split", f"{payload.size:,} bytes are too many for it ({detail}); it gets two halves")
        elif isinstance(result, Rejected):
            consequence = f"{_count(payload.items)} {_are(payload.items)} lost"
            self._failures.failed(result.reason, consequence, result.message, logging.ERROR)
        else:
            self._failures.succeeded()
            self._spooling_told = False
            if result.rejected_items > 0:
                consequence = f"{result.rejected_items:,} of {_count(payload.items)} {_are(result.rejected_items)} lost"
                self._failures.failed("partial_success", consequence, result.message, logging.ERROR)
            elif result.message:
                self._failures.failed("server_warning", "everything is delivered", result.message)

    # What a spool tells, see `SpoolListener`.

    def adopted(self, signal: str, items: int) -> None:
        """Items that another process had left are this one's to deliver."""
        self.ledger(signal).adopted(items)
        self._adopted_untold += items
        message = f"this process takes over {_count(self._adopted_untold, _nouns(signal))} that an earlier one left"
        if self._failures.news("adopted", f"{message} in {self._spool_directory}", logging.INFO):
            self._adopted_untold = 0

    def lost(self, signal: str, items: int, reason: str) -> None:
        """Items on disk are given up."""
        ledger = self.ledger(signal)
        ledger.unspooled(items)
        ledger.dropped(items, reason)
        self._lose(items)
        self._failures.failed(
            reason, f"{_count(items)} {_are(items)} lost", _LOST_ON_DISK.get(reason, ""), logging.ERROR
        )

    def failed(self, reason: str, message: str) -> None:
        """The disk has failed."""
        self._failures.failed(reason, "what can't be put on disk waits in memory", message)

    def recovered(self) -> None:
        """The disk works again."""
        self._failures.news("spool_recovered", "the spool takes data again")

    def after_fork_in_child(self) -> None:
        """Starts the books from zero, or they would count the parent's items as waiting here."""
        for ledger in self._ledgers.values():
            ledger.after_fork_in_child()

    @property
    def ledgers(self) -> Mapping[str, Ledger]:
        """By signal."""
        return self._ledgers

    def _lose(self, items: int) -> None:
        with self._lock:
            self.lost_items += items


def _nouns(signal: str) -> str:
    known = SIGNALS.get(signal)
    return known.items if known is not None else "items"


def _count(items: int, nouns: str = "items") -> str:
    return f"{items:,} {nouns if items != 1 else nouns.removesuffix('s')}"


def _are(items: int) -> str:
    return "is" if items == 1 else "are"
