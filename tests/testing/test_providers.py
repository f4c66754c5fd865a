"""Whoever has set the provider, and when: what the application under test records is captured."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.testing.running import Run

pytest_plugins = ["pytester"]


def test_an_application_that_starts_and_stops_the_agent_each_time(run: Run) -> None:
    run.passes(
        """
import contextlib
import logging
import httpx
import pytest
import otelagent
from opentelemetry import _logs, trace
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient


@contextlib.asynccontextmanager
async def lifespan(app):
    otelagent.init(service_name="shop")
    yield
    trace.get_tracer_provider().shutdown()
    otelagent.shutdown()
    _logs.get_logger_provider().shutdown()


async def hello(request):
    with otelagent.span("greet"):
        logging.getLogger("shop").warning("hello")
        return JSONResponse({})


def client():
    return TestClient(Starlette(routes=[Route("/hello/{name}", hello)], lifespan=lifespan))


@pytest.mark.parametrize("time", [1, 2])
def test_again(otelagent_spans, time):
    with client() as shop:
        shop.get("/hello/you")
    assert otelagent_spans.tree() == "SERVER GET /hello/{name}\\n  INTERNAL greet"
    assert [record.body for record in otelagent_spans.logs if record.scope.name == "shop"] == ["hello"]


def test_the_application_comes_first_and_gives_the_service(otelagent_spans):
    assert otelagent.status()["state"] == "RUNNING"
"""
    )


def test_an_agent_that_runs_before_the_first_test_keeps_its_settings(run: Run) -> None:
    run.passes(
        """
import otelagent

otelagent.init(service_name="shop", service_version="7")


def test_it(otelagent_spans):
    with otelagent.span("work"):
        pass
    span = otelagent_spans.one("work")
    assert (span.service, span.resource["service.version"]) == ("shop", "7")
    assert span.scope.name == "otelagent"
"""
    )


def test_a_stock_provider_of_the_application_without_the_agent(run: Run) -> None:
    run.passes(
        """
import sys

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, Status, StatusCode

import otelagent

exported = InMemorySpanExporter()
provider = TracerProvider(resource=Resource({"service.name": "shop"}))
provider.add_span_processor(SimpleSpanProcessor(exported))
trace.set_tracer_provider(provider)
meters = MeterProvider()
metrics.set_meter_provider(meters)
logs = LoggerProvider()
_logs.set_logger_provider(logs)
tracer = trace.get_tracer("shop", "1.0")
histogram = meters.get_meter("shop").create_histogram("size", unit="By")


def work(other=None):
    with tracer.start_as_current_span("work", links=[Link(other)] if other else []) as span:
        span.set_attributes({"a": 1, "b": 2.5, "c": True, "d": "text", "e": [1, 2]})
        span.add_event("half", {"done": 0.5})
        span.set_status(Status(StatusCode.ERROR, "broken"))
        info = {"severity_number": SeverityNumber.INFO, "severity_text": "INFO"}
        _logs.get_logger("shop").emit(timestamp=1, body={"order": [1]}, **info)
        histogram.record(3, {"kind": "book"})
        histogram.record(5, {"kind": "book"})
        return span.get_span_context()


def test_one(otelagent_spans):
    other = work()
    work(other)
    first, second = otelagent_spans
    assert first.attributes == {"a": 1, "b": 2.5, "c": True, "d": "text", "e": [1, 2]}
    assert [type(value) for value in first.attributes.values()] == [int, float, bool, str, list]
    assert (first.status, first.status_message, first.error, first.service) == ("ERROR", "broken", "broken", "shop")
    assert [(event.name, event.attributes) for event in first.events] == [("half", {"done": 0.5})]
    assert [(link.trace_id, link.span_id) for link in second.links] == [(first.trace_id, first.span_id)]
    assert (first.scope.name, first.scope.version) == ("shop", "1.0")
    record = otelagent_spans.logs[0]
    assert (record.body, record.severity, record.severity_number, record.span_id) == (
        {"order": [1]}, "INFO", 9, first.span_id)
    size = otelagent_spans.metrics["size"]
    assert (size.kind, size.unit, size.value, size.points[0].count) == ("histogram", "By", 16, 4)
    assert (size.points[0].minimum, size.points[0].maximum, sum(size.points[0].counts)) == (3, 5, 4)
    assert len(exported.get_finished_spans()) == 2


def test_two(otelagent_spans):
    assert not otelagent_spans.spans and not otelagent_spans.logs and not otelagent_spans.metrics
    work()
    assert otelagent_spans.metrics["size"].value == 8
    work()
    assert otelagent_spans.metrics["size"].value == 16
    # The agent has not been started beside it.
    assert otelagent.status()["state"] == "INIT"


def test_what_the_sampler_leaves_out_is_left_out(otelagent_spans):
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    other = TracerProvider(sampler=ALWAYS_OFF)
    trace.set_tracer_provider(other)  # refused by the API, and used all the same
    other.get_tracer("other").start_span("unsampled").end()
    assert otelagent_spans.spans == ()
"""
    )


def test_a_provider_that_comes_too_late_for_the_api_is_listened_to(run: Run) -> None:
    run.passes(
        """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
import otelagent


def test_it(otelagent_spans):
    late = TracerProvider()
    trace.set_tracer_provider(late)
    with otelagent.span("ours"), late.get_tracer("late").start_as_current_span("theirs"):
        pass
    assert otelagent_spans.tree() == "INTERNAL ours\\n  INTERNAL theirs"
"""
    )


def test_what_keeps_spans_away_is_told(run: Run) -> None:
    result = run(
        """
import otelagent

otelagent.init()


def test_off(otelagent_spans):
    pass
""",
        OTEL_SDK_DISABLED="true",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*NotCapturing: no spans are recorded: otelagent is DISABLED (switched off by *"])
    # One that the fixture starts itself is on all the same.
    run.passes(
        """
import otelagent
import pytest


def test_on(otelagent_spans):
    with otelagent.span("work"):
        pass
    assert otelagent_spans.one("work")
    otelagent.pause()


@pytest.mark.xfail(strict=True)
def test_paused(otelagent_spans):
    pass
""",
        OTEL_SDK_DISABLED="true",
        OTEL_TRACES_SAMPLER="always_off",
    ).assert_outcomes(passed=1, xfailed=1)


def test_under_the_launcher_which_imports_it_all_before_pytest(run: Run) -> None:
    run.pytester.makepyfile(
        test_users="""
import otelagent


def test_it(otelagent_spans):
    with otelagent.span("work"):
        pass
    assert otelagent_spans.tree() == "INTERNAL work"
    assert {one["name"]: one["source"] for one in otelagent.status()["settings"]}["exporter"] == "--exporter"
"""
    )
    launcher = Path(sys.executable).with_name("otelagent-run")
    command = (launcher, "--exporter=none", sys.executable, "-W", "error", "-m", "pytest", "-p", "otelagent")
    run.pytester.run(*command, timeout=100).assert_outcomes(passed=1, warnings=0)
