"""What telemetry adds to the start of a program, to its wall clock and its CPU time, over the same program without.

``code``: an empty program that sets tracing up in its first lines. ``command``: a program that imports FastAPI, under
the peer's launcher. The two are run in turn in the peer's own environment, to their end.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.peers.recording import DATADOG_ENVIRONMENT, PYCPP_CONFIG
from benchmarks.samples import Context, Sample

PARTS = ("code", "command")
REPEATS = 3

_CODE = {
    "api": "from opentelemetry import trace; trace.get_tracer('benchmark')",
    "opentelemetry": """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
""",
    "logfire": """
import logfire
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor
processor = BatchSpanProcessor(OTLPSpanExporter())
logfire.configure(send_to_logfire=False, console=False, metrics=False, additional_span_processors=[processor])
""",
    "ddtrace": "from ddtrace.trace import tracer",
    "pycpp": """
import honeycomb_pycpp
from opentelemetry import trace
sdk = honeycomb_pycpp.SDK("otel.yaml")
trace.set_tracer_provider(sdk.tracer_provider)
""",
    "otelagent-sdk": "import otelagent; otelagent.init()",
    "otelagent-native": "import otelagent; otelagent.init()",
}
_COMMANDS = {
    "opentelemetry": "opentelemetry-instrument",
    "ddtrace": "ddtrace-run",
    "otelagent-sdk": "otelagent-run",
    "otelagent-native": "otelagent-run",
}
_FASTAPI = "import fastapi"
PEERS = tuple(_CODE)


def measure(context: Context, part: str) -> Iterator[Sample]:
    """The medians of some pairs of starts."""
    if part == "command":
        if context.peer not in _COMMANDS:
            return
        launcher = [str(Path(sys.executable).parent / _COMMANDS[context.peer])]
        bare, traced = [sys.executable, "-c", _FASTAPI], [*launcher, sys.executable, "-c", _FASTAPI]
    else:
        bare, traced = [sys.executable, "-c", "pass"], [sys.executable, "-c", _CODE[context.peer]]
    with tempfile.TemporaryDirectory() as folder:
        config = PYCPP_CONFIG.format(sampler="always_on", queue=2048, address=context.address)
        (Path(folder) / "otel.yaml").write_text(config)
        environ = _environ(context)
        starts = [(_start(bare, folder, environ), _start(traced, folder, environ))]  # fills the caches; not counted
        if not context.quick:
            starts = [(_start(bare, folder, environ), _start(traced, folder, environ)) for _ in range(REPEATS)]
    values = {}
    for index, metric in enumerate(("wall_ms", "cpu_ms")):
        without = statistics.median(one[index] for one, _ in starts)
        values[f"bare_{metric}"] = without
        values[f"added_{metric}"] = statistics.median(other[index] for _, other in starts) - without
    yield Sample("startup", context.peer, part, values=values)


def _environ(context: Context) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL", "DD_", "PYTHON"))}
    return kept | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": context.address,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTELAGENT_ENGINE": context.peer.removeprefix("otelagent-") if context.peer.startswith("otelagent") else "auto",
        "OTELAGENT_QUIET": "true",
        **DATADOG_ENVIRONMENT,
        "DD_TRACE_AGENT_URL": context.address,
    }


def _start(command: Sequence[str], folder: str, environ: Mapping[str, str]) -> tuple[float, float]:
    """Wall clock and CPU in milliseconds, of the command and all it started."""
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=dict(environ), capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr[-500:]}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall * 1e3, (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) * 1e3
