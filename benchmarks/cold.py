"""What one span costs the application's thread when the caches are cold: 4 MiB of other data are touched before each.

Each span is timed by itself, so that the touching isn't in it; the median keeps out the spans during which the thread
waited. What the two looks at the clock cost, just as cold, is measured in the same way and taken off.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from benchmarks.peers.recording import start
from benchmarks.samples import Arrivals, Context, Sample
from benchmarks.workloads import WORKLOADS, cold_loop_of, loop_of

PEERS = ("bare", "api", "opentelemetry", "logfire", "ddtrace", "pycpp", "otelagent-sdk", "otelagent-native")
PARTS = ("sampled", "unsampled")

DATA = bytearray(4 * 1024 * 1024)
LINE = 64
SPANS = 1_500
UNSAMPLED = ("attributes-0", "attributes-5", "attributes-20")


def touch() -> None:
    """Reads every cache line of the data."""
    DATA[::LINE]


def measure(context: Context, part: str) -> Iterator[Sample]:
    """Every workload in turn."""
    sampled = part == "sampled"
    recording = start(context.peer, context.address, sampled=sampled)
    arrivals = Arrivals(context, recording)
    delivers = sampled and context.peer not in ("bare", "api")
    count = 50 if context.quick else SPANS
    nothing = cold_loop_of(None, recording, touch, time.perf_counter_ns)
    assert nothing is not None
    for name in WORKLOADS if sampled else UNSAMPLED:
        case = name if sampled else f"{name}-unsampled"
        warm, loop = loop_of(name, recording), cold_loop_of(name, recording, touch, time.perf_counter_ns)
        if warm is None or loop is None:
            yield Sample("cold", context.peer, case, note="its API has no such thing")
            continue
        warm(500)
        clock_ns = statistics.median(nothing(count))
        cold_ns = statistics.median(loop(count)) - clock_ns
        each = WORKLOADS[name].spans
        sent = (count + 500) * each if delivers else 0
        yield Sample(
            "cold",
            context.peer,
            case,
            values={"thread_us": cold_ns / each / 1e3},
            sent=sent,
            arrived=arrivals.settle(sent)[0],
        )
