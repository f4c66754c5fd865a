"""What one span costs: the application's thread, and the whole process until the span is delivered."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.peers.recording import start
from benchmarks.samples import Arrivals, Context, Sample
from benchmarks.workloads import WORKLOADS, loop_of

PEERS = ("bare", "api", "opentelemetry", "logfire", "ddtrace", "pycpp", "otelagent-sdk", "otelagent-native")
PARTS = ("sampled", "unsampled")
"""Each is a process of its own."""

# A sample lasts about so long on the application's thread, and has so many spans.
SAMPLE_S = 0.15
SPANS = (1_000, 100_000)
UNSAMPLED = ("attributes-0", "attributes-5", "attributes-20")


def measure(context: Context, part: str) -> Iterator[Sample]:
    """Every workload in turn, without pause between spans; the batches go out meanwhile."""
    sampled = part == "sampled"
    recording = start(context.peer, context.address, sampled=sampled)
    arrivals = Arrivals(context, recording)
    delivers = sampled and context.peer not in ("bare", "api")
    for name in WORKLOADS if sampled else UNSAMPLED:
        case = name if sampled else f"{name}-unsampled"
        loop = loop_of(name, recording)
        if loop is None:
            yield Sample("span_cost", context.peer, case, note="its API has no such thing")
            continue
        each = WORKLOADS[name].spans
        loop(200)
        began = time.thread_time()
        loop(300)
        cost_s = (time.thread_time() - began) / 300
        warm = arrivals.settle(500 * each if delivers else 0)[0]
        count = 100 if context.quick else int(min(max(SAMPLE_S / cost_s, SPANS[0]), SPANS[1]))
        process = time.process_time()
        began = time.thread_time()
        loop(count)
        thread_s = time.thread_time() - began
        spans = count * each
        arrived, waiting_s = arrivals.settle(spans if delivers else 0)
        process_s = time.process_time() - process - waiting_s
        yield Sample(
            "span_cost",
            context.peer,
            case,
            values={"thread_us": thread_s / spans * 1e6, "process_us": process_s / spans * 1e6},
            sent=spans + 500 * each if delivers else 0,
            arrived=arrived + warm,
        )
