from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult

from otelagent.delivery.ledger import Ledger
from otelagent.errors import ConfigError
from otelagent.record import sampling
from otelagent.record.sampling import CountingSampler, build_sampler
from tests.unit.record.recorder import Recorder


def under(*, sampled: bool, remote: bool = True) -> Context:
    parent = trace.SpanContext(1, 1, remote, trace.TraceFlags(int(sampled)), trace.TraceState([("v", "1")]))
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


LOW, HIGH = 1, (1 << 64) - 1


@pytest.mark.parametrize(
    ("name", "arg", "root_low", "root_high", "sampled_parent", "other_parent"),
    [
        ("always_on", None, True, True, True, True),
        ("always_off", None, False, False, False, False),
        ("traceidratio", 0.5, True, False, False, False),
        ("traceidratio", None, True, True, True, True),
        ("traceidratio", 0.0, False, False, False, False),
        ("parentbased_always_on", None, True, True, True, False),
        ("parentbased_always_off", None, False, False, True, False),
        ("parentbased_traceidratio", 0.5, True, False, True, False),
        ("parentbased_traceidratio", 1, True, True, True, False),
    ],
)
def test_standard_samplers(
    name: str, arg: float | None, root_low: bool, root_high: bool, sampled_parent: bool, other_parent: bool
) -> None:
    sampler = build_sampler(name, arg)

    def decides(context: Context, trace_id: int) -> bool:
        return sampler.should_sample(context, trace_id, "span").decision is Decision.RECORD_AND_SAMPLE

    assert decides(Context(), LOW) is root_low
    assert decides(Context(), HIGH) is root_high
    assert decides(under(sampled=True), HIGH) is sampled_parent
    assert decides(under(sampled=False), HIGH) is other_parent


@pytest.mark.parametrize("arg", [-0.1, 1.1, float("nan")])
def test_a_ratio_out_of_range_is_an_error(arg: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        build_sampler("traceidratio", arg, "OTEL_TRACES_SAMPLER_ARG")


def factory(arg: str) -> Sampler:
    return ALWAYS_ON if arg == "0.25" else ALWAYS_OFF


def failing_factory(arg: str) -> Sampler:
    raise SystemExit(arg)


def wrong_factory(arg: str) -> object:
    return arg


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint(name, f"{__name__}:{target.__name__}", sampling.ENTRY_POINT_GROUP)
        for name, target in (("mine", factory), ("failing", failing_factory), ("wrong", wrong_factory))
    ]

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        return [point for point in points if (point.group, point.name) == (group, name)]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.attr])


@pytest.mark.usefixtures("plugins")
def test_another_name_is_looked_up_among_the_entry_points() -> None:
    assert build_sampler("mine", 0.25) is ALWAYS_ON
    assert build_sampler("mine", None) is ALWAYS_OFF
    for name in ("failing", "wrong", "unknown"):
        with pytest.raises(ConfigError) as raised:
            build_sampler(name, None, "OTEL_TRACES_SAMPLER")
        assert raised.value.source == "OTEL_TRACES_SAMPLER"


class Fixed(Sampler):
    def __init__(self, answer: Callable[[], Any]) -> None:
        self.answer = answer

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return self.answer()  # type: ignore[no-any-return]

    def get_description(self) -> str:
        return "Fixed"


def fail() -> None:
    raise ValueError("plugin")


def leave() -> None:
    raise SystemExit(1)


@pytest.mark.parametrize("answer", [fail, leave, lambda: None, lambda: "yes"])
def test_a_sampler_that_fails_leaves_the_span_out(answer: Callable[[], Any]) -> None:
    ledger = Ledger("traces")
    result = CountingSampler(Fixed(answer), ledger).should_sample(under(sampled=True), 1, "span")
    assert result.decision is Decision.DROP
    assert dict(result.trace_state or {}) == {"v": "1"}
    assert ledger.snapshot().sampled_out == 1


def test_pausing_drops_with_the_parents_tracestate_and_keeps_the_description() -> None:
    ledger = Ledger("traces")
    sampler = CountingSampler(ALWAYS_ON, ledger)
    assert sampler.should_sample(Context(), 1, "span").decision is Decision.RECORD_AND_SAMPLE
    sampler.paused = True
    result = sampler.should_sample(under(sampled=True), 1, "span")
    assert result.decision is Decision.DROP
    assert dict(result.trace_state or {}) == {"v": "1"}
    assert sampler.should_sample(Context(), 1, "span").trace_state is None
    assert sampler.get_description() == ALWAYS_ON.get_description()
    assert ledger.snapshot().sampled_out == 2


def test_a_span_that_is_recorded_but_not_sampled_counts_when_it_ends(
    record: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_third_party", lambda *_: Fixed(lambda: SamplingResult(Decision.RECORD_ONLY)))
    recorder = record(third_party_sampler="fixed")
    span = recorder.tracer.start_span("a")
    assert span.is_recording()
    assert recorder.ledger.snapshot().sampled_out == 0
    span.end()
    assert recorder.ledger.snapshot().sampled_out == 1
    assert recorder.spans() == []
