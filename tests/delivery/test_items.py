"""Requests taken apart: nothing is lost, nothing is there twice, and every item stays under its resource and scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otelagent.delivery import Payload
from otelagent.delivery.items import HIGH, LOW, NORMAL, partition, priority, split
from tests.unit.record.conftest import engine, record
from tests.unit.record.recorder import Recorder

__all__ = ["engine", "record"]

# Field 1000, a string: what a version of the protocol may have that the installed library doesn't know.
UNKNOWN = b"\xc2\x3e\x03new"
KINDS_OF_METRIC = ("gauge", "sum", "histogram", "exponential_histogram", "summary")

Counts = list[list[int]]
"""The number of items by resource and scope."""

REQUEST_TYPES: dict[str, tuple[Any, str]] = {
    "traces": (ExportTraceServiceRequest, "spans"),
    "logs": (ExportLogsServiceRequest, "logs"),
    "metrics": (ExportMetricsServiceRequest, "metrics"),
}
COUNTS = st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=4)


def spans(counts: Counts) -> tuple[Any, int]:
    request = ExportTraceServiceRequest()
    number = 0
    for one, scopes in enumerate(counts):
        resource_spans = request.resource_spans.add(schema_url=f"resource schema {one}")
        resource_spans.resource.attributes.add(key="resource").value.int_value = one
        resource_spans.MergeFromString(UNKNOWN)
        for two, items in enumerate(scopes):
            scope_spans = resource_spans.scope_spans.add(schema_url=f"scope schema {two}")
            scope_spans.scope.name = f"scope {two}"
            for _ in range(items):
                span = scope_spans.spans.add(name=f"item {number}" * (number % 7))
                span.MergeFromString(UNKNOWN)
                span.attributes.add(key="number").value.int_value = number
                number += 1
    return request, number


def log_records(counts: Counts) -> tuple[Any, int]:
    request = ExportLogsServiceRequest()
    number = 0
    for one, scopes in enumerate(counts):
        resource_logs = request.resource_logs.add(schema_url=f"resource schema {one}")
        resource_logs.resource.attributes.add(key="resource").value.int_value = one
        for two, items in enumerate(scopes):
            scope_logs = resource_logs.scope_logs.add(schema_url=f"scope schema {two}")
            scope_logs.scope.name = f"scope {two}"
            for _ in range(items):
                record = scope_logs.log_records.add(severity_number=number % 25)
                record.attributes.add(key="number").value.int_value = number
                number += 1
    return request, number


def data_points(counts: Counts) -> tuple[Any, int]:
    request = ExportMetricsServiceRequest()
    number = 0
    for one, scopes in enumerate(counts):
        resource_metrics = request.resource_metrics.add(schema_url=f"resource schema {one}")
        resource_metrics.resource.attributes.add(key="resource").value.int_value = one
        for two, items in enumerate(scopes):
            scope_metrics = resource_metrics.scope_metrics.add(schema_url=f"scope schema {two}")
            scope_metrics.metrics.add(name="of a kind that nobody knows")
            for kind in KINDS_OF_METRIC:
                metric = scope_metrics.metrics.add(name=f"a {kind}", unit="s")
                for _ in range(items):
                    point = getattr(metric, kind).data_points.add()
                    point.attributes.add(key="number").value.int_value = number
                    number += 1
    return request, number


REQUESTS: dict[str, Callable[[Counts], tuple[Any, int]]] = {
    "traces": spans,
    "logs": log_records,
    "metrics": data_points,
}


def made(signal: str, counts: Counts) -> Payload:
    request, items = REQUESTS[signal](counts)
    return Payload(signal, request.SerializeToString(), items)


def flat(signal: str, payload: Payload | None) -> list[tuple[bytes, ...]]:
    """Each item with everything around it, as bytes, in order."""
    if payload is None:
        return []
    message, name = REQUEST_TYPES[signal]
    found: list[tuple[bytes, ...]] = []
    for group in getattr(message.FromString(payload.body), f"resource_{name}"):
        for scope in getattr(group, f"scope_{name}"):
            for around, item in _items(signal, scope):
                found.append((bare(group), bare(scope), around, item.SerializeToString()))
    assert len(found) == payload.items
    return found


def _items(signal: str, scope: Any) -> list[tuple[bytes, Any]]:
    if signal == "traces":
        return [(b"", span) for span in scope.spans]
    if signal == "logs":
        return [(b"", record) for record in scope.log_records]
    return [
        (bare(metric), point)
        for metric in scope.metrics
        if metric.WhichOneof("data")
        for point in getattr(metric, metric.WhichOneof("data")).data_points
    ]


def bare(message: Any) -> bytes:
    """The message without what is below it."""
    copy = type(message)()
    copy.CopyFrom(message)
    if isinstance(message, Metric):
        getattr(copy, copy.WhichOneof("data")).ClearField("data_points")
    for below in ("scope_spans", "scope_logs", "scope_metrics", "spans", "log_records", "metrics"):
        if below in copy.DESCRIPTOR.fields_by_name:
            copy.ClearField(below)
    body: bytes = copy.SerializeToString()
    return body


def number_of(item: Any) -> int:
    number: int = next(one.value.int_value for one in item.attributes if one.key == "number")
    return number


@pytest.mark.parametrize("signal", REQUESTS)
class TestEverySignal:
    @given(counts=COUNTS)
    def test_the_halves_are_the_whole(self, signal: str, counts: Counts) -> None:
        whole = made(signal, counts)
        halves = split(whole)
        if whole.items < 2:
            assert halves is None
        else:
            assert halves is not None
            assert min(half.items for half in halves) > 0
            assert flat(signal, halves[0]) + flat(signal, halves[1]) == flat(signal, whole)

    @given(counts=COUNTS, draw=st.data())
    def test_both_sides_are_the_whole(self, signal: str, counts: Counts, draw: st.DataObject) -> None:
        whole = made(signal, counts)
        chosen = draw.draw(st.sets(st.integers(0, max(whole.items - 1, 0))))
        taken, rest = partition(whole, lambda item, _: number_of(item) in chosen)
        everything = flat(signal, whole)
        assert flat(signal, taken) == [one for number, one in enumerate(everything) if number in chosen]
        assert flat(signal, rest) == [one for number, one in enumerate(everything) if number not in chosen]

    def test_the_same_object_if_all_is_on_one_side(self, signal: str) -> None:
        whole = made(signal, [[2, 1]])
        assert partition(whole, lambda *_: True) == (whole, None)
        assert partition(whole, lambda *_: True)[0] is whole
        assert partition(whole, lambda *_: False)[1] is whole
        assert partition(whole, lambda *_: False)[0] is None

    def test_the_attributes_of_the_resource(self, signal: str) -> None:
        whole = made(signal, [[1], [2], [3]])
        taken, rest = partition(whole, lambda _, resource: resource[0].value.int_value == 1)
        assert taken is not None
        assert rest is not None
        assert taken.items * 2 == rest.items
        assert set(flat(signal, taken)) == {one for one in flat(signal, whole) if b"resource schema 1" in one[0]}

    def test_what_is_no_request_is_one_thing(self, signal: str) -> None:
        for whole in (Payload(signal, b"<html>", 5), Payload(signal, made(signal, [[2]]).body, 999)):
            assert split(whole) is None
            assert partition(whole, lambda *_: False) == (whole, None)


def test_of_a_signal_that_nobody_knows() -> None:
    whole = Payload("profiles", b"", 2)
    assert split(whole) is None
    assert partition(whole, lambda *_: False) == (whole, None)


@pytest.mark.parametrize("where", [0, 37, 99])
def test_an_item_that_outweighs_all_others_is_soon_alone(where: int) -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(100):
        scope.spans.add(name="x" * (1_000_000 if number == where else 100))
    part = Payload("traces", request.SerializeToString(), 100)
    splits = 0
    while halves := split(part):
        part = max(halves, key=lambda half: half.size)
        splits += 1
    assert (part.items, part.size > 1_000_000) == (1, True)
    assert splits <= 2


def test_items_without_a_byte_are_split_too() -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.spans.extend([Span()] * 4)
    halves = split(Payload("traces", request.SerializeToString(), 4))
    assert halves is not None
    assert [half.items for half in halves] == [2, 2]


def test_what_an_engine_wrote(record: Callable[..., Recorder]) -> None:
    recorder = record()
    for number in range(10):
        with recorder.tracer.start_as_current_span(f"span {number}") as span:
            span.set_attribute("number", number)
            span.add_event("event")
    assert recorder.flush()
    whole = Payload(*recorder.requests[0])
    halves = split(whole)
    assert halves is not None
    assert flat("traces", halves[0]) + flat("traces", halves[1]) == flat("traces", whole)
    odd, even = partition(whole, lambda item, _: number_of(item) % 2 == 1)
    assert flat("traces", odd) == flat("traces", whole)[1::2]
    assert flat("traces", even) == flat("traces", whole)[::2]


def log_record(severity_number: Any) -> LogRecord:
    return LogRecord(severity_number=severity_number)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Span(), NORMAL),
        (Span(status=Status(code=Status.STATUS_CODE_OK)), NORMAL),
        (Span(status=Status(code=Status.STATUS_CODE_ERROR)), HIGH),
        (LogRecord(), NORMAL),
        (log_record(1), LOW),
        (log_record(8), LOW),
        (log_record(9), NORMAL),
        (log_record(16), NORMAL),
        (log_record(17), HIGH),
        (log_record(24), HIGH),
        (NumberDataPoint(), NORMAL),
    ],
)
def test_priority(item: Any, expected: int) -> None:
    assert LOW < NORMAL < HIGH
    assert priority(item) == expected
