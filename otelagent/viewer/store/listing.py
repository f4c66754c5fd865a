"""The list of traces: the latest first, filtered, always in bounded time.

Candidates come as descending ids of traces from whatever narrows them most; what else is asked is looked up for
blocks of them. When the time is over, the answer says so and how far the search came.
"""

from __future__ import annotations

import heapq
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG, OPERATION

__all__ = ["AttributeFilter", "TraceFilter", "attribute_filter", "summary", "traces"]

_TIME_S = 0.25
_MAX_ID = 2**63 - 1
_BLOCKS = (64, 512, 2048)
_MAX_WORDS_FOUND = 5_000
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
    :returns: ``traces``, ``next`` (None at the end), ``complete`` (whether the search ended by itself) and
        ``searched_to`` (start of the last trace looked at, as text; None if none was).
    """
    until_s = time.monotonic() + _TIME_S
    candidates = _candidates(connection, asked, _MAX_ID if before is None else before)
    found: list[dict[str, Any]] = []
    last: int | None = None
    complete = True
    for block in _blocks(candidates):
        for row in _matching(connection, asked, block):
            if len(found) == limit:
                return _page(found, last, True, connection)
            found.append(_summary(connection, row))
            last = row[0]
        last = block[-1] if len(found) < limit else last
        if time.monotonic() > until_s:
            complete = False
            break
    else:
        last = None
    return _page(found, last, complete, connection)


def summary(connection: sqlite3.Connection, trace_id: bytes) -> dict[str, Any] | None:
    """One trace as the list has it; None if there is none."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM trace WHERE trace_id = ?", (trace_id,)).fetchone()
    return _summary(connection, row) if row is not None else None


def _page(
    found: list[dict[str, Any]], last: int | None, complete: bool, connection: sqlite3.Connection
) -> dict[str, Any]:
    start = None
    if last is not None:
        row = connection.execute("SELECT start_ns FROM trace WHERE id = ?", (last,)).fetchone()
        start = str(row[0]) if row else None
    return {"traces": found, "next": last, "complete": complete, "searched_to": start}


def _blocks(candidates: Iterator[int]) -> Iterator[list[int]]:
    sizes = list(_BLOCKS)
    while block := list(islice(candidates, sizes[0])):
        yield block
        if len(sizes) > 1:
            sizes.pop(0)


def _candidates(connection: sqlite3.Connection, asked: TraceFilter, before: int) -> Iterator[int]:
    """Ids of traces, descending, each once."""
    sources: list[Iterator[int]]
    if asked.text:
        sources = _by_words(connection, asked.text, before)
    elif asked.service or asked.operation:
        sources = [_of_operation(connection, one, before) for one in _operations(connection, asked)]
    elif asked.error:
        sources = [_ids(connection, "SELECT id FROM trace WHERE errors > 0 AND id < ? ORDER BY id DESC", (before,))]
    elif asked.from_ns is not None or asked.to_ns is not None:
        sql = "SELECT id FROM trace WHERE start_ns BETWEEN ? AND ? AND id < ? ORDER BY id DESC"
        sources = [_ids(connection, sql, (*_times(asked), before))]
    else:
        sources = [_ids(connection, "SELECT id FROM trace WHERE id < ? ORDER BY id DESC", (before,))]
    for trace, _ in groupby(heapq.merge(*sources, reverse=True)):
        yield trace


def _ids(connection: sqlite3.Connection, sql: str, values: Sequence[object]) -> Iterator[int]:
    for (found,) in connection.execute(sql, values):
        yield found


def _of_operation(connection: sqlite3.Connection, operation: int, before: int) -> Iterator[int]:
    sql = "SELECT trace FROM trace_operation WHERE operation = ? AND trace < ? ORDER BY trace DESC"
    return _ids(connection, sql, (operation, before))


def _operations(connection: sqlite3.Connection, asked: TraceFilter) -> list[int]:
    # The empty name stands for the service.
    where, values = "name = ?", [asked.operation]
    if asked.service:
        where, values = where + " AND service = ?", [*values, asked.service]
    return [row[0] for row in connection.execute(f"SELECT id FROM operation WHERE {where}", values)]


def _by_words(connection: sqlite3.Connection, text: str, before: int) -> list[Iterator[int]]:
    sql = "SELECT rowid FROM word WHERE word MATCH ? ORDER BY rowid DESC LIMIT ?"
    # Words as they are, each may go on: what is typed is no query language.
    query = " ".join('"' + part.replace('"', '""') + '"*' for part in text.split())
    of: dict[int, list[int]] = {OPERATION: [], LOG: [], EXCEPTION: []}
    for (rowid,) in connection.execute(sql, (query, _MAX_WORDS_FOUND)):
        of[rowid % KINDS].append(rowid // KINDS)
    sources = [_of_operation(connection, one, before) for one in of[OPERATION]]
    for kind, sql in (
        (EXCEPTION, "SELECT DISTINCT trace FROM span WHERE id IN ({}) AND trace < ? ORDER BY trace DESC"),
        (
            LOG,
            "SELECT DISTINCT trace.id FROM log JOIN trace ON trace.trace_id = log.trace_id"
            " WHERE log.id IN ({}) AND trace.id < ? ORDER BY trace.id DESC",
        ),
    ):
        if of[kind]:
            sources.append(_ids(connection, sql.format(_list(of[kind])), (before,)))
    return sources


def _matching(connection: sqlite3.Connection, asked: TraceFilter, block: list[int]) -> list[tuple[Any, ...]]:
    """Rows of the traces of a block that are as asked, the latest first."""
    conditions = [f"id IN ({_list(block)})"]
    values: list[object] = []
    for condition, value in (
        ("end_ns - start_ns >= ?", asked.min_ns),
        ("end_ns - start_ns <= ?", asked.max_ns),
        ("start_ns >= ?", asked.from_ns),
        ("start_ns <= ?", asked.to_ns),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if asked.error:
        conditions.append("errors > 0")
    sql = f"SELECT {_COLUMNS} FROM trace WHERE {' AND '.join(conditions)} ORDER BY id DESC"
    rows = connection.execute(sql, values).fetchall()
    if asked.text and (asked.service or asked.operation):
        rows = _keep(connection, rows, "trace_operation", f"operation IN ({_list(_operations(connection, asked))})")
    for one in asked.attributes:
        condition, parameters = _condition(one)
        rows = _keep(
            connection,
            rows,
            "span JOIN resource ON resource.id = span.resource",
            f"(({condition.format('span')}) OR ({condition.format('resource')}))",
            [*parameters, *parameters],
        )
    return rows


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
    there = "instr({0}.attributes, ?) > 0 AND json_type({0}.attributes, ?) IS NOT NULL"
    values: list[object] = [json.dumps(asked.key, ensure_ascii=False) + ":", path]
    if not asked.operator:
        return there, values
    value = "json_extract({0}.attributes, ?)"
    if asked.operator == "~":
        return f"{there} AND instr(lower({value}), ?) > 0", [*values, path, asked.value.lower()]
    if asked.operator in ("=", "!="):
        # As text, so that 200 finds the number and the text, and true finds JSON's true, which SQL has as 1.
        text = "CASE json_type({0}.attributes, ?) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
        text += f" ELSE CAST({value} AS TEXT) END {asked.operator} ?"
        return f"{there} AND {text}", [*values, path, path, asked.value]
    try:
        number = float(asked.value)
    except ValueError:
        return "0", []
    return f"{there} AND typeof({value}) != 'text' AND {value} {asked.operator} ?", [*values, path, path, number]


_COLUMNS = "id, trace_id, start_ns, end_ns, spans, errors, root, first, services"


def _summary(connection: sqlite3.Connection, row: tuple[Any, ...]) -> dict[str, Any]:
    _, trace_id, start_ns, end_ns, spans, errors, root, first, services = row
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
        "duration": end_ns - start_ns,
        "spans": spans,
        "errors": errors,
        "services": sorted(json.loads(services).items(), key=lambda one: (-one[1], one[0])),
    }


def _times(asked: TraceFilter) -> tuple[int, int]:
    low, high = asked.from_ns, asked.to_ns
    return 0 if low is None else low, _MAX_ID if high is None else high


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
