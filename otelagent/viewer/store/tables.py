"""One batch into the tables: what repeats gets its id, spans their trace, and each touched trace its summary."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from otelagent.viewer.rows import Batch
from otelagent.viewer.store.words import EXCEPTION, KINDS, LOG, OPERATION

__all__ = ["Tables", "Touched"]

_ERROR = 2
_CHUNK = 128
"""Rows of one statement: with one row a statement, the interpreter's lock would be fought for at each."""
_KNOWN_TRACES = 20_000
_KNOWN_IDS = 100_000

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
_TRACE = ("id", "trace_id", "start_ns", "end_ns", "spans", "errors", "root", "first", "services", "arrived_s")
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


class Touched:
    """What a batch has changed, for those who watch.

    :ivar traces: ids of traces, bytes.
    """

    def __init__(self) -> None:
        self.traces: set[bytes] = set()
        self.spans = self.logs = self.points = 0


class _Trace:
    """The summary of a trace as it grows."""

    __slots__ = ("arrived_s", "end_ns", "errors", "first", "first_ns", "root", "row", "services", "spans", "start_ns")

    def __init__(self, row: int = 0) -> None:
        self.row = row
        self.arrived_s = int(time.time())
        self.start_ns = self.first_ns = 2**63 - 1
        self.end_ns = 0
        self.spans = self.errors = 0
        self.root: int | None = None
        self.first = 0
        self.services: dict[str, int] = {}

    def add(self, operation: int, service: str, parent: bytes | None, status: int, start_ns: int, end_ns: int) -> None:
        self.spans += 1
        self.errors += status == _ERROR
        self.services[service] = self.services.get(service, 0) + 1
        if start_ns < self.start_ns:
            self.start_ns = start_ns
        if end_ns > self.end_ns:
            self.end_ns = end_ns
        if parent is None and self.root is None:
            self.root = operation
        if start_ns < self.first_ns:
            self.first_ns, self.first = start_ns, operation

    @classmethod
    def read(
        cls,
        row: int,
        start_ns: int,
        end_ns: int,
        spans: int,
        errors: int,
        root: int | None,
        first: int,
        services: str,
        arrived_s: int,
    ) -> _Trace:
        trace = cls(row)
        trace.start_ns = trace.first_ns = start_ns
        trace.end_ns, trace.spans, trace.errors, trace.root, trace.first = end_ns, spans, errors, root, first
        trace.services, trace.arrived_s = json.loads(services), arrived_s
        return trace

    def values(self) -> tuple[Any, ...]:
        services = json.dumps(self.services, ensure_ascii=False)
        return self.start_ns, self.end_ns, self.spans, self.errors, self.root, self.first, services, self.arrived_s


class Tables:
    """The tables as the one writer sees them, with a memory of ids.

    :param connection: see `open_writer`; used by one thread at a time.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[tuple[str, tuple[Any, ...]], int] = {}
        self._traces: OrderedDict[bytes, _Trace] = OrderedDict()
        self._last: dict[str, int] = {}

    def forget(self) -> None:
        """Lets go of every id: rows were deleted, or a transaction was rolled back."""
        self._ids.clear()
        self._traces.clear()
        self._last.clear()

    def put(self, batch: Batch, touched: Touched) -> None:
        """Writes a batch inside the caller's transaction."""
        resources = [
            self._id("resource", ("service", "attributes"), (r.service, r.attributes)) for r in batch.resources
        ]
        scopes = [
            self._id("scope", ("name", "version", "attributes"), (s.name, s.version, s.attributes))
            for s in batch.scopes
        ]
        if batch.spans:
            self._put_spans(batch, resources, scopes, touched)
        if batch.logs:
            self._put_logs(batch, resources, scopes, touched)
        if batch.points:
            self._put_points(batch, resources, scopes, touched)

    def _put_spans(self, batch: Batch, resources: list[int], scopes: list[int], touched: Touched) -> None:
        rows: list[tuple[Any, ...]] = []
        pairs: set[tuple[int, int]] = set()
        names = [resource.service for resource in batch.resources]
        operations: dict[tuple[int, str, int], int] = {}
        services = [self._id("operation", _OPERATION, (name, _SERVICE, 0)) for name in names]
        traces, fresh = self._of_batch(dict.fromkeys(span[0] for span in sorted(batch.spans, key=_start)))
        for one in batch.spans:
            # As SPAN of `rows` has them; unpacked, because there are many.
            trace_id, span_id, parent, resource, scope, name, kind, status, message, start_ns, duration_ns, *rest = one
            trace = traces[trace_id]
            operation = operations.get((resource, name, kind))
            if operation is None:
                key = (names[resource], name, kind)
                operation = operations[resource, name, kind] = self._operation(key)
            trace.add(operation, names[resource], parent, status, start_ns, start_ns + duration_ns)
            pairs.add((operation, trace.row))
            pairs.add((services[resource], trace.row))
            ids = (self._next("span"), trace.row, span_id, parent, resources[resource], scopes[scope], operation)
            rows.append((*ids, status, message, start_ns, duration_ns, *rest))
        before = self._connection.total_changes
        self._insert("span", _SPAN, rows, "OR IGNORE")
        if self._connection.total_changes - before != len(rows):
            # A request that came twice: the sums have counted its spans twice.
            for trace in traces.values():
                self._recount(trace)
        self._insert("trace_operation", ("operation", "trace"), sorted(pairs), "OR IGNORE")
        self._insert("trace", _TRACE, [(traces[one].row, one, *traces[one].values()) for one in sorted(fresh)])
        self._connection.executemany(
            f"UPDATE trace SET {', '.join(f'{name} = ?' for name in _TRACE[2:])} WHERE id = ?",
            [(*trace.values(), trace.row) for trace_id, trace in traces.items() if trace_id not in fresh],
        )
        self._put_exceptions(batch, rows)
        self._put_links(batch, rows)
        touched.traces.update(traces)
        touched.spans += len(rows)
        while len(self._traces) > _KNOWN_TRACES:
            self._traces.popitem(last=False)

    def _of_batch(self, trace_ids: Iterable[bytes]) -> tuple[dict[bytes, _Trace], set[bytes]]:
        """The summaries of some traces, and which of them have no row yet."""
        traces: dict[bytes, _Trace] = {}
        unknown = []
        for trace_id in trace_ids:
            if (trace := self._traces.get(trace_id)) is not None:
                self._traces.move_to_end(trace_id)
                traces[trace_id] = trace
            else:
                unknown.append(trace_id)
        for at in range(0, len(unknown), _CHUNK):
            chunk = unknown[at : at + _CHUNK]
            chunk += chunk[:1] * (_CHUNK - len(chunk))  # So that the statement is the same and stays compiled.
            for trace_id, *values in self._connection.execute(
                f"SELECT trace_id, id, {', '.join(_TRACE[2:])} FROM trace WHERE trace_id IN ({_marks(range(_CHUNK))})",
                chunk,
            ):
                traces[trace_id] = self._traces[trace_id] = _Trace.read(*values)
        fresh = {trace_id for trace_id in unknown if trace_id not in traces}
        # In the order of their start, as the list shows them.
        for trace_id in dict.fromkeys(one for one in unknown if one in fresh):
            traces[trace_id] = self._traces[trace_id] = _Trace(self._next("trace"))
        return traces, fresh

    def _next(self, table: str) -> int:
        """The id of a new row: who alone writes needn't ask for each."""
        if table not in self._last:
            self._last[table] = self._connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]
        self._last[table] += 1
        return self._last[table]

    def _recount(self, trace: _Trace) -> None:
        fresh = _Trace(trace.row)
        for row in self._connection.execute(
            "SELECT span.operation, operation.service, span.parent_id, span.status, span.start_ns,"
            " span.start_ns + span.duration_ns FROM span JOIN operation ON operation.id = span.operation"
            " WHERE span.trace = ?",
            (trace.row,),
        ):
            fresh.add(*row)
        fresh.arrived_s = trace.arrived_s
        for name in _Trace.__slots__:
            setattr(trace, name, getattr(fresh, name))

    def _put_exceptions(self, batch: Batch, rows: list[tuple[Any, ...]]) -> None:
        texts = []
        for span, row in zip(batch.spans, rows, strict=True):
            if span[7] == _ERROR and span[12] is not None:
                attributes = [event["attributes"] for event in json.loads(span[12])]
                names = ("exception.type", "exception.message")
                text = " ".join(str(one[name]) for one in attributes for name in names if name in one)
                if text:
                    texts.append((row[0] * KINDS + EXCEPTION, text[:_MAX_WORDS]))
        self._insert("word", _WORD, texts)

    def _put_links(self, batch: Batch, rows: list[tuple[Any, ...]]) -> None:
        links = [
            (bytes.fromhex(link["trace"]), bytes.fromhex(link["span"]), row[0])
            for span, row in zip(batch.spans, rows, strict=True)
            if span[13] is not None
            for link in json.loads(span[13])
        ]
        self._insert("link", ("trace_id", "span_id", "span"), links, "OR IGNORE")

    def _put_logs(self, batch: Batch, resources: list[int], scopes: list[int], touched: Touched) -> None:
        rows: list[tuple[Any, ...]] = []
        texts = []
        now_s = int(time.time())
        for trace_id, span_id, resource, scope, *rest in batch.logs:
            row = self._next("log")
            rows.append((row, trace_id, span_id, resources[resource], scopes[scope], *rest, now_s))
            if body := rest[4]:
                texts.append((row * KINDS + LOG, body[:_MAX_WORDS]))
            if trace_id is not None:
                touched.traces.add(trace_id)
        self._insert("log", _LOG, rows)
        self._insert("word", _WORD, texts)
        touched.logs += len(batch.logs)

    def _put_points(self, batch: Batch, resources: list[int], scopes: list[int], touched: Touched) -> None:
        metrics = []
        columns = ("name", "resource", "scope", "kind", "unit")
        for one in batch.metrics:
            key = (one.name, resources[one.resource], scopes[one.scope], one.kind, one.unit)
            more = {"description": one.description, "temporality": one.temporality, "monotonic": int(one.monotonic)}
            metrics.append(self._id("metric", columns, key, more))
        rows = []
        for metric, attributes, *rest in batch.points:
            rows.append((self._id("series", ("metric", "attributes"), (metrics[metric], attributes)), *rest))
        self._insert("point", ("series", "time_ns", "value", "distribution", "exemplars"), rows, "OR REPLACE")
        touched.points += len(rows)

    def _operation(self, key: tuple[str, str, int]) -> int:
        before = self._connection.total_changes
        found = self._id("operation", _OPERATION, key)
        if self._connection.total_changes != before:
            self._insert("word", _WORD, [(found * KINDS + OPERATION, key[1])])
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
                f"INSERT INTO {table} ({', '.join(names)}) VALUES ({_marks(names)}) RETURNING id",
                (*key, *(more or {}).values()),
            ).fetchone()
        if len(self._ids) >= _KNOWN_IDS:
            self._ids.clear()
        self._ids[table, key] = row[0]
        return int(row[0])

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], how: str = "") -> None:
        row = f"({_marks(columns)})"
        head = f"INSERT {how} INTO {table} ({', '.join(columns)}) VALUES "
        for at in range(0, len(rows), _CHUNK):
            chunk = rows[at : at + _CHUNK]
            if len(chunk) == _CHUNK:
                self._connection.execute(head + ", ".join([row] * _CHUNK), [value for one in chunk for value in one])
            else:
                self._connection.executemany(head + row, chunk)


def _start(span: tuple[Any, ...]) -> int:
    start_ns: int = span[9]
    return start_ns


def _marks(columns: Iterable[object]) -> str:
    return ", ".join("?" for _ in columns)
