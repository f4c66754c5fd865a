"""The list of traces: the latest first, filtered, always in bounded time.

Candidates come as descending ids of traces: those of an operation or of words found, or all in the zones that can have
what is asked. What else is asked is looked up for blocks of them. When the time is over, the answer says so and how far
the search came.
"""

from __future__ import annotations

import heapq
import json
import math
import re
import sqlite3
import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from typing import Any

from otelagent.viewer.rows import LOST, RUNNING
from otelagent.viewer.store.members import zones_with
from otelagent.viewer.store.summaries import ZONE_BITS
from otelagent.viewer.store.trace_ids import row_of
from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG, lower

__all__ = ["AttributeFilter", "TraceFilter", "attribute_filter", "latest", "summary", "traces"]

_TIME_S = 0.2
_MAX_ID = 2**63 - 1
# Traces that are looked at in one go: few at first, because most pages are full soon, and where spans have to be read.
_MANY = (64, 256, 1024)
_FEW = (64, 128)
_MAX_NAMES_FOUND = 500
_MAX_WORDS_FOUND = 2_000
_OPERATORS = ("!=", ">=", "<=", "=", ">", "<", "~")


@dataclass(frozen=True)
class AttributeFilter:
    """One condition on an attribute of any span of the trace, or of its resource.

    :param operator: ``=``, ``!=`` (it is there and another), ``>``, ``>=``, ``<``, ``<=``, ``~`` (contains), or empty
        for that it is there.
    """

    key: str
    operator: str
    value: str


def attribute_filter(text: str) -> AttributeFilter:
    """A condition as a person writes it: ``http.route=/items``, ``retries>2``, ``db.query.text~cart``, ``error.type``.

    :raises ValueError: it has no key.
    """
    found = re.match(r"\s*([^\s=!<>~]+)\s*(?:(!=|>=|<=|=|>|<|~)\s*(.*))?$", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{text[:80]!r} is no condition: write key=value, key>number, key~part or key")
    return AttributeFilter(found[1], found[2] or "", (found[3] or "").strip())


@dataclass(frozen=True)
class TraceFilter:
    """What is asked; None and empty ask nothing. Times in nanoseconds since the epoch, durations in nanoseconds."""

    service: str = ""
    operation: str = ""
    error: bool = False
    min_ns: int | None = None
    max_ns: int | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    text: str = ""
    attributes: tuple[AttributeFilter, ...] = ()


def traces(
    connection: sqlite3.Connection, asked: TraceFilter, limit: int = 50, before: int | None = None
) -> dict[str, Any]:
    """A page of the list.

    :param before: `next` of the page before this one.
    :returns: ``traces``, ``next`` (None at the end), ``complete`` (false when a bound ended the search) and
        ``searched_to`` (start of the last trace looked at, as text; None if none was).
    """
    until_s = time.monotonic() + _TIME_S
    found: list[dict[str, Any]] = []
    last: int | None = None
    complete = True
    try:
        for lowest, rows in _matching(connection, asked, _MAX_ID if before is None else before, until_s):
            for row in rows:
                if len(found) == limit:
                    return _page(found, last, True, connection)
                found.append(_summary(connection, row))
                last = row[0]
            last = lowest if len(found) < limit else last
            if time.monotonic() > until_s:
                complete = False
                break
        else:
            last = None
    except _Late as late:
        last, complete = late.lowest, False
    return _page(found, last, complete, connection)


def latest(connection: sqlite3.Connection, from_ns: int, to_ns: int) -> Iterator[int]:
    """The rows of the traces that began in a time, the latest first."""
    for _, rows in _matching(connection, TraceFilter(from_ns=from_ns, to_ns=to_ns), _MAX_ID, math.inf):
        for row in rows:
            yield row[0]


def summary(connection: sqlite3.Connection, trace_id: bytes) -> dict[str, Any] | None:
    """One trace as the list has it; None if there is none."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM trace WHERE id = ?", (row_of(connection, trace_id),)).fetchone()
    return _summary(connection, row) if row is not None else None


def _page(
    found: list[dict[str, Any]], last: int | None, complete: bool, connection: sqlite3.Connection
) -> dict[str, Any]:
    start = None
    if last is not None:
        row = connection.execute("SELECT start_ns FROM trace WHERE id >= ? ORDER BY id LIMIT 1", (last,)).fetchone()
        start = str(row[0]) if row else None
    return {"traces": found, "next": last, "complete": complete, "searched_to": start}


def _matching(
    connection: sqlite3.Connection, asked: TraceFilter, before: int, until_s: float
) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """Rows of traces that are as asked, in blocks, the latest first; with each the lowest id that was looked at."""
    conditions, values = _conditions(asked, _OF_TRACE)
    attributes = [_Attribute(connection, one, (time.monotonic() + until_s) / 2) for one in asked.attributes]
    for lowest, block in _blocks(connection, asked, before, until_s, attributes):
        sql = f"SELECT {_COLUMNS} FROM trace WHERE {' AND '.join([block, *conditions])} ORDER BY id DESC"
        rows = connection.execute(sql, values).fetchall()
        if asked.text and (asked.service or asked.operation):
            rows = _with_operation(connection, asked, rows)
        for one in attributes:
            rows = _keep(connection, rows, "span", one.condition, one.values)
        yield lowest, rows


class _Attribute:
    """A condition on an attribute, and where it may be fulfilled."""

    def __init__(self, connection: sqlite3.Connection, asked: AttributeFilter, until_s: float) -> None:
        condition, self.values = _condition(asked)
        sql = f"SELECT id FROM resource WHERE {condition.format('resource')}"
        resources = [row[0] for row in connection.execute(sql, self.values)]
        self.condition = f"({condition.format('span')} OR resource IN ({_list(resources)}))"
        self._zones: Callable[[int], bool] | None = None
        if not resources:
            value = asked.value if asked.operator == "=" else None
            self._zones = zones_with(connection, asked.key, value, until_s)

    def possible(self, zone: int) -> bool:
        return self._zones is None or self._zones(zone)


class _Late(Exception):
    """The time is over, or words were found too often. `lowest` is the last trace that was looked at; None where it
    would not help to go on from there."""

    def __init__(self, lowest: int | None) -> None:
        self.lowest = lowest


def _blocks(
    connection: sqlite3.Connection,
    asked: TraceFilter,
    before: int,
    until_s: float,
    attributes: Sequence[_Attribute],
) -> Iterator[tuple[int, str]]:
    """Conditions on the ids of traces, descending, with the lowest id of each."""
    conditions, values = _conditions(asked, _OF_ZONE)
    where = " AND ".join(["id <= ?", *conditions])
    sql = f"SELECT id FROM zone WHERE {where} ORDER BY id DESC"
    found = connection.execute(sql, [(before - 1) >> ZONE_BITS, *values])
    zones = (zone for (zone,) in found if all(one.possible(zone) for one in attributes))
    sizes = chain(_FEW, repeat(_FEW[-1])) if attributes else chain(_MANY, repeat(_MANY[-1]))
    if not (asked.text or asked.service or asked.operation):
        for zone in zones:
            high = min((zone + 1) << ZONE_BITS, before)
            while high > zone << ZONE_BITS:
                low = max(high - next(sizes), zone << ZONE_BITS)
                yield low, f"id BETWEEN {low} AND {high - 1}"
                high = low
        return
    possible = set(zones) if conditions or attributes else None
    block: list[int] = []
    size = next(sizes)
    late: _Late | None = None
    try:
        for one in _candidates(connection, asked, before, possible, until_s):
            block.append(one)
            if len(block) == size:
                yield one, f"id IN ({_list(block)})"
                block, size = [], next(sizes)
    except _Late as error:
        late = error
    if block:
        yield block[-1], f"id IN ({_list(block)})"
    if late is not None:
        raise late


def _conditions(asked: TraceFilter, columns: Sequence[str]) -> tuple[list[str], list[object]]:
    known = zip(columns, (asked.min_ns, asked.max_ns, asked.from_ns, asked.to_ns), strict=True)
    conditions = [(condition, value) for condition, value in known if value is not None]
    texts = [condition for condition, _ in conditions] + ["errors > 0"] * asked.error
    return texts, [value for _, value in conditions]


def _candidates(
    connection: sqlite3.Connection, asked: TraceFilter, before: int, possible: set[int] | None, until_s: float
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
            raise _Late((one + 1) // 2)
        yield one // 2
    if cut:
        raise _Late(None)


def _wanted(traces: Sequence[int], before: int, possible: set[int] | None) -> Iterable[int]:
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
    connection: sqlite3.Connection, operation: int, before: int, possible: set[int] | None, until_s: float
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
    found = [row[0] for row in connection.execute(f"SELECT trace FROM span WHERE id IN ({_list(of[EXCEPTION])})")]
    logs = f"SELECT DISTINCT trace_id FROM log WHERE id IN ({_list(of[LOG])}) AND trace_id IS NOT NULL"
    found += [row for (one,) in connection.execute(logs) if (row := row_of(connection, one)) is not None]
    cut = len(names) == _MAX_NAMES_FOUND or len(words) == _MAX_WORDS_FOUND
    return [row[0] for row in names], sorted(set(found)), cut


def _with_operation(
    connection: sqlite3.Connection, asked: TraceFilter, rows: list[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    known = (("operation.service = ?", asked.service), ("operation.name = ?", asked.operation))
    conditions = [one for one in known if one[1]]
    return _keep(
        connection,
        rows,
        "span JOIN operation ON operation.id = span.operation",
        " AND ".join(condition for condition, _ in conditions),
        [value for _, value in conditions],
    )


def _keep(
    connection: sqlite3.Connection,
    rows: list[tuple[Any, ...]],
    table: str,
    condition: str,
    values: Sequence[object] = (),
) -> list[tuple[Any, ...]]:
    if not rows:
        return rows
    sql = f"SELECT DISTINCT trace FROM {table} WHERE trace IN ({_list([row[0] for row in rows])}) AND {condition}"
    kept = {row[0] for row in connection.execute(sql, values)}
    return [row for row in rows if row[0] in kept]


def _condition(asked: AttributeFilter) -> tuple[str, list[object]]:
    """SQL with ``{0}`` for the table. The key is looked for as text first, which is ten times faster than JSON."""
    path = "$." + json.dumps(asked.key, ensure_ascii=False)
    key = json.dumps(asked.key, ensure_ascii=False) + ":"
    there = "instr({0}.attributes, ?) > 0 AND json_type({0}.attributes, ?) IS NOT NULL"
    values: list[object] = [key, path]
    if not asked.operator:
        return there, values
    value = "json_extract({0}.attributes, ?)"
    if asked.operator == "~":
        return f"{there} AND instr(lower({value}), ?) > 0", [*values, path, lower(asked.value)]
    if asked.operator in ("=", "!="):
        # As text, so that 200 finds the number and the text, and true finds JSON's true, which SQL has as 1.
        text = "CASE json_type({0}.attributes, ?) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
        text += f" ELSE CAST({value} AS TEXT) END {asked.operator} ?"
        values += [path, path, asked.value]
        if asked.operator == "!=":
            return f"{there} AND {text}", values
        # Such a member is in the text as it is or in quotes, or nothing has to be read.
        here = "(instr({0}.attributes, ?) > 0 OR instr({0}.attributes, ?) > 0)"
        quoted = key + json.dumps(asked.value, ensure_ascii=False)
        return f"{here} AND {there} AND {text}", [key + asked.value, quoted, *values]
    try:
        number = float(asked.value)
    except ValueError:
        return "0", []
    return f"{there} AND typeof({value}) != 'text' AND {value} {asked.operator} ?", [*values, path, path, number]


# What a trace has to be for the shortest and longest duration and the first and last start that are asked; and what
# a zone has to be to hold such a trace.
_OF_TRACE = ("end_ns - start_ns >= ?", "end_ns - start_ns <= ?", "start_ns >= ?", "start_ns <= ?")
_OF_ZONE = ("longest_ns >= ?", "shortest_ns <= ?", "latest_ns >= ?", "earliest_ns <= ?")
_COLUMNS = "id, trace_id, start_ns, end_ns, spans, errors, root, first, services"


def _summary(connection: sqlite3.Connection, row: tuple[Any, ...]) -> dict[str, Any]:
    key, trace_id, start_ns, end_ns, spans, errors, root, first, services = row
    open_spans = dict(
        connection.execute(
            "SELECT duration_ns, count(*) FROM span WHERE trace = ? AND duration_ns < 0 GROUP BY duration_ns", (key,)
        )
    )
    operation = connection.execute(
        "SELECT service, name, kind FROM operation WHERE id = ?", (first if root is None else root,)
    ).fetchone() or ("", "", 0)
    return {
        "id": trace_id.hex(),
        "service": operation[0],
        "name": operation[1],
        "kind": operation[2],
        "root": root is not None,
        "start": str(start_ns),
        "duration": max(end_ns - start_ns, 0),
        "spans": spans,
        "errors": errors,
        "running": open_spans.get(RUNNING, 0),
        "lost": open_spans.get(LOST, 0),
        "services": sorted(json.loads(services).items(), key=lambda one: (-one[1], one[0])),
    }


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
