"""Values whose own code fails: the span arrives, the application hears nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer
from opentelemetry.trace import Link, SpanContext

from tests.unit.record.recorder import Recorder, attributes

Record = Callable[..., Recorder]


class RaisingStr:
    def __str__(self) -> str:
        raise ValueError("no text")


class RaisingLen(list[int]):
    def __len__(self) -> int:
        raise ValueError("no length")

    def __iter__(self) -> Iterator[int]:
        raise ValueError("no items")


class Exiting:
    def __str__(self) -> str:
        raise SystemExit(1)


class RaisingMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise ValueError("no item")

    def __iter__(self) -> Iterator[str]:
        raise ValueError("no keys")

    def __len__(self) -> int:
        return 1


def cycle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def deep() -> list[Any]:
    items: list[Any] = []
    for _ in range(10_000):
        items = [items]
    return items


HOSTILE: list[Callable[[], Any]] = [RaisingStr, RaisingLen, Exiting, RaisingMapping, cycle, deep]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_value_costs_only_itself(record: Record, hostile: Callable[[], Any]) -> None:
    recorder = record()
    value = hostile()
    instead = (
        f"<{'' if isinstance(value, list) and type(value) is list else __name__ + '.'}{type(value).__name__} object>"
    )
    span = recorder.tracer.start_span("a", attributes={"first": 1, "bad": value})
    span.set_attribute("worse", value)
    span.set_attributes({"second": 2, "worst": value})
    span.add_event("event", {"bad": value})
    span.add_link(SpanContext(1, 1, is_remote=False), {"bad": value})
    span.end()

    (got,) = recorder.spans()
    kept = attributes(got.attributes)
    assert (kept.pop("first"), kept.pop("second")) == (1, 2)
    # Of what contains itself or nests, that much is kept as can be.
    assert list(kept) == ["bad", "worse", "worst"]
    assert all(instead in str(one) for one in kept.values())
    assert got.dropped_attributes_count == 3
    one: Any
    for one in (*got.events, *got.links):
        assert instead in str(attributes(one.attributes)["bad"])
        assert one.dropped_attributes_count == 1


@pytest.mark.parametrize(
    "misuse",
    [
        lambda span: span.set_attributes(None),
        lambda span: span.set_attributes(7),
        lambda span: span.set_attribute(None, 1),
        lambda span: span.set_attribute(["unhashable"], 1),
        lambda span: span.set_attributes(RaisingMapping()),
        lambda span: span.add_event("event", 7),
        lambda span: span.add_link("not a context"),
        lambda span: span.add_link(None),
        lambda span: span.set_status("ok"),
        lambda span: span.record_exception(None),
        lambda span: span.record_exception(ValueError("x"), attributes={"bad": cycle()}),
    ],
)
def test_a_wrong_argument_is_not_an_error_of_the_application(record: Record, misuse: Callable[[Any], None]) -> None:
    recorder = record()
    span = recorder.tracer.start_span("a")
    misuse(span)
    span.end()
    assert len(recorder.spans()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"attributes": 7},
        {"attributes": RaisingMapping()},
        {"links": [7]},
        {"links": 7},
        {"links": [Link(SpanContext(1, 1, False), {"bad": cycle()})]},
        {"context": "not a context"},
        {"attributes": {1: 2, None: 3}},
    ],
)
def test_a_wrong_start_still_gives_a_span(record: Record, options: dict[str, Any]) -> None:
    recorder = record()
    with recorder.tracer.start_as_current_span("a", **options) as span:
        span.set_attribute("k", 1)
    assert len(recorder.spans()) <= 1
    assert recorder.ledger.snapshot().balanced


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_exception_without_text_reaches_the_application_as_it_was(record: Record) -> None:
    recorder = record()
    with pytest.raises(Unprintable), recorder.tracer.start_as_current_span("a"):
        raise Unprintable
    with pytest.raises(Unprintable), recorder.tracer.start_span("b"):
        raise Unprintable
    for span in recorder.spans():
        instead = f"<{__name__}.Unprintable object>"
        assert (span.status.code, span.status.message) == (2, f"Unprintable: {instead}")
        assert [event.name for event in span.events] == ["exception"]
        described = attributes(span.events[0].attributes)
        assert described["exception.type"] == f"{__name__}.Unprintable"
        assert described["exception.message"] == instead
        assert "raise Unprintable" in str(described["exception.stacktrace"])


def _end_and_raise(span: trace.Span) -> None:
    span.end()
    raise KeyError("k")


def test_what_a_block_raises_is_recorded_as_by_the_stock_tracer(record: Record) -> None:
    recorder = record()
    with pytest.raises(KeyError), recorder.tracer.start_as_current_span("both"):
        raise KeyError("k")
    with pytest.raises(KeyError), recorder.tracer.start_as_current_span("no event", record_exception=False):
        raise KeyError("k")
    with pytest.raises(KeyError), recorder.tracer.start_as_current_span("no status", set_status_on_exception=False):
        raise KeyError("k")
    with pytest.raises(KeyboardInterrupt), recorder.tracer.start_as_current_span("no error"):
        raise KeyboardInterrupt
    with pytest.raises(KeyError), recorder.tracer.start_as_current_span("ended") as ended:
        _end_and_raise(ended)
    got = [(span.name, len(span.events), span.status.code, span.status.message) for span in recorder.spans()]
    assert got == [
        ("both", 1, 2, "KeyError: 'k'"),
        ("no event", 0, 2, "KeyError: 'k'"),
        ("no status", 1, 0, ""),
        ("no error", 0, 0, ""),
        ("ended", 0, 0, ""),
    ]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_the_decorator_covers_sync_and_async_functions(record: Record) -> None:
    recorder = record()
    tracer: trace.Tracer = recorder.tracer
    during: list[str] = []

    @tracer.start_as_current_span("sync")
    def sync() -> None:
        during.append(trace.get_current_span().name)  # type: ignore[attr-defined]

    @tracer.start_as_current_span("async")
    async def later() -> None:
        await asyncio.sleep(0.01)
        during.append(trace.get_current_span().name)  # type: ignore[attr-defined]

    sync()
    sync()
    asyncio.run(later())
    assert during == ["sync", "sync", "async"]
    spans = recorder.spans()
    assert [span.name for span in spans] == ["sync", "sync", "async"]
    assert spans[2].end_time_unix_nano - spans[2].start_time_unix_nano >= 9_000_000


@pytest.mark.parametrize("engine", ["sdk"], indirect=True)
def test_tracers_are_still_the_stock_kind_and_remembered(record: Record) -> None:
    provider = record().engine.provider
    tracer = provider.get_tracer("a")
    assert isinstance(tracer, Tracer)
    assert provider.get_tracer("a") is tracer


class Reentrant:
    """Sets an attribute of the very span that it becomes one of."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def __str__(self) -> str:
        self._span.set_attribute("inner", 1)
        return "outer"


def test_a_value_may_use_its_span_while_it_is_written(record: Record) -> None:
    recorder = record()
    span = recorder.tracer.start_span("a")
    span.set_attribute("one", Reentrant(span))
    span.set_attributes({"two": Reentrant(span)})
    span.add_event("event", {"k": Reentrant(span)})
    span.update_name(Reentrant(span))
    span.end()
    (got,) = recorder.spans()
    assert attributes(got.attributes) == {"inner": 1, "one": "outer", "two": "outer"}
    assert got.name == "outer"


class Truthless:
    def __bool__(self) -> bool:
        raise ValueError("neither")


@pytest.mark.parametrize(
    "options",
    [
        {"name": RaisingStr()},
        {"kind": "client"},
        {"start_time": "noon"},
        {"record_exception": 1, "set_status_on_exception": Truthless()},
        {"attributes": Truthless()},
        {"links": Truthless()},
        {"links": [Link(SpanContext(1, 1, False), 7)]},  # type: ignore[arg-type]
    ],
)
def test_a_start_with_any_arguments_is_delivered(record: Record, options: dict[str, Any]) -> None:
    recorder = record()
    with recorder.tracer.start_as_current_span(**{"name": "a", **options}):
        pass
    recorder.tracer.start_span(**{"name": "a", **options}).end()
    assert len(recorder.spans()) == 2


@pytest.mark.parametrize(
    "scope",
    [
        (RaisingStr(),),
        ("\ud800", 7, RaisingStr()),
        ("a", "1", None, {"cycle": cycle(), 7: RaisingStr(), "\ud800": 2**70}),
        ("a", "1", None, RaisingMapping()),
        (["unhashable"], {}),
    ],
)
def test_a_scope_of_any_parts_has_its_spans_delivered(record: Record, scope: tuple[Any, ...]) -> None:
    recorder = record()
    for _ in range(2):
        recorder.engine.provider.get_tracer(*scope).start_span("a").end()
    assert len(recorder.spans()) == 2
    (resource,) = recorder.decoded()[0].resource_spans
    assert len(resource.scope_spans) == 1


def test_one_bad_span_of_512_costs_no_other(record: Record) -> None:
    recorder = record(batch_max_export_batch_size=512, batch_schedule_delay_ms=60_000)
    for number in range(512):
        name: Any = RaisingStr() if number == 200 else str(number)
        span = recorder.tracer.start_span(name, attributes={"bad": cycle(), "\udfff": RaisingStr()})
        span.end(-1)
    assert len(recorder.spans()) == 512
    assert recorder.dropped() == {}
