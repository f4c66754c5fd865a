"""What a request may make of memory and time, told before it is read.

Two bytes can be an empty message, which takes two hundred once it is read: 20 MiB of them are two gigabytes and a
minute. So large requests are looked through for what they are made of first, by what costs a few milliseconds.
"""

from __future__ import annotations

import re
from itertools import islice

__all__ = ["MAX_ITEMS", "TooMuch", "check_json", "check_protobuf"]

MAX_ITEMS = 100_000
"""Spans, log records or data points of one request; those behind them are rejected, counted. SDKs send hundreds."""

_LARGE_BYTES = 2**20
_MAX_PARTS = 1_000_000
_BYTES_A_PART = 20
# First bytes of fields 1 to 15 with a length (wire type 2), also as a longer varint than needed.
_TAGS = bytes(number << 3 | 2 | more for number in range(1, 16) for more in (0, 128))
_SMALL_PART = re.compile(b"[" + re.escape(_TAGS) + rb"][\x00-\x08]")


class TooMuch(ValueError):
    """The request has too many parts; the text says how many there may be."""

    def __init__(self, parts: int) -> None:
        super().__init__(f"it is made of more than {parts} parts: send smaller batches")


def check_protobuf(body: bytes) -> None:
    """Bounds the messages in a request by its fields that are shorter than nine bytes.

    A message is one of those, is longer than ten bytes by itself, or holds others of them.

    :raises TooMuch: there are more than a million.
    """
    # The first look is for a byte that may begin such a field and takes 1 ms a MiB; the second one is exact.
    if len(body) <= _LARGE_BYTES or len(body) - len(body.translate(None, _TAGS)) <= _MAX_PARTS:
        return
    if next(islice(_SMALL_PART.finditer(body), _MAX_PARTS, None), None) is not None:
        raise TooMuch(_MAX_PARTS)


def check_json(text: bytes) -> None:
    """Bounds the objects and arrays in a request.

    :raises TooMuch: there are more than a million, and than one for twenty bytes.
    """
    most = max(_MAX_PARTS, len(text) // _BYTES_A_PART)
    if len(text) > _LARGE_BYTES and text.count(b"{") + text.count(b"[") > most:
        raise TooMuch(most)
