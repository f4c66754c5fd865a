"""Which row a trace has: an index that new traces are added to at one place, however random their ids are.

An index over all trace ids would be touched at random by every new trace: once it is larger than memory, each writes a
page of its own. So the index is cut into segments of rows; only the latest grows, and a look-up asks all of them. The
writer, which has to know for every trace whether it is new, asks a filter in memory first.

Source: B. H. Bloom, "Space/Time Trade-offs in Hash Coding with Allowable Errors", 1970.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable

from otelagent.viewer.store.schema import first_and_last

__all__ = ["SEGMENT_BITS", "TraceIds", "row_of"]

SEGMENT_BITS = 16
"""Rows of a segment, as a power of two: its keys are some 2 MiB, so that they stay in the cache while it grows."""

_MASK = 2**22 - 1
_FILTER_TRACES = 2**21
"""Of one filter of 4 MiB, so that one in sixty new ids is looked up in vain when it is full."""
# The last eight bytes of an id are random (W3C Trace Context, level 2): two places in a filter.
_places = struct.Struct("<8xII").unpack


def row_of(connection: sqlite3.Connection, trace_id: bytes) -> int | None:
    """The id of a trace's row, None if there is no such trace."""
    return _find(connection, trace_id, *first_and_last(connection, "trace"))


def _find(connection: sqlite3.Connection, trace_id: bytes, low: int, high: int) -> int | None:
    # A key may outlive its trace, until its whole segment goes.
    row = connection.execute(
        "WITH RECURSIVE segment (number) AS"
        " (SELECT ? UNION ALL SELECT number - 1 FROM segment WHERE number > ?)"
        " SELECT trace.id FROM segment CROSS JOIN trace_key ON trace_key.segment = segment.number"
        " AND trace_key.trace_id = ? JOIN trace ON trace.id = trace_key.trace AND trace.trace_id = trace_key.trace_id"
        " LIMIT 1",
        (high >> SEGMENT_BITS, low >> SEGMENT_BITS, trace_id),
    ).fetchone()
    return int(row[0]) if row else None


class TraceIds:
    """The trace ids of a store as its writer knows them.

    :param connection: the writer's.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Filters with the row that each begins at; the last one grows.
        self._filters: list[tuple[int, bytearray]] = []
        self._traces = _FILTER_TRACES
        self._read = False

    def find_or_add(self, trace_ids: Iterable[bytes], row: int) -> dict[bytes, int]:
        """The rows of those that are known; the others are remembered.

        :param row: of the first new one; the next has the next.
        """
        if not self._read:
            self._read_all()
        found = {}
        for trace_id in trace_ids:
            one, two = _places(trace_id)
            known, end = None, row
            for first, bits in reversed(self._filters):
                if bits[one >> 3 & _MASK] >> (one & 7) & 1 and bits[two >> 3 & _MASK] >> (two & 7) & 1:
                    known = _find(self._connection, trace_id, first, end)
                    if known is not None:
                        found[trace_id] = known
                        break
                end = first
            if known is None:
                self._add(row, one, two)
                row += 1
        return found

    def _read_all(self) -> None:
        # Not before something is written: it takes a microsecond for each trace, and readers needn't wait for it.
        self._filters, self._traces = [], _FILTER_TRACES
        for row, trace_id in self._connection.execute("SELECT id, trace_id FROM trace ORDER BY id"):
            self._add(row, *_places(trace_id))
        self._read = True

    def _add(self, row: int, one: int, two: int) -> None:
        if self._traces == _FILTER_TRACES:
            self._filters.append((row, bytearray(_MASK + 1)))
            self._traces = 0
        self._traces += 1
        bits = self._filters[-1][1]
        bits[one >> 3 & _MASK] |= 1 << (one & 7)
        bits[two >> 3 & _MASK] |= 1 << (two & 7)

    def rewind(self, row: int) -> None:
        """What was added from this row on was not written: other traces get those rows."""
        self._filters = [(min(first, row), bits) for first, bits in self._filters]

    def prune(self, row: int) -> None:
        """The traces before this row are gone."""
        while len(self._filters) > 1 and self._filters[1][0] <= row:
            del self._filters[0]
