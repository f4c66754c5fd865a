"""Requests with bytes changed at random: malformed, or every item of them is a row or counted, and stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelagent.viewer.ingest import Malformed, decode
from otelagent.viewer.store import detail, export
from otelagent.viewer.store.store import Store
from tests.viewer.requests import START_NS, Traces, logs, metrics


def traces() -> bytes:
    """Spans with all that a span may have."""
    request = Traces()
    root = request.span("GET /", kind=2, error=True, route="/", retries=3, ratio=0.5, ok=True, raw=b"\x00", tags=["a"])
    root.events.add(name="exception", time_unix_nano=START_NS).attributes.add(key="k").value.string_value = "v"
    root.links.add(trace_id=b"l" * 16, span_id=b"m" * 8, trace_state="a=b")
    root.status.message = "no"
    child = request.span("SELECT", trace=root.trace_id, parent=root.span_id, kind=3)
    child.attributes.add(key="map").value.kvlist_value.values.add(key="in").value.int_value = -1
    request.span("running", trace=root.trace_id).end_time_unix_nano = 0
    return request.body


def spans_in(request: Any) -> int:
    return sum(len(scope.spans) for one in request.resource_spans for scope in one.scope_spans)


def records_in(request: Any) -> int:
    return sum(len(scope.log_records) for one in request.resource_logs for scope in one.scope_logs)


def points_in(request: Any) -> int:
    every = [metric for one in request.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]
    kinds = [(metric, metric.WhichOneof("data")) for metric in every]
    # Of a metric without data, the metric itself is what is left out.
    return sum(1 if kind is None else len(getattr(metric, kind).data_points) for metric, kind in kinds)


SIGNALS: dict[str, tuple[bytes, Any, Callable[[Any], int]]] = {
    "traces": (traces(), ExportTraceServiceRequest, spans_in),
    "logs": (logs("one", "two", trace=b"t" * 16, span=b"s" * 8), ExportLogsServiceRequest, records_in),
    "metrics": (metrics(), ExportMetricsServiceRequest, points_in),
}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


@st.composite
def changed(draw: st.DrawFn, body: bytes) -> bytes:
    """A body after a few changes, anywhere in it."""
    data = bytearray(body)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["set", "insert", "delete", "repeat", "end"])):
            case "set" if data:
                data[at] = draw(st.integers(0, 255))
            case "insert":
                data[at:at] = draw(st.binary(max_size=12))
            case "delete":
                del data[at : at + draw(st.integers(1, 12))]
            case "repeat":
                data += data[at:]
            case "end":
                del data[at:]
    return bytes(data)


@pytest.mark.parametrize("signal", SIGNALS)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_item_is_lost_and_nothing_breaks(store: Store, signal: str, data: st.DataObject) -> None:
    body, kind, count = SIGNALS[signal]
    sent = data.draw(changed(body))
    try:
        items = count(kind.FromString(sent))
    except DecodeError:
        items = None
    try:
        batch = decode(signal, sent)
    except Malformed:
        assert items is None
        return
    # What lies deeper than a row needs is not read: there it may take what the protobuf library would not.
    if items is not None:
        assert batch.items + sum(batch.rejected.values()) == items
    written = store.put(batch)
    assert written is not None
    written.result(20)
    for trace_id in {span[0] for span in (*batch.spans, *batch.running)}:
        json.dumps(store.read(detail.trace, trace_id), allow_nan=False)
        json.dumps(store.read(export.traces_data, trace_id), allow_nan=False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every place in a tree of JSON: the object or list, and the key or position."""
    inner = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [(node, key) for key, _ in inner] + [place for _, one in inner for place in places(one)]


@pytest.mark.parametrize("signal", SIGNALS)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_json_with_values_changed(store: Store, signal: str, data: st.DataObject) -> None:
    body, kind, _ = SIGNALS[signal]
    tree = MessageToDict(kind.FromString(body), use_integers_for_enums=True)
    for node, key in places(tree):
        if key in ("traceId", "spanId", "parentSpanId"):
            node[key] = "0123456789abcdef" * (2 if key == "traceId" else 1)
    for _ in range(data.draw(st.integers(1, 3))):
        if known := places(tree):
            node, key = known[data.draw(st.integers(0, len(known) - 1))]
            node[key] = data.draw(json_values)
    try:
        batch = decode(signal, json.dumps(tree).encode(), json=True)
    except Malformed:
        return
    written = store.put(batch)
    assert written is not None
    written.result(20)
