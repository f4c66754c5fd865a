"""What the store knows as a whole: services and their operations, who calls whom, log records, metrics."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

from otelagent.viewer.store.listing import latest
from otelagent.viewer.store.schema import rows_within
from otelagent.viewer.store.senders import Point, Sender, senders
from otelagent.viewer.store.words import lower

__all__ = ["logs", "metrics", "operations", "points", "service_map", "services"]

_MAP_TRACES = 2_000
_MAP_S = 1.0
_LOGS_S = 0.25
_POINTS = 1_000
_MAX_NAMES = 1_000
"""To choose from; any other is found by words."""
_DELTA = 1
_SERVER, _CLIENT, _PRODUCER, _CONSUMER = 2, 3, 4, 5


def services(connection: sqlite3.Connection) -> dict[str, Any]:
    """Every service that has sent anything, up to a thousand; ``complete`` says whether those are all."""
    sql = "SELECT DISTINCT service FROM resource ORDER BY service LIMIT ?"
    rows = connection.execute(sql, (_MAX_NAMES + 1,)).fetchall()
    return {"services": [row[0] for row in rows[:_MAX_NAMES]], "complete": len(rows) <= _MAX_NAMES}


def operations(connection: sqlite3.Connection, service: str) -> dict[str, Any]:
    """Names and kinds of a service's spans, up to a thousand; ``complete`` says whether those are all."""
    sql = "SELECT name, kind FROM operation WHERE service = ? AND name != '' ORDER BY name, kind LIMIT ?"
    rows = connection.execute(sql, (service, _MAX_NAMES + 1)).fetchall()
    found = [{"name": name, "kind": kind} for name, kind in rows[:_MAX_NAMES]]
    return {"operations": found, "complete": len(rows) <= _MAX_NAMES}


def service_map(connection: sqlite3.Connection, from_ns: int = 0, to_ns: int = 2**63 - 1) -> dict[str, Any]:
    """Who calls whom, in the latest traces of a time: bounded in their number and in time.

    What a service calls that sends no spans of its own, a database or a queue, is a node by the name in the caller's
    span. A service that calls itself over the wire has an edge to itself. ``traces`` says how many traces it was made
    from, ``complete`` whether those are all.
    """
    until_s = time.monotonic() + _MAP_S
    ids = list(islice(latest(connection, from_ns, to_ns), _MAP_TRACES + 1))
    nodes: dict[str, list[int]] = {}
    edges: dict[tuple[str, str], _Calls] = {}
    done = 0
    for trace in ids[:_MAP_TRACES]:
        _add_trace(connection, trace, nodes, edges)
        done += 1
        if time.monotonic() > until_s:
            break
    return {
        "nodes": [
            {"service": name, "spans": one[0], "errors": one[1], "kind": _kind(one)} for name, one in nodes.items()
        ],
        "edges": [{"from": caller, "to": callee, **one.summary()} for (caller, callee), one in edges.items()],
        "traces": done,
        "complete": done == len(ids),
    }


def _kind(counts: list[int]) -> str:
    return "remote" if counts[2] else "service"


class _Calls:
    """Of one service to another."""

    def __init__(self) -> None:
        self._calls = self._errors = 0
        self._durations_ns: list[int] = []

    def add(self, status: int, duration_ns: int) -> None:
        self._calls += 1
        self._errors += status == 2
        if duration_ns >= 0:  # A call that hasn't ended has none.
            self._durations_ns.append(duration_ns)

    def summary(self) -> dict[str, int]:
        """``duration`` is the mean, ``p50`` and ``p95`` so many of a hundred take at most; nanoseconds."""
        ordered = sorted(self._durations_ns) or [0]
        last = len(ordered) - 1
        return {
            "calls": self._calls,
            "errors": self._errors,
            "duration": sum(ordered) // len(ordered),
            "p50": ordered[round(0.5 * last)],
            "p95": ordered[round(0.95 * last)],
        }


def _add_trace(
    connection: sqlite3.Connection, trace: int, nodes: dict[str, list[int]], edges: dict[tuple[str, str], _Calls]
) -> None:
    rows = connection.execute(
        "SELECT span.span_id, span.parent_id, operation.service, operation.kind, span.status, span.duration_ns,"
        " span.attributes FROM span JOIN operation ON operation.id = span.operation WHERE span.trace = ?",
        (trace,),
    ).fetchall()
    callers = {row[0]: (row[2], row[3]) for row in rows}
    called = {row[1] for row in rows if row[1] in callers and _is_call(callers[row[1]], row[2], row[3])}
    for span_id, parent, service, kind, status, duration_ns, attributes in rows:
        node = nodes.setdefault(service, [0, 0, 0])
        node[0] += 1
        node[1] += status == 2
        caller = callers.get(parent)
        if caller is not None and _is_call(caller, service, kind):
            edges.setdefault((caller[0], service), _Calls()).add(status, duration_ns)
        if kind in (_CLIENT, _PRODUCER) and span_id not in called:
            remote = _remote(json.loads(attributes))
            if remote:
                other = nodes.setdefault(remote, [0, 0, 1])
                other[0] += 1
                other[1] += status == 2
                edges.setdefault((service, remote), _Calls()).add(status, duration_ns)


def _is_call(caller: tuple[str, int], service: str, kind: int) -> bool:
    """Whether a span is a call by its parent: of another service, or of the same one over the wire.

    :param caller: the parent's service and kind.
    """
    return caller[0] != service or (caller[1], kind) in ((_CLIENT, _SERVER), (_PRODUCER, _CONSUMER))


def _remote(attributes: dict[str, Any]) -> str:
    """The name of what was called, from the span of who called it (semantic conventions)."""
    system = attributes.get("db.system.name") or attributes.get("db.system") or attributes.get("messaging.system")
    if system:
        name = attributes.get("db.namespace") or attributes.get("messaging.destination.name")
        return f"{system} {name}" if name else str(system)
    return str(attributes.get("peer.service") or attributes.get("server.address") or "")


def logs(
    connection: sqlite3.Connection,
    *,
    service: str = "",
    severity: int = 0,
    text: str = "",
    trace_id: bytes | None = None,
    before: tuple[int, int] = (2**63 - 1, 2**63 - 1),
    limit: int = 100,
) -> dict[str, Any]:
    """A page of log records, the latest first by their time.

    :param severity: the lowest, 0 to 24.
    :param text: a part of the body.
    :param before: time and id of the last record of the page before this one: `next` has them as ``time-id``, so that
        what comes meanwhile moves nothing.
    """
    conditions, values = ["(log.time_ns, log.id) < (?, ?)"], list(before)
    wanted: Sequence[tuple[str, Any]] = (
        ("resource.service = ?", service),
        ("log.severity >= ?", severity),
        ("instr(lower(log.body), ?) > 0", lower(text)),
        ("log.trace_id = ?", trace_id),
    )
    for condition, value in wanted:
        if value:
            conditions.append(condition)
            values.append(value)
    found, complete = rows_within(
        connection,
        _LOGS_S,
        "SELECT log.id, log.time_ns, log.severity, log.severity_text, log.body, log.attributes, log.trace_id,"
        " log.span_id, resource.service, scope.name, log.event_name, log.dropped FROM log"
        " JOIN resource ON resource.id ="
        f" log.resource JOIN scope ON scope.id = log.scope WHERE {' AND '.join(conditions)}"
        " ORDER BY log.time_ns DESC, log.id DESC LIMIT ?",
        (*values, limit),
    )
    return {
        "logs": [
            {
                "id": key,
                "time": str(time_ns),
                "severity": level,
                "severity_text": severity_text,
                "body": body,
                "attributes": json.loads(attributes),
                "trace": trace.hex() if trace else None,
                "span": span.hex() if span else None,
                "service": name,
                "scope": scope,
                "event": event,
                "dropped": dropped,
            }
            for key, time_ns, level, severity_text, body, attributes, trace, span, name, scope, event, dropped in found
        ],
        "next": f"{found[-1][1]}-{found[-1][0]}" if len(found) == limit else None,
        "complete": complete,
    }


def metrics(connection: sqlite3.Connection, service: str = "") -> list[dict[str, Any]]:
    """Every metric, of one service or of all.

    ``temporality`` is the protocol's: 0 for none, 1 delta, 2 cumulative. Whose it is: ``instance`` is the instance of
    the service, or else its host and process, empty where the resource has none of these; ``scope`` the name of its
    instrumentation scope.
    """
    names = ("id", "name", "kind", "unit", "description", "temporality", "monotonic", "service", "instance", "scope")
    rows = connection.execute(
        "WITH source AS MATERIALIZED (SELECT id, service, substr(coalesce("
        f" {_attribute('service.instance.id')}, {_attribute('host.name')} || ' ' || {_attribute('process.pid')},"
        f" {_attribute('host.name')}, {_attribute('process.pid')}, ''), 1, 200) AS instance FROM resource"
        " WHERE id IN (SELECT resource FROM metric) AND ?1 IN ('', service))"
        " SELECT metric.id, metric.name, kind, unit, description, temporality, monotonic, source.service, instance,"
        " substr(scope.name, 1, 200), (SELECT count(*) FROM series WHERE series.metric = metric.id)"
        " FROM metric JOIN source ON source.id = metric.resource JOIN scope ON scope.id = metric.scope"
        " ORDER BY metric.name, source.service LIMIT 2000",
        (service,),
    )
    return [{**dict(zip((*names, "series"), row, strict=True)), "monotonic": bool(row[6])} for row in rows]


def _attribute(key: str) -> str:
    return f"""nullif(json_extract(attributes, '$."{key}"'), '')"""


def points(
    connection: sqlite3.Connection, metric: int, from_ns: int = 0, to_ns: int = 2**63 - 1
) -> list[dict[str, Any]]:
    """The series of a metric with their latest points, oldest first, at most 100 series of 1,000 points.

    What several send is a series for each ``sender``, see `senders`: ``since`` tells since when the last of its points
    count, ``mixed`` whether they are of several all the same. ``more`` says that there are older points; how many
    series there are is told by `metrics`.
    """
    of_metric = "SELECT kind, temporality, monotonic FROM metric WHERE id = ?"
    kind, temporality, monotonic = connection.execute(of_metric, (metric,)).fetchone() or ("", 0, 0)

    def total(point: Point) -> float | None:
        found: float | None = point[3]["count"] if point[3] else point[2] if monotonic else None
        return found

    found = []
    for key, attributes in connection.execute(
        "SELECT id, attributes FROM series WHERE metric = ? LIMIT 100", (metric,)
    ):
        rows = connection.execute(
            "SELECT iif(?, since_ns, 0), time_ns, value, distribution, exemplars FROM point WHERE series = ?"
            " AND time_ns BETWEEN ? AND ? ORDER BY time_ns DESC LIMIT ?",
            (kind != "gauge", key, from_ns, to_ns, _POINTS + 1),
        ).fetchall()
        latest = [
            (since_ns, time_ns, value, json.loads(more) if more else None, json.loads(examples) if examples else None)
            for since_ns, time_ns, value, more, examples in reversed(rows[:_POINTS])
        ]
        for number, sender in enumerate(senders(latest, delta=temporality == _DELTA, total=total) or [Sender(0)]):
            found.append(
                {
                    "attributes": json.loads(attributes),
                    "more": len(rows) > _POINTS,
                    "sender": number,
                    "since": str(sender.since_ns),
                    "mixed": sender.mixed,
                    "points": [[str(time_ns), *rest, str(since_ns)] for since_ns, time_ns, *rest in sender.points],
                }
            )
    return found
