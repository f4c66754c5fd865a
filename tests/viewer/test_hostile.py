"""Telemetry as no SDK sends it: refused or capped with an answer that says why, in bounded memory and time."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.viewer.requests import START_NS, Traces
from tests.viewer.running import Viewer
from tests.viewer.wire import IDS, field, in_span, in_spans, kvlists

MAX_RSS_MIB = 500
"""At no moment more, whatever is sent: what a request of 20 MiB may take while it is read, and what was there."""

MIB = 2**20
JSON = "application/json"


@pytest.fixture(scope="module")
def running() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


@pytest.fixture
def viewer(running: Viewer) -> Iterator[Viewer]:
    """One that is as well after the test as before it."""
    before = len(running.log)
    yield running
    traces = Traces("well")
    span = traces.span("well")
    assert running.send("traces", traces.body) == (200, b"")
    assert running.json(f"/api/traces/{span.trace_id.hex()}")["spans"]["id"] == [span.span_id.hex()]
    assert peak_mib(running) < MAX_RSS_MIB
    assert "Traceback" not in running.log[before:]


def peak_mib(viewer: Viewer) -> int:
    """The most that the process has had in memory."""
    status = Path(f"/proc/{viewer.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def refused(viewer: Viewer) -> dict[str, int]:
    counted: dict[str, int] = viewer.json("/api/status")["refused"]
    return counted


def message_of(body: bytes) -> str:
    """Field 2 of a google.rpc.Status."""
    assert body[:1] == b"\x12"
    return body[body.index(body[3:4], 2) :].decode("utf-8", "replace")


def zeros(size: int) -> bytes:
    return gzip.compress(bytes(size))


def json_span(**more: Any) -> bytes:
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n", **more}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


BODIES: dict[str, tuple[Callable[[], bytes], dict[str, str], int, str]] = {
    "a gzip bomb": (lambda: zeros(2**30), {"Content_Encoding": "gzip"}, 413, "too_large"),
    "a deflate bomb": (lambda: zlib.compress(bytes(2**28)), {"Content_Encoding": "deflate"}, 413, "too_large"),
    "a bomb in a bomb": (lambda: gzip.compress(zeros(2**30)), {"Content_Encoding": "gzip"}, 400, "malformed"),
    "encodings in each other": (lambda: zeros(9), {"Content_Encoding": "gzip, gzip"}, 415, "unknown_encoding"),
    "two gzip members": (lambda: zeros(9) + zeros(9), {"Content_Encoding": "gzip"}, 400, "broken_encoding"),
    "a gzip that ends early": (lambda: zeros(9999)[:-9], {"Content_Encoding": "gzip"}, 400, "broken_encoding"),
    "no gzip": (lambda: b"\x1f\x8b" + b"x" * 99, {"Content_Encoding": "gzip"}, 400, "broken_encoding"),
    "an encoding nobody knows": (lambda: b"x", {"Content_Encoding": "zstd"}, 415, "unknown_encoding"),
    "plain text": (lambda: b"hello", {"Content_Type": "text/plain"}, 415, "unknown_type"),
    "a form": (lambda: b"a=1", {"Content_Type": "multipart/form-data; boundary=x"}, 415, "unknown_type"),
    "no type": (lambda: b"", {"Content_Type": ""}, 415, "unknown_type"),
    "garbage": (lambda: bytes(range(256)) * 99, {}, 400, "malformed"),
    "half a request": (lambda: Traces().body[:-3] + b"\x0a\xff", {}, 400, "malformed"),
    "a wrong wire type": (lambda: b"\x08\x01" + field(1, b"\x15abc"), {}, 400, "malformed"),
    "a length beyond the end": (lambda: b"\x0a\xff\xff\xff\xff\x0f", {}, 400, "malformed"),
    "a text that is no UTF-8": (lambda: in_span(field(5, b"\xff\xfe")), {}, 400, "malformed"),
    "lists 10,000 deep": (lambda: in_span(field(9, kvlists(10_000))), {}, 400, "malformed"),
    "groups 100,000 deep": (lambda: b"\x0b" * 100_000, {}, 400, "malformed"),
    "ten million spans": (lambda: in_spans(b"\x12\x00" * (10 * MIB - 20)), {}, 413, "too_large"),
    "ten million resources": (lambda: b"\x0a\x00" * (10 * MIB - 20), {}, 413, "too_large"),
    "ten million attributes": (lambda: in_span(b"\x4a\x00" * (10 * MIB - 40)), {}, 413, "too_large"),
    "tags longer than need be": (lambda: in_spans(b"\x92\x00\x00" * (6 * MIB)), {}, 413, "too_large"),
    "21 MiB": (lambda: bytes(21 * MIB), {}, 413, "too_large"),
    "JSON of nothing": (lambda: b"", {"Content_Type": JSON}, 400, "malformed"),
    "JSON 100,000 deep": (lambda: b"[" * 100_000, {"Content_Type": JSON}, 400, "malformed"),
    "JSON objects 100,000 deep": (lambda: b'{"a":' * 100_000, {"Content_Type": JSON}, 400, "malformed"),
    "JSON that is no UTF-8": (lambda: b'{"a": "\xff"}', {"Content_Type": JSON}, 400, "malformed"),
    "JSON of seven million lists": (lambda: b"[" + b"[]," * 6_900_000, {"Content_Type": JSON}, 413, "too_large"),
    "a number of 100,000 digits": (lambda: b'{"a":' + b"9" * 100_000 + b"}", {"Content_Type": JSON}, 400, "malformed"),
    "a time that is no number": (lambda: json_span(startTimeUnixNano="now"), {"Content_Type": JSON}, 400, "malformed"),
    "a time below zero": (lambda: json_span(startTimeUnixNano=-1), {"Content_Type": JSON}, 400, "malformed"),
    "a time beyond 64 bits": (lambda: json_span(startTimeUnixNano=2**64), {"Content_Type": JSON}, 400, "malformed"),
    "an id that is not hexadecimal": (lambda: json_span(traceId="xyz"), {"Content_Type": JSON}, 400, "malformed"),
    "an id that is a number": (lambda: json_span(spanId=7), {"Content_Type": JSON}, 400, "malformed"),
    "a NaN without quotes": (
        lambda: json_span(attributes=[{"key": "x", "value": {"doubleValue": float("nan")}}]),
        {"Content_Type": JSON},
        400,
        "malformed",
    ),
    "half a surrogate": (lambda: json_span(name="\ud800"), {"Content_Type": JSON}, 400, "malformed"),
    "spans that are no list": (lambda: b'{"resourceSpans": {"a": 1}}', {"Content_Type": JSON}, 400, "malformed"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_refused_with_an_answer(viewer: Viewer, name: str) -> None:
    make, headers, status, code = BODIES[name]
    before = refused(viewer).get(code, 0)
    began_s = time.monotonic()
    found, body = viewer.send("traces", make(), **headers)
    assert (found, refused(viewer).get(code, 0)) == (status, before + 1), body
    assert time.monotonic() - began_s < 30
    if headers.get("Content_Type", "x-protobuf").endswith("x-protobuf"):
        assert len(message_of(body)) > 5
    else:
        assert len(json.loads(body)["message"]) > 5


@pytest.mark.parametrize("signal", ["logs", "metrics"])
def test_ten_million_items_are_refused(viewer: Viewer, signal: str) -> None:
    assert viewer.send(signal, field(1, field(2, b"\x12\x00" * (10 * MIB - 20))))[0] == 413


def test_what_is_beyond_a_request_is_left_out_and_told(viewer: Viewer) -> None:
    spans = b"".join(
        field(2, b"\x0a\x10" + b"many" * 4 + b"\x12\x08" + number.to_bytes(8, "big")) for number in range(1, 600_001)
    )
    status, body = viewer.send("traces", in_spans(spans))
    assert status == 200
    assert ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans == 500_000
    assert viewer.json("/api/traces?q=&attr=&limit=1&service=unknown_service")["traces"][0]["spans"] == 100_000
    assert sum(viewer.json("/api/status")["left_out"].values()) >= 500_000


def test_too_much_in_one_span_is_cut_and_told(viewer: Viewer) -> None:
    traces = Traces("too much")
    span = traces.span("n" * MIB, text="t" * MIB, raw=bytes(MIB))
    for number in range(20_000):
        span.attributes.add(key=f"attribute {number}").value.int_value = number
        span.events.add(name="e" * 100, time_unix_nano=number)
        span.links.add(trace_id=b"x" * 16, span_id=b"y" * 8)
    assert viewer.send("traces", traces.body)[0] == 200
    found = viewer.json(f"/api/traces/{span.trace_id.hex()}/spans/{span.span_id.hex()}")
    assert len(found["name"]) < 2000
    assert len(found["attributes"]["text"]) < 70_000
    assert len(found["attributes"]) + found["dropped"]["attributes"] == 20_002
    assert len(found["events"]) + found["dropped"]["events"] == 20_000
    assert len(found["links"]) + found["dropped"]["links"] == 20_000


def test_services_of_one_trace_without_number(viewer: Viewer) -> None:
    traces = Traces("first")
    span = traces.span()
    for number in range(5_000):
        resource = traces.request.resource_spans.add()
        resource.resource.attributes.add(key="service.name").value.string_value = f"{number}-{'s' * 900}"
        resource.scope_spans.add().spans.add(
            trace_id=span.trace_id, span_id=number.to_bytes(8, "big", signed=False)[:7] + b"\x01", name="work"
        )
    assert viewer.send("traces", traces.body)[0] == 200
    (one,) = [one for one in viewer.json("/api/traces?limit=500")["traces"] if one["id"] == span.trace_id.hex()]
    assert len(one["services"]) <= 100


def test_resources_of_megabytes_are_not_remembered(viewer: Viewer) -> None:
    for number in range(16):
        traces = Traces("large")
        resource = traces.request.resource_spans[0].resource
        for part in range(80):
            resource.attributes.add(key=f"part {part}").value.string_value = f"{number} " + "r" * 60_000
        traces.span(trace=b"r" * 16).status.message = "m" * 100_000
        assert viewer.send("traces", gzip.compress(traces.body), Content_Encoding="gzip")[0] == 200
    status, body = viewer.ask(f"/api/traces/{(b'r' * 16).hex()}")
    assert (status, len(body) < 24 * MIB) == (200, True)
    cut = [one["attributes"] for one in json.loads(body)["resources"] if len(one["attributes"]) == 1]
    assert cut == [{"… (cut)": 81}] * 12


TIMES = {
    "the end of 64 bits": (2**64 - 1, 2**64 - 1, False),
    "the end of what is signed": (2**63 - 1, 2**63 - 1, True),
    "an end beyond it": (START_NS, 2**64 - 1, True),
    "an end before the start": (START_NS, START_NS - 10**9, True),
    "no times": (0, 0, True),
}


@pytest.mark.parametrize("name", TIMES)
def test_impossible_times(viewer: Viewer, name: str) -> None:
    start_ns, end_ns, taken = TIMES[name]
    traces = Traces("times")
    span = traces.span()
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    status, body = viewer.send("traces", traces.body)
    assert status == 200
    assert ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans == (not taken)
    if taken:
        (duration,) = viewer.json(f"/api/traces/{span.trace_id.hex()}")["spans"]["duration"]
        assert duration >= 0
    assert viewer.json("/api/traces?limit=500")["traces"]


@pytest.mark.parametrize(
    ("trace", "span", "parent", "taken"),
    [
        (b"t" * 15, b"s" * 8, b"", False),
        (b"t" * 17, b"s" * 8, b"", False),
        (bytes(16), b"s" * 8, b"", False),
        (b"u" * 16, bytes(8), b"", False),
        (b"u" * 16, b"s" * 9, b"", False),
        (b"v" * 16, b"s" * 8, b"p" * 7, True),
        (b"w" * 16, b"s" * 8, b"p" * 100_000, True),
        (b"x" * 16, b"s" * 8, b"s" * 8, True),
    ],
)
def test_ids_that_are_none(viewer: Viewer, trace: bytes, span: bytes, parent: bytes, taken: bool) -> None:
    traces = Traces("ids")
    message = traces.span(trace=trace, parent=parent)
    message.span_id = span
    message.links.add(trace_id=b"short", span_id=b"l" * 10_000)
    status, body = viewer.send("traces", traces.body)
    assert status == 200
    assert ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans == (not taken)
    if taken:
        assert viewer.json(f"/api/traces/{trace.hex()}")["spans"]["parent"] in ([-1], [-2])
        assert viewer.ask(f"/api/traces/{trace.hex()}/otlp")[0] == 200


def test_json_that_is_odd_and_right_is_taken(viewer: Viewer) -> None:
    odd = json_span(startTimeUnixNano=str(START_NS), endTimeUnixNano=START_NS + 5, kind=3, unknownField={"a": [1]})
    more = b'"name": "first", "name": "last", "attributes": [{"key": "x", "value": {"doubleValue": "NaN"}}]'
    odd = odd.replace(b'"name": "n"', more)
    assert viewer.send("traces", odd, Content_Type="Application/JSON; charset=utf-8") == (200, b"{}")
    found = viewer.json(f"/api/traces/{'ab' * 16}/spans/{'cd' * 8}")
    assert (found["name"], found["kind"], found["duration"]) == ("last", 3, 5)
    assert found["attributes"] == {"x": {"$double": "nan"}}


def test_a_page_is_never_made_of_what_is_sent(viewer: Viewer) -> None:
    evil = "</script><script>alert(1)</script><!--<script>\u2028\x00\x1b[2J"
    traces = Traces(evil)
    span = traces.span(evil, error=True, db__query__text=evil)
    span.status.message = evil
    span.events.add(name=evil)
    assert viewer.send("traces", traces.body)[0] == 200
    trace = span.trace_id.hex()
    found = viewer.json(f"/api/traces/{trace}/spans/{span.span_id.hex()}")
    assert (found["name"], found["attributes"]["db.query.text"], found["resource"]["service"]) == (evil, evil, evil)
    status, page = viewer.ask(f"/api/traces/{trace}/share")
    assert status == 200
    assert b"alert(1)" in page
    assert b"<script>alert" not in page
    embedded = page.partition(b'id="embedded">')[2].partition(b"</script>")[0]
    assert b"<" not in embedded
    assert json.loads(embedded)["spans"][span.span_id.hex()]["name"] == evil


def test_a_trace_of_hundreds_of_megabytes(viewer: Viewer) -> None:
    trace = b"g" * 16
    for _ in range(14):
        traces = Traces("huge")
        for _ in range(300):
            traces.span(trace=trace, text="h" * 60_000)
        assert viewer.send("traces", gzip.compress(traces.body, 1), Content_Encoding="gzip")[0] == 200
    assert len(viewer.json(f"/api/traces/{trace.hex()}")["spans"]["id"]) == 4200
    status, body = viewer.ask(f"/api/traces/{trace.hex()}/otlp")
    assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
    status, body = viewer.ask(f"/api/traces/{trace.hex()}/share")
    assert (status, len(body) < 40 * MIB) == (200, True)


def test_spans_that_come_again_and_again(viewer: Viewer) -> None:
    body = in_spans(b"".join(field(2, IDS[:-8] + number.to_bytes(8, "big")) for number in range(1, 30_001)))
    for _ in range(5):
        assert viewer.send("traces", body)[0] == 200
    assert len(viewer.json(f"/api/traces/{(b't' * 16).hex()}")["spans"]["id"]) == 30_000
