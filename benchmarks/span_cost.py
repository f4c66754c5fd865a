"""What one span with five attributes costs: one variant per process, one JSON line of results on standard output.

``python span_cost.py VARIANT ENDPOINT SPANS``
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

VARIANTS = ("api_noop", "opentelemetry_sdk", "otelagent_sdk")


def _nothing() -> None:
    pass


def start(variant: str, endpoint: str) -> Callable[[], object]:
    """Set the variant up; returns what flushes it."""
    if variant == "opentelemetry_sdk":
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), max_queue_size=1_000_000)
        provider.add_span_processor(processor)
        trace.set_tracer_provider(provider)
        return provider.force_flush
    if variant == "otelagent_sdk":
        import otelagent

        otelagent.init(endpoint=endpoint, engine="sdk", batch_max_queue_size=1_000_000)
        return otelagent.flush
    return _nothing


def main() -> None:
    """Measure; the spans are made in bursts that fit the queue, and flushed between bursts, outside the timed part."""
    variant, endpoint, spans = sys.argv[1], sys.argv[2], int(sys.argv[3])
    flush = start(variant, endpoint)
    from opentelemetry import trace

    tracer = trace.get_tracer("benchmark")
    clock = time.thread_time

    def burst(count: int) -> float:
        began = clock()
        for number in range(count):
            with tracer.start_as_current_span("benchmark") as span:
                span.set_attribute("http.request.method", "GET")
                span.set_attribute("url.path", "/items/42")
                span.set_attribute("http.response.status_code", 200)
                span.set_attribute("item.number", number)
                span.set_attribute("item.price", 9.75)
        return clock() - began

    burst(500)
    flush()
    cpu = time.process_time()
    thread = sum(burst(1000) for _ in range(spans // 1000))
    flush()
    whole = time.process_time() - cpu
    print(
        json.dumps(
            {
                "thread_us": thread / spans * 1e6,
                "process_us": whole / spans * 1e6,
                "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "spans": spans + 500,
            }
        )
    )


if __name__ == "__main__":
    main()
