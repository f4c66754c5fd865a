"""What a hook may do, what happens when it fails, and the calls that aren't described at all."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

from otelagent.patching import Call, Instrumentation, hook
from otelagent.patching.hook import MAX_HOOK_FAILURES
from otelagent.patching.operation import attach, detach
from otelagent.patching.switch import SWITCH
from otelagent.semconv.call import CallDescription, Internal
from tests.instrumentation.capture import Applied, Spans, span_id
from tests.unit.patching.conftest import Library

M = "target_library"
Hook = Callable[[Call], Any]


def instrumentation(
    hook_body: Hook, path: str = "function", after: Hook | None = None, **options: Any
) -> type[Instrumentation]:
    """An instrumentation whose one hook is `hook_body`, and `after` sees the outcome."""

    def describe(self: Any, call: Call) -> Any:
        return hook_body(call)

    def outcome(self: Any, call: Call) -> None:
        if after is not None:
            after(call)

    layer = options.pop("layer", None)
    described = hook(M, path, after=None if after is None else outcome, **options)(describe)
    return type("Made", (Instrumentation,), {"name": M, "layer": layer, "call": described, "outcome": outcome})


@contextmanager
def attached(context: Context) -> Iterator[None]:
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


class TestOutcome:
    def test_a_hook_sees_the_result_and_may_replace_it(self, library: Library, spans: Spans, apply: Applied) -> None:
        def after(call: Call) -> None:
            call.set("result", call.result[0])
            call.set("absent", None)
            call.rename("after")
            call.result = "replaced"

        apply(instrumentation(lambda call: Internal("before"), after=after))
        assert library().function(7) == "replaced"
        assert dict(spans.one("after").attributes or {}) == {"result": 7}

    def test_a_hook_sees_the_error(self, library: Library, spans: Spans, apply: Applied) -> None:
        seen = []

        def after(call: Call) -> None:
            seen.append(call.error)
            call.fail("my_reason")

        apply(instrumentation(lambda call: Internal("x"), after=after))
        error = ValueError("v")
        with pytest.raises(ValueError):
            library().function(7, fail=error)
        assert seen == [error]
        assert (spans.one("x").attributes or {})["error.type"] == "my_reason"

    def test_a_hook_changes_what_is_passed_on(self, library: Library, apply: Applied) -> None:
        def call(call: Call) -> None:
            call.args = ("changed",)
            call.kwargs["fail"] = None

        apply(instrumentation(call))
        apply(instrumentation(call, "Parent.method"))
        apply(instrumentation(call, "coroutine"))
        module = library()
        assert module.Parent().method("given", fail=KeyError())[0] == "changed"
        assert module.function("given", fail=KeyError())[0] == "changed"
        assert asyncio.run(module.coroutine("given", fail=KeyError()))[0] == "changed"

    def test_attributes_without_value_are_left_out(self, library: Library, spans: Spans, apply: Applied) -> None:
        apply(instrumentation(lambda call: Internal("x", {"a": 1, "b": None})))
        library().function(1)
        assert dict(spans.one("x").attributes or {}) == {"a": 1}

    def test_later_keeps_the_span_open(self, library: Library, spans: Spans, apply: Applied) -> None:
        kept: list[Call] = []

        def after(call: Call) -> None:
            call.later()
            kept.append(call)

        apply(instrumentation(lambda call: Internal("later"), after=after))
        library().function(1)
        assert spans.names() == []
        kept[0].end()
        kept[0].end()
        assert spans.names() == ["later"]

    def test_later_is_nothing_to_a_call_that_raised(self, library: Library, spans: Spans, apply: Applied) -> None:
        apply(instrumentation(lambda call: Internal("later"), after=Call.later))
        with pytest.raises(ValueError):
            library().function(1, fail=ValueError())
        assert spans.names() == ["later"]

    def test_an_exception_that_has_no_text(self, library: Library, spans: Spans, apply: Applied) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        apply(instrumentation(lambda call: Internal("x")))
        with pytest.raises(Mute):
            library().function(1, fail=Mute())
        assert spans.one("x").status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("after", [None, lambda call: None], ids=["nothing after", "after"])
@pytest.mark.parametrize("path", ["function", "coroutine", "generator", "async_generator"])
def test_a_call_that_needs_no_span(
    after: Hook | None, path: str, library: Library, spans: Spans, apply: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    from tests.unit.patching.test_wrap import drive

    apply(instrumentation(lambda call: None, path, after))
    with spans.tracer.start_as_current_span("caller"):
        outcome = drive(getattr(library(), path)(1))
    inside = outcome[0][1] if isinstance(outcome, list) else outcome[1]
    assert inside == span_id(spans.one("caller"))
    assert spans.names() == ["caller"]
    assert caplog.records == []


def test_the_outcome_of_a_call_without_span_is_seen(library: Library, apply: Applied) -> None:
    seen: list[object] = []

    apply(instrumentation(lambda call: None, after=lambda call: seen.append((call.result, call.error))))
    library().function(1)
    error = ValueError()
    with pytest.raises(ValueError):
        library().function(1, fail=error)
    assert seen == [((1, 0), None), (None, error)]


def test_the_outcome_is_none_of_its_business_where_nothing_was_described(
    library: Library, apply: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Call] = []
    apply(instrumentation(lambda call: Internal("x"), after=seen.append, carrier=lambda call: {}, incoming=True))
    library().function(1)
    monkeypatch.setattr(SWITCH, "recording", False)
    library().function(1)
    assert len(seen) == 1


def raises(call: Call) -> Internal:
    raise RuntimeError("hook")


def describes_nonsense(call: Call) -> Any:
    return "nonsense"


def describes(call: Call) -> Internal:
    return Internal("x")


FAILING = [(raises, None), (describes_nonsense, None), (describes, raises)]


@pytest.mark.parametrize(("body", "after"), FAILING)
@pytest.mark.parametrize("path", ["function", "coroutine", "generator", "async_generator", "Parent.method"])
def test_a_failing_hook_is_warned_of_once_then_off(
    body: Hook,
    after: Hook | None,
    path: str,
    library: Library,
    spans: Spans,
    apply: Applied,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from tests.unit.patching.test_wrap import drive

    applied = apply(instrumentation(body, path, after))
    module = library()
    target = module.Parent().method if path == "Parent.method" else getattr(module, path)
    with caplog.at_level(logging.WARNING):
        for _ in range(MAX_HOOK_FAILURES + 3):
            outcome = drive(target(1))
            value = outcome[0][0] if isinstance(outcome, list) else outcome[0]
            assert value in (0, 1)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "failed, the call goes on without it" in messages[0]
    assert f"is off after {MAX_HOOK_FAILURES} failures" in messages[1]
    assert f"off after repeated failures: {module.__name__}:{path}" in applied.problem()
    # A span that was begun is ended, also when the hook failed afterwards.
    assert spans.names() == ["x"] * (0 if after is None else MAX_HOOK_FAILURES)


@pytest.mark.parametrize("path", ["function", "coroutine", "generator", "async_generator"])
def test_a_span_that_could_not_be_passed_on_is_still_the_calls(
    path: str, library: Library, spans: Spans, apply: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.patching.test_wrap import drive

    def refuse(*_: Any) -> None:
        raise OSError("a propagator of the application's own")

    monkeypatch.setattr(propagate, "inject", refuse)
    apply(instrumentation(lambda call: Internal("x", outbound={}), path))
    outcome = drive(getattr(library(), path)(1))
    inside = outcome[0][1] if isinstance(outcome, list) else outcome[1]
    assert inside == span_id(spans.one("x"))
    assert not context_api.get_current()


@pytest.mark.parametrize("error", [RecursionError, MemoryError])
def test_limits_that_the_application_meets_are_not_the_hooks_failure(
    error: type[Exception], library: Library, spans: Spans, apply: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    met = [error()] * (2 * MAX_HOOK_FAILURES)

    def call(call: Call) -> Internal:
        if met:
            raise met.pop()
        return Internal("x")

    applied = apply(instrumentation(call))
    for _ in range(2 * MAX_HOOK_FAILURES + 1):
        assert library().function(1)[0] == 1
    assert spans.names() == ["x"]
    assert applied.problem() == ""
    assert caplog.records == []


def test_a_failing_hook_leaves_the_error_of_the_call(library: Library, apply: Applied) -> None:
    apply(instrumentation(describes, after=raises))
    with pytest.raises(KeyError, match="mine"):
        library().function(1, fail=KeyError("mine"))


def fails_to_log(record: logging.LogRecord) -> bool:
    raise MemoryError


def test_a_failure_that_cannot_be_logged_leaves_the_error_of_the_call(library: Library, apply: Applied) -> None:
    apply(instrumentation(describes, after=raises))
    log = logging.getLogger("otelagent.instrumentation")
    log.addFilter(fails_to_log)
    try:
        assert library().function(1)[0] == 1
        with pytest.raises(KeyError, match="mine"):
            library().function(1, fail=KeyError("mine"))
    finally:
        log.removeFilter(fails_to_log)


@pytest.mark.parametrize("after", [None, raises], ids=["nothing after", "after"])
def test_what_a_call_raises_close_to_the_recursion_limit_is_its_own(
    after: Hook | None, library: Library, apply: Applied
) -> None:
    apply(instrumentation(describes, after=after))
    function: Callable[..., Any] = library().function
    outcomes: list[tuple[KeyError, Exception]] = []

    def descend(frames: int, mine: KeyError) -> None:
        if frames:
            descend(frames - 1, mine)
        function(1, fail=mine)

    room = sys.getrecursionlimit() - len(inspect.stack(0))
    for left in range(150):
        mine = KeyError("mine")
        try:
            descend(room - left, mine)
        except (KeyError, RecursionError) as error:
            if mine.__traceback__ is not None:  # The function was reached.
                outcomes.append((mine, error))
    assert len(outcomes) > 100
    assert all(error is mine for mine, error in outcomes)


class Counting:
    """A client call's hook that counts how often it is asked to describe."""

    def __init__(self) -> None:
        self.described = 0

    def describe(self, call: Call) -> CallDescription:
        self.described += 1
        return Internal("call", outbound=call.args[0])

    def apply(self, apply: Applied, **options: Any) -> Instrumentation:
        def call(call: Call) -> CallDescription:
            return self.describe(call)

        return apply(instrumentation(call, carrier=lambda call: call.args[0], **options))


LOCAL_UNSAMPLED = NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(0)))
REMOTE_UNSAMPLED = NonRecordingSpan(SpanContext(7, 8, True, TraceFlags(0)))
SAMPLED = NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(1)))
HEADERS = {"traceparent": f"00-{7:032x}-{8:016x}-00"}


class TestUndescribed:
    """Suppressed, paused, unsampled, nested: headers are passed on, and nothing else is built."""

    def test_under_an_unsampled_local_span(self, library: Library, spans: Spans, apply: Applied) -> None:
        hook = Counting()
        hook.apply(apply)
        headers: dict[str, str] = {}
        with attached(trace.set_span_in_context(LOCAL_UNSAMPLED)):
            assert library().function(headers)[1] == 8
        assert (headers, hook.described, spans.names()) == (HEADERS, 0, [])

    def test_under_an_unsampled_local_span_whose_children_a_sampler_may_want(
        self, library: Library, apply: Applied, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SWITCH, "follows_parent", False)
        hook = Counting()
        hook.apply(apply)
        with attached(trace.set_span_in_context(LOCAL_UNSAMPLED)):
            library().function({})
        assert hook.described == 1

    @pytest.mark.parametrize("span", [REMOTE_UNSAMPLED, SAMPLED])
    def test_under_a_remote_or_sampled_span(self, span: trace.Span, library: Library, apply: Applied) -> None:
        hook = Counting()
        hook.apply(apply)
        with attached(trace.set_span_in_context(span)):
            library().function({})
        assert hook.described == 1

    @pytest.mark.parametrize("path", ["function", "coroutine", "generator", "async_generator"])
    def test_while_paused(
        self, path: str, library: Library, spans: Spans, apply: Applied, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests.unit.patching.test_wrap import drive

        described = Counting()

        def call(call: Call) -> CallDescription:
            return described.describe(call)

        carried: dict[str, str] = {}
        apply(instrumentation(call, path, carrier=lambda call: carried))
        monkeypatch.setattr(SWITCH, "recording", False)
        with attached(trace.set_span_in_context(LOCAL_UNSAMPLED)):
            drive(getattr(library(), path)(1))
        assert (carried, described.described, spans.names()) == (HEADERS, 0, [])

    @pytest.mark.parametrize("key", [context_api._SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation"])
    def test_suppressed(self, key: str, library: Library, spans: Spans, apply: Applied) -> None:
        hook = Counting()
        hook.apply(apply)
        headers: dict[str, str] = {}
        with attached(context_api.set_value(key, True, trace.set_span_in_context(SAMPLED))):
            library().function(headers)
        assert (list(headers), hook.described, spans.names()) == (["traceparent"], 0, [])

    def test_http_suppressed_is_suppressed_for_http_alone(self, library: Library, spans: Spans, apply: Applied) -> None:
        http, other = Counting(), Counting()
        http.apply(apply, layer="http")
        other.apply(apply, path="Parent.method")
        with attached(context_api.set_value(context_api._SUPPRESS_HTTP_INSTRUMENTATION_KEY, True)):
            library().function({})
            library().Parent().method({})
        assert (http.described, other.described) == (0, 2 if other is http else 1)

    def test_nested_in_its_own_layer(self, library: Library, spans: Spans, apply: Applied) -> None:
        apply(instrumentation(lambda call: Internal("inner"), "function", layer="db"))
        apply(instrumentation(lambda call: Internal("outer"), "Parent.method", layer="db"))
        apply(instrumentation(lambda call: Internal("http"), "Parent.static", layer="http"))
        library().Parent().method(1)
        library().Parent().static(1)
        assert spans.tree() == "INTERNAL outer\nINTERNAL http\n  INTERNAL inner"


class TestIncoming:
    """A message or job takes its parent from what it carries, whatever is current and whatever is recorded."""

    @pytest.fixture
    def received(self, library: Library, apply: Applied) -> Any:
        apply(
            instrumentation(
                lambda call: CallDescription("process", inbound=call.args[0]),
                carrier=lambda call: call.args[0],
                incoming=True,
            )
        )
        return library().function

    SENT: dict[str, str] = {"traceparent": f"00-{21:032x}-{22:016x}-01"}  # noqa: RUF012

    @pytest.mark.parametrize("current", [trace.INVALID_SPAN, LOCAL_UNSAMPLED, SAMPLED])
    def test_parent(self, current: trace.Span, received: Any, spans: Spans) -> None:
        with attached(trace.set_span_in_context(current)):
            received(self.SENT)
        span = spans.one("process")
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == (21, 22)

    @pytest.mark.parametrize("current", [trace.INVALID_SPAN, LOCAL_UNSAMPLED, SAMPLED])
    def test_no_parent(self, current: trace.Span, received: Any, spans: Spans) -> None:
        with attached(trace.set_span_in_context(current)):
            received({})
        assert spans.one("process").parent is None

    def test_while_paused(self, received: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SWITCH, "recording", False)
        with attached(trace.set_span_in_context(SAMPLED)):
            assert received(self.SENT)[1] == 22
            assert received({})[1] == 0
            assert trace.get_current_span() is SAMPLED
        assert spans.names() == []


def test_links(library: Library, spans: Spans, apply: Applied) -> None:
    apply(instrumentation(lambda call: CallDescription("batch", links=tuple(call.args[0]))))
    library().function([TestIncoming.SENT, {}, {"traceparent": "garbage"}])
    assert [link.context.span_id for link in spans.one("batch").links] == [22]


def test_what_is_sent_is_the_calls_own_span(library: Library, spans: Spans, apply: Applied) -> None:
    Counting().apply(apply)
    headers: dict[str, str] = {}
    library().function(headers)
    sent = trace.get_current_span(propagate.extract(headers, Context())).get_span_context()
    assert sent.span_id == span_id(spans.one("call"))
