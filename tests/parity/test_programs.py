"""The same program gives the same request with either engine, field by field; times and ids apart."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otelagent.record.sampling import build_sampler
from tests.support import native_or_skip
from tests.unit.record.recorder import Recorder

SETTINGS: dict[str, Any] = {
    "attribute_count_limit": 4,
    "attribute_value_length_limit": 6,
    "event_count_limit": 3,
    "link_count_limit": 3,
    "batch_schedule_delay_ms": 60_000,
}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
keys = st.sampled_from(["a", "b", "c", "d", "e", "ключ"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    text,
    st.binary(max_size=6),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(text.filter(bool), st.integers(1, 9)), inner, max_size=3),
    ),
    max_leaves=5,
)
attribute_maps = st.dictionaries(keys, values, max_size=4)
optional_maps = st.one_of(st.none(), attribute_maps)
times = st.integers(1, 2**63)
states = st.sampled_from([None, TraceState([("v", "1"), ("w", "x y")])])
contexts = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(bits) for bits in (1, 3, 0x81)]),
    states,
)
links = st.builds(lambda context, attributes: (context, attributes), contexts, optional_maps)
# The sdk engine counts a link over the limit as dropped even if it is no valid one.
valid_links = links.filter(lambda link: link[0].is_valid)
statuses = st.one_of(
    st.tuples(st.sampled_from(StatusCode), st.one_of(st.none(), text)),
    st.tuples(st.builds(Status, st.just(StatusCode.ERROR), text)),
    st.tuples(st.just(Status(StatusCode.OK))),
)
errors = st.sampled_from([ValueError("x"), KeyError("k"), OSError(2, "no"), RuntimeError("é")])

steps = st.one_of(
    st.tuples(st.just("set_attribute"), st.tuples(keys, values)),
    st.tuples(st.just("set_attribute"), st.tuples(st.just(""), values)),
    st.tuples(st.just("set_attributes"), st.tuples(attribute_maps)),
    st.tuples(st.just("add_event"), st.tuples(text, optional_maps, times)),
    st.tuples(st.just("add_link"), valid_links),
    st.tuples(st.just("update_name"), st.tuples(text)),
    st.tuples(st.just("set_status"), statuses),
    st.tuples(st.just("record_exception"), st.tuples(errors, optional_maps, times)),
    st.tuples(st.just("end"), st.tuples(times)),
)
spans = st.fixed_dictionaries(
    {
        "name": text,
        "parent": st.one_of(st.none(), st.just("current"), contexts),
        "kind": st.sampled_from(SpanKind),
        "attributes": st.one_of(st.none(), st.dictionaries(keys, values, max_size=6)),
        "links": st.lists(links, max_size=3),
        "steps": st.lists(steps, max_size=8),
        "raises": st.one_of(st.none(), errors),
        "scope": st.sampled_from(
            [("scope", "1.0"), ("other", None, "https://schema"), ("third", "2", None, {"k": [1]})]
        ),
        "current": st.booleans(),
    }
)


def run(recorder: Recorder, program: list[dict[str, Any]]) -> None:
    """Makes the program's spans, each around the next."""
    if not program:
        return
    one, *rest = program
    context = None
    if isinstance(one["parent"], SpanContext):
        context = trace.set_span_in_context(trace.NonRecordingSpan(one["parent"]), Context())
    elif one["parent"] is None:
        context = Context()
    start: dict[str, Any] = {
        "context": context,
        "kind": one["kind"],
        "attributes": one["attributes"],
        "links": [Link(linked, attributes) for linked, attributes in one["links"]],
        "start_time": 1,
    }
    tracer = recorder.engine.provider.get_tracer(*one["scope"])
    begin = tracer.start_as_current_span if one["current"] else tracer.start_span
    try:
        with begin(one["name"], **start) as span:
            for method, arguments in one["steps"]:
                getattr(span, method)(*arguments)
            run(recorder, rest)
            if one["raises"] is not None:
                raise one["raises"].with_traceback(None)
    except Exception as error:
        if error is not one["raises"]:
            raise


def normal(recorder: Recorder) -> list[object]:
    """The requests without what is different in each run: ids (numbered as they come), the clock's times, stacks."""
    assert recorder.flush()
    numbers: dict[bytes, int] = {}

    def number(span_id: bytes) -> int:
        return numbers.setdefault(span_id, len(numbers)) if span_id else -1

    requests = recorder.decoded()
    got: list[object] = []
    for request in requests:
        for resource in request.resource_spans:
            for pair in resource.resource.attributes:
                if pair.key == "service.instance.id":
                    pair.value.string_value = ""
            got.append(resource.resource)
            for scope in resource.scope_spans:
                got += [scope.scope, scope.schema_url]
                got += [
                    (number(one.trace_id), number(one.span_id), number(one.parent_span_id), Plain(plain(one)))
                    for one in scope.spans
                ]
    return got


class Plain:
    """A span that equals another of the same bytes: NaN isn't equal to itself."""

    def __init__(self, span: Span) -> None:
        self.span = span

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self._bytes() == other._bytes()

    def _bytes(self) -> bytes:
        return self.span.SerializeToString(deterministic=True)

    def __repr__(self) -> str:
        return str(self.span)


def plain(span: Span) -> Span:
    span.trace_id = span.span_id = span.parent_span_id = b""
    if span.end_time_unix_nano > 2**60:
        span.end_time_unix_nano = 0
    for link in span.links:
        link.trace_state = ""  # test_differences.py
    for event in span.events:
        if event.name == "exception" and event.time_unix_nano > 2**60:
            event.time_unix_nano = 0
        for pair in event.attributes:
            if pair.key == "exception.stacktrace":
                pair.value.string_value = ""
    return span


@pytest.fixture(scope="module")
def pair() -> Any:
    native_or_skip()
    recorders = [Recorder(engine=engine, **SETTINGS) for engine in ("sdk", "native")]
    yield recorders
    for recorder in recorders:
        recorder.close()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(spans, min_size=1, max_size=4))
def test_random_programs(pair: list[Recorder], program: list[dict[str, Any]]) -> None:
    requests = []
    for recorder in pair:
        recorder.requests.clear()
        run(recorder, program)
        requests.append(normal(recorder))
    sdk, native = requests
    assert native == sdk
    counts = [recorder.ledger.snapshot() for recorder in pair]
    assert counts[0] == counts[1]


class Raising:
    """A value whose text can't be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class RaisingList(list[Any]):
    """A sequence that can't be read to its end."""

    def __iter__(self) -> Iterator[Any]:
        yield 1
        raise RuntimeError("no more")


class Nothing:
    """Says nothing of itself."""


def nested(levels: int, inside: object) -> object:
    """A value in so many lists."""
    for _ in range(levels):
        inside = [inside]
    return inside


def cyclic(inside: object) -> list[Any]:
    """A list of a value and of itself."""
    made = [inside]
    made += [made, {"again": made}]
    return made


surrogates = st.text(st.characters(categories=["Cs", "Lu", "So"]), max_size=9)
odd_scalars = st.one_of(
    scalars,
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 10**40, 2**2048]),
    st.just(5000).map(lambda digits: 10**digits),
    surrogates,
    st.builds(Raising),
    st.builds(RaisingList),
    st.builds(Nothing),
    st.decimals(),
    st.uuids(),
    st.datetimes(),
    st.fractions(),
    st.complex_numbers(),
    st.binary(max_size=9).map(bytearray),
    st.binary(max_size=9).map(lambda data: memoryview(data)[::2]),
    st.sampled_from(
        [numpy.float32(0.5), numpy.int8(-1), numpy.uint64(2**64 - 1), numpy.bool_(True), numpy.longdouble(2)]
    ),
    st.sampled_from([numpy.zeros((2, 3)), numpy.array("2026-01-01", "datetime64[ns]"), numpy.array([None, Raising()])]),
    st.sampled_from([iter([]), range(5), Raising, len, SpanKind.CLIENT, StatusCode.OK, ValueError("x"), object]),
)
odd_keys = st.one_of(
    text, surrogates, st.integers(), st.none(), st.booleans(), st.builds(Raising), st.binary(max_size=3)
)
_odd = st.recursive(
    odd_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(deque),
        st.dictionaries(odd_keys, inner, max_size=4),
        st.dictionaries(odd_keys, inner, max_size=4).map(MappingProxyType),
        st.frozensets(st.integers(), max_size=4),
        inner.map(cyclic),
        st.builds(nested, st.integers(1, 40), inner),
    ),
    max_leaves=8,
)
_odd_maps = st.one_of(
    st.dictionaries(odd_keys, _odd, max_size=6),
    st.dictionaries(odd_keys, _odd, max_size=6).map(MappingProxyType),
    _odd,
)


# Composites are described by their names alone: the descriptions of orders would be too long.
@st.composite
def odd(draw: st.DrawFn, strategy: str) -> Any:
    return draw({"values": _odd, "maps": _odd_maps}[strategy])


odd_values, odd_maps = odd("values"), odd("maps")
whose = st.integers(0, 5)
orders = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.sampled_from(["root", "current", *range(6)]), st.booleans(), odd_maps),
        st.tuples(st.just("enter"), whose, st.booleans()),
        st.tuples(st.just("leave"), whose),
        st.tuples(st.just("end"), whose),
        st.tuples(st.just("add_event"), whose, odd_maps),
        st.tuples(st.just("add_link"), whose, odd_maps),
        st.tuples(st.just("set_attributes"), whose, odd_maps),
        st.tuples(st.just("set_attribute"), whose, odd_keys, odd_values),
        st.tuples(st.just("update_name"), whose, odd_values),
        st.tuples(st.just("set_status"), whose, st.one_of(st.sampled_from(StatusCode), odd_values), odd_values),
    ),
    max_size=25,
)


def run_in_order(recorder: Recorder, order: list[tuple[Any, ...]]) -> list[int]:
    """Starts, enters, leaves and ends spans in any order; gives which span was current after each step."""
    spans: list[Any] = []
    blocks: list[Any] = []
    current: list[int] = []
    for what, *arguments in order:
        if what == "start":
            parent, as_current, given = arguments
            context = None
            if parent == "root" or (isinstance(parent, int) and not spans):
                context = Context()
            elif isinstance(parent, int):
                context = trace.set_span_in_context(spans[parent % len(spans)], Context())
            tracer = recorder.engine.provider.get_tracer(("one", "other")[len(spans) % 2])
            name = f"span {len(spans)}"
            if as_current:
                blocks.append(tracer.start_as_current_span(name, context, attributes=given, start_time=1))
                spans.append(blocks[-1].__enter__())
            else:
                spans.append(tracer.start_span(name, context, attributes=given, start_time=1))
        elif what == "leave":
            if blocks:
                blocks.pop(arguments[0] % len(blocks)).__exit__(None, None, None)
        elif spans:
            span = spans[arguments[0] % len(spans)]
            if what == "enter":
                blocks.append(trace.use_span(span, end_on_exit=arguments[1]))
                blocks[-1].__enter__()
            elif what == "end":
                span.end(2)
            elif what == "add_event":
                span.add_event("event", arguments[1], 3)
            elif what == "add_link":
                span.add_link(SpanContext(1, 2, False), arguments[1])
            else:
                getattr(span, what)(*arguments[1:])
        now = trace.get_current_span()
        current.append(next((at for at, span in enumerate(spans) if span is now), -1))
    while blocks:
        blocks.pop().__exit__(None, None, None)
    for span in spans:
        span.end(4)
    return current


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=orders)
def test_random_orders_and_odd_values(pair: list[Recorder], order: list[tuple[Any, ...]]) -> None:
    seen = []
    for recorder in pair:
        recorder.requests.clear()
        current = contextvars.copy_context().run(run_in_order, recorder, order)
        requests = normal(recorder)
        seen.append((current, requests))
    sdk, native = seen
    assert native == sdk
    counts = [recorder.ledger.snapshot() for recorder in pair]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("sampler", "arg"),
    [
        ("always_on", None),
        ("always_off", None),
        ("traceidratio", 0.5),
        ("parentbased_always_on", None),
        ("parentbased_always_off", None),
        ("parentbased_traceidratio", 0.5),
    ],
)
@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize("flags", range(4))
def test_children_of_every_parent(
    record: Callable[..., Recorder], sampler: str, arg: float | None, remote: bool, flags: int
) -> None:
    recorder = record(sampler=sampler, sampler_arg=arg)
    state = TraceState([("v", "1")])
    for trace_id in (1, 1 << 63, (1 << 128) - 1):
        parent = SpanContext(trace_id, 7, remote, TraceFlags(flags), state)
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
        span = recorder.tracer.start_span("a", context)
        sampled = (
            build_sampler(sampler, arg).should_sample(context, trace_id, "a").decision is Decision.RECORD_AND_SAMPLE
        )
        got = span.get_span_context()
        assert got.trace_id == trace_id
        assert got.span_id not in (0, 7)
        assert got.trace_flags == (flags & 2) + sampled
        assert got.trace_state == state
        assert not got.is_remote
        assert span.is_recording() is sampled
        span.end()
    for one in recorder.spans():
        assert one.flags == (0x300 if remote else 0x100)
        assert one.trace_state == "v=1"
