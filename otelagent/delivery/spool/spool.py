"""The spool: payloads on disk that outlive their process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol

from otelagent.delivery.disk_errors import explain, token
from otelagent.delivery.payload import Payload
from otelagent.delivery.spool.directory import quota, used_bytes
from otelagent.delivery.spool.frame import FRAME_SIZE, HEADER_SIZE
from otelagent.delivery.spool.holdings import Held, Holdings
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.segment import Record, Segment

__all__ = ["Appended", "Spool", "SpoolLimits", "SpoolListener"]

# A disk that failed is left alone for this long.
_RETRY_S = 5.0
_ADOPT_EVERY_S = 30.0
# What a power cut may cost at most. A killed process loses nothing that was written.
_SYNC_EVERY_S = 1.0
_READ_ATTEMPTS = 3
_MAX_SEGMENT_BYTES = 8 * 1024 * 1024
_MIN_SEGMENT_BYTES = 4 * 1024
# The share of a file system that is never taken, so that a full one is not our doing, and the most that this comes to.
_KEEP_FREE_SHARE = 0.05
_KEEP_FREE_BYTES = 64 * 1024 * 1024

# Of this process and not of the file.
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What the spool of one service and destination may use, all its processes together.

    :param max_bytes: bytes of all files, > 0. No write begins that would exceed it.
    :param max_age_s: seconds after which what is on disk is given up, > 0; to the precision of a segment.
    :param full: ``drop_oldest`` gives up the oldest segment for a new record, ``reject`` leaves new records in memory.
    """

    max_bytes: int = 256 * 1024 * 1024
    max_age_s: float = 3 * 86400.0
    full: Literal["drop_oldest", "reject"] = "drop_oldest"

    @property
    def segment_bytes(self) -> int:
        """The size from which on a segment takes no more records: small beside the cap, for it is dropped whole."""
        return min(max(self.max_bytes // 64, _MIN_SEGMENT_BYTES), _MAX_SEGMENT_BYTES)

    @property
    def segment_age_s(self) -> float:
        """The age in seconds from which on a segment takes no more records."""
        return min(self.max_age_s / 10, 600.0)


class Appended(Enum):
    """What became of a payload: it is on disk, or stays in memory for one of two reasons."""

    STORED = "stored"
    FULL = "full"
    FAILED = "failed"


class SpoolListener(Protocol):
    """Who keeps the books of a spool. Called by the thread that uses it."""

    def adopted(self, signal: str, items: int) -> None:
        """Items that another process had left are in this spool from now on."""

    def lost(self, signal: str, items: int, reason: str) -> None:
        """Items that were in the spool are so no more. Said before their file is removed: a process that dies in
        between leaves them to be sent once more, never uncounted."""

    def failed(self, reason: str, message: str) -> None:
        """The disk has failed; nothing is lost by that."""

    def recovered(self) -> None:
        """The disk works again."""


class Spool:
    """Payloads on disk, in the order they came, until each is settled. Nothing in here raises an OSError: what the
    disk refuses stays with the caller, and the disk is tried again some seconds later.

    What survives: a process killed at any moment loses nothing that `append` has answered ``STORED`` for. A power cut
    may take the last second. What comes back comes at least once, and twice if the process died between a payload's
    acceptance and `settle`.

    One thread at a time uses it. The properties may be read by any.

    :param place: where it is, and whose.
    :param clock: monotonic seconds.
    :param now_s: seconds since 1970.
    """

    def __init__(
        self,
        place: SpoolPlace,
        limits: SpoolLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.place = place
        self.limits = limits or SpoolLimits()
        self._clock = clock
        self._now_s = now_s
        self._listener: SpoolListener | None = None
        self._holdings = Holdings(place, self._failed)
        self._start_empty()

    def _start_empty(self) -> None:
        self._active: dict[str, Segment] = {}
        self._reading: tuple[Held, Record] | None = None
        self._attempts: dict[str, int] = {}
        self._dirty: set[Segment] = set()
        self._new_names = False
        self._synced_s = self._write_after_s = self._read_after_s = self._adopt_after_s = float("-inf")
        self.problem = ""

    def attach(self, listener: SpoolListener) -> None:
        """Sets who keeps the books; before the first use."""
        self._listener = listener

    def items(self, *, own_only: bool = False) -> int:
        """How many items wait.

        :param own_only: without those that other processes had left.
        """
        held = self._holdings.own_segments if own_only else self._holdings.segments
        return sum(one.segment.left for one in held)

    def status(self) -> dict[str, object]:
        """What is where, as plain JSON values; `problem` is empty when the disk works."""
        held = self._holdings.segments
        return {
            "directory": self.place.directory,
            "items": sum(one.segment.left for one in held),
            "bytes": sum(one.segment.size for one in held),
            "segments": len(held),
            "problem": self.problem,
        }

    def append(self, payload: Payload) -> Appended:
        """Puts a payload on disk. It survives this process from then on."""
        if self._clock() < self._write_after_s:
            return Appended.FAILED
        try:
            with self.place.opened(make=True) as key, quota(key):
                return self._append(key, payload)
        except OSError as error:
            self._failed(error)
            self._write_after_s = self._clock() + _RETRY_S
            return Appended.FAILED

    def next(self) -> Payload | None:
        """The oldest payload, which stays until `settle`; the same one again after `release`. None if there is none
        or the disk doesn't give it."""
        assert self._reading is None, "the last one is neither settled nor released"
        if self._clock() < self._read_after_s:
            return None
        for held in self._holdings.segments:
            record = self._read(held)
            if record is not None:
                self._reading = (held, record)
                return record.payload
        return None

    def settle(self) -> None:
        """Removes the payload that `next` gave: its fate is known."""
        assert self._reading is not None, "there is none"
        (held, record), self._reading = self._reading, None
        try:
            held.segment.settle(record)
        except OSError as error:
            self._failed(error)  # It is sent once more after a restart.
        if held.segment.finished:
            self._remove(held)

    def release(self) -> None:
        """Leaves the payload that `next` gave in the spool."""
        self._reading = None

    def maintain(self) -> None:
        """What is to do from time to time: give up what is too old, adopt what dead processes left, sync."""
        self._expire()
        if self._holdings.remove_unremoved():
            self._adopt_after_s = self._clock()
        if self._clock() >= self._adopt_after_s:
            self._adopt_after_s = self._clock() + _ADOPT_EVERY_S
            try:
                self._holdings.adopt(self._adopted)
            except OSError as error:
                self._failed(error)
        if self._clock() >= self._synced_s + _SYNC_EVERY_S:
            self.sync()

    def sync(self) -> None:
        """Has the disk keep what was written."""
        if not self._dirty:
            return
        self._synced_s = self._clock()
        dirty, self._dirty = self._dirty, set()
        for segment in dirty:
            try:
                segment.sync()
                if self._new_names:
                    self._holdings.sync_names()
                    self._new_names = False
            except OSError as error:
                # The system may have let go of what it could not write. What can't be read back is counted then; the
                # next records go to another file.
                self._failed(error)
                self._seal(segment)

    def close(self, *, sync: bool = True) -> None:
        """Leaves what is in the spool to the next process. The spool may be used again."""
        if sync:
            self.sync()
        self._holdings.close()
        self._start_empty()

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's files and locks, which stay the parent's."""
        self._holdings.after_fork_in_child()
        self._start_empty()

    def _append(self, key: int, payload: Payload) -> Appended:
        need = HEADER_SIZE + 2 * FRAME_SIZE + payload.size
        if need > self.limits.max_bytes:
            return Appended.FULL
        segment = self._segment(payload.signal)
        while used_bytes(key) + need > self.limits.max_bytes:
            if self.limits.full == "reject" or not self._drop_oldest():
                return Appended.FULL
            segment = self._segment(payload.signal)
        system = os.fstatvfs(key)
        keep = min(system.f_blocks * system.f_frsize * _KEEP_FREE_SHARE, _KEEP_FREE_BYTES)
        if system.f_bavail * system.f_frsize - need < keep:
            raise OSError(errno.ENOSPC, "the file system is almost full")
        if segment is None:
            segment = self._create(key, payload.signal)
        try:
            segment.append(payload)
        except OSError:
            if not segment.records:
                self._discard(segment)
            raise
        self._dirty.add(segment)
        if self.problem:
            self.problem = ""
            if self._listener is not None:
                self._listener.recovered()
        return Appended.STORED

    def _segment(self, signal: str) -> Segment | None:
        """The segment that takes the signal's records, if there is one that still may."""
        segment = self._active.get(signal)
        if segment is None:
            return None
        if segment.vanished():
            self._forget_vanished()
            return None
        age_s = self._now_s() - segment.name.created_ns / 1e9
        if segment.sealed or segment.size >= self.limits.segment_bytes or age_s >= self.limits.segment_age_s:
            self._seal(segment)
            return None
        return segment

    def _create(self, key: int, signal: str) -> Segment:
        if not self._holdings.has_place_for_new():
            self._forget_vanished()
        segment = self._holdings.create(key, signal, int(self._now_s() * 1e9))
        self._active[signal] = segment
        self._new_names = True
        return segment

    def _discard(self, segment: Segment) -> None:
        """Takes back a segment whose first record could not be written."""
        self._active.pop(segment.signal, None)
        self._holdings.remove(next(held for held in self._holdings.segments if held.segment is segment))

    def _seal(self, segment: Segment) -> None:
        segment.sealed = True
        if self._active.get(segment.signal) is segment:
            del self._active[segment.signal]
        if segment in self._dirty:
            self._dirty.discard(segment)
            try:
                segment.sync()
            except OSError as error:
                self._failed(error)
        if self._reading is None or self._reading[0].segment is not segment:
            segment.close()

    def _forget_vanished(self) -> None:
        for held in self._holdings.segments:
            try:
                gone = held.segment in self._active.values() and held.segment.vanished()
            except FileNotFoundError:
                gone = True
            if gone and (self._reading is None or self._reading[0] is not held):
                self._give_up(held, "spool_missing")

    def _drop_oldest(self) -> bool:
        for held in self._holdings.segments:
            if self._reading is None or self._reading[0] is not held:
                self._give_up(held, "spool_full")
                return not self._holdings.unremoved
        return False

    def _expire(self) -> None:
        oldest_ns = (self._now_s() - self.limits.max_age_s) * 1e9
        for held in self._holdings.segments:
            if held.segment.name.created_ns >= oldest_ns:
                break
            if self._reading is None or self._reading[0] is not held:
                self._give_up(held, "spool_expired")

    def _give_up(self, held: Held, reason: str) -> None:
        self._lost(held.segment, held.segment.abandon(), reason)
        self._remove(held)

    def _lost(self, segment: Segment, items: int, reason: str) -> None:
        if items and self._listener is not None:
            self._listener.lost(segment.signal, items, reason)

    def _read(self, held: Held) -> Record | None:
        segment = held.segment
        name = str(segment.name)
        try:
            record = segment.next()
        except FileNotFoundError:
            self._give_up(held, "spool_missing")
            return None
        except OSError as error:
            self._failed(error)
            self._read_after_s = self._clock() + _RETRY_S
            segment.close()
            if error.errno not in _PASSING:
                self._attempts[name] = self._attempts.get(name, 0) + 1
                if self._attempts[name] >= _READ_ATTEMPTS:
                    self._give_up(held, "spool_unreadable")
            return None
        self._attempts.pop(name, None)
        if lost := segment.take_lost():
            self._lost(segment, lost, "spool_corrupt")
            with suppress(OSError):  # Else the next process counts them once more.
                segment.keep_cursor()
        if record is None:
            self._remove(held)
        return record

    def _remove(self, held: Held) -> None:
        """Lets go of a segment with nothing left in it."""
        self._dirty.discard(held.segment)
        self._attempts.pop(str(held.segment.name), None)
        if self._active.get(held.segment.signal) is held.segment:
            del self._active[held.segment.signal]
        if self._holdings.remove(held):
            self._adopt_after_s = self._clock()

    def _adopted(self, signal: str, items: int) -> None:
        if self._listener is not None:
            self._listener.adopted(signal, items)

    def _failed(self, error: OSError) -> None:
        self.problem = error.strerror or str(error)
        if self._listener is not None:
            message = explain(error, self.place.directory, "spool_directory")
            self._listener.failed(token("spool", error), message)
