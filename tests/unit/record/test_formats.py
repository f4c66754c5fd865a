"""The native engine reads and writes a call's headers without propagators: it must say what the propagators say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Setter
from opentelemetry.trace import SpanKind

from otelagent.patching.operation import SPAN_KEY
from otelagent.protocols import asgi, wsgi
from otelagent.record import headers
from otelagent.record.propagation import SafePropagator, build_propagator
from tests.support import native_or_skip
from tests.unit.record.recorder import Recorder
from tests.unit.record.test_headers import B3, IDS, PARENT, SPAN, TRACE, near

NAMES = [("tracecontext",), ("tracecontext", "baggage"), ("b3",), ("b3multi", "tracecontext"), ("tracecontext", "b3")]
WSGI: Any = wsgi._HEADERS
ASGI: Any = asgi._HEADERS


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    native_or_skip()
    recorder = Recorder(engine="native", sampler="always_on")
    yield recorder
    recorder.close()


def fast(recorder: Recorder, names: tuple[str, ...]) -> SafePropagator:
    return cast("SafePropagator", build_propagator(names, codec=recorder.engine.codec))


def begin(recorder: Recorder, names: tuple[str, ...], carrier: Any, getter: Any) -> Any:
    return recorder.tracer.begin_call(
        "x", SpanKind.SERVER, {}, Context(), None, None, None, carrier, getter, fast(recorder, names).formats
    )


def agree(recorder: Recorder, names: tuple[str, ...], carrier: Any, getter: Any) -> bool:
    """Whether the headers were read without propagators, and then as these read them."""
    begun = begin(recorder, names, carrier, getter)
    if begun is None:
        return False
    span, context = begun
    assert context == {SPAN_KEY: span}
    slow = build_propagator(names, codec=headers)
    extracted = slow.extract(carrier, Context()) if getter is None else slow.extract(carrier, Context(), getter)
    expected = trace.get_current_span(extracted).get_span_context()
    if not expected.is_valid:
        assert span.parent is None
        return True
    assert span.parent == expected
    assert span.parent.is_remote
    assert list(span.parent.trace_state.items()) == list(expected.trace_state.items())
    assert span.get_span_context().trace_id == expected.trace_id
    return True


STATE = "foo@=1,a= 2"
FIELDS = {
    "traceparent": near(PARENT, f"00-{TRACE}-{SPAN}-00"),
    "tracestate": near(STATE, ",".join(f"k{number}=1" for number in range(32))),
    "b3": near(B3, f"{TRACE}-{SPAN}"),
    "x-b3-traceid": near(TRACE),
    "x-b3-spanid": near(SPAN),
    "x-b3-sampled": st.sampled_from(["1", "0", "d", "true", ""]),
    "x-b3-flags": st.sampled_from(["1", "0", ""]),
    "host": st.just("shop"),
}
FIELD = st.sampled_from(list(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), FIELDS[name]))


@pytest.mark.parametrize("names", NAMES, ids="+".join)
@settings(database=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(fields=st.lists(FIELD, max_size=8))
@example(fields=[("traceparent", PARENT), ("tracestate", STATE), ("tracestate", "b=3")])
@example(fields=[("traceparent", PARENT), ("traceparent", PARENT)])
@example(fields=[("traceparent", PARENT), *[("tracestate", "a=1")] * 65])
@example(fields=[("traceparent", PARENT), ("b3", "x" * 9000), ("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)])
@example(fields=[("traceparent", PARENT), ("tracestate", "a=1," * 3000)])
@example(fields=[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")])
def test_headers_are_read_as_the_propagators_read_them(
    names: tuple[str, ...], fields: list[tuple[str, str]], recorder: Recorder
) -> None:
    cased = [name.title() if number % 2 else name for number, (name, _) in enumerate(fields)]
    pairs = [
        (name.encode(), value.encode("latin-1", "replace")) for name, (_, value) in zip(cased, fields, strict=True)
    ]
    assert agree(recorder, names, pairs, ASGI)
    mapping = dict(fields)
    assert agree(recorder, names, mapping, None)
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in mapping.items()}
    assert agree(recorder, names, {**environ, "REQUEST_METHOD": "GET"}, WSGI)


class Mapping(dict[str, str]):
    pass


@pytest.mark.parametrize(
    ("carrier", "getter"),
    [
        ([(b"traceparent", PARENT)], ASGI),
        ([[b"traceparent", PARENT.encode()]], ASGI),
        ([(b"traceparent", PARENT.encode(), 1)], ASGI),
        (((b"traceparent", PARENT.encode()),), ASGI),
        ({"traceparent": [PARENT]}, None),
        (Mapping(traceparent=PARENT), None),
        ({"traceparent": PARENT, "baggage": "a=1"}, None),
        ([(b"traceparent", PARENT.encode()), (b"BAGGAGE", b"")], ASGI),
        ({"traceparent": PARENT}, headers),
        (7, WSGI),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_propagators_are_asked_where_headers_lie_otherwise(recorder: Recorder, carrier: Any, getter: Any) -> None:
    assert begin(recorder, ("tracecontext", "baggage"), carrier, getter) is None


def test_a_megabyte_of_headers_is_looked_at_no_further_than_the_limits(recorder: Recorder) -> None:
    many = [(b"tracestate", b"a=1")] * 100_000 + [(b"traceparent", PARENT.encode())]
    assert agree(recorder, ("tracecontext",), many, ASGI)
    long = [(b"traceparent", PARENT.encode()), (b"tracestate", b"a=" + b"v" * 1_000_000)]
    assert agree(recorder, ("tracecontext",), long, ASGI)


class Listed(Setter[list[tuple[str, str]]]):
    def set(self, carrier: list[tuple[str, str]], key: str, value: str) -> None:
        carrier.append((key, value))


def contexts(recorder: Recorder) -> list[Context]:
    sampled = begin(recorder, ("tracecontext",), {"traceparent": PARENT, "tracestate": STATE}, None)[1]
    return [
        sampled,
        begin(recorder, ("tracecontext",), {}, None)[1],
        baggage.set_baggage("a", "1", sampled),
        Context(),
        trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(*IDS, True)), Context()),
    ]


@pytest.mark.parametrize("names", NAMES, ids="+".join)
@pytest.mark.parametrize("at", range(5))
def test_headers_are_written_as_the_propagators_write_them(recorder: Recorder, names: tuple[str, ...], at: int) -> None:
    context = contexts(recorder)[at]
    expected: dict[str, str] = {}
    build_propagator(names, codec=headers).inject(expected, context)
    got: dict[str, str] = {}
    fast(recorder, names).inject(got, context)
    assert got == expected
    listed: list[tuple[str, str]] = []
    fast(recorder, names).inject(listed, context, Listed())
    assert dict(listed) == expected


def test_a_carrier_that_refuses_reaches_nobody(recorder: Recorder) -> None:
    class Refusing(dict[str, str]):
        def __setitem__(self, key: str, value: str) -> None:
            raise OSError("gone")

    fast(recorder, ("tracecontext",)).inject(Refusing(), contexts(recorder)[0])


def test_only_formats_that_are_known_are_done_without_propagators(recorder: Recorder) -> None:
    assert fast(recorder, ("tracecontext", "jaeger")).formats is None
    with pytest.raises(ValueError, match="jaeger"):
        recorder.engine.codec.formats(["jaeger"], dict)
    make: Callable[..., Any] = recorder.engine.codec.formats
    assert make([], dict).inject({}, contexts(recorder)[0]) is True
