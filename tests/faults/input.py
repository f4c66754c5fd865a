"""Faults of what the application and its callers hand over: values, spans, headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.faults.bench import OK, Bench
from tests.faults.registry import fault

SETTINGS: dict[str, Any] = {"timeout_ms": 10_000}

PRELUDE = """
import math, sys
from opentelemetry import trace
tracer = trace.get_tracer("tests.faults")
def begin(name, **options):
    span = tracer.start_span(name, **options)
    agent.made.append(f"{span.get_span_context().span_id:016x}")
    return span
class Raising:
    def __str__(self):
        raise RuntimeError("no text")
    __repr__ = __str__
class Exiting:
    def __str__(self):
        sys.exit(3)
    __repr__ = __str__
class Unsized(list):
    def __len__(self):
        raise RuntimeError("no length")
    __iter__ = __len__
def deep(levels):
    value = "bottom"
    for _ in range(levels):
        value = [value]
    return value
def cycle():
    value = [1]
    value.append(value)
    return value
def cycle_of_dicts():
    value = {"a": 1}
    value["self"] = value
    return value
"""

VALUES = {
    "lone surrogate": r'"a\ud800b"',
    "lone surrogates in a list": r'["ok", "\udfff"]',
    "cycle": "cycle()",
    "cycle of dicts": "cycle_of_dicts()",
    "10⁴ levels": "deep(10_000)",
    "__str__ raises": "Raising()",
    "__str__ raises in a list": '["ok", Raising()]',
    "__str__ exits": "Exiting()",
    "__len__ raises": "Unsized([1])",
    "2⁶³": "2**63",
    "-10⁵⁰⁰⁰": "-10**5000",
    "big ints in a list": "[1, 2**70]",
    "NaN, infinity": '[float("nan"), float("inf"), -math.inf]',
    "set": "{1, 2}",
    "mixed list": '[1, "a", None, 2.5, b"x", object()]',
    "numpy's array": '__import__("numpy").array([[1, 2], [3, 4]])',
    "numpy's scalar": '__import__("numpy").int64(7)',
    "200 MB of text": '"x" * 200_000_000',
    "200 MB of bytes": 'b"x" * 200_000_000',
    "10⁷ numbers": "[1] * 10_000_000",
}

# The value where a span starts, on a span, and in an event, each between good ones, and good spans around.
HAND_OVER = """
agent.spans(1)
span = begin("start", attributes={{"before": 1, "value": {value}, "after": 2}})
span.end()
span = begin("set")
span.set_attribute("before", 1)
span.set_attribute("value", {value})
span.set_attribute("after", 2)
span.end()
span = begin("event")
span.add_event("event", {{"before": 1, "value": {value}, "after": 2}})
span.end()
agent.spans(1)
agent.settle(60)
"""


def keeping(bench: Bench) -> tuple[dict[str, Any], Path]:
    """The action of a server that keeps what it takes, and where."""
    kept = bench.directory / "kept"
    kept.mkdir()
    return {**OK, "keep": str(kept)}, kept


def spans(kept: Path) -> dict[str, Span]:
    """What was taken, by name."""
    found = {}
    for file in sorted(kept.iterdir()):
        for resource in ExportTraceServiceRequest.FromString(file.read_bytes()).resource_spans:
            found.update({span.name: span for scope in resource.scope_spans for span in scope.spans})
    return found


@fault(37, "values that can't be sent as they are", cases=VALUES)
def odd_value(bench: Bench, value: str) -> None:
    action, kept = keeping(bench)
    server = bench.server(action)
    bench.run(PRELUDE + HAND_OVER.format(value=value), to=server, timeout_s=30, **SETTINGS)
    if not bench.otelagent:
        return
    found = spans(kept)
    bench.expect(found.keys() == {"work", "start", "set", "event"}, f"delivers {sorted(found)}")
    for name in ("start", "set"):
        if name in found:
            claim(bench, f"on {name}", found[name])
    for event in found["event"].events if "event" in found else ():
        claim(bench, "in an event", event)


def claim(bench: Bench, where: str, holder: Span | Span.Event) -> None:
    """The good values are there, and something stands for the odd one; what, `tests/parity/test_values.py` says."""
    attributes: dict[str, KeyValue] = {pair.key: pair for pair in holder.attributes}
    bench.expect(attributes.keys() >= {"before", "after"}, f"loses the others {where}")
    bench.expect("value" in attributes, f"leaves it out {where}")


@fault(37, cases={"keys that are no strings": '1: "a", None: "b", b"c": "d", (1, 2): "e", "": "f"'})
def odd_keys(bench: Bench, keys: str) -> None:
    action, kept = keeping(bench)
    server = bench.server(action)
    program = HAND_OVER.replace('"value": {value}', keys).replace('set_attribute("value", {value})', ODD_KEY)
    bench.run(PRELUDE + program.format(), to=server, **SETTINGS)
    if bench.otelagent:
        found = spans(kept)
        bench.expect(found.keys() == {"work", "start", "set", "event"}, f"delivers {sorted(found)}")
        events = [event for span in found.values() for event in span.events]
        bench.expect(len(events) == 1, f"delivers {len(events)} events")
        holders: list[tuple[str, Any]] = [(name, found[name].attributes) for name in ("start", "set") if name in found]
        for name, attributes in [*holders, *(("the event", event.attributes) for event in events)]:
            names = {pair.key for pair in attributes}
            bench.expect(names >= {"before", "after"}, f"loses the others on {name}")


ODD_KEY = 'set_attributes({{1: "a", None: "b", b"c": "d"}})'

# What makes the stock encoder give up the whole batch.
SPOILED = {
    "name": r'span.update_name("\ud800")',
    "name of another type": "span.update_name(7)",
    "end ≥ 2⁶⁴": "span.end(2**64)",
    "status": r'span.set_status(trace.StatusCode.ERROR, "\ud800")',
    "event's time": 'span.add_event("event", timestamp=2**64)',
}


@fault(38, "one bad span of 512", cases=SPOILED)
def one_bad_span(bench: Bench, spoil: str) -> None:
    server = bench.server(OK)
    program = f'{PRELUDE}agent.spans(255)\nspan = begin("bad")\n{spoil}\nspan.end()\nagent.spans(256)\nagent.settle()'
    # One batch, when it is full.
    told = bench.run(program, to=server, batch_schedule_delay_ms=60_000, **SETTINGS)
    bench.expect(len(server.requests) == 1, f"sends {len(server.requests)} requests")
    if bench.otelagent:
        bench.expect(told["ledger"]["delivered"] == 512, f"its ledger says {told['ledger']}")


# Reads each set of headers, starts a span in what it says, and passes its context on.
HEADERS = """
import random, time
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context
tracer = trace.get_tracer("tests.faults")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE}-{SPAN}-01"
MIB = 1_000_000
NAMES = ["traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "uber-trace-id"]
randomness = random.Random(39)
def mutated(text):
    for _ in range(randomness.randint(1, 4)):
        at = randomness.randrange(len(text))
        text = text[:at] + randomness.choice(["", "-", "0", "g", "\\x00", "\\xff", "A", "é", ",", "="]) + text[at + 1:]
    return text
def carriers():
    for name in NAMES:
        yield {name: "a" * MIB}, False
        yield {name: [VALID] * 10_000}, False
        yield {name: [""] * 10_000}, False
        yield {name: "".join(chr(randomness.randrange(1, 0x250)) for _ in range(200))}, False
    yield {"tracestate": ",".join(f"k{number}=v" for number in range(100_000)), "traceparent": VALID}, True
    yield {"baggage": ",".join(f"k{number}=v" for number in range(100_000)), "traceparent": VALID}, True
    yield {"baggage": [f"k{number}=v" for number in range(10_000)], "traceparent": VALID}, True
    yield {"traceparent": VALID, "tracestate": "a=1,="}, True
    yield {"traceparent": [VALID, VALID]}, False
    yield {"traceparent": VALID.replace(TRACE, "0" * 32)}, False
    yield {"traceparent": "ff" + VALID[2:]}, False
    yield {f"header-{number}": "x" for number in range(10_000)}, False
    for _ in range(2_000):
        yield {"traceparent": mutated(VALID), "tracestate": mutated("a=1,b=2"), "baggage": mutated("a=1,b=2;c=3")}, None
        yield {"b3": mutated(f"{TRACE}-{SPAN}-1"), "baggage": mutated("a=%20b")}, None
slowest_s, longest, wrong = 0.0, 0, 0
agent.spans(1)
before_mib = agent.peak_memory()
for carrier, parent in carriers():
    begun = time.perf_counter()
    context = propagate.extract(carrier, Context())
    span = tracer.start_span("server", context)
    agent.made.append(f"{span.get_span_context().span_id:016x}")
    passed_on = {}
    propagate.inject(passed_on, trace.set_span_in_context(span, context))
    span.end()
    slowest_s = max(slowest_s, time.perf_counter() - begun)
    longest = max(longest, *map(len, passed_on.values()))
    remote = trace.get_current_span(context).get_span_context()
    if parent is not None and remote.is_valid != parent:
        wrong += 1
    if not remote.is_valid and span.parent is not None:
        wrong += 1
    if len(agent.made) % 500 == 0:
        agent.flush()
agent.say(slowest_s=slowest_s, longest=longest, wrong=wrong, grown_mib=agent.peak_memory() - before_mib)
agent.settle()
"""


@fault(39, "fuzzed, huge and repeated headers", cases={"": "tracecontext,baggage,b3,b3multi"})
def headers(bench: Bench, propagators: str) -> None:
    server = bench.server(OK)
    # A header may say that its trace isn't sampled.
    environ = {"OTEL_TRACES_SAMPLER": "always_on"}
    told = bench.run(HEADERS, to=server, propagators=propagators, environ=environ, **SETTINGS)
    if "wrong" not in told:
        return
    bench.expect(not told["wrong"], f"takes the wrong parent {told['wrong']} times")
    bench.expect(told["longest"] <= 8192, f"passes on a header of {told['longest']:,} characters")
    bench.expect(told["slowest_s"] < 1, f"takes {told['slowest_s']:.1f} s over one")
    bench.expect(told["grown_mib"] < 64, f"grows by {told['grown_mib']:.0f} MiB")
