"""Ids and samplers of a provider: the SDK's, the application's own, and those that fail."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from tests.parity.providers import Provider, exported


class Counting(IdGenerator):
    """Ids in a row."""

    def __init__(self, random: bool) -> None:
        self.random = random
        self.spans = self.traces = 0

    def generate_span_id(self) -> int:
        self.spans += 1
        return self.spans

    def generate_trace_id(self) -> int:
        self.traces += 1
        return self.traces << 64

    def is_trace_id_random(self) -> bool:
        return self.random


@pytest.mark.parametrize(
    "sampler", [ALWAYS_ON, ALWAYS_OFF, AlwaysLike := type("Own", (StaticSampler,), {})(Decision.DROP)]
)
@pytest.mark.parametrize("random", [True, False])
def test_an_id_generator_gives_every_id(provider: Provider, sampler: Sampler, random: bool) -> None:
    generator = Counting(random)
    made = provider(id_generator=generator, sampler=sampler)
    assert made.id_generator is generator
    tracer = made.get_tracer("t")
    with tracer.start_as_current_span("a") as a, tracer.start_as_current_span("b") as b:
        pass
    c = tracer.start_span("c")
    ids = [(one.get_span_context().trace_id >> 64, one.get_span_context().span_id) for one in (a, b, c)]
    assert ids == [(1, 1), (1, 2), (2, 3)]
    assert {one.get_span_context().trace_flags.random_trace_id for one in (a, b, c)} == {random}


@pytest.mark.parametrize("given", [0, -1, 1 << 128, "1", RuntimeError("no"), SystemExit(1)])
def test_an_id_generator_that_fails_is_helped_out(provider: Provider, given: Any) -> None:
    class Failing(IdGenerator):
        def _give(self) -> Any:
            if isinstance(given, BaseException):
                raise given
            return given

        generate_span_id = generate_trace_id = _give

    made = provider(id_generator=Failing())
    memory = exported(made)
    made.get_tracer("t").start_span("a").end()
    (got,) = memory.get_finished_spans()
    assert got.context is not None
    assert got.context.is_valid


def test_a_sampler_that_fails_leaves_the_span_out(provider: Provider) -> None:
    class Failing(Own):
        def should_sample(self, *arguments: Any, **_: Any) -> SamplingResult:
            raise RuntimeError("no")

    parent = trace.set_span_in_context(NonRecordingSpan(SpanContext(5, 6, True, TraceFlags(1))))
    span = provider(sampler=Failing()).get_tracer("t").start_span("a", parent)
    got = span.get_span_context()
    assert (span.is_recording(), got.trace_id, got.trace_flags.sampled) == (False, 5, False)


def test_default_ids_are_random_whatever_the_application_seeds(provider: Provider) -> None:
    import random

    state = random.getstate()
    try:
        seen = set()
        for _ in range(2):
            random.seed(1)
            seen.add(provider().get_tracer("t").start_span("a").get_span_context().trace_id)
    finally:
        random.setstate(state)
    assert len(seen) == 2


class Own(Sampler):
    """A sampler that isn't one of the SDK's."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def should_sample(self, *arguments: Any, **_: Any) -> SamplingResult:
        self.asked.append(arguments)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, {"by": "own"}, TraceState([("s", "1")]))

    def get_description(self) -> str:
        return "own"


def test_a_sampler_of_somebody_elses_decides(provider: Provider) -> None:
    sampler = Own()
    made = provider(sampler=sampler)
    assert made.sampler is sampler
    span: Any = made.get_tracer("t").start_span("a", None, trace.SpanKind.SERVER, {"given": 1})
    assert (dict(span.attributes), span.get_span_context().trace_state) == ({"by": "own"}, TraceState([("s", "1")]))
    (asked,) = sampler.asked
    assert asked[1:5] == (span.get_span_context().trace_id, "a", trace.SpanKind.SERVER, {"given": 1})


PARENTS = [
    None,
    *(SpanContext(1 << 63, 7, remote, TraceFlags(flags)) for remote in (True, False) for flags in range(4)),
    SpanContext(1, 7, True, TraceFlags(0)),
]


@pytest.mark.parametrize(
    ("sampler", "translated"),
    [
        (ALWAYS_ON, True), (ALWAYS_OFF, True), (DEFAULT_ON, True), (DEFAULT_OFF, True), (TraceIdRatioBased(0.5), True),
        (ParentBasedTraceIdRatio(0.5), True), (ParentBased(TraceIdRatioBased(0.25)), True),
        (ParentBased(ALWAYS_ON, remote_parent_sampled=ALWAYS_OFF), False),
        (ParentBased(ALWAYS_ON, local_parent_not_sampled=ALWAYS_ON), False), (ParentBased(DEFAULT_OFF), False),
        (StaticSampler(Decision.RECORD_ONLY), False), (Own(), False), (ParentBased(Own()), False),
    ],
)  # fmt: skip
def test_every_sampler_decides_as_it_does(provider: Provider, sampler: Sampler, translated: bool) -> None:
    from otelagent.record.provider import _standard

    assert isinstance(_standard(sampler)[0], str) is translated
    tracer = provider(sampler=sampler).get_tracer("t")
    for parent in PARENTS:
        context = Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), Context())
        span = tracer.start_span("a", context)
        got = span.get_span_context()
        decision: Any = sampler.should_sample(context, got.trace_id, "a").decision
        assert (span.is_recording(), got.trace_flags.sampled) == (decision.is_recording(), decision.is_sampled())
