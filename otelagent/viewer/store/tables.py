"""One batch into the tables: what repeats gets its id, spans their trace, and each touched trace its summary."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

from otelagent.viewer.rows import LOST, Batch
from otelagent.viewer.store.insert import insert, marks
from otelagent.viewer.store.running import RunningSpans
from otelagent.viewer.store.summaries import Summaries, Summary
from otelagent.viewer.store.touched import Touched
from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG

__all__ = ["Tables"]

_ERROR = 2
_TRACE_ID, _START = itemgetter(0), itemgetter(9)
_ROW = itemgetter(0)
_KNOWN_IDS = 100_000
_KNOWN_IDS_SIZE = 32 * 2**20
"""Characters of the keys: the attributes of a resource may be megabytes."""

_OPERATION = ("service", "name", "kind")
_SERVICE = ""
"""The name of the operation that stands for its service as a whole."""
_WORD = ("rowid", "text")
_MAX_WORDS = 4096
_SPAN = (
    "id",
    "trace",
    "span_id",
    "parent_id",
    "resource",
    "scope",
    "operation",
    "status",
    "status_message",
    "start_ns",
    "duration_ns",
    "attributes",
    "events",
    "links",
    "dropped",
    "trace_state",
)
_LOG = (
    "id",
    "trace_id",
    "span_id",
    "resource",
    "scope",
    "time_ns",
    "severity",
    "severity_text",
    "event_name",
    "body",
    "attributes",
    "dropped",
    "arrived_s",
)
_USE = (
    "INSERT INTO resource_use VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
    " SET last_trace = max(last_trace, excluded.last_trace), last_log = max(last_log, excluded.last_log)"
)
_POINT = ("series", "time_ns", "since_ns", "value", "distribution", "exemplars", "arrived_s")


class Tables:
    """The tables as the one writer sees them, with a memory of ids.

    :param connection: see `open_writer`; used by one thread at a time.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[tuple[str, tuple[Any, ...]], int] = {}
        self._ids_size = 0
        self._summaries = Summaries(connection)
        self._last: dict[str, int] = {}
        self._running = RunningSpans(connection)
        self._uses: dict[int, tuple[int, int]] = {}

    def forget(self) -> None:
        """Lets go of every id: the transaction was rolled back."""
        self._forget_ids()
        self._summaries.forget()
        self._last.clear()
        self._uses.clear()

    def prune(self, row: int) -> None:
        """The traces before this row were deleted, and names, series and resources that nothing refers to."""
        self._forget_ids()
        self._summaries.prune(row)

    def _forget_ids(self) -> None:
        self._ids.clear()
        self._ids_size = 0

    def flush(self) -> None:
        """Writes what is written once for a transaction; to be called before it is committed."""
        self._summaries.flush()
        self._connection.executemany(_USE, [(resource, *rows) for resource, rows in self._uses.items()])
        self._uses.clear()

    def lose(self, touched: Touched, after_s: float) -> None:
        """Marks the running spans that nobody has spoken of for so many seconds, inside the caller's transaction."""
        lost = self._running.lose(after_s)
        self._summaries.prolong(lost)
        self._summaries.flush()
        touched.traces.update(lost)

    def put(self, batch: Batch, touched: Touched) -> None:
        """Writes a batch inside the caller's transaction."""
        resources = [
            self._id("resource", ("service", "attributes"), (r.service, r.attributes)) for r in batch.resources
        ]
        scopes = [
            self._id("scope", ("name", "version", "attributes"), (s.name, s.version, s.attributes))
            for s in batch.scopes
        ]
        for one in resources:
            self._use(one)
        self._summaries.members.update(batch.members)
        if batch.spans:
            self._put_spans(batch, batch.spans, resources, scopes, touched)
        if batch.running and (fresh := self._renew(batch, touched)):
            self._running.hear(self._put_spans(batch, fresh, resources, scopes, touched))
        if batch.logs:
            self._put_logs(batch, resources, scopes, touched)
        if batch.points:
            self._put_points(batch, resources, scopes, touched)

    def _put_spans(
        self, batch: Batch, spans: list[tuple[Any, ...]], resources: list[int], scopes: list[int], touched: Touched
    ) -> Iterable[int]:
        """Puts spans; returns the ids of their rows."""
        rows: list[tuple[Any, ...]] = []
        names = [resource.service for resource in batch.resources]
        operations: dict[tuple[int, str, int], int] = {}
        services = [self._id("operation", _OPERATION, (name, _SERVICE, 0)) for name in names]
        # New traces in the order of their start, as the list shows them.
        summaries = self._summaries.of(dict.fromkeys(map(_TRACE_ID, sorted(spans, key=_START))))
        postings = self._summaries.postings
        row = self._next("span", len(spans))
        for one in spans:
            # As SPAN of `rows` has them.
            trace_id, span_id, parent, resource, scope, name, kind, status, _, start_ns, duration_ns = one[:11]
            summary = summaries[trace_id]
            operation = operations.get((resource, name, kind))
            if operation is None:
                key = (names[resource], name, kind)
                operation = operations[resource, name, kind] = self._operation(key)
            service = names[resource]
            if service not in summary.services:
                postings[services[resource]].add(summary.row)
            summary.add(operation, service, parent, status, start_ns, start_ns + duration_ns)
            postings[operation].add(summary.row)
            rows.append((row, summary.row, span_id, parent, resources[resource], scopes[scope], operation, *one[7:]))
            row += 1
        last = max(summary.row for summary in summaries.values())
        for used in {one[3] for one in spans}:
            self._use(resources[used], trace=last)
        before = self._connection.total_changes
        insert(self._connection, "span", _SPAN, rows, "OR IGNORE")
        if self._connection.total_changes - before != len(rows):
            # A request that came twice, or spans that were there while they ran: the sums have counted them twice.
            spans, rows = self._put_new(spans, rows)
            for summary in summaries.values():
                self._recount(summary)
        self._put_exceptions(spans, rows)
        self._put_links(spans, rows)
        touched.traces.update(summaries)
        touched.spans += len(rows)
        return map(_ROW, rows)

    def _put_new(
        self, spans: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Puts rows once more, of which some are there already; those that are not are returned.

        They get ids without gaps: the span of ids is what is told as the number of spans, and what refers to a span
        must not refer to one that was never put.
        """
        first = rows[0][0]
        self._connection.execute("DELETE FROM span WHERE id >= ?", (first,))
        ran = self._running.give_way(rows)
        new: dict[tuple[int, bytes], tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
        row = first
        for span, values in zip(spans, rows, strict=True):
            key = values[1], values[2]
            there = "SELECT 1 FROM span WHERE trace = ? AND span_id = ?"
            if key in new or self._connection.execute(there, key).fetchone() is not None:
                continue
            new[key] = span, (ran.get(key, row), *values[1:])
            row += key not in ran
        self._last["span"] = row - 1
        found = list(new.values())
        insert(self._connection, "span", _SPAN, [values for _, values in found])
        return [span for span, _ in found], [values for _, values in found]

    def _next(self, table: str, rows: int) -> int:
        """The id of the first of some new rows: who alone writes needn't ask for each."""
        if table not in self._last:
            self._last[table] = self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        self._last[table] += rows
        return self._last[table] - rows + 1

    def _recount(self, summary: Summary) -> None:
        summary.clear()
        for row in self._connection.execute(
            "SELECT span.operation, operation.service, span.parent_id, span.status, span.start_ns,"
            # As `rows.taken_ns` has it.
            f" span.start_ns + iif(span.duration_ns <= {LOST}, {LOST} - span.duration_ns, span.duration_ns)"
            " FROM span JOIN operation ON operation.id = span.operation"
            " WHERE span.trace = ?",
            (summary.row,),
        ):
            summary.add(*row)

    def _renew(self, batch: Batch, touched: Touched) -> list[tuple[Any, ...]]:
        """Brings running spans up to date; those that are not there yet are returned."""
        summaries = self._summaries.of(dict.fromkeys(map(_TRACE_ID, batch.running)))
        fresh: dict[tuple[bytes, bytes], tuple[Any, ...]] = {}
        for one in batch.running:
            summary = summaries[one[0]]
            operation = self._operation((batch.resources[one[3]].service, one[5], one[6]))
            now = self._running.renew(summary.row, one[1], (operation, one[7], one[8], *one[10:15]))
            if now is None:
                fresh[one[:2]] = one
            elif now:
                self._summaries.postings[operation].add(summary.row)
                touched.traces.add(one[0])
                if one[7] == _ERROR:
                    self._recount(summary)
        return list(fresh.values())

    def _put_exceptions(self, spans: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]) -> None:
        texts = []
        for span, row in zip(spans, rows, strict=True):
            if span[7] == _ERROR and span[12] is not None:
                attributes = [event["attributes"] for event in json.loads(span[12])]
                names = ("exception.type", "exception.message")
                text = " ".join(str(one[name]) for one in attributes for name in names if name in one)
                if text:
                    texts.append((row[0] * KINDS + EXCEPTION, text[:_MAX_WORDS]))
        insert(self._connection, "word", _WORD, texts)

    def _put_links(self, spans: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]) -> None:
        links = [
            (bytes.fromhex(link["trace"]), bytes.fromhex(link["span"]), row[0])
            for span, row in zip(spans, rows, strict=True)
            if span[13] is not None
            for link in json.loads(span[13])
        ]
        insert(self._connection, "link", ("trace_id", "span_id", "span"), links, "OR IGNORE")

    def _put_logs(self, batch: Batch, resources: list[int], scopes: list[int], touched: Touched) -> None:
        rows: list[tuple[Any, ...]] = []
        texts = []
        now_s = int(time.time())
        first = self._next("log", len(batch.logs))
        for row, (trace_id, span_id, resource, scope, *rest) in enumerate(batch.logs, first):
            rows.append((row, trace_id, span_id, resources[resource], scopes[scope], *rest, now_s))
            if body := rest[4]:
                texts.append((row * KINDS + LOG, body[:_MAX_WORDS]))
            if trace_id is not None:
                touched.traces.add(trace_id)
        for used in {one[2] for one in batch.logs}:
            self._use(resources[used], log=first + len(rows) - 1)
        insert(self._connection, "log", _LOG, rows)
        insert(self._connection, "word", _WORD, texts)
        touched.logs += len(batch.logs)

    def _put_points(self, batch: Batch, resources: list[int], scopes: list[int], touched: Touched) -> None:
        metrics = []
        columns = ("name", "resource", "scope", "kind", "unit")
        for one in batch.metrics:
            key = (one.name, resources[one.resource], scopes[one.scope], one.kind, one.unit)
            more = {"description": one.description, "temporality": one.temporality, "monotonic": int(one.monotonic)}
            metrics.append(self._id("metric", columns, key, more))
        rows = []
        now_s = int(time.time())
        for metric, attributes, *rest in batch.points:
            rows.append((self._id("series", ("metric", "attributes"), (metrics[metric], attributes)), *rest, now_s))
        insert(self._connection, "point", _POINT, rows, "OR REPLACE")
        touched.points += len(rows)

    def _use(self, resource: int, trace: int = 0, log: int = 0) -> None:
        before = self._uses.get(resource, (0, 0))
        self._uses[resource] = max(before[0], trace), max(before[1], log)

    def _operation(self, key: tuple[str, str, int]) -> int:
        before = self._connection.total_changes
        found = self._id("operation", _OPERATION, key)
        if self._connection.total_changes != before:
            insert(self._connection, "name", _WORD, [(found, key[1])])
        return found

    def _id(self, table: str, columns: Sequence[str], key: tuple[Any, ...], more: dict[str, Any] | None = None) -> int:
        found = self._ids.get((table, key))
        if found is not None:
            return found
        where = " AND ".join(f"{column} = ?" for column in columns)
        row = self._connection.execute(f"SELECT id FROM {table} WHERE {where}", key).fetchone()
        if row is None:
            names = (*columns, *(more or ()))
            row = self._connection.execute(
                f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks(names)}) RETURNING id",
                (*key, *(more or {}).values()),
            ).fetchone()
        size = sum(len(part) for part in key if isinstance(part, str))
        if len(self._ids) >= _KNOWN_IDS or self._ids_size + size > _KNOWN_IDS_SIZE:
            self._forget_ids()
        self._ids[table, key] = row[0]
        self._ids_size += size
        return int(row[0])
