"""Where traces may be that are as asked: blocks of their ids, descending, in bounded time.

Those of an operation or of words found, or all in the zones that can have what is asked.
"""

from __future__ import annotations

import heapq
import sqlite3
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat

from otelagent.viewer.store.filters import AttributePlaces, Bounds, TraceFilter, id_list
from otelagent.viewer.store.summaries import ZONE_BITS
from otelagent.viewer.store.trace_ids import row_of
from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG

__all__ = ["Late", "Least", "blocks"]

# Traces that are looked at in one go: few at first, because most pages are full soon, and where spans have to be read.
_MANY = (64, 256, 1024)
_FEW = (64, 128)
_MAX_NAMES_FOUND = 500
_MAX_WORDS_FOUND = 2_000


class Late(Exception):
    """The time is over, or words were found too often. `lowest` is the last trace that was looked at; None where it
    would not help to go on from there."""

    def __init__(self, lowest: int | None) -> None:
        self.lowest = lowest


@dataclass
class Least:
    """What a trace must have taken to be among the slowest of those that were looked at so far; nanoseconds."""

    ns: int = 0


def blocks(
    connection: sqlite3.Connection,
    asked: TraceFilter,
    bounds: Bounds,
    attributes: Sequence[AttributePlaces],
    before: int,
    until_s: float,
    least: Least | None = None,
) -> Iterator[tuple[int, str]]:
    """Conditions on the ids of traces, with the lowest id of each.

    :param least: for the slowest: zones that have none are passed over. None gives the latest.
    :returns: in descending order; of the slowest without service, operation or words, the zones with the longest first.
    """
    where = " AND ".join(["id <= ?", *bounds.of_zone])
    order = "id DESC" if least is None else "longest DESC, id DESC"
    sql = f"SELECT id, {bounds.longest} AS longest FROM zone WHERE {where} ORDER BY {order}"
    found = connection.execute(sql, [(before - 1) >> ZONE_BITS, *bounds.values])
    zones = ((zone, longest) for zone, longest in found if all(one.possible(zone) for one in attributes))
    sizes = chain(_FEW, repeat(_FEW[-1])) if attributes else chain(_MANY, repeat(_MANY[-1]))
    if not asked.by_name:
        for zone, longest in zones:
            if least is not None and longest < least.ns:
                return
            high = min((zone + 1) << ZONE_BITS, before)
            while high > zone << ZONE_BITS:
                low = max(high - next(sizes), zone << ZONE_BITS)
                yield low, f"id BETWEEN {low} AND {high - 1}"
                high = low
        return
    possible = dict(zones) if bounds.of_zone or attributes or least is not None else None
    block: list[int] = []
    size = next(sizes)
    late: Late | None = None
    try:
        for one in _candidates(connection, asked, before, possible, until_s):
            if least is not None and possible is not None and possible[one >> ZONE_BITS] < least.ns:
                continue
            block.append(one)
            if len(block) == size:
                yield one, f"id IN ({id_list(block)})"
                block, size = [], next(sizes)
    except Late as error:
        late = error
    if block:
        yield block[-1], f"id IN ({id_list(block)})"
    if late is not None:
        raise late


def _candidates(
    connection: sqlite3.Connection, asked: TraceFilter, before: int, possible: Container[int] | None, until_s: float
) -> Iterator[int]:
    """Ids of traces, descending, each once.

    :param possible: the zones that they may be in; None for all.
    """
    operations: Iterable[int]
    sources = []
    cut = False
    if asked.text:
        operations, others, cut = _by_words(connection, asked.text)
        sources.append(iter([2 * one for one in reversed(list(_wanted(others, before, possible)))]))
    else:
        operations = _operations(connection, asked)
    sources += [_of_operation(connection, one, before, possible, until_s) for one in operations]
    for one, _ in groupby(heapq.merge(*sources, reverse=True)):
        if one % 2:
            raise Late((one + 1) // 2)
        yield one // 2
    if cut:
        raise Late(None)


def _wanted(traces: Sequence[int], before: int, possible: Container[int] | None) -> Iterable[int]:
    """Those of some ascending ids that are before one and in possible zones; found by halving, for there are many."""
    end = bisect_left(traces, before)
    if possible is None or not end:
        return traces[:end]
    found: list[int] = []
    for zone in range(traces[0] >> ZONE_BITS, (traces[end - 1] >> ZONE_BITS) + 1):
        if zone in possible:
            low = bisect_left(traces, zone << ZONE_BITS, 0, end)
            found += traces[low : bisect_left(traces, (zone + 1) << ZONE_BITS, low, end)]
    return found


def _of_operation(
    connection: sqlite3.Connection, operation: int, before: int, possible: Container[int] | None, until_s: float
) -> Iterator[int]:
    """Twice the ids of its traces. An odd number stands for the end of the time, just below the last that was read: so
    that what else is merged comes up to there too."""
    pending: list[int] = []
    sql = "SELECT last, traces FROM posting WHERE operation = ? ORDER BY last DESC"
    for last, traces in connection.execute(sql, (operation,)):
        while pending and pending[-1] > last:
            yield 2 * pending.pop()
        if int.from_bytes(traces[:8], sys.byteorder) >= before:
            continue
        if last + 1 < before and time.monotonic() > until_s:
            yield 2 * last + 1
        # A transaction's list may reach back behind those before it, where a trace went on.
        pending += _wanted(array("q", traces), before, possible)
        pending.sort()
    yield from (2 * one for one in reversed(pending))


def _operations(connection: sqlite3.Connection, asked: TraceFilter) -> list[int]:
    # The empty name stands for the service.
    where, values = "name = ?", [asked.operation]
    if asked.service:
        where, values = where + " AND service = ?", [*values, asked.service]
    return [row[0] for row in connection.execute(f"SELECT id FROM operation WHERE {where}", values)]


def _by_words(connection: sqlite3.Connection, text: str) -> tuple[list[int], list[int], bool]:
    """The operations whose name has these words, and the traces whose logs and exceptions have, ascending; the latest
    of them, and whether there are more."""
    # Words as they are, each may go on: what is typed is no query language.
    query = " ".join('"' + part.replace('"', '""') + '"*' for part in text.split())
    sql = "SELECT rowid FROM {} WHERE {} MATCH ? ORDER BY rowid DESC LIMIT ?"
    names = connection.execute(sql.format("name", "name"), (query, _MAX_NAMES_FOUND)).fetchall()
    of: dict[int, list[int]] = {LOG: [], EXCEPTION: []}
    words = connection.execute(sql.format("word", "word"), (query, _MAX_WORDS_FOUND)).fetchall()
    for (rowid,) in words:
        of[rowid % KINDS].append(rowid // KINDS)
    found = [row[0] for row in connection.execute(f"SELECT trace FROM span WHERE id IN ({id_list(of[EXCEPTION])})")]
    logs = f"SELECT DISTINCT trace_id FROM log WHERE id IN ({id_list(of[LOG])}) AND trace_id IS NOT NULL"
    found += [row for (one,) in connection.execute(logs) if (row := row_of(connection, one)) is not None]
    cut = len(names) == _MAX_NAMES_FOUND or len(words) == _MAX_WORDS_FOUND
    return [row[0] for row in names], sorted(set(found)), cut
