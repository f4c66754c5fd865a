"""`otelagent.span` and `@otelagent.instrument`, seen in what is exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import otelagent
from tests.support import Outcome, run_program

HEAD = """
import asyncio, gc, json, otelagent
otelagent.init()
"""


def run(folder: Path, body: str) -> dict[str, dict[str, Any]]:
    outcome: Outcome = run_program(
        folder, HEAD + "\n".join(line[4:] if line.startswith("    ") else line for line in body.splitlines())
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    spans = {span["name"]: span for span in outcome.spans}
    assert len(spans) == len(outcome.spans)
    return spans


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in span.get("attributes", ())}


def test_every_sort_of_function_gives_one_span_and_stays_what_it_is(tmp_path: Path) -> None:
    spans = run(
        tmp_path,
        """
    import inspect
    @otelagent.instrument
    def plain(a, b=2): return a + b
    @otelagent.instrument("named", attributes={"fixed": True}, arguments=["a", "b", "c"], kind="client")
    async def coroutine(a, b=2, *, c=3): return a
    @otelagent.instrument(arguments={"n": "loop.length"})
    def generator(n):
        for number in range(n): yield number
        return "done"
    @otelagent.instrument
    async def stream(n):
        for number in range(n): yield number
    class Thing:
        @otelagent.instrument
        def method(self): return self
        @otelagent.instrument
        @staticmethod
        def static(): return 1
        @classmethod
        @otelagent.instrument
        def of_class(cls): return cls
    assert plain(1) == 3
    assert asyncio.run(coroutine(object)) is object
    def outer():
        assert (yield from generator(2)) == "done"
    assert list(outer()) == [0, 1]
    async def collect(): return [n async for n in stream(3)]
    assert asyncio.run(collect()) == [0, 1, 2]
    thing = Thing()
    assert thing.method() is thing and Thing.static() == 1 and Thing.of_class() is Thing
    assert inspect.iscoroutinefunction(coroutine) and inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(stream) and str(inspect.signature(plain)) == "(a, b=2)"
    """,
    )
    assert set(spans) == {"plain", "named", "generator", "stream", "Thing.method", "Thing.static", "Thing.of_class"}
    assert attributes(spans["named"]) == {
        "code.function.name": "__main__.coroutine",
        "fixed": True,
        "a": "<class 'object'>",
        "b": "2",
        "c": "3",
    }
    assert spans["named"]["kind"] == 3
    assert attributes(spans["generator"])["loop.length"] == "2"


def test_errors_are_recorded_and_raised_unchanged(tmp_path: Path) -> None:
    spans = run(
        tmp_path,
        """
    class Unprintable(Exception):
        def __str__(self): raise RuntimeError
    @otelagent.instrument
    def fails(): raise KeyError("which")
    @otelagent.instrument
    def fails_badly(): raise Unprintable
    for function, expected in ((fails, KeyError), (fails_badly, Unprintable)):
        try: function()
        except expected: pass
        else: raise AssertionError
    try:
        with otelagent.span("block"): raise ValueError("no")
    except ValueError: pass
    async def cancelled():
        with otelagent.span("cancelled"): await asyncio.sleep(60)
    async def main():
        task = asyncio.create_task(cancelled()); await asyncio.sleep(0); task.cancel()
        try: await task
        except asyncio.CancelledError: pass
    asyncio.run(main())
    """,
    )
    assert attributes(spans["fails"])["error.type"] == "KeyError"
    assert spans["fails"]["status"]["code"] == 2
    assert [event["name"] for event in spans["fails"]["events"]] == ["exception"]
    assert spans["fails_badly"]["status"]["code"] == 2
    assert spans["block"]["status"] == {"code": 2, "message": "no"}
    assert attributes(spans["cancelled"])["error.type"] == "asyncio.exceptions.CancelledError"
    assert spans["cancelled"]["status"].get("code", 0) == 0


def test_generators_that_are_left_early_leak_no_context(tmp_path: Path) -> None:
    spans = run(
        tmp_path,
        """
    from opentelemetry import trace
    @otelagent.instrument
    def numbers():
        with otelagent.span("inside"):
            yield 1
            with otelagent.span("deeper"): yield 2
    @otelagent.instrument
    async def stream():
        with otelagent.span("inside stream"):
            while True: yield 1
    with otelagent.span("caller"):
        for _ in numbers(): break
        gc.collect()
        with otelagent.span("after"): pass
    assert trace.get_current_span() is trace.INVALID_SPAN
    async def main():
        async for _ in stream():
            assert trace.get_current_span() is trace.INVALID_SPAN
            break
        gc.collect()
        await asyncio.sleep(0.01)
        with otelagent.span("after stream"): pass
    asyncio.run(main())
    """,
    )
    parent = {span["spanId"]: name for name, span in spans.items()}

    def parent_of(name: str) -> str | None:
        return parent.get(spans[name].get("parentSpanId", ""))

    assert {name: parent_of(name) for name in spans} == {
        "caller": None,
        "numbers": "caller",
        "inside": "numbers",
        "after": "caller",
        "stream": None,
        "inside stream": "stream",
        "after stream": None,
    }


def test_interleaved_tasks_keep_their_parents(tmp_path: Path) -> None:
    spans = run(
        tmp_path,
        """
    @otelagent.instrument(arguments=["number"])
    async def step(number):
        await asyncio.sleep(0)
        with otelagent.span(f"leaf {number}"): await asyncio.sleep(0)
    async def task(number):
        with otelagent.span(f"root {number}"):
            for _ in range(3): await asyncio.sleep(0)
            with otelagent.span(f"middle {number}"): await asyncio.sleep(0)
            with otelagent.span(f"leaf {number}"): await asyncio.sleep(0)
    async def main(): await asyncio.gather(*(task(number) for number in range(100)))
    asyncio.run(main())
    """,
    )
    assert len(spans) == 300
    for number in range(100):
        root = spans[f"root {number}"]
        assert not root.get("parentSpanId")
        for name in ("middle", "leaf"):
            child = spans[f"{name} {number}"]
            assert (child["traceId"], child["parentSpanId"]) == (root["traceId"], root["spanId"])


def test_a_parameter_that_does_not_exist_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"no parameter 'userid', only user_id"):

        @otelagent.instrument(arguments=["userid"])
        def work(user_id: int) -> int:
            return user_id


def test_only_functions_are_decorated() -> None:
    with pytest.raises(TypeError, match="decorates functions"):
        otelagent.instrument(dict)


def test_the_public_names_are_these() -> None:
    assert sorted(otelagent.__all__) == [
        "ConfigError", "OtelAgentError", "TracerProvider", "__version__", "flush", "get_tracer", "init", "instrument",
        "pause", "resume", "shutdown", "span", "status",
    ]  # fmt: skip
    assert all(hasattr(otelagent, name) for name in otelagent.__all__)


def test_one_span_object_serves_many_blocks(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        HEAD
        + """
again = otelagent.span("again")
with again as outer:
    with again as inner: assert inner is not outer
with again: pass
async def task():
    with again:
        await asyncio.sleep(0.01)
async def main(): await asyncio.gather(*(task() for _ in range(5)))
asyncio.run(main())
from opentelemetry import trace
assert trace.get_current_span() is trace.INVALID_SPAN
""",
    )
    assert outcome.code == 0, outcome.err
    assert len(outcome.spans) == 8
    assert sum(1 for span in outcome.spans if span.get("parentSpanId")) == 1


def test_decorated_functions_record_wherever_spans_do(tmp_path: Path) -> None:
    outcome = run_program(
        tmp_path,
        """
import json, otelagent
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
@otelagent.instrument(name="decorated", arguments="who", kind=trace.SpanKind.CLIENT)
def work(who): pass
work("me")
with otelagent.span("block", kind="CLIENT"): pass
print(json.dumps([[span.name, span.kind.name, span.attributes.get("who")] for span in exporter.get_finished_spans()]))
""",
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json == [["decorated", "CLIENT", "me"], ["block", "CLIENT", None]]


def test_wrong_kinds_and_collecting_parameters_are_refused_where_they_stand() -> None:
    with pytest.raises(ValueError, match="must be one of internal, server"):
        otelagent.span("x", kind="sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be one of internal, server"):
        otelagent.instrument(kind="sideways")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="collects several"):

        @otelagent.instrument(arguments=["rest"])
        def work(*rest: int) -> None: ...
