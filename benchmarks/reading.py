"""How long the viewer's answers take: of a trace of 50,000 spans, and of everything that the page asks a store of five
million spans; from the request to the last byte, over HTTP. The worst of some tries counts, the first one included.
"""

from __future__ import annotations

import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import Unavailable
from benchmarks.ingest import generate
from benchmarks.samples import Context, Sample
from benchmarks.viewers import VIEWER, Running, running
from benchmarks.wire import DAY_S, long_trace

__all__ = ["DRIVEN", "LIST_MS", "PEERS", "drive"]

PEERS = (VIEWER,)
PARTS = ("",)
DRIVEN = True
SPANS, LONG = 5_000_000, 50_000
TRIES = 5
LIST_MS = 300.0
"""What an answer may take."""

# What is asked of the many spans; `wire` says what there is to be found.
QUESTIONS = {
    "latest": "/api/traces",
    "service": "/api/traces?service=service-1",
    "operation": "/api/traces?service=service-1&operation=GET%20/items/3",
    "error": "/api/traces?error=1",
    "duration, 1 in 100,000": "/api/traces?min_ms=3000",
    "duration and error, never both": "/api/traces?min_ms=3000&error=1&service=service-0",
    "slowest": "/api/traces?sort=slowest",
    "slowest of a service": "/api/traces?sort=slowest&service=service-1",
    "an hour of the day": "/api/traces?from={hour}&to={next}",
    "text, an operation": "/api/traces?q=items",
    "text, an exception, 1 in 100,000": "/api/traces?q=warehouse",
    "text, nowhere": "/api/traces?q=nosuchword",
    "attribute, frequent": "/api/traces?attr=http.response.status_code%3D200",
    "attribute, 1 in 2,000": "/api/traces?attr=item.number%3D42",
    "attribute, 1 in 5,000,000": "/api/traces?attr=request.id%3D{oldest}",
    "attribute and service": "/api/traces?service=service-1&attr=http.response.status_code%3E299",
    "services": "/api/services",
    "operations": "/api/operations?service=service-1",
    "map": "/api/map",
    "status": "/api/status",
    "logs": "/api/logs",
}


def drive(context: Context) -> Iterator[Sample]:
    """Both stores, one after the other."""
    try:
        for measure in (_long_trace, _many):
            with (
                tempfile.TemporaryDirectory(prefix="otelagent-reading-") as folder,
                running(context.peer, Path(folder)) as one,
            ):
                yield from measure(context, one)
    except Unavailable as error:
        yield Sample("reading", context.peer, "trace", note=f"not available here: {error}")
    except RuntimeError as error:
        yield Sample("reading", context.peer, "trace", note=str(error))


def _long_trace(context: Context, one: Running) -> Iterator[Sample]:
    spans = LONG // 100 if context.quick else LONG
    trace, bodies = long_trace(spans)
    for body in bodies:
        request = urllib.request.Request(f"{one.otlp}/v1/traces", body, {"Content-Type": "application/x-protobuf"})
        urllib.request.urlopen(request, timeout=120).close()
    times, answers = zip(*(one.ask(f"/api/traces/{trace.hex()}") for _ in range(TRIES)), strict=True)
    values = {"answer_ms": max(times) * 1000, "answer_mib": len(answers[0]) / 2**20}
    arrived = len(json.loads(answers[0])["spans"]["id"])
    yield Sample("reading", context.peer, "trace", values=values, sent=spans, arrived=arrived)


def _many(context: Context, one: Running) -> Iterator[Sample]:
    spans = SPANS // 100 if context.quick else SPANS
    began_ns = time.time_ns()
    sent = generate(one, "two", 3600, str(spans), "spread")
    stored = one.stored()
    values = {"stored": stored, "disk_mib": _mib(one), "rss_mib": one.peak_mib}
    yield Sample("reading", context.peer, "stored", values=values, sent=int(sent["taken"]), arrived=stored)
    hour = began_ns - (DAY_S // 2) * 10**9
    places = {"hour": hour, "next": hour + 3600 * 10**9, "oldest": f"{7:016x}"}
    for case, path in QUESTIONS.items():
        times, answers = zip(*(one.ask(path.format(**places)) for _ in range(TRIES)), strict=True)
        found = json.loads(answers[0])
        values = {"answer_ms": max(times) * 1000}
        if "traces" in found and isinstance(found["traces"], list):
            values["found"] = len(found["traces"])
        values["complete"] = float(found.get("complete", True))
        yield Sample("reading", context.peer, case, values=values)


def _mib(one: Running) -> float:
    _, status = one.ask("/api/status")
    return float(json.loads(status)["store"]["bytes"]) / 2**20
