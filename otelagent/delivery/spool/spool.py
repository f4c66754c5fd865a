"""The spool: payloads on disk that outlive their process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, Protocol

from otelagent.delivery.disk_errors import explain, token
from otelagent.delivery.payload import Payload
from otelagent.delivery.spool.directory import Entry, entries, quota, used_bytes
from otelagent.delivery.spool.frame import FRAME_SIZE, HEADER_SIZE
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.segment import Record, Segment, UnknownVersion

__all__ = ["Appended", "Spool", "SpoolLimits", "SpoolListener"]

# A disk that failed is left alone for this long.
_RETRY_S = 5.0
# Entries of dead processes that one process takes over at a time; the rest is for its siblings.
_MAX_ADOPTED = 2
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


class _Held(NamedTuple):
    segment: Segment
    entry: Entry


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
        self._start_empty()

    def _start_empty(self) -> None:
        self._own: Entry | None = None
        self._adopted: list[Entry] = []
        self._held: list[_Held] = []
        self._active: dict[str, Segment] = {}
        self._reading: tuple[_Held, Record] | None = None
        self._unremoved: list[_Held] = []
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
        own = self._own
        return sum(held.segment.left for held in tuple(self._held) if not own_only or held.entry is own)

    def status(self) -> dict[str, object]:
        """What is where, as plain JSON values; `problem` is empty when the disk works."""
        held = tuple(self._held)
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
        for held in tuple(self._held):
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
        for held in tuple(self._unremoved):
            self._unlink(held)
        if self._clock() >= self._adopt_after_s:
            self._adopt_after_s = self._clock() + _ADOPT_EVERY_S
            try:
                self._adopt()
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
                if self._new_names and self._own is not None:
                    self._own.sync()
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
        key: int | None = None
        try:
            key = self.place.open() if self._own is not None or self._adopted else None
        except OSError:
            pass
        for held in (*self._held, *self._unremoved):
            held.segment.close()
        for entry in (self._own, *self._adopted):
            if entry is not None and key is not None:
                entry.remove(key)
            elif entry is not None:
                entry.close()
        if key is not None:
            os.close(key)
        self._start_empty()

    def after_fork_in_child(self) -> None:
        """Lets go of the parent's files and locks, which stay the parent's."""
        for held in (*self._held, *self._unremoved):
            held.segment.close()
        for entry in (self._own, *self._adopted):
            if entry is not None:
                entry.close()
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
        if self._own is None or not self._own.exists():
            self._forget_vanished()
            if self._own is not None:
                self._own.close()
            self._own = Entry.create(key)
        newest = self._held[-1].segment.name.created_ns if self._held else 0
        # Never before one that is there, or a clock that was set back would put the new before the old.
        segment = Segment.create(self._own.descriptor, signal, max(int(self._now_s() * 1e9), newest + 1))
        self._active[signal] = segment
        self._held.append(_Held(segment, self._own))
        self._new_names = True
        return segment

    def _discard(self, segment: Segment) -> None:
        """Takes back a segment whose first record could not be written."""
        self._active.pop(segment.signal, None)
        held = next(held for held in self._held if held.segment is segment)
        self._held.remove(held)
        self._unlink(held)

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
        for held in tuple(self._held):
            try:
                gone = held.segment in self._active.values() and held.segment.vanished()
            except FileNotFoundError:
                gone = True
            if gone and (self._reading is None or self._reading[0] is not held):
                self._give_up(held, "spool_missing")

    def _drop_oldest(self) -> bool:
        for held in self._held:
            if self._reading is None or self._reading[0] is not held:
                self._give_up(held, "spool_full")
                return not self._unremoved
        return False

    def _expire(self) -> None:
        oldest_ns = (self._now_s() - self.limits.max_age_s) * 1e9
        for held in tuple(self._held):
            if held.segment.name.created_ns >= oldest_ns:
                break
            if self._reading is None or self._reading[0] is not held:
                self._give_up(held, "spool_expired")

    def _give_up(self, held: _Held, reason: str) -> None:
        self._lost(held.segment, held.segment.abandon(), reason)
        self._remove(held)

    def _lost(self, segment: Segment, items: int, reason: str) -> None:
        if items and self._listener is not None:
            self._listener.lost(segment.signal, items, reason)

    def _read(self, held: _Held) -> Record | None:
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

    def _remove(self, held: _Held) -> None:
        """Lets go of a segment with nothing left in it."""
        self._held.remove(held)
        self._dirty.discard(held.segment)
        self._attempts.pop(str(held.segment.name), None)
        if self._active.get(held.segment.signal) is held.segment:
            del self._active[held.segment.signal]
        self._unlink(held)
        if held.entry is not self._own and all(other.entry is not held.entry for other in self._held):
            self._leave(held.entry)

    def _unlink(self, held: _Held) -> None:
        if held in self._unremoved:
            self._unremoved.remove(held)
        try:
            held.segment.remove()
        except OSError as error:
            self._failed(error)
            self._unremoved.append(held)

    def _leave(self, entry: Entry) -> None:
        """Lets go of an adopted entry that is empty, and makes place for the next."""
        if any(held.entry is entry for held in self._unremoved):
            return
        self._adopted.remove(entry)
        try:
            with self.place.opened() as key:
                entry.remove(key)
        except OSError:
            entry.close()
        self._adopt_after_s = self._clock()

    def _adopt(self) -> None:
        try:
            key = self.place.open()
        except FileNotFoundError:
            return
        try:
            for name in entries(key):
                if len(self._adopted) >= _MAX_ADOPTED:
                    return
                entry = Entry.adopt(key, name)
                if entry is not None:
                    self._take_over(key, entry)
        finally:
            os.close(key)

    def _take_over(self, key: int, entry: Entry) -> None:
        taken: list[_Held] = []
        try:
            for name in entry.segments():
                with suppress(UnknownVersion):
                    segment = Segment.open(entry.descriptor, name)
                    if segment.finished:
                        segment.remove()
                    else:
                        taken.append(_Held(segment, entry))
        except OSError:
            entry.close()  # For another time, or another process.
            raise
        if not taken:
            entry.remove(key)
            return
        self._adopted.append(entry)
        self._held = sorted([*self._held, *taken], key=lambda held: held.segment.name)
        adopted: dict[str, int] = {}
        for held in taken:
            adopted[held.segment.signal] = adopted.get(held.segment.signal, 0) + held.segment.left
        if self._listener is not None:
            for signal, items in adopted.items():
                self._listener.adopted(signal, items)

    def _failed(self, error: OSError) -> None:
        self.problem = error.strerror or str(error)
        if self._listener is not None:
            message = explain(error, self.place.directory, "spool_directory")
            self._listener.failed(token("spool", error), message)
