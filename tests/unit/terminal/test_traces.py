"""From spans to what is complete."""

from __future__ import annotations

from otelagent.terminal import LocalTraces
from otelagent.terminal.traces import MAX_WAITING
from tests.unit.terminal.requests import Request


def names(traces: LocalTraces, request: Request) -> list[tuple[str, int, bool]]:
    return [(one.root.name, one.count, one.late) for one in traces.take(request.spans())]


def test_a_trace_that_comes_in_several_requests() -> None:
    traces = LocalTraces()
    assert names(traces, Request().span("leaf", 3, 2)) == []
    assert names(traces, Request().span("middle", 2, 1)) == []
    assert names(traces, Request().span("root", 1)) == [("root", 3, False)]


def test_a_remote_parent_makes_a_root_and_each_has_its_own() -> None:
    request = Request().span("query", 4, 3).span("server", 3, 2, remote=True)
    request.span("client", 2, 1, took_ms=2).span("root", 1, took_ms=3)
    assert names(LocalTraces(), request) == [("server", 2, False), ("root", 2, False)]


def test_who_ends_after_the_root_is_late_with_what_is_below() -> None:
    traces = LocalTraces()
    assert names(traces, Request().span("leaf of the late", 3, 2).span("root", 1)) == [("root", 1, False)]
    assert names(traces, Request().span("late", 2, 1)) == [("late", 2, True)]
    assert names(traces, Request().span("later", 4, 3)) == [("later", 1, True)]


def test_what_still_runs_is_not_shown() -> None:
    request = Request().span("root", 1)
    request.message.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = 0
    assert request.spans() == []


def test_the_span_in_which_a_process_was_forked_is_elsewhere() -> None:
    traces = LocalTraces(inherited=(7).to_bytes(8, "big"))
    assert names(traces, Request().span("leaf", 3, 2).span("task", 2, 7)) == [("task", 2, False)]


def test_an_encoder_that_does_not_say_where_the_parent_is() -> None:
    request = Request().span("query", 3, 2).span("server", 2, 1, kind="SERVER")
    for group in request.message.resource_spans:
        group.scope_spans[0].spans[0].flags = 0
    assert names(LocalTraces(), request) == [("server", 2, False)]


def test_of_a_trace_with_too_many_spans_the_rest_is_counted() -> None:
    traces = LocalTraces()
    for batch in range(6):
        request = Request()
        for number in range(500):
            request.span("step", 10 + batch * 500 + number, 2, failed=batch == 5)
        assert traces.take(request.spans()) == []
    (trace,) = traces.take(Request().span("between", 2, 1).span("root", 1).spans())
    assert (trace.count, trace.errors) == (3002, 500)
    assert len(trace.spans) == 2001
    assert names(traces, Request().span("next", 1)) == [("next", 1, False)]


def test_memory_is_bounded_when_no_root_comes() -> None:
    traces = LocalTraces()
    for trace in range(60):
        request = Request()
        for number in range(400):
            request.span("step", 2 + number, 1, trace=trace.to_bytes(16, "big"))
        traces.take(request.spans())
    waiting = sum(len(one.spans) for one in traces._waiting.values())
    assert waiting == traces._waiting_spans <= MAX_WAITING
    assert names(traces, Request().span("root", 1, trace=(59).to_bytes(16, "big"))) == [("root", 401, False)]
    assert names(traces, Request().span("root", 1, trace=bytes(16))) == [("root", 1, False)]


def test_memory_is_bounded_when_one_trace_never_ends() -> None:
    traces = LocalTraces()
    for batch in range(30):
        request = Request().span("root", 10**6 + batch)
        for number in range(1000):
            request.span("step", 1 + batch * 1000 + number, 10**6 + batch)
        traces.take(request.spans())
    assert traces._shown_spans == sum(map(len, traces._shown.values())) <= 20_000
