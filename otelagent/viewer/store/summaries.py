"""A row for each trace, so that the list reads no spans, and what narrows the list down: postings and zones.

Postings are the rows of traces that an operation occurs in, one list for each transaction. A zone says between which
bounds its traces are, so that whole zones can be passed over. Both are written once for a transaction, at the end of
their tables, where an index over the traces would be touched for every span.
"""

from __future__ import annotations

import json
import sqlite3
import time
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from operator import attrgetter
from typing import Any

from otelagent.viewer.store.insert import insert, marks
from otelagent.viewer.store.members import add_members
from otelagent.viewer.store.trace_ids import SEGMENT_BITS, TraceIds

__all__ = ["ZONE_BITS", "Summaries", "Summary"]

ZONE_BITS = 10
"""Traces of a zone, as a power of two."""

_ERROR = 2
_KNOWN_TRACES = 20_000
_KNOWN_TEXTS = 10_000
_KNOWN_TEXT_SIZE = 1024
_MAX_SERVICES = 100
"""Of one trace, in the list: those that come behind them are found by their names all the same."""
_CHUNK = 100
_ROW = attrgetter("row")
_COLUMNS = ("start_ns", "end_ns", "spans", "errors", "root", "first", "services", "arrived_s")
_ZONE = ("id", "earliest_ns", "latest_ns", "shortest_ns", "longest_ns", "errors")


class Summary:
    """What the list shows of a trace, as it grows."""

    __slots__ = (
        "arrived_s",
        "end_ns",
        "errors",
        "first",
        "first_ns",
        "root",
        "row",
        "services",
        "spans",
        "start_ns",
        "trace_id",
    )

    def __init__(self, trace_id: bytes, row: int, arrived_s: int) -> None:
        self.trace_id = trace_id
        self.row = row
        self.arrived_s = arrived_s
        self.clear()

    def clear(self) -> None:
        """As without spans."""
        self.start_ns = self.first_ns = 2**63 - 1
        self.end_ns = 0
        self.spans = self.errors = 0
        self.root: int | None = None
        self.first = 0
        self.services: dict[str, int] = {}

    def add(self, operation: int, service: str, parent: bytes | None, status: int, start_ns: int, end_ns: int) -> None:
        """Counts a span."""
        self.spans += 1
        if status == _ERROR:
            self.errors += 1
        services = self.services
        if service in services or len(services) < _MAX_SERVICES:
            services[service] = services.get(service, 0) + 1
        if start_ns < self.start_ns:
            self.start_ns = start_ns
        if end_ns > self.end_ns:
            self.end_ns = end_ns
        if parent is None and self.root is None:
            self.root = operation
        if start_ns < self.first_ns:
            self.first_ns, self.first = start_ns, operation


class Summaries:
    """The summaries as the one writer sees them, with a memory of those that grow.

    :param connection: the writer's.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids = TraceIds(connection)
        self._last = self._last_row()
        self._known: dict[bytes, Summary] = {}
        self._texts: dict[tuple[tuple[str, int], ...], str] = {}
        self._empty()

    def _empty(self) -> None:
        self._touched: dict[bytes, Summary] = {}
        self._fresh: list[tuple[int, bytes, int]] = []
        self.postings: defaultdict[int, set[int]] = defaultdict(set)
        """Rows of the traces that have spans of an operation in this transaction."""
        self.members: set[str] = set()
        """Of the spans' attributes in this transaction, see `Batch.members`."""

    def of(self, trace_ids: Iterable[bytes]) -> dict[bytes, Summary]:
        """The summaries of some traces; those that are new get rows in this order."""
        known = self._known
        found: dict[bytes, Summary] = {}
        unknown = []
        for trace_id in trace_ids:
            summary = known.pop(trace_id, None)
            if summary is not None:
                found[trace_id] = known[trace_id] = summary  # Behind those that haven't grown for longer.
            else:
                unknown.append(trace_id)
        if unknown:
            old = self._read(self._ids.find_or_add(unknown, self._last + 1))
            now_s = int(time.time())
            for trace_id in unknown:
                summary = old.get(trace_id)
                if summary is None:
                    self._last += 1
                    summary = Summary(trace_id, self._last, now_s)
                    self._fresh.append((self._last >> SEGMENT_BITS, trace_id, self._last))
                found[trace_id] = known[trace_id] = summary
        self._touched.update(found)
        return found

    def prolong(self, ends_ns: Mapping[bytes, int]) -> None:
        """Has known traces end at these times, or later."""
        for trace_id, summary in self.of(ends_ns).items():
            summary.end_ns = max(summary.end_ns, ends_ns[trace_id])

    def flush(self) -> None:
        """Writes what has changed, inside the caller's transaction."""
        if not self._touched:
            return
        touched = sorted(self._touched.values(), key=_ROW)
        insert(
            self._connection,
            "trace",
            ("id", "trace_id", *_COLUMNS),
            [
                (
                    one.row,
                    one.trace_id,
                    one.start_ns,
                    one.end_ns,
                    one.spans,
                    one.errors,
                    one.root,
                    one.first,
                    self._text(one.services),
                    one.arrived_s,
                )
                for one in touched
            ],
            "OR REPLACE",
        )
        insert(self._connection, "trace_key", ("segment", "trace_id", "trace"), sorted(self._fresh), "OR REPLACE")
        postings = [(one, max(rows), array("q", sorted(rows)).tobytes()) for one, rows in self.postings.items()]
        insert(self._connection, "posting", ("operation", "last", "traces"), postings)
        add_members(self._connection, self.members, self._widen_zones(touched))
        self._empty()
        if (old := len(self._known) - _KNOWN_TRACES) > _KNOWN_TRACES // 2:
            self._known = dict(islice(self._known.items(), old, None))

    def forget(self) -> None:
        """Nothing of this transaction was written."""
        self._known.clear()
        self._empty()
        self._last = self._last_row()
        self._ids.rewind(self._last + 1)

    def prune(self, row: int) -> None:
        """The traces before this row were deleted."""
        self._ids.prune(row)
        for trace_id in [one.trace_id for one in self._known.values() if one.row < row]:
            del self._known[trace_id]

    def _last_row(self) -> int:
        return int(self._connection.execute("SELECT coalesce(max(id), 0) FROM trace").fetchone()[0])

    def _read(self, rows: dict[bytes, int]) -> dict[bytes, Summary]:
        found = {}
        wanted = list(rows.values())
        for at in range(0, len(wanted), _CHUNK):
            chunk = wanted[at : at + _CHUNK]
            sql = f"SELECT trace_id, id, {', '.join(_COLUMNS)} FROM trace WHERE id IN ({marks(chunk)})"
            for (
                trace_id,
                row,
                start_ns,
                end_ns,
                spans,
                errors,
                root,
                first,
                services,
                arrived_s,
            ) in self._connection.execute(sql, chunk):
                one = found[trace_id] = Summary(trace_id, row, arrived_s)
                one.start_ns = one.first_ns = start_ns
                one.end_ns, one.spans, one.errors, one.root, one.first = end_ns, spans, errors, root, first
                one.services = json.loads(services)
        return found

    def _text(self, services: dict[str, int]) -> str:
        # Most traces have the same services, as often.
        key = tuple(services.items())
        text = self._texts.get(key)
        if text is None:
            text = json.dumps(services, ensure_ascii=False)
            if len(text) <= _KNOWN_TEXT_SIZE:
                if len(self._texts) >= _KNOWN_TEXTS:
                    self._texts.clear()
                self._texts[key] = text
        return text

    def _widen_zones(self, touched: Iterable[Summary]) -> Collection[int]:
        zones: dict[int, list[int]] = {}
        for one in touched:
            start_ns, duration_ns = one.start_ns, one.end_ns - one.start_ns
            zone = zones.get(one.row >> ZONE_BITS)
            if zone is None:
                zones[one.row >> ZONE_BITS] = [start_ns, start_ns, duration_ns, duration_ns, one.errors]
                continue
            if start_ns < zone[0]:
                zone[0] = start_ns
            if start_ns > zone[1]:
                zone[1] = start_ns
            if duration_ns < zone[2]:
                zone[2] = duration_ns
            if duration_ns > zone[3]:
                zone[3] = duration_ns
            if one.errors > zone[4]:
                zone[4] = one.errors
        rows: list[tuple[Any, ...]] = [(number, *bounds) for number, bounds in zones.items()]
        self._connection.executemany(
            f"INSERT INTO zone ({', '.join(_ZONE)}) VALUES ({marks(_ZONE)}) ON CONFLICT (id) DO UPDATE SET"
            " earliest_ns = min(earliest_ns, excluded.earliest_ns), latest_ns = max(latest_ns, excluded.latest_ns),"
            " shortest_ns = min(shortest_ns, excluded.shortest_ns), longest_ns = max(longest_ns, excluded.longest_ns),"
            " errors = max(errors, excluded.errors)",
            rows,
        )
        return zones
