"""Spans that haven't ended: on the page while they run, once when they have, and lost with their process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otelagent.viewer.ingest import decode
from otelagent.viewer.store import detail, export, listing, overview
from otelagent.viewer.store.listing import TraceFilter, attribute_filter
from otelagent.viewer.store.store import Store
from tests.support import wait_until
from tests.viewer.requests import START_NS, Traces
from tests.viewer.requests import put as fill
from tests.viewer.stores import put_traces

T = [bytes([number]) * 16 for number in range(1, 10)]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(lost_after_s=0.2)
    yield store
    store.close()


def begun(name: str = "work", **options: Any) -> tuple[Traces, Any]:
    request = Traces()
    span = request.span(name, **{"trace": T[0], **options})
    span.end_time_unix_nano = 0
    return request, span


def ended(span: Any, name: str | None = None, duration_us: int = 3_000_000, *, error: bool = False) -> Traces:
    """The request with the same span when it has ended."""
    request = Traces()
    other = request.span(name or span.name, trace=span.trace_id, parent=span.parent_span_id, error=error)
    other.span_id = span.span_id
    other.start_time_unix_nano = span.start_time_unix_nano
    other.end_time_unix_nano = span.start_time_unix_nano + 1000 * duration_us
    return request


def listed(store: Store, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.read(listing.traces, TraceFilter(**asked))["traces"]
    return found


def trace(store: Store) -> dict[str, Any]:
    found = store.read(detail.trace, T[0])
    assert found is not None
    return found


def span_of(store: Store, span: Any) -> dict[str, Any]:
    found = store.read(detail.span, T[0], span.span_id)
    assert found is not None
    return found


def test_it_is_there_while_it_runs_and_once_when_it_has_ended(store: Store) -> None:
    request, span = begun("GET", retries=1)
    put_traces(store, request)
    (one,) = listed(store)
    assert (one["name"], one["spans"], one["running"]) == ("GET", 1, 1)
    assert one["duration"] > 365 * 86_400 * 10**9  # Since `START_NS`.
    assert trace(store)["states"] == {0: "running"}
    found = span_of(store, span)
    assert (found["state"], found["duration"], found["attributes"]) == ("running", 0, {"retries": 1})

    put_traces(store, ended(span, "GET /items", error=True))
    (one,) = listed(store)
    assert (one["name"], one["duration"], one["spans"]) == ("GET /items", 3_000_000_000, 1)
    assert (one["running"], one["lost"], one["errors"], one["services"]) == (0, 0, 1, [("shop", 1)])
    assert trace(store)["states"] == {}
    assert trace(store)["spans"]["duration"] == [3_000_000_000]
    assert span_of(store, span)["state"] == "ended"
    assert [one["id"] for one in listed(store, operation="GET /items", error=True)] == [T[0].hex()]


def test_what_it_has_learnt_meanwhile_is_shown(store: Store) -> None:
    request, span = begun("GET")
    put_traces(store, request)
    span.name = "GET /items"
    fill(span.attributes, {"http.route": "/items"})
    event = span.events.add(name="exception", time_unix_nano=START_NS)
    fill(event.attributes, {"exception.type": "Timeout"})
    put_traces(store, request)
    (one,) = listed(store)
    assert one["spans"] == one["running"] == 1
    found = span_of(store, span)
    assert (found["name"], found["attributes"]["http.route"], len(found["events"])) == ("GET /items", "/items", 1)
    assert listed(store, attributes=(attribute_filter("http.route=/items"),))
    assert listed(store, operation="GET /items")


@pytest.mark.parametrize("first", ["children", "parent"])
def test_children_find_it(store: Store, first: str) -> None:
    request, parent = begun("outer", start_us=0)
    children = Traces()
    for number in range(3):
        children.span("inner", trace=T[0], parent=parent.span_id, start_us=1 + number)
    put_traces(store, *((children, request) if first == "children" else (request, children)))
    assert trace(store)["spans"]["parent"] == [-1, 0, 0, 0]
    (one,) = listed(store)
    assert (one["name"], one["spans"], one["running"]) == ("outer", 4, 1)
    assert one["duration"] > 365 * 86_400 * 10**9
    put_traces(store, ended(parent))
    (one,) = listed(store)
    assert (one["spans"], one["running"], one["duration"]) == (4, 0, 3_000_000_000)
    assert trace(store)["spans"]["parent"] == [-1, 0, 0, 0]


def test_a_notice_that_comes_after_the_end_changes_nothing(store: Store) -> None:
    request, span = begun()
    put_traces(store, ended(span), request)
    (one,) = listed(store)
    assert (one["spans"], one["running"], one["duration"]) == (1, 0, 3_000_000_000)


def test_both_in_one_request(store: Store) -> None:
    request, span = begun()
    whole = ended(span)
    whole.request.resource_spans.extend(request.request.resource_spans)
    put_traces(store, whole)
    (one,) = listed(store)
    assert (one["spans"], one["running"]) == (1, 0)


def test_the_same_end_twice_counts_once(store: Store) -> None:
    request, span = begun()
    put_traces(store, request, ended(span), ended(span))
    (one,) = listed(store)
    assert one["spans"] == 1


def test_a_link_and_an_exception_of_a_running_span_leave_nothing_behind(store: Store) -> None:
    request, span = begun(error=True)
    fill(span.events.add(name="exception").attributes, {"exception.type": "Timeout"})
    span.links.add(trace_id=T[1], span_id=b"12345678")
    put_traces(store, request)
    assert listed(store, text="Timeout")
    put_traces(store, ended(span))
    assert not listed(store, text="Timeout")

    def linked(connection: Any) -> int:
        return int(connection.execute("SELECT count(*) FROM link").fetchone()[0])

    assert store.read(linked) == 0


def test_without_a_sign_of_life_it_is_lost_and_with_one_it_is_not(store: Store, monkeypatch: Any) -> None:
    monkeypatch.setattr("otelagent.viewer.store.writer._RETENTION_EVERY_S", 0.05)
    told: list[bytes] = []
    store.watch(lambda touched: told.extend(touched.traces))
    request, span = begun()
    put_traces(store, request)
    wait_until(lambda: listed(store)[0]["lost"] == 1)
    assert trace(store)["states"] == {0: "lost"}
    assert told == [T[0], T[0]]
    put_traces(store, request)
    assert (listed(store)[0]["running"], listed(store)[0]["lost"]) == (1, 0)
    wait_until(lambda: listed(store)[0]["lost"] == 1)
    put_traces(store, ended(span))
    assert (listed(store)[0]["running"], listed(store)[0]["lost"]) == (0, 0)


def test_a_file_that_is_opened_again_knows_them(tmp_path: Path, monkeypatch: Any) -> None:
    path = str(tmp_path / "traces.db")
    first = Store(path)
    request, span = begun()
    put_traces(first, request)
    first.close()
    monkeypatch.setattr("otelagent.viewer.store.writer._RETENTION_EVERY_S", 0.05)
    second = Store(path, lost_after_s=0.2)
    wait_until(lambda: listed(second)[0]["lost"] == 1)
    put_traces(second, ended(span))
    (one,) = listed(second)
    assert (one["spans"], one["lost"], one["duration"]) == (1, 0, 3_000_000_000)
    second.close()


def hanging(seconds: int) -> tuple[Traces, Any]:
    """A request with a span that began so long ago and has not ended, and an ended child of it."""
    request = Traces(start_ns=time.time_ns() - seconds * 10**9)
    parent = request.span("hangs", trace=T[0], start_us=0)
    parent.end_time_unix_nano = 0
    request.span("done", trace=T[0], parent=parent.span_id, start_us=1, duration_us=72)
    return request, parent


def test_it_takes_until_now_and_is_found_by_that(store: Store) -> None:
    quick = Traces()
    quick.span("quick", trace=T[1])
    put_traces(store, quick, hanging(9)[0])
    first = next(one for one in listed(store) if one["running"])
    assert first["duration"] >= 9 * 10**9
    second = next(one for one in listed(store) if one["running"])
    assert first["duration"] < second["duration"] < 9 * 10**9 + 3600 * 10**9
    assert [one["name"] for one in listed(store, min_ns=9 * 10**9)] == ["hangs"]
    assert [one["name"] for one in listed(store, min_ns=9 * 10**9, service="shop")] == ["hangs"]
    assert [one["name"] for one in listed(store, max_ns=9 * 10**9)] == ["quick"]
    assert listed(store, min_ns=3600 * 10**9) == []
    slowest = store.read(listing.slowest, TraceFilter())
    assert [one["name"] for one in slowest["traces"]] == ["hangs", "quick"]


def test_lost_it_has_taken_until_it_was_last_heard_of(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("otelagent.viewer.store.writer._RETENTION_EVERY_S", 0.05)
    path = str(tmp_path / "traces.db")
    store = Store(path, lost_after_s=0.2)
    request, parent = hanging(9)
    put_traces(store, request)
    heard_ns = time.time_ns() - parent.start_time_unix_nano
    wait_until(lambda: listed(store)[0]["lost"] == 1)
    (one,) = listed(store)
    assert 9 * 10**9 <= one["duration"] <= heard_ns
    for asked in {"min_ns": 9 * 10**9}, {"min_ns": 9 * 10**9, "max_ns": heard_ns, "operation": "hangs"}:
        assert [found["id"] for found in listed(store, **asked)] == [T[0].hex()]
    # Summed up anew: the same child once more.
    again = Traces()
    again.request.CopyFrom(request.request)
    del again.request.resource_spans[0].scope_spans[0].spans[0]
    put_traces(store, again)
    assert listed(store) == [one]
    assert trace(store)["duration"] == one["duration"]
    assert trace(store)["spans"]["duration"] == [one["duration"], 72_000]
    assert span_of(store, parent)["duration"] == one["duration"]
    store.close()
    store = Store(path)
    assert listed(store) == [one]
    store.close()


def test_of_what_another_run_was_told_the_last_that_is_known_counts(tmp_path: Path, monkeypatch: Any) -> None:
    path = str(tmp_path / "traces.db")
    first = Store(path)
    put_traces(first, hanging(9)[0])
    first.close()
    monkeypatch.setattr("otelagent.viewer.store.writer._RETENTION_EVERY_S", 0.05)
    second = Store(path, lost_after_s=0.2)
    wait_until(lambda: listed(second)[0]["lost"] == 1)
    # A trace's arrival is known in whole seconds.
    assert 8 * 10**9 <= listed(second)[0]["duration"] < 3600 * 10**9
    second.close()


def test_exported_and_imported_it_still_runs(store: Store) -> None:
    request, _ = begun()
    put_traces(store, request)
    exported = store.read(export.traces_data, T[0])
    assert exported is not None
    assert exported["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["endTimeUnixNano"] == "0"
    batch = decode("traces", json.dumps(exported).encode(), json=True)
    assert (len(batch.spans), len(batch.running)) == (0, 1)
    assert store.read(overview.service_map)["nodes"]


def test_a_span_without_any_time_does_not_run(store: Store) -> None:
    request, span = begun()
    span.start_time_unix_nano = 0
    put_traces(store, request)
    assert listed(store)[0]["running"] == 0


def test_a_span_that_ran_and_ended_is_one_span(store: Store) -> None:
    for _ in range(3):
        request, span = begun()
        put_traces(store, request, request, ended(span), ended(span))
    assert store.status()["spans"] == 3


def test_a_span_that_fails_while_it_runs_is_an_error_of_its_trace(store: Store) -> None:
    request, span = begun()
    put_traces(store, request)
    assert listed(store, error=True) == []
    span.status.code = 2
    put_traces(store, request, request)
    (one,) = listed(store, error=True)
    assert (one["spans"], one["errors"], one["running"]) == (1, 1, 1)
    put_traces(store, ended(span, error=True))
    assert [(one["spans"], one["errors"]) for one in listed(store, error=True)] == [(1, 1)]
