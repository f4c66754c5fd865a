"""The real collector, Jaeger and Zipkin for demos, end-to-end tests and benchmarks: built, started, read back.

    import backends

    with backends.Backends(tmp_path) as b:
        send_otlp(b.collector.otlp_http)
        spans = backends.wait_for(lambda: backends.jaeger_trace(b.jaeger.query_url, trace_id), 10)
        print(backends.tree(spans))

Put `collector-config/` on sys.path (or PYTHONPATH) first. `python -m backends build` makes the programs.
"""

from .build import Binaries, cache_dir, locate, locate_one
from .errors import BackendError, MissingBinary
from .process import Port, Process, group_members
from .read import (
    Event,
    Link,
    Span,
    collector_requests,
    collector_spans,
    jaeger_services,
    jaeger_trace,
    jaeger_traces,
    spans_of_request,
    tree,
    wait_for,
    zipkin_services,
    zipkin_trace,
    zipkin_traces,
)
from .run import ALL_IN_ONE, COLLECTOR_ONLY, Backends, Collector, Jaeger, Program, Zipkin

__all__ = [
    "ALL_IN_ONE",
    "COLLECTOR_ONLY",
    "BackendError",
    "Backends",
    "Binaries",
    "Collector",
    "Event",
    "Jaeger",
    "Link",
    "MissingBinary",
    "Port",
    "Process",
    "Program",
    "Span",
    "Zipkin",
    "cache_dir",
    "collector_requests",
    "collector_spans",
    "group_members",
    "jaeger_services",
    "jaeger_trace",
    "jaeger_traces",
    "locate",
    "locate_one",
    "spans_of_request",
    "tree",
    "wait_for",
    "zipkin_services",
    "zipkin_trace",
    "zipkin_traces",
]
