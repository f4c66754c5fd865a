"""Spans of either engine, from the API to the decoded request. What differs on purpose is in test_differences.py."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pytest
from opentelemetry import context, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.unit.record.recorder import Recorder, attributes

Record = Callable[..., Recorder]

ONLY_SDK = pytest.mark.parametrize("engine", ["sdk"], indirect=True)


def test_a_span_arrives_with_everything_the_api_was_told(record: Record) -> None:
    recorder = record()
    linked = trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1))
    with (
        recorder.tracer.start_as_current_span("parent") as parent,
        recorder.tracer.start_as_current_span(
            "child",
            kind=SpanKind.CLIENT,
            attributes={"s": "x", "i": 2, "f": 0.5, "b": True},
            links=[Link(linked, {"why": "because"})],
            start_time=1_000,
        ) as child,
    ):
        child.set_attributes({"many": ["a", "b"], "ünï": "cødé"})
        child.add_event("event", {"n": 1}, timestamp=2_000)
        child.set_status(Status(StatusCode.ERROR, "broken"))
        child.update_name("renamed")

    got, got_parent = recorder.spans()
    assert (got.name, got_parent.name) == ("renamed", "parent")
    assert got.trace_id.hex() == trace.format_trace_id(parent.get_span_context().trace_id)
    assert got.span_id.hex() == trace.format_span_id(child.get_span_context().span_id)
    assert got.parent_span_id == got_parent.span_id
    assert got.kind == got.SPAN_KIND_CLIENT
    assert got.start_time_unix_nano == 1_000
    assert got.end_time_unix_nano >= got_parent.start_time_unix_nano
    assert attributes(got.attributes) == {
        "s": "x", "i": 2, "f": 0.5, "b": True, "many": ["a", "b"], "ünï": "cødé",
    }  # fmt: skip
    assert [(event.name, event.time_unix_nano, attributes(event.attributes)) for event in got.events] == [
        ("event", 2_000, {"n": 1})
    ]
    assert [(link.trace_id.hex(), link.span_id.hex(), attributes(link.attributes)) for link in got.links] == [
        (f"{0xABC:032x}", f"{0xDEF:016x}", {"why": "because"})
    ]
    assert (got.status.code, got.status.message) == (2, "broken")
    assert recorder.ledger.snapshot().delivered == 2


def test_one_request_groups_by_resource_and_scope(record: Record) -> None:
    recorder = record()
    recorder.tracer.start_span("a").end()
    recorder.engine.provider.get_tracer("other", "2", "https://schema").start_span("b").end()
    recorder.flush()

    (request,) = recorder.decoded()
    (resource,) = request.resource_spans
    assert attributes(resource.resource.attributes)["service.name"] == "shop"
    scopes = {
        (scope.scope.name, scope.scope.version, scope.schema_url): len(scope.spans) for scope in resource.scope_spans
    }
    assert scopes == {("scope", "1.0", ""): 1, ("other", "2", "https://schema"): 1}
    assert recorder.requests[0][0] == "traces"
    assert recorder.requests[0][2] == 2


def test_limits_apply_and_refuse_the_newest(record: Record) -> None:
    recorder = record(
        attribute_count_limit=3,
        attribute_value_length_limit=4,
        event_count_limit=2,
        link_count_limit=1,
        event_attribute_count_limit=1,
        link_attribute_count_limit=1,
    )
    link = trace.SpanContext(1, 1, is_remote=False)
    span = recorder.tracer.start_span("limited", attributes={"a": "longer", "b": 1, "c": 2, "d": 3})
    span.set_attribute("e", 4)
    span.set_attribute("a", "again")
    for name in ("one", "two", "three"):
        span.add_event(name, {"x": "longer"})
    span.add_link(link, {"k": "longer"})
    span.add_link(link)
    span.end()

    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"a": "agai", "b": 1, "c": 2}
    assert got.dropped_attributes_count == 2
    assert [event.name for event in got.events] == ["one", "two"]
    assert attributes(got.events[0].attributes) == {"x": "long"}
    assert got.dropped_events_count == 1
    assert [attributes(one.attributes) for one in got.links] == [{"k": "long"}]
    assert got.dropped_links_count == 1


def test_the_environment_is_not_read_again(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        "OTEL_SDK_DISABLED": "true",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "1",
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "0",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=wrong",
        "OTEL_SERVICE_NAME": "wrong",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nothing,of,this",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recorder = record()
    span = recorder.tracer.start_span("a", attributes={"one": "long", "two": 2})
    span.add_event("event")
    span.end()

    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"one": "long", "two": 2}
    assert len(got.events) == 1
    assert attributes(recorder.decoded()[0].resource_spans[0].resource.attributes)["service.name"] == "shop"


def test_the_queue_refuses_the_newest_and_counts_it(record: Record) -> None:
    recorder = record(batch_max_queue_size=5, batch_max_export_batch_size=5, batch_schedule_delay_ms=60_000)
    # Nothing drains meanwhile: the wake-up that the fifth span causes waits for the lock.
    with recorder.engine._batch._draining:
        for number in range(8):
            recorder.tracer.start_span(str(number)).end()
        snapshot = recorder.ledger.snapshot()
        assert (snapshot.ended, snapshot.queued) == (8, 5)
        assert snapshot.balanced
    assert [span.name for span in recorder.spans()] == ["0", "1", "2", "3", "4"]
    assert recorder.dropped() == {"queue_full": 3}


@ONLY_SDK
@pytest.mark.parametrize(
    "spoil",
    [
        lambda span: setattr(span, "_name", "\ud800"),
        lambda span: setattr(span, "_name", 7),
        lambda span: setattr(span, "_start_time", 2**64),
        lambda span: setattr(span, "_kind", "client"),
    ],
    ids=["surrogate name", "int name", "start 2^64", "kind"],
)
def test_a_span_that_cannot_be_encoded_costs_only_itself(
    record: Record, spoil: Callable[[trace.Span], None], caplog: pytest.LogCaptureFixture
) -> None:
    recorder = record()
    for position in range(20):
        span = recorder.tracer.start_span(str(position))
        if position == 7:
            spoil(span)
        if span.is_recording():
            span.end()
    assert [span.name for span in recorder.spans()] == [str(position) for position in range(20) if position != 7]
    assert recorder.dropped() == {"encode_error": 1}


@ONLY_SDK
def test_a_batch_of_nothing_but_bad_spans_is_counted_and_not_sent(
    record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = record()
    for _ in range(10):
        span = recorder.tracer.start_span("a")
        span._name = "\ud800"
        span.end()
    assert recorder.flush()
    assert recorder.requests == []
    assert recorder.dropped() == {"encode_error": 10}
    # The log's own limit is one a minute, over all tests of this process.
    assert len([one for one in caplog.records if "can't be encoded" in one.message]) <= 1


def test_spans_deeper_than_protobuf_goes_cost_only_themselves(record: Record) -> None:
    recorder = record()
    deep: object = "bottom"
    for _ in range(300):
        deep = [deep]
    recorder.tracer.start_span("deep", attributes={"deep": deep}).end()
    recorder.tracer.start_span("good").end()
    assert "good" in [span.name for span in recorder.spans()]


def test_sampled_out_spans_are_counted_and_never_wait(record: Record) -> None:
    recorder = record(sampler="always_off")
    with recorder.tracer.start_as_current_span("root") as root:
        recorder.tracer.start_span("child").end()
        assert not root.is_recording()
        assert root.get_span_context().is_valid
    snapshot = recorder.ledger.snapshot()
    assert (snapshot.ended, snapshot.sampled_out) == (2, 2)
    assert recorder.spans() == []


def test_pause_leaves_new_spans_out_and_lets_open_ones_end(record: Record) -> None:
    recorder = record()
    before = recorder.tracer.start_span("open")
    recorder.engine.pause()
    recorder.tracer.start_span("paused").end()
    before.end()
    recorder.engine.resume()
    recorder.tracer.start_span("after").end()
    assert [span.name for span in recorder.spans()] == ["open", "after"]
    assert recorder.ledger.snapshot().sampled_out == 1


def test_a_span_that_ends_after_shutdown_is_dropped_as_shutdown(record: Record) -> None:
    recorder = record()
    recorder.tracer.start_span("before").end()
    late = recorder.tracer.start_span("late")
    assert recorder.engine.shutdown(time.monotonic() + 5)
    assert recorder.engine.shutdown(time.monotonic() + 5)
    late.end()
    recorder.tracer.start_span("later").end()
    assert recorder.dropped() == {"shutdown": 2}
    assert [span.name for span in recorder.spans()] == ["before"]


def test_shutdown_without_time_drops_what_waits_and_says_so(record: Record) -> None:
    recorder = record()
    recorder.tracer.start_span("waiting").end()
    assert not recorder.engine.shutdown(time.monotonic() - 1)
    assert recorder.dropped() == {"shutdown": 1}


def test_flush_hands_on_everything_in_batches(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=60_000, batch_max_export_batch_size=100)
    for number in range(250):
        recorder.tracer.start_span(str(number)).end()
    assert len(recorder.spans()) == 250
    assert max(items for _, _, items in recorder.requests) == 100


def test_the_thread_delivers_by_itself(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=20)
    recorder.tracer.start_span("a").end()
    deadline_s = time.monotonic() + 10
    while not recorder.requests and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert len(recorder.requests) == 1


def test_counts_stay_exact_with_many_threads(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=5, batch_max_queue_size=300, batch_max_export_batch_size=50)

    def work() -> None:
        for number in range(400):
            recorder.tracer.start_span(str(number)).end()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush()
    snapshot = recorder.ledger.snapshot()
    assert snapshot.ended == 3200
    assert snapshot.delivered + recorder.dropped().get("queue_full", 0) == 3200
    assert sum(items for _, _, items in recorder.requests) == snapshot.delivered
    assert sum(len(scope.spans) for one in recorder.decoded() for scope in one.resource_spans[0].scope_spans) == (
        snapshot.delivered
    )


def test_delivery_runs_with_instrumentation_suppressed(record: Record) -> None:
    recorder = record(batch_schedule_delay_ms=20)
    seen: list[Sequence[object]] = []
    keys = (
        context._SUPPRESS_INSTRUMENTATION_KEY,
        context._SUPPRESS_HTTP_INSTRUMENTATION_KEY,
        "suppress_instrumentation",
    )
    deliver = recorder.engine._batch._deliver

    def spy(signal: str, body: bytes, items: int) -> None:
        seen.append((threading.current_thread().name, *(context.get_value(key) for key in keys)))
        deliver(signal, body, items)

    recorder.engine._batch._deliver = spy
    recorder.tracer.start_span("by flush").end()
    recorder.flush()
    recorder.tracer.start_span("by thread").end()
    deadline_s = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert {one[1:] for one in seen} == {(True, True, True)}
    assert "otelagent-batch" in {one[0] for one in seen}
    assert context.get_value(keys[0]) is None


def test_ids_do_not_follow_the_applications_seed(record: Record) -> None:
    import random

    tracer = record().tracer
    ids = set()
    for _ in range(2):
        random.seed(1)
        ids.add(tracer.start_span("a").get_span_context().trace_id)
    assert len(ids) == 2


def test_the_resource_is_readable_and_the_engine_says_why(record: Record) -> None:
    engine = record().engine
    resource: Mapping[str, object] = engine.resource
    assert resource["service.name"] == "shop"
    assert engine.reason == f"engine is set to {engine.name}"


def test_the_log_of_a_failing_encoder_is_limited(record: Record, caplog: pytest.LogCaptureFixture) -> None:
    recorder = record()
    with caplog.at_level(logging.DEBUG):
        for _ in range(50):
            recorder.tracer.start_span("a", attributes={"bad": "\ud800"}).end()
        assert len(recorder.spans()) == 50
    assert len([one for one in caplog.records if one.name.startswith("opentelemetry.exporter")]) <= 1
