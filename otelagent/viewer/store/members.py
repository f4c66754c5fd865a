"""Which attributes occur where: for each transaction the hashes of them all, sorted, and the zones that it wrote to.

Asked for an attribute, the list passes over zones in which none has its hash. A hash that is another's costs a look in
vain, one in a million.
"""

from __future__ import annotations

import json
import sqlite3
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection
from zlib import crc32

from otelagent.viewer.store.insert import insert

__all__ = ["add_members", "zones_with"]

_RANGES = 4
_CHECKED_EVERY = 64


def add_members(connection: sqlite3.Connection, members: Collection[str], zones: Collection[int]) -> None:
    """Notes attributes.

    :param members: as `Batch.members` has them.
    :param zones: of the traces that have them.
    """
    if not members:
        return
    hashes = array("I", sorted(set(map(crc32, map(str.encode, members))))).tobytes()
    # Few zones, as when traces come whole, by themselves; many, when old traces go on, as one range.
    ranges = [(one, one) for one in zones] if len(zones) <= _RANGES else [(min(zones), max(zones))]
    insert(connection, "member", ("lowest", "highest", "hashes"), [(*one, hashes) for one in ranges])


def zones_with(connection: sqlite3.Connection, key: str, value: str | None, until_s: float) -> Callable[[int], bool]:
    """Tells of a zone whether a span in it may have an attribute.

    :param value: as text; None for any.
    :param until_s: of the monotonic clock: what hasn't been read by then may have it.
    """
    quoted = json.dumps(key, ensure_ascii=False)
    texts = (key,) if value is None else (f"{quoted}:{value}", f"{quoted}:{json.dumps(value, ensure_ascii=False)}")
    wanted = [crc32(text.encode()) for text in texts]
    possible: set[int] = set()
    unread = -1
    rows = connection.execute("SELECT id, lowest, highest, hashes FROM member ORDER BY id DESC")
    for count, (row, lowest, highest, encoded) in enumerate(rows, 1):
        known = memoryview(encoded).cast("I")
        for one in wanted:
            at = bisect_left(known, one)
            if at < len(known) and known[at] == one:
                possible.update(range(lowest, highest + 1))
                break
        if not count % _CHECKED_EVERY and time.monotonic() > until_s:
            sql = "SELECT coalesce(max(highest), -1) FROM member WHERE id < ?"
            unread = connection.execute(sql, (row,)).fetchone()[0]
            break
    return lambda zone: zone in possible or zone <= unread
