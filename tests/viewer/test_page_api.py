"""What the API answers the page beside lists and details: searches in a trace, times of calls, metrics of a time."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from otelagent.viewer.server.parameters import PARAMETERS
from otelagent.viewer.store.detail import MAX_LOGS
from tests.viewer.requests import Traces, logs, metrics
from tests.viewer.running import Viewer


@pytest.fixture(scope="module")
def viewer() -> Iterator[Viewer]:
    with Viewer() as viewer:
        yield viewer


def test_a_text_is_found_in_attributes_and_events_of_a_trace(viewer: Viewer) -> None:
    traces = Traces()
    root = traces.span(db__query__text='SELECT "Cheese" FROM items')
    child = traces.span(trace=root.trace_id, parent=root.span_id)
    event = child.events.add(name="retry")
    event.attributes.add(key="reason").value.string_value = "no cheese left"
    traces.span(trace=root.trace_id, parent=root.span_id, sku="bread")
    viewer.send("traces", traces.body)
    search = f"traces/{root.trace_id.hex()}/search"
    found = viewer.json(f"/api/{search}?q=CHEESE")
    assert sorted(found["spans"]) == sorted([root.span_id.hex(), child.span_id.hex()])
    assert found["complete"]
    assert viewer.json(f"/api/{search}?q=%22cheese%22")["spans"] == [root.span_id.hex()]
    assert viewer.json(f"/api/{search}?q=wine")["spans"] == []
    assert viewer.ask(f"/api/traces/{'ab' * 16}/search?q=x")[0] == 404


def test_calls_between_services_have_their_median_and_95th_percentile(viewer: Viewer) -> None:
    caller, called = Traces("calls-shop"), Traces("calls-stock")
    for milliseconds in range(1, 101):
        call = caller.span("GET", kind=3, duration_us=1000 * milliseconds)
        called.span("GET /stock", trace=call.trace_id, parent=call.span_id, kind=2, duration_us=1000 * milliseconds)
    viewer.send("traces", caller.body)
    viewer.send("traces", called.body)
    (edge,) = (one for one in viewer.json("/api/map")["edges"] if one["from"] == "calls-shop")
    assert (edge["to"], edge["calls"], edge["errors"]) == ("calls-stock", 100, 0)
    assert edge["p50"] == pytest.approx(50e6, rel=0.03)
    assert edge["p95"] == pytest.approx(95e6, rel=0.03)


def test_metrics_of_a_service_and_points_of_a_time(viewer: Viewer) -> None:
    start_ns = time.time_ns()
    viewer.send("metrics", metrics(start_ns))
    assert viewer.json("/api/metrics?service=another") == {"metrics": []}
    found = {one["name"]: one for one in viewer.json("/api/metrics?service=shop")["metrics"]}
    assert (found["orders"]["monotonic"], found["orders"]["temporality"]) == (True, 2)
    points = f"metrics/{found['orders']['id']}/points"
    (series,) = viewer.json(f"/api/{points}?from={start_ns + 1}&to={start_ns + 1}")["series"]
    assert series["points"] == [[str(start_ns + 1), 1, None, None, "0"]]


def test_an_import_names_its_traces(viewer: Viewer) -> None:
    traces = Traces()
    span = traces.span()
    viewer.send("traces", traces.body)
    exported = viewer.ask(f"/api/traces/{span.trace_id.hex()}/otlp")[1]
    moved = exported.replace(span.trace_id.hex().encode(), b"ab" * 16)
    taken = json.loads(viewer.ask("/api/import", moved)[1])
    assert taken == {"spans": 1, "logs": 0, "points": 0, "left_out": 0, "traces": ["ab" * 16]}


def test_whole_numbers_beyond_those_of_javascript_are_told_as_text(viewer: Viewer) -> None:
    traces = Traces()
    span = traces.span(large=2**60, small=2**53 - 1, flag=True)
    viewer.send("traces", traces.body)
    attributes = viewer.json(f"/api/traces/{span.trace_id.hex()}/spans/{span.span_id.hex()}")["attributes"]
    assert attributes == {"large": {"$int": str(2**60)}, "small": 2**53 - 1, "flag": True}


def test_log_records_of_a_trace_that_are_left_out_are_told(viewer: Viewer) -> None:
    traces = Traces()
    span = traces.span()
    viewer.send("traces", traces.body)
    viewer.send("logs", logs(*map(str, range(MAX_LOGS + 1)), trace=span.trace_id, span=span.span_id))
    found = viewer.json(f"/api/traces/{span.trace_id.hex()}")
    assert (len(found["logs"]), found["truncated"]) == (MAX_LOGS, {"logs": 1})


def test_a_shared_file_runs_only_what_was_in_it_when_it_was_made(viewer: Viewer) -> None:
    traces = Traces()
    span = traces.span("</script><script>alert(1)</script>", html="<img src=x onerror=alert(1)>")
    viewer.send("traces", traces.body)
    text = viewer.ask(f"/api/traces/{span.trace_id.hex()}/share")[1].decode()
    assert text.count("<script") == text.count("</script>") == 3
    assert "<img" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "unsafe" not in policy[1]
    embedded = re.search(r'id="embedded">(.*?)</script>', text)
    assert embedded is not None
    assert json.loads(embedded[1])["trace"]["names"] == ["</script><script>alert(1)</script>"]


def test_who_follows_hears_of_traces_that_were_too_many(viewer: Viewer) -> None:
    asked = urllib.request.Request(f"{viewer.base}/api/follow", headers={"Authorization": f"Bearer {viewer.token}"})
    traces = Traces("followed")
    for _ in range(300):
        traces.span()
    with urllib.request.urlopen(asked, timeout=20) as lines:
        viewer.send("traces", traces.body)
        found = [json.loads(lines.readline()) for _ in range(201)]
    assert {one["service"] for one in found[:200]} == {"followed"}
    assert found[200] == {"more": True}


def test_an_import_that_breaks_off_says_what_was_taken(viewer: Viewer) -> None:
    traces = Traces("imported")
    traces.span(trace=b"i" * 16)
    viewer.send("traces", traces.body)
    _, exported = viewer.ask(f"/api/traces/{(b'i' * 16).hex()}/otlp")
    status, body = viewer.ask("/api/import", exported.strip() + b'\n{"resourceSpans": 1}\n')
    assert status == 400
    assert "(1 items before that are imported)" in json.loads(body)["error"]["message"]
    status, body = viewer.ask("/api/import", b'{"resourceSpans": 1}\n')
    assert status == 400
    assert "imported" not in json.loads(body)["error"]["message"]


ID = {"trace": "ab" * 16, "span": "cd" * 8, "metric:int": "1"}


@pytest.mark.parametrize("path", PARAMETERS)
def test_a_parameter_that_there_is_not_is_refused_and_named(viewer: Viewer, path: str) -> None:
    path, names = re.sub(r"{(.*?)}", lambda found: ID[found[1]], path), PARAMETERS[path]
    body = b"" if path in ("/api/session", "/api/import") else None
    for name in ("sevice", ""):
        status, answer = viewer.ask(f"{path}?limit=1&{name}=shop" if "limit" in names else f"{path}?{name}=shop", body)
        error = json.loads(answer)["error"]
        assert (status, error["code"]) == (400, "unknown_parameter")
        there = f"there is {', '.join(names)}" if names else "it has none"
        assert error["message"] == f"{name!r} is no parameter of {path}: {there}"


@pytest.mark.parametrize(("value", "failed"), [("1", 1), ("true", 1), ("0", 2), ("false", 2), ("", 2)])
def test_errors_are_asked_for_or_not(viewer: Viewer, value: str, failed: int) -> None:
    service = f"failing-{value}"
    traces = Traces(service)
    traces.span("good")
    traces.span("bad", error=True)
    viewer.send("traces", traces.body)
    assert len(viewer.json(f"/api/traces?service={service}&error={value}")["traces"]) == failed
    status, answer = viewer.ask("/api/traces?error=yes")
    assert (status, json.loads(answer)["error"]["code"]) == (400, "bad_flag")


def test_the_documentation_has_every_path_with_its_parameters() -> None:
    text = (Path(__file__).parents[2] / "docs" / "viewer.md").read_text()
    rows = re.findall(r"^\| `(?:GET|POST) (/api/\S+)` \| (.*?) \|", text, re.MULTILINE)
    told = {path: tuple(re.findall("`(.*?)`", names)) for path, names in rows}
    assert told == {path.replace(":int", ""): names for path, names in PARAMETERS.items()}
