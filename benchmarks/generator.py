"""Makes five-attribute spans at a steady rate: ``python -m benchmarks.generator PEER ENDPOINT RATE SECONDS``.

A rate of 0 is as many as it can. Prints one line of JSON: how many spans, in how many seconds, how long the rest took
to be exported, the CPU seconds of the thread and the process, and otelagent's own books.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.peers.recording import Recording
from benchmarks.workloads import loop_of

BATCH = 2_000
"""Spans of one export, for everybody: the many small ones of the default cost the collector more than the spans."""
QUEUE, QUEUE_BYTES = 500_000, 256 * 1024 * 1024
"""For everybody: what a pause of some seconds at the collector fills."""
TICK_S = 0.002


def start(peer: str, endpoint: str) -> tuple[Recording, Callable[[], dict[str, Any]]]:
    """The peer set up for many spans, and how to ask for its books."""
    from opentelemetry import trace

    if peer.startswith("otelagent"):
        import otelagent

        otelagent.init(
            endpoint=endpoint,
            engine=peer.removeprefix("otelagent-"),
            batch_max_queue_size=QUEUE,
            batch_queue_max_bytes=16 * QUEUE_BYTES,  # Waiting, a span of the stock SDK takes ten times its encoding.
            queue_max_bytes=QUEUE_BYTES,
            batch_max_export_batch_size=BATCH,
            quiet=True,
        )
        recording = Recording(trace.get_tracer("benchmark").start_as_current_span, lambda: otelagent.flush(60))
        return recording, lambda: dict(otelagent.status()["ledger"]["traces"])
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
    processor = BatchSpanProcessor(exporter, max_queue_size=QUEUE, max_export_batch_size=BATCH)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    return Recording(trace.get_tracer("benchmark").start_as_current_span, lambda: provider.force_flush(60_000)), dict


def main() -> None:
    """One trial."""
    peer, endpoint, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    recording, books = start(peer, endpoint)
    loop = loop_of("attributes-5", recording)
    assert loop is not None
    assert recording.flush is not None
    loop(100)  # connects
    recording.flush()
    process, thread, began = time.process_time(), time.thread_time(), time.perf_counter()
    made = 0
    while (passed := time.perf_counter() - began) < seconds:
        due = int(rate * passed) - made if rate else 1_000
        # Who is behind catches up in slices; in one go he would fall behind by more each time.
        due = min(due, int(rate * 10 * TICK_S) + 1 if rate else due)
        loop(due)
        made += due
        if rate:
            time.sleep(max(began + passed + TICK_S - time.perf_counter(), 0))
    took_s, thread_s = time.perf_counter() - began, time.thread_time() - thread
    recording.flush()
    result = {
        "spans": made + 100,
        "rate": made / took_s,
        "backlog_s": time.perf_counter() - began - took_s,
        "thread_s": thread_s,
        "process_s": time.process_time() - process,
        "seconds": took_s,
        "ledger": books(),
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
