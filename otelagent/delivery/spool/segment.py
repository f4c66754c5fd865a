"""One file of the spool: records are appended to it, read back in order and settled by its cursor."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from otelagent.delivery.payload import MAX_REQUEST_BYTES, Payload
from otelagent.delivery.spool.frame import (
    CURSOR_OFFSETS,
    FRAME_SIZE,
    HEAD,
    HEADER_SIZE,
    TAIL,
    VERSION,
    Cursor,
    Frame,
    checksum,
    file_header,
    read_cursor,
    read_frame,
    read_version,
)

__all__ = ["Record", "Segment", "SegmentName", "UnknownVersion"]

_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.([a-z_]{1,32})")
# What is read at once in search of the next whole frame.
_CHUNK = 256 * 1024


class UnknownVersion(Exception):
    """The file is of a later layout; it isn't ours to read or to remove."""


class SegmentName(NamedTuple):
    """What a file's name says: when it was made (nanoseconds since 1970), its mark, and its signal.

    Names sort by age. One file holds one signal, so that its totals are the signal's.
    """

    created_ns: int
    mark: bytes
    signal: str

    def __str__(self) -> str:
        return f"{self.created_ns:016x}-{self.mark.hex()}.{self.signal}"

    @classmethod
    def parse(cls, name: str) -> SegmentName | None:
        """The name of a file; None if it isn't a segment's."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1], 16), bytes.fromhex(match[2]), match[3]) if match else None


class Record(NamedTuple):
    """A payload as it was read back, and where the next one is."""

    payload: Payload
    end: Cursor


class _Found(NamedTuple):
    frame: Frame
    body: bytes | None
    end: int


class Segment:
    """A segment. One thread at a time uses it; every method may raise OSError.

    :param directory: a descriptor of the directory the file is in; not the segment's to close.
    :ivar items: how many items its records hold; `left` of them aren't settled.
    :ivar size: bytes of the file.
    :ivar lost: items that turned out to be unreadable, to be fetched by `take_lost`.
    """

    def __init__(self, directory: int, name: SegmentName, descriptor: int) -> None:
        self.name = name
        self.signal = name.signal
        self.size = HEADER_SIZE
        self.records = 0
        self.items = 0
        self.cursor = Cursor()
        self.sealed = False
        self._directory = directory
        self._descriptor = descriptor
        self._lost = 0
        self._mode = os.O_RDWR

    @classmethod
    def create(cls, directory: int, signal: str, now_ns: int) -> Segment:
        """A new file, which only its owner may read; its header comes with the first record."""
        name = SegmentName(max(now_ns, 0), os.urandom(8), signal)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(str(name), flags, 0o600, dir_fd=directory)
        try:
            os.fchmod(descriptor, 0o600)
        except OSError:
            os.close(descriptor)
            raise
        return cls(directory, name, descriptor)

    @classmethod
    def open(cls, directory: int, name: SegmentName, *, writable: bool = True) -> Segment:
        """A file that another process has left. Reads its two ends; all of it only if its last write was cut short.

        :param writable: whether a torn tail may be cut and the cursor moved.
        :raises UnknownVersion: a later version of otelagent wrote it.
        """
        segment = cls(directory, name, -1)
        segment._mode = os.O_RDWR if writable else os.O_RDONLY
        try:
            segment._load(writable)
        finally:
            segment.close()
        return segment

    @property
    def left(self) -> int:
        """Items that aren't settled."""
        return self.items - self.cursor.items

    @property
    def finished(self) -> bool:
        """Whether every record is settled."""
        return self.cursor.sequence >= self.records

    def append(self, payload: Payload) -> None:
        """Adds a record; a write that fails leaves no trace of it."""
        crc = checksum(payload.body)
        frame = Frame(HEAD, payload.size, self.records, payload.items, self.items, crc)
        head, tail = frame.to_bytes(self.name.mark), frame._replace(kind=TAIL).to_bytes(self.name.mark)
        start = 0 if not self.records else self.size
        data = b"".join((file_header() if not self.records else b"", head, payload.body, tail))
        try:
            self._write(data, start)
        except BaseException:
            self._take_back()
            raise
        self.size = start + len(data)
        self.records += 1
        self.items += payload.items

    def next(self) -> Record | None:
        """The oldest record that isn't settled; it stays. None when there is none.

        What is damaged is skipped for good, see `take_lost`.
        """
        while not self.finished:
            found = self._record_at(self.cursor.offset)
            if found is None or found.frame.sequence >= self.records:
                self._skip_to(Cursor(self.cursor.generation, self.records, self.size, self.items))
                break
            frame = found.frame
            end = Cursor(0, frame.sequence + 1, found.end, frame.items_before + frame.items)
            if found.body is None:
                self._skip_to(end)
                continue
            self._lost += max(frame.items_before - self.cursor.items, 0)
            self.cursor = self.cursor._replace(
                sequence=frame.sequence, items=max(frame.items_before, self.cursor.items)
            )
            return Record(Payload(self.signal, found.body, frame.items), end)
        return None

    def settle(self, record: Record) -> None:
        """Moves the cursor behind a record of `next`: it never comes again."""
        self.cursor = record.end._replace(generation=self.cursor.generation)
        if not self.finished:
            self.keep_cursor()

    def take_lost(self) -> int:
        """How many items were found damaged since the last call. Count them, then call `keep_cursor`."""
        lost, self._lost = self._lost, 0
        return lost

    def abandon(self) -> int:
        """Gives up every record that isn't settled; how many items that is."""
        left, self.cursor = self.left, Cursor(self.cursor.generation, self.records, self.size, self.items)
        return left

    def keep_cursor(self) -> None:
        """Has the file say what is settled, for the next process."""
        self.cursor = self.cursor._replace(generation=self.cursor.generation + 1)
        self._write(self.cursor.to_bytes(), CURSOR_OFFSETS[self.cursor.generation % 2])

    def vanished(self) -> bool:
        """Whether somebody removed the file: what is written to it now will not be found."""
        return os.fstat(self._opened()).st_nlink == 0

    def sync(self) -> None:
        """Has the disk keep what was written."""
        if self._descriptor >= 0:
            _sync(self._descriptor)

    def close(self) -> None:
        """Closes the file; it is opened again when it is needed."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError:
                pass  # EIO and ENOSPC of earlier writes; reading them back will tell.

    def remove(self) -> None:
        """Removes the file."""
        self.close()
        try:
            os.unlink(str(self.name), dir_fd=self._directory)
        except FileNotFoundError:
            pass

    def _opened(self) -> int:
        if self._descriptor < 0:
            flags = self._mode | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(str(self.name), flags, dir_fd=self._directory)
        return self._descriptor

    def _write(self, data: bytes, offset: int) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._opened(), rest, offset)
            rest = rest[written:]
            offset += written

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._opened(), self.size if self.records else 0)
        except OSError:
            # The rest of the write stays behind the last record, where nothing may follow it.
            self.sealed = True

    def _skip_to(self, end: Cursor) -> None:
        self._lost += max(end.items - self.cursor.items, 0)
        self.cursor = end._replace(generation=self.cursor.generation, items=max(end.items, self.cursor.items))

    def _read(self, length: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(self._opened(), length, offset)
            if not part:
                break
            parts.append(part)
            length -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _load(self, writable: bool) -> None:
        self.sealed = True
        self.size = os.fstat(self._opened()).st_size
        header = self._read(HEADER_SIZE, 0)
        if read_version(header) != VERSION:
            raise UnknownVersion(str(self.name))
        last = self._frame_at(max(self.size - FRAME_SIZE, 0))
        if last is not None and last.kind == TAIL:
            self.records, self.items = last.sequence + 1, last.items_before + last.items
        else:
            self._scan(writable)
        cursor = read_cursor(header)
        if cursor.sequence <= self.records and cursor.items <= self.items and cursor.offset <= self.size:
            self.cursor = cursor

    def _scan(self, writable: bool) -> None:
        """The totals the long way, and an end without the write that was cut short."""
        end = min(self.size, HEADER_SIZE)
        while (found := self._record_at(end)) is not None:
            end = found.end
            self.records = found.frame.sequence + 1
            self.items = found.frame.items_before + found.frame.items
        if end < self.size:
            if writable:
                os.ftruncate(self._opened(), end)
            self.size = end

    def _record_at(self, offset: int) -> _Found | None:
        """The record whose first frame is at an offset or, if that is damaged, the next one that is found."""
        head = self._frame_at(offset)
        if head is None or head.kind != HEAD:
            return self._search(offset)
        end = offset + FRAME_SIZE + head.length + FRAME_SIZE
        body = self._read(head.length, offset + FRAME_SIZE)
        if len(body) < head.length:
            return self._search(offset + 1)
        return _Found(head, body if checksum(body) == head.body_crc else None, min(end, self.size))

    def _search(self, offset: int) -> _Found | None:
        """The first record behind an offset of which one frame is whole."""
        position, overlap = offset, len(self.name.mark) - 1
        while position < self.size:
            chunk = self._read(min(_CHUNK, self.size - position), position)
            at = chunk.find(self.name.mark)
            while at >= 0:
                found = self._found_at(position + at, offset)
                if found is not None:
                    return found
                at = chunk.find(self.name.mark, at + 1)
            if len(chunk) <= overlap:
                break
            position += len(chunk) - overlap
        return None

    def _found_at(self, position: int, offset: int) -> _Found | None:
        frame = self._frame_at(position)
        if frame is None:
            return None
        if frame.kind == HEAD:
            return self._record_at(position) if position + FRAME_SIZE + frame.length <= self.size else None
        body_at = position - frame.length
        if body_at - FRAME_SIZE < offset:
            return None  # Of a record before the offset.
        body = self._read(frame.length, body_at)
        return _Found(frame, body if checksum(body) == frame.body_crc else None, position + FRAME_SIZE)

    def _frame_at(self, offset: int) -> Frame | None:
        frame = read_frame(self._read(FRAME_SIZE, offset), self.name.mark)
        return frame if frame is not None and frame.length <= MAX_REQUEST_BYTES else None


def _sync(descriptor: int) -> None:
    # Without the times of the file, where the system can.
    getattr(os, "fdatasync", os.fsync)(descriptor)
