"""What one span costs: one variant per process, one JSON line of results on standard output.

``python span_cost.py VARIANT ENDPOINT SPANS``

A variant is who records, and after a slash what is different from one sampled span with five attributes: the number of
attributes, or `unsampled`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

VARIANTS = (
    "opentelemetry_sdk",
    "api_noop",
    "otelagent_sdk",
    "otelagent_native",
    "opentelemetry_sdk/0",
    "otelagent_native/0",
    "opentelemetry_sdk/20",
    "otelagent_native/20",
    "opentelemetry_sdk/unsampled",
    "otelagent_native/unsampled",
)

# Keys and values that are ready, so that only setting them is measured.
ATTRIBUTES: list[tuple[str, str | int | float]] = [
    (f"attribute.{number}", (f"text {number}", number, number / 4)[number % 3]) for number in range(20)
]


def _nothing() -> None:
    pass


def start(variant: str, endpoint: str) -> Callable[[], object]:
    """Set the variant up; returns what flushes it."""
    variant, _, option = variant.partition("/")
    if variant == "opentelemetry_sdk":
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

        provider = TracerProvider(ALWAYS_OFF if option == "unsampled" else ALWAYS_ON)
        processor = BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint), max_queue_size=1_000_000)
        provider.add_span_processor(processor)
        trace.set_tracer_provider(provider)
        return provider.force_flush
    if variant in ("otelagent_sdk", "otelagent_native"):
        import otelagent

        sampler = "always_off" if option == "unsampled" else "always_on"
        engine = variant.removeprefix("otelagent_")
        otelagent.init(endpoint=endpoint, engine=engine, sampler=sampler, batch_max_queue_size=1_000_000)
        return otelagent.flush
    return _nothing


def main() -> None:
    """Measure; the spans are made in bursts that fit the queue, and flushed between bursts, outside the timed part."""
    variant, endpoint, spans = sys.argv[1], sys.argv[2], int(sys.argv[3])
    flush = start(variant, endpoint)
    from opentelemetry import trace

    tracer = trace.get_tracer("benchmark")
    clock = time.thread_time

    def burst_of_five(count: int) -> float:
        began = clock()
        for number in range(count):
            with tracer.start_as_current_span("benchmark") as span:
                span.set_attribute("http.request.method", "GET")
                span.set_attribute("url.path", "/items/42")
                span.set_attribute("http.response.status_code", 200)
                span.set_attribute("item.number", number)
                span.set_attribute("item.price", 9.75)
        return clock() - began

    def burst_of_many(count: int) -> float:
        began = clock()
        for _ in range(count):
            with tracer.start_as_current_span("benchmark") as span:
                for key, value in attributes:
                    span.set_attribute(key, value)
        return clock() - began

    option = variant.partition("/")[2]
    attributes = ATTRIBUTES[: int(option)] if option.isdigit() else []
    burst = burst_of_many if option.isdigit() else burst_of_five
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
                "spans": 0 if option == "unsampled" or variant == "api_noop" else spans + 500,
            }
        )
    )


if __name__ == "__main__":
    main()
