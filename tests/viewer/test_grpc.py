"""OTLP/gRPC: what it takes is what OTLP/HTTP takes, and what it refuses is told so that a client knows what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.viewer.requests import Traces, logs, metrics
from tests.viewer.running import Viewer

SERVICE = "/opentelemetry.proto.collector.{}.v1.{}Service/Export"


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def export(address: str, signal: str, body: bytes, compression: grpc.Compression | None = None) -> bytes:
    """The answer's bytes.

    :raises grpc.RpcError: it was refused.
    """
    options = [("grpc.max_send_message_length", -1)]
    method = SERVICE.format({"traces": "trace"}.get(signal, signal), {"traces": "Trace"}.get(signal, signal.title()))
    with grpc.insecure_channel(address, options, compression) as channel:
        call: Any = channel.unary_unary(method)
        answer: bytes = call(body, timeout=60)
    return answer


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_what_is_sent_is_there_when_it_is_answered(viewer: Viewer, compression: grpc.Compression | None) -> None:
    traces = Traces(f"grpc {compression}")
    span = traces.span("GET /")
    assert export(viewer.grpc, "traces", traces.body, compression) == b""
    assert export(viewer.grpc, "logs", logs("hello", trace=span.trace_id), compression) == b""
    assert export(viewer.grpc, "metrics", metrics(), compression) == b""
    (one,) = viewer.json(f"/api/traces?service=grpc%20{compression}")["traces"]
    trace = viewer.json(f"/api/traces/{one['id']}")
    assert trace["spans"]["id"] == [span.span_id.hex()]
    assert trace["logs"][0][3] == "hello"
    assert {one["name"] for one in viewer.json("/api/metrics")["metrics"]} == {"orders", "latency"}


def test_what_is_left_out_is_told(viewer: Viewer) -> None:
    traces = Traces("partial")
    traces.span()
    traces.span(trace=b"short")
    answer = ExportTraceServiceResponse.FromString(export(viewer.grpc, "traces", traces.body))
    assert answer.partial_success.rejected_spans == 1
    assert "invalid id" in answer.partial_success.error_message


@pytest.mark.parametrize(
    ("body", "compression", "code", "counted"),
    [
        (b"\xff\xff", None, grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
        (bytes(21 * 2**20), None, grpc.StatusCode.RESOURCE_EXHAUSTED, "unreadable"),
        (bytes(2**29), grpc.Compression.Gzip, grpc.StatusCode.RESOURCE_EXHAUSTED, "unreadable"),
    ],
    ids=["garbage", "too long", "bomb"],
)
def test_what_cannot_be_taken_is_told(
    viewer: Viewer, body: bytes, compression: grpc.Compression | None, code: grpc.StatusCode, counted: str
) -> None:
    before = viewer.json("/api/status")["refused"].get(counted, 0)
    with pytest.raises(grpc.RpcError) as raised:
        export(viewer.grpc, "traces", body, compression)
    assert raised.value.code() is code
    assert viewer.json("/api/status")["refused"][counted] == before + 1


def test_the_endpoint_is_told(viewer: Viewer) -> None:
    assert viewer.json("/api/status")["endpoints"]["grpc"] == f"http://{viewer.grpc}"
