"""How a segment's bytes are laid out, so that a torn write or a flipped bit costs one record and is counted exactly.

A segment is a header, two cursor slots and records. A record is its body between two frames that say the same: one
flipped bit leaves one of them, and with it the length, the number of items and the body's checksum. Every frame
also says how many records and items came before it in the segment, so that whatever is skipped is known to the item
by the next frame that is whole, and the last one in a file tells the file's totals.

A frame starts with the segment's mark, 8 random bytes that are in the file's name and never in what an application
can write into a span.

All numbers are little-endian; checksums are CRC-32C (RFC 3720, appendix B.4): it finds every error of up to three bits
in bodies as large as requests may be, where CRC-32 promises two.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from otelagent.fork_gate import whole_imports

__all__ = [
    "CURSOR_OFFSETS",
    "FRAME_SIZE",
    "HEAD",
    "HEADER_SIZE",
    "TAIL",
    "VERSION",
    "Cursor",
    "Frame",
    "checksum",
    "file_header",
    "read_cursor",
    "read_frame",
    "read_version",
]

VERSION = 1
_MAGIC = b"otelspl\n"
_HEADER = struct.Struct("<8sI")
_CURSOR = struct.Struct("<IIQQ")
_FRAME = struct.Struct("<8sIIIIQI")
_CRC = struct.Struct("<I")

FRAME_SIZE = _FRAME.size + _CRC.size
CURSOR_OFFSETS = (16, 48)
HEADER_SIZE = 80
"""Bytes before the first record: magic, version, checksum, then the slots of the cursor at `CURSOR_OFFSETS`."""

HEAD, TAIL = 0x44414548, 0x4C494154


def checksum(data: bytes) -> int:
    """CRC-32C."""
    with whole_imports():
        import google_crc32c

    value: int = google_crc32c.value(data)
    return value


class Frame(NamedTuple):
    """What stands before and after a record's body.

    :ivar kind: `HEAD` or `TAIL`.
    :ivar length: of the body, bytes.
    :ivar sequence: how many records came before this one in the segment.
    :ivar items: how many spans, data points or log records the body holds.
    :ivar items_before: how many the records before this one hold.
    :ivar body_crc: of the body.
    """

    kind: int
    length: int
    sequence: int
    items: int
    items_before: int
    body_crc: int

    def to_bytes(self, mark: bytes) -> bytes:
        """The frame as it is written."""
        data = _FRAME.pack(mark, *self)
        return data + _CRC.pack(checksum(data))


def read_frame(data: bytes, mark: bytes) -> Frame | None:
    """The frame at the start of `data`; None if there is none that is whole."""
    if len(data) < FRAME_SIZE or data[:8] != mark:
        return None
    (crc,) = _CRC.unpack_from(data, _FRAME.size)
    if checksum(data[: _FRAME.size]) != crc:
        return None
    return Frame(*_FRAME.unpack_from(data)[1:])


class Cursor(NamedTuple):
    """How far the records of a segment are settled.

    :ivar generation: counts the writes; of two slots the later one holds.
    :ivar sequence: records settled.
    :ivar offset: where the next one is, bytes from the file's start.
    :ivar items: items settled.
    """

    generation: int = 0
    sequence: int = 0
    offset: int = HEADER_SIZE
    items: int = 0

    def to_bytes(self) -> bytes:
        """The slot as it is written."""
        data = _CURSOR.pack(*self)
        return data + _CRC.pack(checksum(data))


def read_cursor(header: bytes) -> Cursor:
    """The cursor in a file's first `HEADER_SIZE` bytes; the start if no slot is whole: then all is sent again."""
    found = Cursor()
    for offset in CURSOR_OFFSETS:
        data = header[offset : offset + _CURSOR.size + _CRC.size]
        if len(data) < _CURSOR.size + _CRC.size or checksum(data[: _CURSOR.size]) != _CRC.unpack(data[-4:])[0]:
            continue
        cursor = Cursor(*_CURSOR.unpack_from(data))
        if cursor.generation > found.generation and cursor.offset >= HEADER_SIZE:
            found = cursor
    return found


def file_header() -> bytes:
    """The first `HEADER_SIZE` bytes of a new segment."""
    data = _HEADER.pack(_MAGIC, VERSION)
    return (data + _CRC.pack(checksum(data))).ljust(HEADER_SIZE, b"\0")


def read_version(header: bytes) -> int:
    """The version of a file's layout. A damaged header reads as this version's: each record is checked by itself."""
    if len(header) < _HEADER.size + 4:
        return VERSION
    data = header[: _HEADER.size]
    magic, version = _HEADER.unpack(data)
    if magic != _MAGIC or checksum(data) != _CRC.unpack_from(header, _HEADER.size)[0]:
        return VERSION
    return int(version)
