"""The real collector, Jaeger and Zipkin for demos, end-to-end tests and benchmarks: built, started, read back.

    import backends

    with backends.Backends(tmp_path) as b:
        send_otlp(b.collector.otlp_http)
        spans = backends.wait_for(lambda: backends.jaeger_trace(b.jaeger.query_url, trace_id), 10)
        print(backends.tree(spans))

Put `collector-config/` on sys.path (or PYTHONPATH) first. `python -m backends build` makes the programs.
"""

from .build import BackendError, Binaries, MissingBinary, cache_dir, locate, locate_one
from .run import ALL_IN_ONE, COLLECTOR_ONLY, Backends, Collector, Jaeger, Port, Program, Zipkin

__all__ = [
    "ALL_IN_ONE",
    "COLLECTOR_ONLY",
    "BackendError",
    "Backends",
    "Binaries",
    "Collector",
    "Jaeger",
    "MissingBinary",
    "Port",
    "Program",
    "Zipkin",
    "cache_dir",
    "locate",
    "locate_one",
]
