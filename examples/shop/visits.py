"""The requests that the demo sends to the shop, and what their traces have to look like."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import backends
from backends import Backends, Span

__all__ = ["VISITS", "DemoFailure", "Traces", "Visit", "background_trace", "read_back", "recorded", "traces_of_visits"]

SETTLE_S = 0.6
"""How long nothing new must come for everything to have come: three of the demo's batches."""
ARRIVAL_TIMEOUT_S = 15.0

Traces = dict[str, list[Span]]
"""Spans by trace id."""


class DemoFailure(Exception):
    """What was to be shown isn't so; the text says what."""


@dataclass(frozen=True)
class Visit:
    """One request to the gateway, and the spans that it has to make.

    :param server_spans: names of the SERVER spans, the gateway's own first.
    :param queries: how many SQL statements the inventory runs for it, at least.
    """

    title: str
    method: str
    path: str
    status: int
    server_spans: tuple[str, ...]
    queries: int
    body: str | None = None

    @property
    def request(self) -> str:
        return f"{self.method} {self.path}"


LIST, ONE = "GET /products", "GET /products/<sku>"
VISITS = (
    Visit("A list", "GET", "/products", 200, ("GET /products", LIST), 1),
    Visit("One product", "GET", "/products/apple", 200, ("GET /products/{sku}", ONE), 1),
    Visit("Two at once, asynchronously", "GET", "/basket?sku=bread&sku=cheese", 200, ("GET /basket", ONE, ONE), 2),
    Visit(
        "An order: requests in FastAPI's thread pool, and a receipt from an executor after the answer",
        "POST",
        "/orders",
        201,
        ("POST /orders", ONE, "POST /products/<sku>/reservations", ONE),
        5,
        body='{"sku": "apple", "quantity": 2}',
    ),
    Visit("An unknown product", "GET", "/products/unicorn", 404, ("GET /products/{sku}", ONE), 1),
    Visit(
        "A broken product: unhandled exception", "GET", "/products/mystery-box", 502, ("GET /products/{sku}", ONE), 1
    ),
    Visit("A slow report", "GET", "/report", 200, ("GET /report", "GET /reports/stock"), 1),
)


def recorded(back: Backends) -> Traces:
    """What the collector has received, once every visit's spans are there and no more are coming."""
    deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
    quiet_since, count = time.monotonic(), -1
    while True:
        traces: Traces = {}
        for span in backends.collector_spans(back.collector.file):
            traces.setdefault(span.trace_id, []).append(span)
        # The background thread never stops; what it does says nothing about the requests.
        now = sum(len(trace) for trace in traces.values() if any(span.kind == "server" for span in trace))
        if now != count:
            quiet_since, count = time.monotonic(), now
        missing = "\n  ".join(filter(None, (_missing(traces, visit) for visit in VISITS)))
        if not missing and time.monotonic() - quiet_since > SETTLE_S:
            return traces
        if time.monotonic() > deadline:
            problem = f"not in the collector's file after {ARRIVAL_TIMEOUT_S:g} s:\n  {missing}"
            raise DemoFailure(problem if missing else "requests' spans did not stop coming")
        time.sleep(0.05)


def _missing(traces: Traces, visit: Visit) -> str:
    """What a visit's trace still lacks, in words; "" if nothing."""
    roots = _roots_of(traces, visit)
    if not roots:
        return f"{visit.request}: no SERVER span of the gateway without a parent"
    trace = traces[roots[0].trace_id]
    lacking = Counter(visit.server_spans) - Counter(span.name for span in trace if span.kind == "server")
    if lacking:
        return f"{visit.request}: no SERVER span called {', '.join(map(repr, lacking.elements()))} in its trace"
    queries = sum("db.system.name" in span.attributes for span in trace)
    if queries < visit.queries:
        return f"{visit.request}: {queries} of {visit.queries} queries in its trace"
    return ""


def _roots_of(traces: Traces, visit: Visit) -> list[Span]:
    path, _, query = visit.path.partition("?")
    return [
        span
        for trace in traces.values()
        for span in trace
        if span.service == "gateway"
        and (span.kind, span.parent_id) == ("server", "")
        and span.attributes.get("http.request.method") == visit.method
        and (span.attributes.get("url.path"), span.attributes.get("url.query", "")) == (path, query)
    ]


def traces_of_visits(traces: Traces) -> dict[str, str]:
    """The trace id of each visit, its trace checked; no other request has made one."""
    found = {}
    for visit in VISITS:
        roots = _roots_of(traces, visit)
        if len(roots) != 1:
            raise DemoFailure(f"{visit.request} has {len(roots)} SERVER spans of the gateway, not one")
        _check(visit, traces[roots[0].trace_id])
        found[visit.request] = roots[0].trace_id
    for trace_id in traces.keys() - set(found.values()):
        if strangers := [span for span in traces[trace_id] if span.kind == "server"]:
            raise DemoFailure("nobody asked for this:\n" + backends.tree(strangers))
    return found


def _check(visit: Visit, trace: list[Span]) -> None:
    """That the trace of a visit is right in itself: ids unique, parents there, one SERVER span for each request."""
    by_id = {span.span_id: span for span in trace}
    problems = []
    if len(by_id) != len(trace):
        problems.append(f"{len(trace)} spans share {len(by_id)} ids")
    if sorted(visit.server_spans) != (names := sorted(span.name for span in trace if span.kind == "server")):
        problems.append(f"its SERVER spans are {names}, not {sorted(visit.server_spans)}")
    for span in trace:
        parent = by_id.get(span.parent_id)
        if span.parent_id and parent is None:
            problems.append(f"the parent of {span.name!r}, {span.parent_id}, is missing")
        if (
            span.kind == "server"
            and span.service == "inventory"
            and (parent is None or (parent.kind, parent.service) != ("client", "gateway"))
        ):
            problems.append(f"the inventory's {span.name!r} is not below a CLIENT span of the gateway")
        if "db.system.name" in span.attributes and (parent is None or parent.service != span.service):
            problems.append(f"the query {span.name!r} is not below a span of its own service")
    if problems:
        raise DemoFailure(f"{visit.request}: " + "; ".join(problems) + "\n" + backends.tree(trace))


def background_trace(traces: Traces) -> str | None:
    """The id of a trace of the background thread, if there is one already."""
    for trace_id, trace in traces.items():
        if len(trace) == 1 and trace[0].service == "inventory" and trace[0].name.startswith("UPDATE"):
            return trace_id
    return None


def read_back(back: Backends, recorded: Traces) -> tuple[Traces, Traces]:
    """The same traces from Jaeger and from Zipkin, each the same as in the collector's file."""
    jaeger_url, zipkin_url = back.jaeger.query_url, back.zipkin.query_url
    jaeger, zipkin = {}, {}
    for trace_id, spans in recorded.items():
        jaeger[trace_id] = _arrived("Jaeger", backends.jaeger_trace, jaeger_url, spans)
        _compare("Jaeger", [_identity(span) for span in spans], jaeger[trace_id])
        zipkin[trace_id] = _arrived("Zipkin", backends.zipkin_trace, zipkin_url, spans)
        # Zipkin writes the names of services and spans in lower case.
        lowered = [(*ids, service.lower(), name.lower(), kind) for *ids, service, name, kind in map(_identity, spans)]
        _compare("Zipkin", lowered, zipkin[trace_id])
    return jaeger, zipkin


def _arrived(store: str, read: Callable[[str, str], list[Span]], url: str, spans: list[Span]) -> list[Span]:
    trace_id = spans[0].trace_id

    def complete() -> list[Span]:
        found = read(url, trace_id)
        return found if len(found) >= len(spans) else []

    try:
        return backends.wait_for(complete, ARRIVAL_TIMEOUT_S)
    except TimeoutError:
        found = read(url, trace_id)
        text = f"{store} has {len(found)} of the {len(spans)} spans of trace {trace_id} after {ARRIVAL_TIMEOUT_S:g} s"
        raise DemoFailure(text) from None


def _identity(span: Span) -> tuple[str, ...]:
    return span.trace_id, span.span_id, span.parent_id, span.service, span.name, span.kind


def _compare(store: str, expected: list[tuple[str, ...]], spans: list[Span]) -> None:
    found = sorted(map(_identity, spans))
    if found != sorted(expected):
        there = "\n  ".join(" ".join(one) for one in found)
        file = "\n  ".join(" ".join(one) for one in sorted(expected))
        raise DemoFailure(f"{store} tells something else than the collector's file:\n  {there}\nthe file:\n  {file}")
