"""The OTLP receiver, sent to by real SDKs in processes of their own, and by hand."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from otelagent.testing import OtlpReceiver
from tests.support import native_or_skip

# The stock SDK with its own exporters, set up by the environment alone but for these lines.
STOCK = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
with provider.get_tracer("stock").start_as_current_span("stock work"):
    pass
provider.shutdown()
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])
meters.get_meter("stock").create_counter("sold").add(3, {"kind": "book"})
meters.force_flush()
meters.get_meter("stock").create_counter("sold").add(4, {"kind": "book"})
meters.shutdown()
"""

OURS = """
import logging
import otelagent

otelagent.init(service_name="shop")
with otelagent.span("work", {"n": 1}), otelagent.span("part"):
    logging.getLogger("shop").warning("careful")
"""


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


def child(receiver: OtlpReceiver, source: str, **environ: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL")}
    # What a developer has set for another place doesn't matter.
    elsewhere = {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}
    environ = {**inherited, **elsewhere, **receiver.environ, **environ}
    subprocess.run([sys.executable, "-c", source], env=environ, check=True, timeout=60)


@pytest.mark.parametrize("engine", ["native", "sdk"])
def test_a_child_with_either_engine(receiver: OtlpReceiver, engine: str) -> None:
    if engine == "native":
        native_or_skip()
    child(receiver, OURS, OTELAGENT_ENGINE=engine, OTELAGENT_COMPRESSION="gzip")
    part = receiver.wait_for(lambda receiver: receiver.one("part"))
    assert receiver.tree(attributes=["n"]) == "INTERNAL work n=1\n  INTERNAL part"
    assert part.service == "shop"
    record = receiver.wait_for(lambda receiver: receiver.logs)[0]
    assert (record.body, record.severity, record.span_id) == ("careful", "WARN", part.span_id)
    assert receiver.refused == []


def test_a_child_with_the_stock_sdk(receiver: OtlpReceiver) -> None:
    child(receiver, STOCK, OTEL_EXPORTER_OTLP_COMPRESSION="gzip")
    assert receiver.wait_for(lambda receiver: receiver.one("stock work"))
    # Cumulative: what came last says it all.
    sold = receiver.wait_for(lambda receiver: "sold" in receiver.metrics and receiver.metrics["sold"])
    assert sold
    assert (sold.kind, sold.value, sold.points[0].attributes) == ("sum", 7, {"kind": "book"})
    with pytest.raises(KeyError, match=r"no metric 'bought' was measured, but .*sold"):
        receiver.metrics["bought"]


BODY = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "web"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "by hand"},
                    "spans": [
                        {
                            "traceId": "0af7651916cd43dd8448eb211c80319c",
                            "spanId": "b7ad6b7169203331",
                            "name": "click",
                            "kind": 3,
                            "startTimeUnixNano": "1",
                            "endTimeUnixNano": "2000000001",
                            "attributes": [{"key": "n", "value": {"intValue": "5"}}],
                            "status": {"code": 2, "message": "no"},
                        }
                    ],
                }
            ],
        }
    ]
}


def post(receiver: OtlpReceiver, path: str, body: Any, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(receiver.endpoint.removeprefix("http://"), timeout=30)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, names, encode_chunked="Transfer-Encoding" in names)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate", "chunked"])
def test_json(receiver: OtlpReceiver, encoding: str) -> None:
    plain = json.dumps(BODY).encode()
    headers = {"Content_Type": "application/json; charset=utf-8"}
    if encoding == "chunked":
        headers["Transfer_Encoding"] = "chunked"
        answer = post(receiver, "/v1/traces", iter([plain[:10], plain[10:]]), **headers)
    else:
        encoded = {"identity": plain, "gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}[encoding]
        answer = post(receiver, "/v1/traces", encoded, Content_Encoding=encoding, **headers)
    assert answer == (200, b"{}")
    span = receiver.one("click", kind="CLIENT", status="ERROR", attributes={"n": 5})
    assert (span.trace_id, span.span_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (span.duration_s, span.error, span.service, span.scope.name) == (2.0, "no", "web", "by hand")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("/v1/traces", b"{", {"Content_Type": "application/json"}, 400, "it is no JSON"),
        ("/v1/traces", b"\xff\xff", {"Content_Type": "application/x-protobuf"}, 400, "no OTLP request of traces"),
        ("/v1/traces", b"", {"Content_Type": "text/plain"}, 415, "Content-Type must be"),
        ("/v1/profiles", b"{}", {"Content_Type": "application/json"}, 404, "there is no /v1/profiles"),
        ("/v1/logs", b"no gzip", {"Content_Encoding": "gzip"}, 400, "the body is no gzip"),
        ("/v1/logs", gzip.compress(b"{}" * 50)[:-9], {"Content_Encoding": "gzip"}, 400, "ends too early"),
        ("/v1/logs", b"x", {"Content_Encoding": "br"}, 415, "'br' is not taken"),
        ("/v1/logs", zlib.compress(bytes(70 * 2**20)), {"Content_Encoding": "deflate"}, 413, "longer than"),
        ("/v1/logs", b"", {"Content_Length": str(2**40)}, 413, "longer than"),
        ("/v1/logs", iter([b""]), {"Transfer_Encoding": "gzip"}, 411, "no Content-Length"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_taken(
    receiver: OtlpReceiver, path: str, body: Any, headers: dict[str, str], status: int, reason: str
) -> None:
    answer, text = post(receiver, path, body, **headers)
    assert answer == status
    assert reason in json.loads(text)["message"]
    [refused] = receiver.refused
    assert refused.startswith(f"{path}: ")
    assert reason in refused
    assert post(receiver, "/v1/traces", json.dumps(BODY), Content_Type="application/json")[0] == 200
    assert len(receiver) == 1


def test_it_is_gone_when_closed_and_can_still_be_asked() -> None:
    with OtlpReceiver(deterministic=True) as receiver:
        address = ("127.0.0.1", int(receiver.endpoint.rpartition(":")[2]))
        post(receiver, "/v1/traces", json.dumps(BODY), Content_Type="application/json")
    assert receiver.one("click").span_id == "0000000000000001"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)
