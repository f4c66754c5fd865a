"""What an outage of the backend costs the application: the time that ending a span takes before it and during it.

The sink answers 503 for a while, again and again; between two outages what they held back has time to arrive, so that
neither pays for the other. A longer outage does nothing else in a second than these do: batches go to disk, and a try
fails now and then.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks import sink
from benchmarks.peers.recording import start
from benchmarks.samples import Arrivals, Context, Sample

PEERS = ("opentelemetry", "otelagent-sdk", "otelagent-native")
PARTS = ("",)

PAIRS = 3
PHASE_S = 12.0
BURST = 100
"""So many spans, one after the other, and then a pause, as an application works."""
PAUSE_S = 0.05
SETTLE_S = 30.0


def measure(context: Context, part: str) -> Iterator[Sample]:
    """Each end of a span by itself, in seconds of normal and of outage that take turns."""
    pairs, phase_s = (1, 1.0) if context.quick else (PAIRS, PHASE_S)
    recording = start(context.peer, context.address)
    arrivals = Arrivals(context, recording)
    phase = _phase(phase_s)
    sent = phase()[0]  # Nobody's: imports, the first connection.
    found: dict[bool, list[list[int]]] = {False: [], True: []}
    try:
        for pair in range(pairs):
            for failing in (False, True) if pair % 2 else (True, False):
                sink.fail(context.address, failing)
                spans, times = phase()
                sent += spans
                found[failing].append(times)
                sink.fail(context.address, False)
                _settle(context.peer)
    finally:
        sink.fail(context.address, False)
    arrived = arrivals.settle(sent)[0]
    normal, outage = ([_p99_us(times) for times in found[failing]] for failing in (False, True))
    yield Sample(
        "outage",
        context.peer,
        "end",
        values={
            "normal_p99_us": statistics.median(normal),
            "outage_p99_us": statistics.median(outage),
            "outage_ratio": statistics.median(during / before for before, during in zip(normal, outage, strict=True)),
        },
        sent=sent,
        arrived=arrived,
    )


def _phase(seconds: float) -> Callable[[], tuple[int, list[int]]]:
    from opentelemetry import trace

    start_span, clock = trace.get_tracer("benchmark").start_span, time.perf_counter_ns

    def run() -> tuple[int, list[int]]:
        times: list[int] = []
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            for number in range(BURST):
                span = start_span("benchmark")
                span.set_attribute("http.request.method", "GET")
                span.set_attribute("url.path", "/items/42")
                span.set_attribute("http.response.status_code", 200)
                span.set_attribute("item.number", number)
                span.set_attribute("item.price", 9.75)
                began = clock()
                span.end()
                times.append(clock() - began)
            time.sleep(PAUSE_S)
        return len(times), times

    return run


def _settle(peer: str) -> None:
    """Has what an outage held back delivered, by who keeps it."""
    if not peer.startswith("otelagent"):
        from opentelemetry import trace

        trace.get_tracer_provider().force_flush(int(SETTLE_S * 1000))  # type: ignore[attr-defined]
        return
    import otelagent

    until_s = time.monotonic() + SETTLE_S
    while not otelagent.flush(1.0) and time.monotonic() < until_s:
        ledger = otelagent.status()["ledger"]["traces"]
        if not ledger["queued"] and not ledger["spooled"]:
            return


def _p99_us(times: list[int]) -> float:
    return sorted(times)[int(len(times) * 0.99)] / 1000
