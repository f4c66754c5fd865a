"""The store: what is put in comes out, in the order and the sums that the page shows."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otelagent.viewer.ingest import decode
from otelagent.viewer.store import candidates, detail, export, listing, overview
from otelagent.viewer.store.listing import TraceFilter, attribute_filter
from otelagent.viewer.store.schema import WrongFile
from otelagent.viewer.store.store import Store
from tests.viewer.requests import START_NS, Traces, logs, metrics
from tests.viewer.requests import put as fill
from tests.viewer.stores import put

T = [bytes([number]) * 16 for number in range(1, 100)]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def read(store: Store, query: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return store.read(query, *arguments, **options)


def found(store: Store, **asked: Any) -> list[str]:
    """Names of the traces that a filter finds."""
    return [one["name"] for one in read(store, listing.traces, TraceFilter(**asked))["traces"]]


def test_a_trace_is_summed_up_over_batches(store: Store) -> None:
    first = Traces()
    root = first.span("GET /", trace=T[0], start_us=0, duration_us=100)
    put(store, "traces", first.body)
    second = Traces("stock")
    second.span("SELECT", trace=T[0], parent=root.span_id, start_us=20, duration_us=200, error=True)
    put(store, "traces", second.body)
    (one,) = read(store, listing.traces, TraceFilter())["traces"]
    assert one == {
        "id": T[0].hex(),
        "service": "shop",
        "name": "GET /",
        "kind": 1,
        "root": True,
        "start": str(START_NS),
        "duration": 220_000,
        "spans": 2,
        "errors": 1,
        "running": 0,
        "lost": 0,
        "services": [("shop", 1), ("stock", 1)],
    }
    assert store.status()["spans"] == 2


def failing(trace: bytes, message: str) -> bytes:
    """A request with a span that failed, with an exception and a link."""
    traces = Traces()
    span = traces.span("failing", trace=trace, error=True)
    fill(span.events.add(name="exception", time_unix_nano=START_NS).attributes, {"exception.message": message})
    span.links.add(trace_id=T[9], span_id=b"linked..")
    return traces.body


def test_what_comes_twice_leaves_nothing_behind(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    store = Store(path)
    once, other = failing(T[0], "once"), failing(T[1], "other")
    for body in (once, once, once, other, once):
        put(store, "traces", body)
    assert store.status()["spans"] == 2
    store.close()
    # Whoever opens it next gives out the next ids: nothing may be there already.
    store = Store(path)
    put(store, "traces", failing(T[2], "later"))
    assert store.status()["spans"] == 3
    assert len(found(store, text="later")) == 1
    assert len(found(store, text="once")) == 1
    store.close()
    connection = sqlite3.connect(path)
    for table, spans in (("link", "span"), ("word", "rowid / 2")):
        sql = f"SELECT {spans} FROM {table} ORDER BY 1"
        assert connection.execute(sql).fetchall() == [(1,), (2,), (3,)], table
    connection.close()


def test_the_number_of_spans_is_right_after_resends(store: Store) -> None:
    traces, more = Traces(), Traces()
    for number in range(100):
        span = traces.span(f"n{number}")
        if number % 3:
            more._scope.spans.add().CopyFrom(span)
    for _ in range(5):
        put(store, "traces", more.body)
        put(store, "traces", traces.body)
    more.span("one more")
    put(store, "traces", more.body)
    assert store.status()["spans"] == 101
    assert len(found(store)) == 50


def test_what_comes_twice_counts_once(store: Store) -> None:
    traces = Traces()
    root = traces.span("root", trace=T[0])
    traces.span("child", trace=T[0], parent=root.span_id, error=True)
    for _ in range(3):
        put(store, "traces", traces.body)
    (one,) = read(store, listing.traces, TraceFilter())["traces"]
    assert (one["spans"], one["errors"], one["services"]) == (2, 1, [("shop", 2)])


def test_a_trace_without_its_root_is_shown_by_its_first_span(store: Store) -> None:
    traces = Traces()
    traces.span("late", trace=T[0], parent=b"p" * 8, start_us=50)
    traces.span("early", trace=T[0], parent=b"p" * 8, start_us=5)
    put(store, "traces", traces.body)
    (one,) = read(store, listing.traces, TraceFilter())["traces"]
    assert (one["name"], one["root"]) == ("early", False)
    trace = read(store, detail.trace, T[0])
    assert trace["spans"]["parent"] == [-2, -2]
    assert trace["missing"] == {0: (b"p" * 8).hex(), 1: (b"p" * 8).hex()}


def test_filters(store: Store) -> None:
    described: list[tuple[str, str, bool, dict[str, Any]]] = [
        ("shop", "GET /", False, {"http__response__status_code": 200, "user__tier": "gold", "beta": True}),
        ("shop", "POST /orders", True, {"http__response__status_code": 500, "user__tier": "free"}),
        ("stock", "GET /", False, {"retries": 3, "db__query__text": "SELECT * FROM Orders"}),
    ]
    for number, (service, name, error, more) in enumerate(described):
        traces = Traces(service)
        traces.span(name, trace=T[number], start_us=10 * number, duration_us=10 ** (number + 1), error=error, **more)
        put(store, "traces", traces.body)

    def by(*texts: str) -> list[str]:
        return found(store, attributes=tuple(map(attribute_filter, texts)))

    assert found(store) == ["GET /", "POST /orders", "GET /"]
    assert found(store, service="shop") == ["POST /orders", "GET /"]
    assert found(store, service="shop", operation="GET /") == ["GET /"]
    assert found(store, operation="POST /orders") == ["POST /orders"]
    assert found(store, service="nobody") == []
    assert found(store, error=True) == ["POST /orders"]
    assert found(store, min_ns=100_000) == ["GET /", "POST /orders"]
    assert found(store, max_ns=10_000) == ["GET /"]
    assert found(store, from_ns=START_NS + 5_000, to_ns=START_NS + 15_000) == ["POST /orders"]
    assert found(store, text="ord") == ["POST /orders"]
    assert found(store, text='"; DROP TABLE trace') == []
    assert by("user.tier=gold") == ["GET /"]
    assert by("user.tier!=gold") == ["POST /orders"]
    assert by("http.response.status_code=200") == ["GET /"]
    assert by("http.response.status_code>=400") == ["POST /orders"]
    assert by("retries") == ["GET /"]
    assert by("beta=true") == ["GET /"]
    assert by("db.query.text~orders") == ["GET /"]
    assert by("service.name=stock", "retries<4") == ["GET /"]
    assert by("user.tier=gold", "retries=3") == []
    assert by("retries>many") == []
    with pytest.raises(ValueError, match="no condition"):
        attribute_filter("=x")


def test_words_of_exceptions_and_logs_find_their_trace(store: Store) -> None:
    traces = Traces()
    span = traces.span("pay", trace=T[0], error=True)
    event = span.events.add(name="exception")
    fill(event.attributes, {"exception.type": "CardError", "exception.message": "card was declined"})
    traces.span("other", trace=T[1])
    put(store, "traces", traces.body)
    put(store, "logs", logs("the warehouse is empty", trace=T[1]))
    assert found(store, text="declined") == ["pay"]
    assert found(store, text="CardErr") == ["pay"]
    assert found(store, text="warehouse") == ["other"]


def test_pages_follow_each_other_without_gap(store: Store) -> None:
    traces = Traces()
    for number in range(90):
        traces.span(f"n{number}", trace=T[number])
    put(store, "traces", traces.body)
    names: list[str] = []
    before = None
    while True:
        page = read(store, listing.traces, TraceFilter(service="shop"), 20, before)
        names += [one["name"] for one in page["traces"]]
        before = page["next"]
        if before is None:
            break
    assert names == [f"n{number}" for number in reversed(range(90))]


def test_a_trace_survives_export_and_import(store: Store) -> None:
    traces = Traces()
    root = traces.span("root", trace=T[0], ratio=float("nan"), whole=1, part=1.0, raw=b"\x01", names=["a", "b"])
    child = traces.span("child", trace=T[0], parent=root.span_id, error=True)
    child.status.message = "no"
    child.links.add(trace_id=T[1], span_id=b"l" * 8)
    child.events.add(name="e", time_unix_nano=5)
    put(store, "traces", traces.body)
    exported = read(store, export.traces_data, T[0])
    again = decode("traces", json.dumps(exported).encode(), json=True)
    assert again.spans == decode("traces", traces.body).spans
    assert read(store, export.traces_data, T[5]) is None


def test_what_looks_like_bytes_or_no_number_is_exported_as_the_map_that_it_is(store: Store) -> None:
    traces = Traces()
    span = traces.span(trace=T[0])
    for key, value in (("$double", "much"), ("$bytes", "no base64"), ("$bytes", 1)):
        inner = span.attributes.add(key=f"{key} {value}").value.kvlist_value.values.add(key=key).value
        if isinstance(value, int):
            inner.int_value = value
        else:
            inner.string_value = value
    put(store, "traces", traces.body)
    exported = read(store, export.traces_data, T[0])
    again = decode("traces", json.dumps(exported).encode(), json=True)
    assert again.spans == decode("traces", traces.body).spans


def test_text_beyond_ascii_is_found_as_it_is_written(store: Store) -> None:
    traces = Traces()
    traces.span("walk", trace=T[0], city="ÉCOLE Straße")
    put(store, "traces", traces.body)
    put(store, "logs", logs("ÄNDERUNG Gespeichert"))
    for text, exact in (("école", False), ("ÉCOLE", True), ("École", True), ("ÉcOlE STRA", True)):
        assert found(store, attributes=(attribute_filter(f"city~{text}"),)) == ["walk"] * exact
        assert len(read(store, detail.search, T[0], text)["spans"]) == exact
    assert len(read(store, overview.logs, text="ÄNDERung")["logs"]) == 1


def test_a_quantile_that_is_no_number_is_still_json(store: Store) -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="odd")
    point = metric.summary.data_points.add(time_unix_nano=START_NS, count=1, sum=1.0)
    point.quantile_values.add(quantile=float("nan"), value=float("inf"))
    batch = decode("metrics", request.SerializeToString())
    assert json.loads(batch.points[0][5], parse_constant=pytest.fail)["quantiles"] == [[None, None]]


def test_spans_of_great_depth_and_in_circles(store: Store) -> None:
    traces = Traces()
    parent = b""
    for _ in range(3_000):
        parent = traces.span("deep", trace=T[0], parent=parent).span_id
    a = traces.span("a", trace=T[1], parent=b"b" * 8)
    b = traces.span("b", trace=T[1], parent=a.span_id)
    b.span_id = b"b" * 8
    put(store, "traces", traces.body)
    assert len(read(store, detail.trace, T[0])["spans"]["id"]) == 3_000
    parents = read(store, detail.trace, T[1])["spans"]["parent"]
    assert sorted(parents) in ([-1, 0], [-1, 1])


def test_links_are_seen_from_both_sides(store: Store) -> None:
    traces = Traces()
    target = traces.span("target", trace=T[0])
    source = traces.span("source", trace=T[1])
    source.links.add(trace_id=T[0], span_id=target.span_id)
    put(store, "traces", traces.body)
    assert read(store, detail.span, T[0], target.span_id)["linked_from"] == [
        {"trace": T[1].hex(), "span": source.span_id.hex()}
    ]


def test_the_map_has_services_and_what_they_call(store: Store) -> None:
    shop = Traces("shop")
    root = shop.span("GET /", trace=T[0])
    call = shop.span("GET", trace=T[0], parent=root.span_id, kind=3, server__address="stock.example")
    shop.span("SELECT", trace=T[0], parent=root.span_id, kind=3, db__system__name="postgresql", error=True)
    stock = Traces("stock")
    stock.span("GET /items", trace=T[0], parent=call.span_id, kind=2)
    put(store, "traces", shop.body)
    put(store, "traces", stock.body)
    found = read(store, overview.service_map)
    assert {(one["service"], one["kind"]) for one in found["nodes"]} == {
        ("shop", "service"),
        ("stock", "service"),
        ("postgresql", "remote"),
    }
    assert {(one["from"], one["to"], one["calls"], one["errors"]) for one in found["edges"]} == {
        ("shop", "stock", 1, 0),
        ("shop", "postgresql", 1, 1),
    }


@pytest.mark.parametrize(("caller", "called"), [(3, 2), (4, 5)])
def test_a_service_that_calls_itself_over_the_wire_calls_no_stranger(store: Store, caller: int, called: int) -> None:
    shop = Traces("shop")
    call = shop.span("GET", trace=T[0], kind=caller, server__address="127.0.0.1", duration_us=40)
    shop.span("GET /items", trace=T[0], parent=call.span_id, kind=called)
    put(store, "traces", shop.body)
    found = read(store, overview.service_map)
    assert [(one["service"], one["kind"]) for one in found["nodes"]] == [("shop", "service")]
    assert [(one["from"], one["to"], one["calls"]) for one in found["edges"]] == [("shop", "shop", 1)]


def test_logs_are_in_the_order_of_their_time_however_they_come(store: Store) -> None:
    # As a program sends them: a batch for each logger, whose times lie between those of the others.
    for first in (2, 0, 1):
        for number in range(first, 30, 3):
            put(store, "logs", logs(str(number), start_ns=START_NS + number // 2))
    times = [int(one["time"]) for one in read(store, overview.logs)["logs"]]
    assert len(times) == 30
    assert times == sorted(times, reverse=True)
    # Two at a time have the same time, and pages of three end between them; meanwhile others come, new and late ones.
    page = read(store, overview.logs, limit=3)
    found = page["logs"]
    while page["next"] is not None:
        put(store, "logs", logs("new", start_ns=START_NS + 1000))
        put(store, "logs", logs("late", start_ns=START_NS + 14))
        before = tuple(map(int, page["next"].split("-")))
        page = read(store, overview.logs, limit=3, before=before)
        found += page["logs"]
    expected = sorted(range(30), key=lambda number: number // 2, reverse=True)
    known = [one for one in found if one["body"] != "late"]
    assert [int(one["time"]) - START_NS for one in known] == [number // 2 for number in expected]
    assert len({one["id"] for one in found}) == len(found)
    assert "new" not in [one["body"] for one in found]


def test_a_record_without_a_time_has_that_of_its_arrival(store: Store) -> None:
    before_ns = time.time_ns()
    put(store, "logs", logs("none", start_ns=0))
    (one,) = read(store, overview.logs)["logs"]
    assert before_ns <= int(one["time"]) <= time.time_ns()


@pytest.mark.parametrize("asked", [{}, {"severity": 9}, {"service": "shop"}, {"trace_id": T[0]}], ids=str)
def test_a_page_of_logs_is_read_without_sorting_the_store(store: Store, asked: dict[str, Any]) -> None:
    put(store, "logs", logs("one", trace=T[0]))
    statements: list[str] = []

    def plan(connection: sqlite3.Connection) -> str:
        connection.set_trace_callback(statements.append)
        overview.logs(connection, **asked)
        connection.set_trace_callback(None)
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statements[-1]}").fetchall()
        return " ".join(row[3] for row in rows)

    steps = store.read(plan)
    if "trace_id" in asked:
        assert "log_trace (trace_id=?)" in steps
    else:
        assert "USING INDEX log_time" in steps
        assert "TEMP B-TREE" not in steps


def test_logs_and_metrics(store: Store) -> None:
    put(store, "logs", logs("one", "two", severity=17))
    put(store, "logs", logs("three", service="stock", start_ns=START_NS + 2))
    page = read(store, overview.logs)
    assert [one["body"] for one in page["logs"]] == ["three", "two", "one"]
    assert [one["body"] for one in read(store, overview.logs, severity=17)["logs"]] == ["two", "one"]
    assert [one["body"] for one in read(store, overview.logs, text="THR")["logs"]] == ["three"]
    put(store, "metrics", metrics())
    orders, latency = sorted(read(store, overview.metrics), key=lambda one: one["name"], reverse=True)
    (series,) = read(store, overview.points, orders["id"])
    assert series["attributes"] == {"tier": "gold"}
    assert [point[1] for point in series["points"]] == [0, 1, 2]
    assert read(store, overview.points, latency["id"])[0]["points"][0][2]["counts"] == [1, 1, 1]


def test_a_file_is_opened_again(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    for number in range(2):
        store = Store(path)
        traces = Traces()
        traces.span(f"n{number}", trace=T[number])
        traces.span("same", trace=T[9])
        put(store, "traces", traces.body)
        assert store.status()["traces"] == 2 + number
        store.close()
    store = Store(path)
    assert sorted(found(store, service="shop")) == ["n0", "n1", "same"]
    assert (
        next(one for one in read(store, listing.traces, TraceFilter())["traces"] if one["name"] == "same")["spans"] == 2
    )
    store.close()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, and it stays as it is" * 100)
    with pytest.raises(WrongFile, match="no SQLite database"):
        Store(str(text))
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with pytest.raises(WrongFile, match="another program"):
        Store(str(other))


def test_names_to_choose_from_have_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "_MAX_NAMES", 3)
    for service, number in (("a", 3), ("b", 4), ("c", 1)):
        traces = Traces(service)
        for name in range(number):
            traces.span(f"n{name}")
        put(store, "traces", traces.body)
    assert read(store, overview.services) == {"services": ["a", "b", "c"], "complete": True}
    names = [{"name": f"n{number}", "kind": 1} for number in range(3)]
    assert read(store, overview.operations, "a") == {"operations": names, "complete": True}
    assert read(store, overview.operations, "b") == {"operations": names, "complete": False}
    put(store, "traces", Traces("d").body)
    put(store, "logs", logs("x", service="d"))
    assert read(store, overview.services)["complete"] is False


def test_what_is_cut_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "MAX_SPANS", 3)
    monkeypatch.setattr(detail, "MAX_LOGS", 2)
    monkeypatch.setattr(detail, "_MAX_LOGS_OF_SPAN", 2)
    monkeypatch.setattr(overview, "_POINTS", 2)
    monkeypatch.setattr(candidates, "_MAX_WORDS_FOUND", 2)
    traces = Traces()
    fill(traces.request.resource_spans[0].resource.attributes, {f"a{number}": number for number in range(1_100)})
    for number in range(5):
        span = traces.span("n" * 2_000, trace=T[0], error=True, start_us=-number)
        fill(span.events.add(name="exception").attributes, {"exception.message": "no room"})
    put(store, "traces", traces.body)
    put(store, "logs", logs("x" * 400, "y", "z", trace=T[0], span=span.span_id))
    put(store, "metrics", metrics())
    trace = read(store, detail.trace, T[0])
    assert trace["truncated"] == {"spans": 2, "logs": 1}
    assert trace["logs"][0][3] == "x" * 300 + "…"
    assert trace["names"][0] == "n" * 1024 + "… (cut)"
    assert trace["resources"][0]["attributes"]["… (cut)"] == 1_100 + 1 - 1024
    one = read(store, detail.span, T[0], span.span_id)
    assert (one["truncated"], len(one["logs"])) == (["logs"], 2)
    orders = next(one for one in read(store, overview.metrics) if one["name"] == "orders")
    (series,) = read(store, overview.points, orders["id"])
    assert (series["more"], [point[1] for point in series["points"]]) == (True, [1, 2])
    found = read(store, listing.traces, TraceFilter(text="room"))
    assert (len(found["traces"]), found["complete"], found["next"]) == (1, False, None)


def test_words_found_too_often_are_told_on_the_last_page_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_MAX_WORDS_FOUND", 4)
    for number in range(6):
        put(store, "traces", failing(T[number], "crowded"))
    pages = []
    before = None
    while True:
        page = read(store, listing.traces, TraceFilter(text="crowded"), 2, before)
        pages.append((len(page["traces"]), page["complete"]))
        if (before := page["next"]) is None:
            break
    assert sum(number for number, _ in pages) == 4
    assert pages[-1][1] is False
