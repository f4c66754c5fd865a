"""From OTLP to rows: what comes through, what is left out and told."""

from __future__ import annotations

import json
import math

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otelagent.viewer.ingest import Malformed, decode, empty_response
from otelagent.viewer.ingest.values import MAX_ATTRIBUTES, MAX_TEXT, value_of
from otelagent.viewer.rows import LOG, POINT, SPAN
from tests.viewer.requests import Traces, logs, metrics, put


def test_a_span_has_all_that_was_sent() -> None:
    traces = Traces()
    span = traces.span("GET /", kind=2, error=True, http__route="/", retries=3, ratio=0.5, ok=True, raw=b"\x00\xff")
    event = span.events.add(name="exception", time_unix_nano=7)
    put(event.attributes, {"exception.type": "ValueError"})
    link = span.links.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    put(link.attributes, {"why": "batch"})
    span.dropped_attributes_count = 2
    span.trace_state = "a=b"
    batch = decode("traces", traces.body)
    (row,) = batch.spans
    found = dict(zip(SPAN, row, strict=True))
    assert found["trace_id"] == span.trace_id
    assert found["parent_id"] is None
    assert (found["name"], found["kind"], found["status"], found["duration_ns"]) == ("GET /", 2, 2, 10_000)
    assert json.loads(found["attributes"]) == {
        "http.route": "/",
        "retries": 3,
        "ratio": 0.5,
        "ok": True,
        "raw": {"$bytes": "AP8="},
    }
    assert json.loads(found["events"]) == [
        {"name": "exception", "time": "7", "attributes": {"exception.type": "ValueError"}}
    ]
    assert json.loads(found["links"]) == [
        {"trace": (b"t" * 16).hex(), "span": (b"s" * 8).hex(), "attributes": {"why": "batch"}}
    ]
    assert json.loads(found["dropped"]) == {"attributes": 2}
    assert found["trace_state"] == "a=b"
    assert batch.resources[0].service == "shop"
    assert (batch.scopes[0].name, batch.scopes[0].version) == ("test", "1")


def test_json_is_the_same_as_protobuf() -> None:
    traces = Traces()
    traces.span("work", error=True, count=2**60, text="ä")
    as_json = MessageToDict(traces.request, use_integers_for_enums=True)
    for resource in as_json["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span, message in zip(scope["spans"], traces._scope.spans, strict=True):
                span |= {"traceId": message.trace_id.hex().upper(), "spanId": message.span_id.hex(), "unknown": 1}
    assert decode("traces", json.dumps(as_json).encode(), json=True).spans == decode("traces", traces.body).spans


def test_log_records_and_points() -> None:
    (row,) = decode("logs", logs("hello", trace=b"t" * 16, span=b"s" * 8)).logs
    assert dict(zip(LOG, row, strict=True))["body"] == "hello"
    batch = decode("metrics", metrics())
    assert [(one.name, one.kind, one.monotonic) for one in batch.metrics] == [
        ("orders", "sum", True),
        ("latency", "histogram", False),
    ]
    points = [dict(zip(POINT, row, strict=True)) for row in batch.points]
    assert [point["value"] for point in points] == [0, 1, 2, None]
    assert json.loads(points[3]["distribution"]) == {
        "count": 3,
        "sum": 6.0,
        "min": 1.0,
        "max": 3.0,
        "bounds": [1.0, 2.0],
        "counts": [1, 1, 1],
    }


def test_a_metric_of_which_no_point_is_taken_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otelagent.viewer.ingest.metrics.MAX_ITEMS", 3)
    batch = decode("metrics", metrics())
    assert [one.name for one in batch.metrics] == ["orders"]
    assert empty_response("metrics", batch).partial_success.rejected_data_points == 1


def test_what_has_no_valid_id_is_left_out_and_told() -> None:
    traces = Traces()
    traces.span()
    traces.span(trace=b"short")
    traces.span(trace=bytes(16))
    batch = decode("traces", traces.body)
    assert len(batch.spans) == 1
    answer = empty_response("traces", batch)
    assert answer.partial_success.rejected_spans == 2
    assert "invalid id" in answer.partial_success.error_message


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x05ab", b"<html>"])
def test_what_is_no_request_is_told(body: bytes) -> None:
    with pytest.raises(Malformed, match="no OTLP request of traces"):
        decode("traces", body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"resourceSpans": 1}',
        '{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}',
        "[" * 9000,
    ],
)
def test_what_is_no_json_request_is_told(text: str) -> None:
    with pytest.raises(Malformed):
        decode("traces", text.encode(), json=True)


def test_too_much_of_one_span_is_cut_and_counted() -> None:
    traces = Traces()
    span = traces.span()
    put(span.attributes, {f"a{number}": number for number in range(MAX_ATTRIBUTES + 7)})
    put(span.events.add().attributes, {"text": "x" * (MAX_TEXT + 1)})
    (row,) = decode("traces", traces.body).spans
    found = dict(zip(SPAN, row, strict=True))
    assert len(json.loads(found["attributes"])) == MAX_ATTRIBUTES
    assert json.loads(found["dropped"]) == {"attributes": 7}
    assert len(json.loads(found["events"])[0]["attributes"]["text"]) < MAX_TEXT + 20


def test_a_value_of_great_depth_is_cut() -> None:
    value = AnyValue(string_value="end")
    for _ in range(30):
        outer = AnyValue()
        outer.array_value.values.append(value)
        value = outer
    assert "cut" in json.dumps(value_of(value))


@given(st.floats())
def test_every_double_is_json(number: float) -> None:
    found = json.loads(json.dumps(value_of(AnyValue(double_value=number)), allow_nan=False))
    assert found == number if math.isfinite(number) else "$double" in found
