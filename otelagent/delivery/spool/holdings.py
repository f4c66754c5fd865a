"""What one process looks after on disk: its own entry and those it has adopted, with their segments."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from otelagent.delivery.spool.directory import Entry, entries
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.segment import Segment, UnknownVersion

__all__ = ["Held", "Holdings"]

# Entries of dead processes that one process takes over at a time; the rest is for its siblings.
_MAX_ADOPTED = 2


class Held(NamedTuple):
    """A segment, and the entry that it is in."""

    segment: Segment
    entry: Entry


class Holdings:
    """The segments of a spool, the oldest first, and the locked entries that they are in.

    One thread at a time uses it. `segments` may be read by any.

    :param place: where they are.
    :param failed: called with what the disk said when it refused to remove a file, which is tried again.
    """

    def __init__(self, place: SpoolPlace, failed: Callable[[OSError], object]) -> None:
        self._place = place
        self._failed = failed
        self._start_empty()

    def _start_empty(self) -> None:
        self._own: Entry | None = None
        self._adopted: list[Entry] = []
        self._held: list[Held] = []
        self._unremoved: list[Held] = []

    @property
    def segments(self) -> tuple[Held, ...]:
        """All of them."""
        return tuple(self._held)

    @property
    def own_segments(self) -> tuple[Held, ...]:
        """Those without what other processes had left."""
        own = self._own
        return tuple(held for held in self._held if held.entry is own)

    @property
    def unremoved(self) -> bool:
        """Whether files take room that the disk doesn't let go of."""
        return bool(self._unremoved)

    def has_place_for_new(self) -> bool:
        """Whether there is an entry for new segments, and nobody has removed it."""
        return self._own is not None and self._own.exists()

    def create(self, key: int, signal: str, now_ns: int) -> Segment:
        """A new segment, the youngest, in an entry of this process that is made if it isn't there.

        :param key: a descriptor of the directory for the entry.
        """
        if not self.has_place_for_new():
            if self._own is not None:
                self._own.close()
            self._own = Entry.create(key)
        assert self._own is not None
        newest_ns = self._held[-1].segment.name.created_ns if self._held else 0
        # Never before one that is there, or a clock that was set back would put the new before the old.
        segment = Segment.create(self._own.descriptor, signal, max(now_ns, newest_ns + 1))
        self._held.append(Held(segment, self._own))
        return segment

    def sync_names(self) -> None:
        """Has the disk keep the names of new segments."""
        if self._own is not None:
            self._own.sync()

    def remove(self, held: Held) -> bool:
        """Removes a segment.

        :returns: whether an adopted entry is done with by that, and there is room to adopt another.
        """
        self._held.remove(held)
        self._unlink(held)
        return self._leave_if_done(held.entry)

    def remove_unremoved(self) -> bool:
        """Tries again to remove what the disk has refused to; returns what `remove` returns."""
        done = False
        for held in tuple(self._unremoved):
            self._unlink(held)
            done = self._leave_if_done(held.entry) or done
        return done

    def adopt(self, adopted: Callable[[str, int], object]) -> None:
        """Takes over what dead processes have left, a few of them at a time.

        :param adopted: called with the signal and the items of what is looked after here from now on.
        :raises OSError: what could not be taken over is left to another time, or another process.
        """
        try:
            key = self._place.open()
        except FileNotFoundError:
            return
        try:
            for name in entries(key):
                if len(self._adopted) >= _MAX_ADOPTED:
                    return
                entry = Entry.adopt(key, name)
                if entry is not None:
                    for signal, items in self._take_over(key, entry).items():
                        adopted(signal, items)
        finally:
            os.close(key)

    def close(self) -> None:
        """Leaves all of it to other processes. What is empty is removed."""
        key: int | None = None
        try:
            key = self._place.open() if self._own is not None or self._adopted else None
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

    def _unlink(self, held: Held) -> None:
        if held in self._unremoved:
            self._unremoved.remove(held)
        try:
            held.segment.remove()
        except OSError as error:
            self._failed(error)
            self._unremoved.append(held)

    def _leave_if_done(self, entry: Entry) -> bool:
        # An entry in neither place is one of our own that was removed under us.
        if entry not in self._adopted or any(held.entry is entry for held in (*self._held, *self._unremoved)):
            return False
        self._adopted.remove(entry)
        try:
            with self._place.opened() as key:
                entry.remove(key)
        except OSError:
            entry.close()
        return True

    def _take_over(self, key: int, entry: Entry) -> dict[str, int]:
        taken: list[Held] = []
        try:
            for name in entry.segments():
                with suppress(UnknownVersion):
                    segment = Segment.open(entry.descriptor, name)
                    if segment.finished:
                        segment.remove()
                    else:
                        taken.append(Held(segment, entry))
        except OSError:
            entry.close()
            raise
        if not taken:
            entry.remove(key)
            return {}
        self._adopted.append(entry)
        self._held = sorted([*self._held, *taken], key=lambda held: held.segment.name)
        adopted: dict[str, int] = {}
        for held in taken:
            adopted[held.segment.signal] = adopted.get(held.segment.signal, 0) + held.segment.left
        return adopted
