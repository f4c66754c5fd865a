from __future__ import annotations

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelagent.delivery.otlp_json import request_to_json
from otelagent.delivery.signals import SIGNALS


def test_a_request_in_otlp_json() -> None:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "shop"
    scope = resource.scope_spans.add()
    scope.scope.name = "test"
    span = scope.spans.add(
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        parent_span_id=b"\xff" * 8,
        name="GET",
        kind=Span.SpanKind.SPAN_KIND_SERVER,
        flags=1,
        start_time_unix_nano=2**63,
        end_time_unix_nano=2**63 + 1,
    )
    for key, kind, value in [
        ("traceId", "string_value", "a user's own"),
        ("int", "int_value", -(2**63)),
        ("double", "double_value", 0.5),
        ("bool", "bool_value", False),
        ("bytes", "bytes_value", b"\x00\xff"),
    ]:
        setattr(span.attributes.add(key=key).value, kind, value)
    span.status.code = Status.StatusCode.STATUS_CODE_ERROR
    span.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    assert request_to_json(request.SerializeToString(), SIGNALS["traces"]) == {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
                "scopeSpans": [
                    {
                        "scope": {"name": "test"},
                        "spans": [
                            {
                                "traceId": "000102030405060708090a0b0c0d0e0f",
                                "spanId": "0001020304050607",
                                "parentSpanId": "ffffffffffffffff",
                                "name": "GET",
                                "kind": 2,
                                "flags": 1,
                                "startTimeUnixNano": "9223372036854775808",
                                "endTimeUnixNano": "9223372036854775809",
                                "attributes": [
                                    {"key": "traceId", "value": {"stringValue": "a user's own"}},
                                    {"key": "int", "value": {"intValue": "-9223372036854775808"}},
                                    {"key": "double", "value": {"doubleValue": 0.5}},
                                    {"key": "bool", "value": {"boolValue": False}},
                                    {"key": "bytes", "value": {"bytesValue": "AP8="}},
                                ],
                                "status": {"code": 2},
                                "links": [{"traceId": "01" * 16, "spanId": "02" * 8}],
                            }
                        ],
                    }
                ],
            }
        ]
    }


def test_what_is_no_request() -> None:
    with pytest.raises(DecodeError):
        request_to_json(b"<html>", SIGNALS["traces"])


def test_everything_but_the_ids_is_protobuf_json() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add(schema_url="https://schema").scope_spans.add().spans.add(name="x")
    span.events.add(name="e", time_unix_nano=1).attributes.add(key="n").value.double_value = float("nan")
    span.attributes.add(key="list").value.array_value.values.add().kvlist_value.values.add(key="spanId")
    body = request.SerializeToString()
    assert ParseDict(request_to_json(body, SIGNALS["traces"]), ExportTraceServiceRequest()).SerializeToString() == body
