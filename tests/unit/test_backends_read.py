"""What backends.read makes of the three back ends' answers, and how it draws a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.read import Event, Link, Span, _zipkin_span, collector_spans, spans_of_request, tree, wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(number: int, parent: int = 0, **changes: Any) -> Span:
    values: dict[str, Any] = {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_id": f"{parent:016x}" if parent else "",
        "name": f"work {number}",
        "kind": "internal",
        "service": "shop",
        "start_ns": 1_000_000 + number,
        "duration_ns": 2_500_000,
    }
    return Span(**(values | changes))


def request(*spans: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "lib"}, "spans": list(spans)}]}]}


def test_otlp_json_span_with_every_field() -> None:
    values = {
        "s": {"stringValue": "x"},
        "i": {"intValue": "9007199254740993"},
        "d": {"doubleValue": 1},
        "b": {"boolValue": False},
        "list": {"arrayValue": {"values": [{"intValue": "1"}, {}]}},
        "map": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}},
        "none": {},
    }
    (read,) = spans_of_request(
        request(
            {
                "traceId": TRACE.upper(),
                "spanId": "00F067AA0BA902B7",
                "parentSpanId": "00F067AA0BA902B8",
                "name": "GET /cart",
                "kind": 2,
                "startTimeUnixNano": "1700000000000000001",
                "endTimeUnixNano": "1700000000000000501",
                "attributes": [{"key": key, "value": value} for key, value in values.items()],
                "status": {"code": 2, "message": "boom"},
                "events": [{"timeUnixNano": "7", "name": "e", "attributes": [{"key": "k", "value": values["b"]}]}],
                "links": [{"traceId": TRACE, "spanId": "00f067aa0ba902b9"}],
            }
        )
    )
    assert read == Span(
        trace_id=TRACE,
        span_id="00f067aa0ba902b7",
        parent_id="00f067aa0ba902b8",
        name="GET /cart",
        kind="server",
        service="shop",
        start_ns=1700000000000000001,
        duration_ns=500,
        attributes={
            "s": "x",
            "i": 9007199254740993,
            "d": 1.0,
            "b": False,
            "list": [1, None],
            "map": {"k": "v"},
            "none": None,
        },
        status="error",
        status_message="boom",
        events=(Event(7, "e", {"k": False}),),
        links=(Link(TRACE, "00f067aa0ba902b9"),),
        scope="lib",
        resource={"service.name": "shop"},
    )


def test_file_without_last_line_end_other_signals_and_missing(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    assert collector_spans(path) == []
    whole = json.dumps(request({"traceId": TRACE, "spanId": "01" * 8}))
    path.write_text(f'{whole}\n{{"resourceMetrics":[]}}\n{whole[:40]}')
    assert [found.span_id for found in collector_spans(path)] == ["01" * 8]
    assert [found.span_id for found in collector_spans(path, TRACE.upper())] == ["01" * 8]
    assert collector_spans(path, "ab" * 16) == []


def test_zipkin_span_gets_back_what_the_exporter_put_into_tags() -> None:
    read = _zipkin_span(
        {
            "traceId": "8448eb211c80319c",
            "id": "00f067aa0ba902b7",
            "name": "get /cart",
            "kind": "CLIENT",
            "timestamp": 1700000000000001,
            "duration": 5,
            "localEndpoint": {"serviceName": "shop"},
            "remoteEndpoint": {"serviceName": "bank"},
            "annotations": [
                {"timestamp": 2, "value": 'exception|{"exception.type":"A|B"}|0'},
                {"timestamp": 3, "value": "plain"},
            ],
            "tags": {
                "a": "1",
                "error": "true",
                "otel.status_code": "STATUS_CODE_ERROR",
                "otel.status_description": "boom",
                "otel.library.name": "lib",
                "otlp.link.0": f'{TRACE}|00f067aa0ba902b9|a=b|{{"k":"v"}}|0',
                "otlp.link.1": f"{TRACE}|00f067aa0ba902ba||{{}}|0",
            },
        }
    )
    assert read == Span(
        trace_id="00000000000000008448eb211c80319c",
        span_id="00f067aa0ba902b7",
        parent_id="",
        name="get /cart",
        kind="client",
        service="shop",
        start_ns=1700000000000001000,
        duration_ns=5000,
        attributes={"a": "1", "peer.service": "bank"},
        status="error",
        status_message="boom",
        events=(Event(2000, "exception", {"exception.type": "A|B"}), Event(3000, "plain")),
        links=(Link(TRACE, "00f067aa0ba902b9", {"k": "v"}), Link(TRACE, "00f067aa0ba902ba")),
        scope="lib",
    )


def test_zipkin_internal_span_has_its_kind_in_a_tag() -> None:
    read = _zipkin_span({"traceId": TRACE, "id": "01" * 8, "tags": {"span.kind": "internal"}})
    assert (read.kind, read.attributes) == ("internal", {})


def test_tree_nests_by_parent_in_order_of_start() -> None:
    drawing = tree(
        [
            span(3, 1, name="second", kind="client", service="bank", attributes={"http.request.method": "POST"}),
            span(4, 2, name="leaf", duration_ns=999),
            span(2, 1, name="first", status="error", status_message="no\nluck"),
            span(1, name="GET /cart", kind="server", duration_ns=1_500_000_000),
        ]
    )
    assert drawing.splitlines() == [
        f"trace {TRACE} · 4 spans · 2 services · 1.500 s",
        "shop: GET /cart  [server]  1.500 s",
        "├─ shop: first  [internal]  2.5 ms  ERROR 'no luck'",
        "│  └─ shop: leaf  [internal]  999 ns",
        "└─ bank: second  [client]  2.5 ms  http.request.method=POST",
    ]


def test_tree_hides_nothing_that_is_broken() -> None:
    drawing = tree([span(1), span(1, name="again"), span(3, 9), span(4, 9), span(5, 6), span(6, 5)])
    assert drawing.splitlines()[1:] == [
        "shop: work 1  [internal]  2.5 ms",
        "shop: again  [internal]  2.5 ms  (duplicate id)",
        "(missing parent 0000000000000009)",
        "├─ shop: work 3  [internal]  2.5 ms",
        "└─ shop: work 4  [internal]  2.5 ms",
        "(cycle)",
        "└─ shop: work 5  [internal]  2.5 ms",
        "   └─ shop: work 6  [internal]  2.5 ms",
    ]


def test_tree_of_several_traces_and_of_none() -> None:
    drawing = tree([span(1), span(2, trace_id="ff" * 16)])
    assert drawing.count("trace ") == 2
    assert tree([]) == ""


def test_tree_of_a_very_deep_trace() -> None:
    drawing = tree([span(number, number - 1) for number in range(1, 3001)])
    assert len(drawing.splitlines()) == 3001


def test_wait_for_returns_the_first_true_value_and_names_what_did_not_come() -> None:
    values: Iterator[int | Exception] = iter([0, ConnectionRefusedError(), 7])

    def next_value() -> int:
        value = next(values)
        if isinstance(value, Exception):
            raise value
        return value

    assert wait_for(next_value, 5) == 7
    with pytest.raises(TimeoutError, match=r"waited 0\.1 s for spans; last was \[\]"):
        wait_for(list, 0.1, what="spans")
