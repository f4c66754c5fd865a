"""How each peer records spans: set up as its documentation says, in the process that is measured.

Everybody keeps the default batch size and delay, gets a queue that holds whatever a burst makes (a peer that dropped
spans would look cheaper than it is), and has switched off what is not tracing: metrics, profiling, remote
configuration, the vendor's own telemetry, console output. Spans are made by the peer's own API where it has one.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["NAMES", "Recording", "start"]


@dataclass(frozen=True)
class Recording:
    """A peer that records.

    :param span: makes a span current for a `with` block: ``span("name")``.
    :param flush: exports what has ended; None where the peer has no such call and exports by itself.
    :param names: the methods of its spans that are called something else than the OpenTelemetry API's; None for one
        that it hasn't.
    """

    span: Callable[[str], Any]
    flush: Callable[[], object] | None = None
    names: Mapping[str, str | None] = field(default_factory=dict)


NAMES: Mapping[str, str] = {"set_attribute": "set_attribute", "add_event": "add_event"}
"""What the OpenTelemetry API calls the methods that the workloads use."""


def start(peer: str, address: str, *, sampled: bool = True, queue: int = 1_000_000) -> Recording:
    """Sets a peer up in this process.

    :param peer: its name in `PEERS`.
    :param address: of the sink.
    :param sampled: whether traces are kept.
    :param queue: how many spans may wait.
    """
    return _STARTS[peer](address, sampled, queue)


class _Nothing:
    """The cheapest context manager that Python has, so that a loop without telemetry can be told from one with."""

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set_attribute(self, key: str, value: object) -> None:
        pass

    def add_event(self, name: str, attributes: object = None) -> None:
        pass


def _bare(address: str, sampled: bool, queue: int) -> Recording:
    nothing = _Nothing()
    return Recording(lambda name: nothing)


def _api(address: str, sampled: bool, queue: int) -> Recording:
    from opentelemetry import trace

    return Recording(trace.get_tracer("benchmark").start_as_current_span)


def _opentelemetry(address: str, sampled: bool, queue: int) -> Recording:
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    provider = TracerProvider(ALWAYS_ON if sampled else ALWAYS_OFF)
    exporter = OTLPSpanExporter(endpoint=f"{address}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=queue))
    trace.set_tracer_provider(provider)
    return Recording(trace.get_tracer("benchmark").start_as_current_span, provider.force_flush)


def _logfire(address: str, sampled: bool, queue: int) -> Recording:
    import logfire
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=f"{address}/v1/traces")
    logfire.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        inspect_arguments=False,
        additional_span_processors=[BatchSpanProcessor(exporter, max_queue_size=queue)],
        sampling=logfire.SamplingOptions(head=1.0 if sampled else 0.0),
        advanced=logfire.AdvancedOptions(emit_configuration_span=False, pending_spans=False),
    )
    return Recording(logfire.span, logfire.force_flush, {"add_event": None})


DATADOG_ENVIRONMENT = {
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
    "DD_RUNTIME_METRICS_ENABLED": "false",
    "DD_TRACE_RATE_LIMIT": "-1",  # by default 100 traces a second once there are sampling rules
    "DD_TRACE_WRITER_BUFFER_SIZE_BYTES": str(1 << 30),
}


def _ddtrace(address: str, sampled: bool, queue: int) -> Recording:
    rules = json.dumps([{"sample_rate": 1.0 if sampled else 0.0}])
    os.environ.update(DATADOG_ENVIRONMENT, DD_TRACE_AGENT_URL=address, DD_TRACE_SAMPLING_RULES=rules)
    from ddtrace.trace import tracer

    return Recording(tracer.trace, tracer.flush, {"set_attribute": "set_tag", "add_event": None})


# It has no flush: what it was given last goes out after this delay.
PYCPP_CONFIG = """
file_format: "1.0"
tracer_provider:
  sampler:
    {sampler}:
  processors:
    - batch:
        schedule_delay: 1000
        max_queue_size: {queue}
        exporter:
          otlp_http:
            endpoint: {address}/v1/traces
"""


def _pycpp(address: str, sampled: bool, queue: int) -> Recording:
    import honeycomb_pycpp
    from opentelemetry import trace

    sampler = "always_on" if sampled else "always_off"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "otel.yaml"
        config.write_text(PYCPP_CONFIG.format(sampler=sampler, queue=queue, address=address))
        sdk = honeycomb_pycpp.SDK(str(config))
    trace.set_tracer_provider(sdk.tracer_provider)
    return Recording(trace.get_tracer("benchmark").start_as_current_span)


def _otelagent(engine: str) -> Callable[[str, bool, int], Recording]:
    def start(address: str, sampled: bool, queue: int) -> Recording:
        import otelagent

        sampler = "always_on" if sampled else "always_off"
        otelagent.init(
            endpoint=address,
            engine=engine,
            sampler=sampler,
            batch_max_queue_size=queue,
            batch_queue_max_bytes=2**32,
            quiet=True,
        )
        return Recording(otelagent.get_tracer("benchmark").start_as_current_span, otelagent.flush)

    return start


_STARTS: Mapping[str, Callable[[str, bool, int], Recording]] = {
    "bare": _bare,
    "api": _api,
    "opentelemetry": _opentelemetry,
    "logfire": _logfire,
    "ddtrace": _ddtrace,
    "pycpp": _pycpp,
    "otelagent-sdk": _otelagent("sdk"),
    "otelagent-native": _otelagent("native"),
}
