from __future__ import annotations

import time
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator

from otelagent.errors import ConfigError
from otelagent.record.propagation import ENTRY_POINT_GROUP, BoundedGetter, SafePropagator, build_propagator
from otelagent.record.trace_context import Level2TraceState
from tests.support import native_or_skip

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"

W3C = build_propagator(("tracecontext", "baggage"))
ALL = build_propagator(("tracecontext", "baggage", "b3", "b3multi", "jaeger"))


def extracted(carrier: Mapping[str, Any], propagator: TextMapPropagator = W3C) -> trace.SpanContext:
    return trace.get_current_span(propagator.extract(carrier, Context())).get_span_context()


def test_the_names_of_the_specification() -> None:
    assert ALL.fields == {
        "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "uber-trace-id",
    }  # fmt: skip
    assert build_propagator(("tracecontext", "tracecontext")).fields == {"traceparent", "tracestate"}
    with pytest.raises(ConfigError) as raised:
        build_propagator(("tracecontext", "b33"), "OTEL_PROPAGATORS")
    assert (raised.value.setting, raised.value.value, raised.value.source) == ("propagators", "b33", "OTEL_PROPAGATORS")


@pytest.mark.parametrize("module", ["otelagent.record.headers", "otelagent_native"])
@pytest.mark.parametrize("name", ["tracecontext", "b3", "b3multi", "jaeger"])
def test_each_reads_what_it_writes(name: str, module: str) -> None:
    if module == "otelagent_native":
        native_or_skip()
    codec: Any = import_module(module)
    propagator = build_propagator((name,), codec=codec)
    sent = trace.SpanContext(int(TRACE, 16), int(SPAN, 16), False, trace.TraceFlags(1))
    carrier: dict[str, str] = {}
    propagator.inject(carrier, trace.set_span_in_context(trace.NonRecordingSpan(sent), Context()))
    assert carrier
    got = extracted(carrier, propagator)
    assert (got.trace_id, got.span_id, got.trace_flags.sampled, got.is_remote) == (
        sent.trace_id,
        sent.span_id,
        True,
        True,
    )


def test_none_leaves_the_context_alone() -> None:
    propagator = build_propagator(("none",))
    carrier: dict[str, str] = {"traceparent": PARENT}
    propagator.inject(carrier)
    assert carrier == {"traceparent": PARENT}
    assert propagator.fields == set()
    given_context = context.set_value("k", "v", Context())
    assert propagator.extract(carrier, given_context) is given_context
    assert propagator.extract(carrier) == context.get_current()


@pytest.mark.parametrize("traceparent", [PARENT, [PARENT], (PARENT,)])
def test_a_valid_parent(traceparent: object) -> None:
    got = extracted({"traceparent": traceparent})
    assert (got.trace_id, got.span_id, got.trace_flags) == (int(TRACE, 16), int(SPAN, 16), 1)
    assert got.is_remote


# What one header holds is in test_headers.
HOSTILE_PARENTS: list[object] = [
    "garbage",
    f"{PARENT},{PARENT}",
    [PARENT, PARENT],
    [PARENT, f"00-{TRACE}-{SPAN}-00"],
    [PARENT] * 10_000,
    [],
    f"01-{TRACE}-{SPAN}-01-" + "x" * 1_000_000,
    "\ud800",
    None,
    7,
    [7],
    [None],
    PARENT.encode(),
]


@pytest.mark.parametrize("traceparent", HOSTILE_PARENTS, ids=lambda value: repr(value)[:30])
def test_a_bad_parent_is_a_new_root(traceparent: object) -> None:
    started_s = time.perf_counter()
    assert extracted({"traceparent": traceparent, "tracestate": "a=1"}) == trace.INVALID_SPAN_CONTEXT
    assert time.perf_counter() - started_s < 0.1


def state(*values: str) -> dict[str, str]:
    got = extracted({"traceparent": PARENT, "tracestate": list(values)})
    assert got.is_valid  # Whatever is wrong with tracestate, the parent stands.
    return dict(got.trace_state)


def test_a_wrong_tracestate_costs_only_itself() -> None:
    assert state("a=1", "b=2,a=3") == {"a": "1", "b": "2"}
    for wrong in (["a=1,b"], ["a=\ud800"], ["a=1"] * 10_000, ["," * 1_000_000]):
        assert state(*wrong) == {}


def test_a_level_2_tracestate_survives_being_changed_and_sent_on() -> None:
    before = Level2TraceState([("foo@", "1"), ("1a", "2")])
    assert before.add("new", "3").to_header() == "new=3,foo@=1,1a=2"
    assert before.update("1a", "4").to_header() == "1a=4,foo@=1"
    assert before.update("new", "4").to_header() == "new=4,foo@=1,1a=2"
    assert before.delete("foo@").to_header() == "1a=2"
    for unchanged in (before.add("foo@", "x"), before.add("@", "x"), before.update("a", "="), before.delete("b")):
        assert unchanged is before
    full = Level2TraceState([(f"k{number}", "1") for number in range(32)])
    assert full.add("one", "more") is full
    assert full.update("one", "more") is full
    assert full.update("k31", "2").to_header().startswith("k31=2,k0=1")

    carrier: dict[str, str] = {}
    W3C.inject(carrier, W3C.extract({"traceparent": PARENT, "tracestate": "foo@=1,1a=2"}, Context()))
    assert carrier == {"traceparent": PARENT, "tracestate": "foo@=1,1a=2"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1,b=2", {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        ("a=%20x%20", {"a": "x"}),
        ("a", {}),
        ("=1", {}),
        ("a=" + "x" * 1_000_000, {}),
        (["a=1"] * 10_000, {}),
        ("\ud800=1", {}),
        (7, {}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_baggage(header: object, expected: dict[str, str]) -> None:
    started_s = time.perf_counter()
    assert dict(baggage.get_all(W3C.extract({"baggage": header}, Context()))) == expected
    assert time.perf_counter() - started_s < 0.1


@pytest.mark.parametrize(
    ("carrier", "valid"),
    [
        ({"b3": f"{TRACE}-{SPAN}-1"}, True),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}, True),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-flags": "1"}, True),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": SPAN}, False),
        ({"b3": [f"{TRACE}-{SPAN}-1"] * 2}, None),
        ({"b3": "0", "x-b3-traceid": TRACE, "x-b3-spanid": SPAN, "x-b3-sampled": "1"}, None),
        ({"x-b3-traceid": TRACE, "x-b3-spanid": [SPAN] * 2, "x-b3-sampled": "1"}, None),
    ],
    ids=lambda value: repr(value)[:60],
)
@pytest.mark.parametrize("name", ["b3", "b3multi"])
def test_both_forms_of_b3_are_read_by_either(name: str, carrier: dict[str, Any], valid: bool | None) -> None:
    """:param valid: whether the parent is sampled; None where there is none."""
    got = extracted(carrier, build_propagator((name,)))
    assert (got.trace_flags.sampled if got.is_valid else None) is valid


def test_b3_that_names_no_parent_leaves_one_of_another_format() -> None:
    both = build_propagator(("tracecontext", "b3"))
    for wrong in ("0", f"{'0' * 32}-{SPAN}-1", "garbage"):
        assert extracted({"traceparent": PARENT, "b3": wrong}, both).span_id == int(SPAN, 16)


@pytest.mark.parametrize(
    "carrier",
    [
        {"b3": "x" * 1_000_000},
        {"b3": "-" * 8000},
        {"b3": f"{TRACE}-{'0' * 16}-1"},
        {"x-b3-traceid": "f" * 1_000_000, "x-b3-spanid": SPAN},
        {"x-b3-traceid": TRACE},
        {"uber-trace-id": "f" * 8000 + ":1:0:1"},
        {"uber-trace-id": ":" * 1_000_000},
        {"uber-trace-id": "-1:-1:-1:-1"},
        {"uber-trace-id": ["x"] * 10_000},
        {f"uberctx-{number}": "v" * 1000 for number in range(10_000)} | {"uber-trace-id": "1:1:1:zz"},
        {"traceparent": "\ud800", "b3": "\ud800", "uber-trace-id": "\ud800", "baggage": "\ud800"},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_hostile_headers_of_the_other_formats(carrier: dict[str, Any]) -> None:
    started_s = time.perf_counter()
    assert not extracted(carrier, ALL).is_valid
    assert time.perf_counter() - started_s < 0.2


# The first text drawn on a machine computes tables: slow is no failure here.
@settings(database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "uber-trace-id"]),
        st.one_of(st.text(), st.lists(st.text(max_size=20)), st.none(), st.integers(), st.binary()),
    )
)
def test_no_carrier_raises(carrier: dict[str, Any]) -> None:
    result = ALL.extract(carrier, Context())
    again: dict[str, str] = {}
    ALL.inject(again, result)


class Failing(TextMapPropagator):
    def extract(self, *args: Any, **kwargs: Any) -> Context:
        raise ValueError("plugin")

    def inject(self, *args: Any, **kwargs: Any) -> None:
        raise SystemExit(1)

    @property
    def fields(self) -> set[str]:
        return {"x-failing"}


def test_another_name_is_looked_up_among_the_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    targets: dict[str, object] = {"class": Failing, "instance": W3C, "wrong": "text", "failing": fail}
    points = [EntryPoint(name, f"{__name__}:{name}", ENTRY_POINT_GROUP) for name in targets]
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda group, name: [point for point in points if (point.group, point.name) == (group, name)],
    )
    monkeypatch.setattr(EntryPoint, "load", lambda self: targets[self.name])
    assert build_propagator(("class", "instance")).fields == {"x-failing", *W3C.fields}
    for name in ("wrong", "failing", "unknown"):
        with pytest.raises(ConfigError):
            build_propagator((name,))


def fail() -> None:
    raise SystemExit(1)


def test_a_propagator_that_raises_costs_only_itself() -> None:
    propagator = SafePropagator([Failing(), build_propagator(("tracecontext",))])
    result = propagator.extract({"traceparent": PARENT})
    assert trace.get_current_span(result).get_span_context().is_valid
    carrier: dict[str, str] = {}
    propagator.inject(carrier, result)
    assert carrier == {"traceparent": PARENT}


class Broken(Getter[Any], Setter[Any]):
    def get(self, carrier: Any, key: str) -> list[str] | None:
        raise OSError("gone")

    def keys(self, carrier: Any) -> list[str]:
        raise OSError("gone")

    def set(self, carrier: Any, key: str, value: str) -> None:
        raise OSError("gone")


def test_a_carrier_that_raises_reaches_nobody() -> None:
    assert ALL.extract({}, Context(), getter=Broken()) == Context()
    parent = trace.NonRecordingSpan(trace.SpanContext(1, 1, False))
    ALL.inject({}, trace.set_span_in_context(parent, Context()), setter=Broken())


def test_without_a_context_nothing_of_the_current_one_is_taken() -> None:
    local = trace.NonRecordingSpan(trace.SpanContext(1, 1, False))
    token = context.attach(trace.set_span_in_context(local))
    try:
        for propagator in (W3C, build_propagator(("baggage",)), build_propagator(("b3",))):
            assert propagator.extract({"traceparent": "garbage", "b3": "garbage"}) == Context()
    finally:
        context.detach(token)


def test_bounded_getter_counts_characters_over_all_values() -> None:
    class Lists(Getter[dict[str, list[str]]]):
        def get(self, carrier: dict[str, list[str]], key: str) -> list[str] | None:
            return carrier.get(key)

        def keys(self, carrier: dict[str, list[str]]) -> list[str]:
            return list(carrier)

    getter = BoundedGetter(Lists())
    assert getter.get({"a": ["x" * 4096] * 2}, "a") == ["x" * 4096] * 2
    assert getter.get({"a": ["x" * 4096] * 2 + ["y"]}, "a") is None
    assert getter.get({"a": [""] * 65}, "a") is None
    assert getter.get({"a": []}, "a") is None
    assert len(getter.keys({str(number): [] for number in range(5000)})) == 1024


def test_a_baggage_header_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    build_propagator(["baggage"])  # A second one, which doesn't log again what the first has.
    for header in ("a," * 4000, ",".join(f"{number}==%" for number in range(900)), "=," * 4000):
        for _ in range(10):
            W3C.extract({"baggage": header}, Context())
    assert len(caplog.records) < 5


def test_members_of_baggage_without_a_value_keep_nobody_out() -> None:
    header = "a," * 500 + ",".join(f"k{number}=1" for number in range(200))
    assert len(baggage.get_all(W3C.extract({"baggage": header}, Context()))) == 180


@pytest.mark.parametrize(("flags", "written"), [(0x03, "1"), (0x02, "0"), (0x01, "1"), (0x00, "0")])
def test_jaeger_is_told_of_sampling_alone(flags: int, written: str) -> None:
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, False, trace.TraceFlags(flags)))
    carrier: dict[str, str] = {}
    build_propagator(["jaeger"]).inject(carrier, trace.set_span_in_context(span))
    assert carrier["uber-trace-id"].rpartition(":")[2].lstrip("0") == written.lstrip("0")
