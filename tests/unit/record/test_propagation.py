from __future__ import annotations

import time
from collections.abc import Mapping
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


@pytest.mark.parametrize("name", ["tracecontext", "b3", "b3multi", "jaeger"])
def test_each_reads_what_it_writes(name: str) -> None:
    propagator = build_propagator((name,))
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


@pytest.mark.parametrize(
    "traceparent",
    [
        PARENT,
        f" {PARENT}\t",
        f"01-{TRACE}-{SPAN}-01-later",
        f"cc-{TRACE}-{SPAN}-01",
        [PARENT],
    ],
)
def test_a_valid_parent(traceparent: object) -> None:
    got = extracted({"traceparent": traceparent})
    assert (got.trace_id, got.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert got.is_remote


@pytest.mark.parametrize(
    ("flags", "kept"), [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("80", 0)], ids=lambda value: str(value)
)
def test_only_flags_with_a_meaning_are_kept(flags: str, kept: int) -> None:
    assert extracted({"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}).trace_flags == kept


HOSTILE_PARENTS: list[object] = [
    "",
    "garbage",
    PARENT.upper(),
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-01-extra",
    f"00-{TRACE}-{SPAN}-01.extra",
    f"01-{TRACE}-{SPAN}-01.extra",
    f"{PARENT}\n",
    f"{PARENT},{PARENT}",
    [PARENT, PARENT],
    [PARENT, f"00-{TRACE}-{SPAN}-00"],
    [PARENT] * 10_000,
    [],
    PARENT + "x" * 1_000_000,
    f"01-{TRACE}-{SPAN}-01-" + "x" * 1_000_000,
    "0" * 1_000_000,
    "\u0660\u0660-" + PARENT[3:],
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


def state(*headers: str) -> dict[str, str]:
    got = extracted({"traceparent": PARENT, "tracestate": list(headers)})
    assert got.is_valid  # Whatever is wrong with tracestate, the parent stands.
    return dict(got.trace_state)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["a=1,b=2"], {"a": "1", "b": "2"}),
        (["a=1", "b=2"], {"a": "1", "b": "2"}),
        (["a=1 ,\t b=2", "", ",,"], {"a": "1", "b": "2"}),
        # Level 2: digits first, @ anywhere but first, 256 characters.
        (["1a=1"], {"1a": "1"}),
        (["foo@=1,foo@bar=2,a@b@c=3"], {"foo@": "1", "foo@bar": "2", "a@b@c": "3"}),
        ([f"{'a' * 256}=1"], {"a" * 256: "1"}),
        ([f"{'t' * 241}@{'v' * 14}=1"], {f"{'t' * 241}@{'v' * 14}": "1"}),
        # Duplicates: one stays.
        (["a=1,b=2,a=3"], {"a": "1", "b": "2"}),
        (["a=1", "a=2"], {"a": "1"}),
        ([f"a={'v' * 256}"], {"a": "v" * 256}),
        ([",".join(f"k{number}=1" for number in range(32))], {f"k{number}": "1" for number in range(32)}),
        # Malformed: none of it.
        ([",".join(f"k{number}=1" for number in range(33))], {}),
        (["@a=1"], {}),
        ([f"{'a' * 257}=1"], {}),
        ([f"a={'v' * 257}"], {}),
        (["A=1"], {}),
        (["a=1,b"], {}),
        (["a=1,=2"], {}),
        (["a=1=2"], {}),
        (["a="], {}),
        (["a=ü"], {}),
        (["a=\ud800"], {}),
        (["a b=1"], {}),
        ([f"a=1,b={'v' * 9000}"], {}),
        (["a=1"] * 10_000, {}),
        (["," * 1_000_000], {}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_tracestate(headers: list[str], expected: dict[str, str]) -> None:
    started_s = time.perf_counter()
    assert state(*headers) == expected
    assert time.perf_counter() - started_s < 0.1


def test_a_level_2_tracestate_survives_being_changed_and_sent_on() -> None:
    before = Level2TraceState.from_header(["foo@=1,1a=2"])
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
@settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
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
