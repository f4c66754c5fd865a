"""What is in a spool directory, for people: read without disturbing the processes that use it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from otelagent.delivery.spool.directory import ABOUT, Entry, entries, open_directory
from otelagent.delivery.spool.segment import Segment, SegmentName, UnknownVersion

__all__ = ["EntrySurvey", "KeySurvey", "Purged", "Verified", "purge", "survey", "verify"]

_KEY = re.compile(r"[0-9a-f]{16}")
_MAX_ABOUT_BYTES = 64 * 1024


class EntrySurvey(NamedTuple):
    """What one process has written.

    :ivar in_use: whether a living process owns it.
    :ivar items: that wait.
    :ivar oldest_s: when the oldest segment was begun, seconds since 1970; None if there is none.
    """

    name: str
    in_use: bool
    segments: int
    items: int
    bytes: int
    oldest_s: float | None

    @property
    def pid(self) -> int:
        """The process that wrote it; it may be long gone."""
        return int(self.name.partition("-")[0])


class KeySurvey(NamedTuple):
    """What is kept for one service and destination; `about` says which."""

    key: str
    about: Mapping[str, str]
    entries: list[EntrySurvey]

    @property
    def items(self) -> int:
        """That wait, of all processes."""
        return sum(entry.items for entry in self.entries)

    @property
    def left_items(self) -> int:
        """That no living process looks after."""
        return sum(entry.items for entry in self.entries if not entry.in_use)

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(entry.bytes for entry in self.entries)


class Verified(NamedTuple):
    """What reading every record of a key has shown."""

    key: str
    records: int
    items: int
    damaged_items: int
    unreadable: list[str]


class Purged(NamedTuple):
    """What was removed of a key, and what is still there because a living process owns it."""

    key: str
    items: int
    bytes: int
    in_use_items: int


def survey(directory: str, keys: tuple[str, ...] = ()) -> list[KeySurvey]:
    """Every key of a spool directory, or those that are named.

    :raises OSError: the directory can't be read or isn't the user's own; FileNotFoundError if there is none.
    """
    found = []
    for key, descriptor in _keys(directory, keys):
        surveys = []
        for name in entries(descriptor):
            with suppress(FileNotFoundError):
                surveys.append(_survey_entry(descriptor, name))
        found.append(KeySurvey(key, _about(descriptor), surveys))
    return found


def verify(
    directory: str, keys: tuple[str, ...] = (), progress: Callable[[int], object] = lambda _: None
) -> list[Verified]:
    """Reads every record that waits and checks it.

    :param progress: called with the bytes that were read.
    """
    found = []
    for key, descriptor in _keys(directory, keys):
        records = items = damaged = 0
        unreadable: list[str] = []
        for name in entries(descriptor):
            for label, segment in _segments(descriptor, name):
                if segment is None:
                    unreadable.append(label)
                    continue
                position = segment.cursor.offset
                try:
                    while (record := segment.next()) is not None:
                        records += 1
                        items += record.payload.items
                        segment.cursor = record.end
                        progress(record.end.offset - position)
                        position = record.end.offset
                except OSError:
                    unreadable.append(label)
                finally:
                    damaged += segment.take_lost()
                    segment.close()
        found.append(Verified(key, records, items, damaged, unreadable))
    return found


def purge(
    directory: str,
    keys: tuple[str, ...] = (),
    before_s: float | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Purged]:
    """Removes what no living process looks after.

    :param before_s: only segments begun before that, seconds since 1970.
    :param progress: called with the bytes that were removed.
    """
    found = []
    for key, descriptor in _keys(directory, keys):
        items = size = in_use = 0
        for name in entries(descriptor):
            entry = Entry.adopt(descriptor, name)
            if entry is None:
                with suppress(FileNotFoundError):
                    in_use += _survey_entry(descriptor, name).items
                continue
            try:
                for segment_name in entry.segments():
                    if before_s is None or segment_name.created_ns < before_s * 1e9:
                        removed = _remove(entry, segment_name)
                        items += removed[0]
                        size += removed[1]
                        progress(removed[1])
            finally:
                entry.remove(descriptor)
        found.append(Purged(key, items, size, in_use))
    return found


def _remove(entry: Entry, name: SegmentName) -> tuple[int, int]:
    items = 0
    with suppress(UnknownVersion):
        segment = Segment.open(entry.descriptor, name, writable=False)
        items = segment.left
    size = os.stat(str(name), dir_fd=entry.descriptor, follow_symlinks=False).st_size
    os.unlink(str(name), dir_fd=entry.descriptor)
    return items, size


def _keys(directory: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    root = open_directory(directory)
    try:
        for key in sorted(name for name in os.listdir(root) if _KEY.fullmatch(name)):
            if not wanted or key in wanted:
                descriptor = open_directory(key, root)
                try:
                    yield key, descriptor
                finally:
                    os.close(descriptor)
    finally:
        os.close(root)


def _about(key: int) -> Mapping[str, str]:
    with suppress(OSError, ValueError):
        descriptor = os.open(ABOUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=key)
        with os.fdopen(descriptor, "rb") as file:
            about = json.loads(file.read(_MAX_ABOUT_BYTES))
        if isinstance(about, dict):
            return {str(name): str(value) for name, value in about.items()}
    return {}


def _survey_entry(key: int, name: str) -> EntrySurvey:
    entry = Entry.adopt(key, name)
    in_use = entry is None
    if entry is not None:
        entry.close()
    segments = items = size = 0
    oldest_s = None
    for label, segment in _segments(key, name):
        parsed = SegmentName.parse(label.rpartition("/")[2])
        if parsed is not None and oldest_s is None:
            oldest_s = parsed.created_ns / 1e9
        segments += 1
        if segment is not None:
            items += segment.left
            size += segment.size
    return EntrySurvey(name, in_use, segments, items, size, oldest_s)


def _segments(key: int, entry: str) -> Iterator[tuple[str, Segment | None]]:
    """Each segment of an entry with what to call it; None if it can't be read."""
    with _entry_directory(key, entry) as descriptor:
        if descriptor is None:
            return
        for name in sorted(filter(None, map(SegmentName.parse, os.listdir(descriptor)))):
            try:
                yield f"{entry}/{name}", Segment.open(descriptor, name, writable=False)
            except FileNotFoundError:
                continue  # Its owner has finished with it.
            except (OSError, UnknownVersion):
                yield f"{entry}/{name}", None


@contextmanager
def _entry_directory(key: int, entry: str) -> Iterator[int | None]:
    try:
        descriptor = open_directory(entry, key)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
