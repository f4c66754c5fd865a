"""The benchmark's sink counts what the peers send, in both protocols, and nothing it can't decode."""

from __future__ import annotations

import gzip
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks import sink


def pack(value: object) -> bytes:
    """msgpack, in the forms that a trace payload has."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return bytes([value]) if 0 <= value < 128 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        return (bytes([0xA0 | len(data)]) if len(data) < 32 else b"\xda" + struct.pack(">H", len(data))) + data
    if isinstance(value, bytes):
        return b"\xc5" + struct.pack(">H", len(value)) + value
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xde" + struct.pack(">H", len(value))
        return head + b"".join(pack(part) for item in value.items() for part in item)
    assert isinstance(value, list)
    head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdd" + struct.pack(">I", len(value))
    return head + b"".join(map(pack, value))


SPAN = {
    "name": "benchmark",
    "resource": "a name that is longer than thirty-one bytes",
    "span_id": 1 << 62,
    "duration": -5,
    "error": 0,
    "parent_id": None,
    "sampled": True,
    "meta": {f"key.{number}": "value" for number in range(20)},
    "metrics": {"item.price": 9.75},
    "meta_struct": {"blob": bytes(300)},
}
V04 = pack([[SPAN], [SPAN, SPAN], []])
V05 = pack([["", "benchmark"], [[[0, 1, 1, 1 << 62, 2, 0, 3, 4, 0, {1: 1}, {1: 2.5}, 0]] * 3] * 20])


def otlp(spans: int) -> bytes:
    request = ExportTraceServiceRequest()
    for _ in range(2):
        scope = request.resource_spans.add().scope_spans.add()
        for number in range(spans):
            scope.spans.add(name=f"span {number}")
    return request.SerializeToString()


def test_spans_of_otlp() -> None:
    assert sink.count_otlp(otlp(3)) == 6
    assert sink.count_otlp(b"") == 0


def test_spans_of_ddtrace() -> None:
    assert sink.count_datadog(V04, "v0.4") == 3
    assert sink.count_datadog(V05, "v0.5") == 60


@pytest.mark.parametrize("body", [V04[:-1], V04[:40], b"", V04 + b"\x01", b"\x81\x01\x01", b"\x91\x91\xc1"])
def test_a_broken_payload_is_told(body: bytes) -> None:
    with pytest.raises(ValueError):
        sink.count_datadog(body, "v0.4")


def test_a_payload_of_the_other_version_is_told() -> None:
    with pytest.raises(ValueError):
        sink.count_datadog(V04, "v0.5")


@pytest.fixture
def address() -> Iterator[str]:
    server = sink.serve()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def post(url: str, body: bytes, **headers: str) -> bytes:
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request) as answer:
        data: bytes = answer.read()
        return data


def test_the_count_adds_up_over_protocols(address: str) -> None:
    assert sink.counted(address) == 0
    assert post(f"{address}/v1/traces", otlp(2)) == b""
    post(f"{address}/v1/traces", gzip.compress(otlp(2)), **{"Content-Encoding": "gzip"})
    assert b"rate_by_service" in post(f"{address}/v0.5/traces", V05)
    post(f"{address}/v0.4/traces", V04)
    post(f"{address}/telemetry/proxy", b"anything")
    assert sink.counted(address) == 4 + 4 + 60 + 3


def test_what_cannot_be_decoded_is_refused_and_not_counted(address: str) -> None:
    for path in ("v1/traces", "v0.4/traces"):
        with pytest.raises(urllib.error.HTTPError) as error:
            post(f"{address}/{path}", b"\xff\xff")
        assert error.value.code == 400
        error.value.close()
    assert sink.counted(address) == 0


def test_it_says_what_an_agent_can(address: str) -> None:
    with urllib.request.urlopen(f"{address}/info") as answer:
        assert b"/v0.5/traces" in answer.read()


def test_it_fails_and_works_again_when_it_is_told(address: str) -> None:
    before = sink.counted(address)
    export = urllib.request.Request(f"{address}/v1/traces", b"")
    sink.fail(address, True)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(export, timeout=10)
    sink.fail(address, False)
    assert urllib.request.urlopen(export, timeout=10).status == 200
    assert sink.counted(address) == before
