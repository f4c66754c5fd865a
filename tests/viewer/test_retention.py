"""What is given up when the store is full or things are old."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otelagent.viewer.store import listing, overview, writer
from otelagent.viewer.store.listing import TraceFilter
from otelagent.viewer.store.retention import Retention, used_bytes
from otelagent.viewer.store.schema import open_writer
from otelagent.viewer.store.store import Store
from tests.support import wait_until
from tests.viewer.requests import START_NS, Traces, logs, metrics
from tests.viewer.stores import many, put, put_traces

T = [bytes([number]) * 16 for number in range(1, 100)]


def names(store: Store, **asked: Any) -> list[str]:
    return [one["name"] for one in store.read(listing.traces, TraceFilter(**asked))["traces"]]


def test_the_oldest_traces_go_when_it_is_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(writer, "_RETENTION_EVERY_S", 0.01)
    store = Store(str(tmp_path / "traces.db"), max_age_s=1e9, max_bytes=600_000)
    for number in range(40):
        traces = Traces()
        for _ in range(50):
            span = traces.span("work", trace=T[number], start_us=1000 * number, error=True, text="x" * 200)
            span.links.add(trace_id=T[90], span_id=b"l" * 8)
        put(store, "traces", traces.body)
    wait_until(lambda: store.status()["bytes"] <= 600_000)
    store.close()
    store = Store(str(tmp_path / "traces.db"), max_age_s=1e9)
    kept = [one["id"] for one in store.read(listing.traces, TraceFilter())["traces"]]
    assert 0 < len(kept) < 40
    assert kept == [T[number].hex() for number in reversed(range(40 - len(kept), 40))]
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("SELECT count(DISTINCT trace) FROM span").fetchone() == (len(kept),)
        assert connection.execute("SELECT count(*) FROM link").fetchone() == (50 * len(kept),)
    store.close()


@pytest.mark.parametrize(("max_age_s", "kept"), [(3600.0, True), (-5.0, False)])
def test_points_stay_for_as_long_as_since_they_came(tmp_path: Path, max_age_s: float, kept: bool) -> None:
    """What is imported, or told by a wrong clock, is as old as it is new here."""
    path = str(tmp_path / "metrics.db")
    store = Store(path, max_age_s=1e9)
    put(store, "metrics", metrics(start_ns=START_NS))
    store.close()
    connection = open_writer(path)
    retention = Retention(max_age_s, 2**30)
    while retention.prune(connection):
        pass
    assert bool(overview.metrics(connection)) == kept
    connection.close()


def test_what_is_given_up_goes_in_slices_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"), max_age_s=1e9)
    ids, requests = many(12_000)
    put_traces(store, *requests)
    put(store, "logs", logs("of a trace", trace=ids[0]))
    store.close()
    store = Store(str(tmp_path / "traces.db"), max_age_s=-10.0)
    seen = []
    while True:
        before = store.status()["given_up_traces"]
        if before == 12_000:
            break
        seen.append(before)
    store.close()
    connection = sqlite3.connect(tmp_path / "traces.db")
    for table in ("trace", "span", "posting", "zone", "member", "trace_key", "log", "word"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    connection.close()
    store = Store(str(tmp_path / "traces.db"))
    put_traces(store, *many(10)[1])
    assert len(names(store)) == 10
    store.close()


def test_a_slice_is_some_thousand_spans(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"))
    put_traces(store, *many(12_000)[1])
    connection, keeps = store._connection, store._retention
    store._writer.stop()
    keeps.max_age_s = -10.0
    sizes: list[int] = []
    while keeps.prune(connection):
        sizes.append(12_000 - sum(sizes) - connection.execute("SELECT count(*) FROM span").fetchone()[0])
    assert len(sizes) >= 3
    assert max(sizes) <= 5_000
    store.close()


def test_a_full_store_gives_up_more_than_comes(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"))
    put_traces(store, *many(40_000)[1])
    connection, keeps = store._connection, store._retention
    store._writer.stop()
    keeps.max_bytes = used_bytes(connection) // 10
    before = store.status()["spans"]
    assert keeps.prune(connection, 9_000)
    assert before - store.status()["spans"] >= 18_000
    store.close()


def test_names_and_series_go_when_nothing_refers_to_them(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"))
    put_traces(store, *many(3_000)[1])
    put(store, "metrics", metrics())
    store._writer.stop()
    connection = store._connection
    keeps = Retention(max_age_s=1e9, max_bytes=used_bytes(connection) // 2)
    while keeps.prune(connection):
        pass
    left = store.status()["traces"]
    assert 0 < left < 3_000
    for span in connection.execute("SELECT operation FROM span"):
        assert connection.execute("SELECT count(*) FROM operation WHERE id = ?", span).fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM name WHERE rowid = ?", span).fetchone() == (1,)
    # Those go when the last trace of their transaction does.
    assert left <= connection.execute("SELECT count(*) FROM name").fetchone()[0] < 3_000
    gone = Retention(max_age_s=-10.0, max_bytes=2**40)
    while gone.prune(connection):
        pass
    for table in ("trace", "span", "operation", "name", "point", "series", "metric"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    store.close()


def test_a_name_that_went_comes_again(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"), max_age_s=-10.0)
    put_traces(store, *many(10)[1])
    while store.status()["given_up_traces"] < 10 or store.read(overview.operations, "service-0")["operations"]:
        pass
    store._writer._retention.max_age_s = 1e9
    put_traces(store, *many(10)[1])
    assert names(store, text="n3") == ["n3"]
    assert len(names(store, service="service-0")) == 10
    store.close()


def services(store: Store) -> list[str]:
    found: list[str] = store.read(overview.services)["services"]
    return found


def test_a_service_is_there_for_as_long_as_anything_of_it_is(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"))
    for number, name in enumerate(("first", "second", "third")):
        traces = Traces(name)
        traces.span(trace=T[number])
        put_traces(store, traces)
    late = Traces("late")
    late.span(trace=T[0], parent=b"p" * 8)
    put_traces(store, late)
    put(store, "logs", logs("of no trace", service="logging"))
    put(store, "metrics", metrics())
    store._writer.stop()
    measured = {one["service"] for one in store.read(overview.metrics)}
    everything = {"first", "second", "third", "late", "logging"} | measured
    assert set(services(store)) == everything

    connection = store._connection
    connection.execute("UPDATE trace SET arrived_s = 0 WHERE trace_id IN (?, ?)", T[:2])
    Retention(max_age_s=3600.0, max_bytes=2**40).prune(connection)
    assert set(services(store)) == {"third", "logging"} | measured
    connection.execute("UPDATE log SET arrived_s = 0")
    Retention(max_age_s=3600.0, max_bytes=2**40).prune(connection)
    assert set(services(store)) == {"third"} | measured
    connection.execute("UPDATE point SET arrived_s = 0")
    Retention(max_age_s=3600.0, max_bytes=2**40).prune(connection)
    assert services(store) == ["third"]
    connection.execute("UPDATE trace SET arrived_s = 0")
    Retention(max_age_s=3600.0, max_bytes=2**40).prune(connection)
    assert services(store) == []
    assert connection.execute("SELECT count(*) FROM resource_use").fetchone() == (0,)
    store.close()


def test_nothing_that_is_there_has_lost_its_resource(tmp_path: Path) -> None:
    """However traces, late spans of theirs, log records and points follow each other, over restarts too."""
    random = Random(7)
    path = str(tmp_path / "traces.db")
    store = Store(path)
    for step in range(400):
        name = f"service-{random.randrange(step // 10, step // 10 + 5)}"
        kind = random.randrange(8)
        if kind < 5:
            traces = Traces(name)
            traces.span(trace=T[random.randrange(max(step // 5 - 20, 0), step // 5 + 1)])
            put_traces(store, traces)
        elif kind == 5:
            put(store, "logs", logs("x", service=name, trace=random.choice((b"", T[step // 5]))))
        elif kind == 6:
            put(store, "metrics", metrics())
        elif random.random() < 0.3:
            store.close()
            connection = open_writer(path)
            spans = connection.execute("SELECT count(*) FROM span").fetchone()[0]
            connection.execute(
                "UPDATE trace SET arrived_s = 0 WHERE id <= (SELECT min(id) + ? FROM trace)", (random.randrange(spans),)
            )
            connection.execute("UPDATE log SET arrived_s = 0 WHERE id % 2")
            Retention(3600.0, 2**40).prune(connection)
            connection.close()
            store = Store(path)
        for table in ("span", "log", "metric"):
            lost = f"SELECT count(*) FROM {table} WHERE resource NOT IN (SELECT id FROM resource)"
            assert store._connection.execute(lost).fetchone() == (0,), (step, table)
    assert 0 < len(services(store)) < 40
    store.close()


def test_what_is_given_up_in_part_keeps_its_resource(tmp_path: Path) -> None:
    """Traces and log records of one request, of which the first go."""
    store = Store(str(tmp_path / "traces.db"))
    traces = Traces("traced")
    for number in range(4):
        traces.span(trace=T[number], start_us=1000 * number)
    put_traces(store, traces)
    put(store, "logs", logs("one", "two", "three", service="logging"))
    store._writer.stop()
    connection = store._connection
    for count in (1, 2):
        connection.execute("UPDATE trace SET arrived_s = 0 WHERE id <= ?", (count,))
        connection.execute("UPDATE log SET arrived_s = 0 WHERE id <= ?", (count,))
        Retention(3600.0, 2**40).prune(connection)
        assert services(store) == ["logging", "traced"]
    assert len(names(store)) == 2
    assert len(store.read(overview.logs)["logs"]) == 1
    store.close()


def test_rows_that_begin_anew_keep_no_dead_service(tmp_path: Path) -> None:
    path = str(tmp_path / "traces.db")
    store = Store(path)
    traces = Traces("dead")
    for number in range(50):
        traces.span(trace=T[number])
    put_traces(store, traces)
    put(store, "logs", logs("of no trace", service="dead"))
    store.close()
    connection = open_writer(path)
    for table in ("trace", "log"):
        connection.execute("UPDATE log SET arrived_s = ?", (2**40 if table == "trace" else 0,))
        connection.execute("UPDATE trace SET arrived_s = 0")
        Retention(3600.0, 2**40).prune(connection)
        connection.close()
        store = Store(path)
        for number in range(20):
            one = Traces("living")
            one.span(trace=T[50 + number])
            put_traces(store, one)
        assert services(store) == (["dead", "living"] if table == "trace" else ["living"])
        store.close()
        connection = open_writer(path)
    connection.close()


def test_a_request_of_many_resources_holds_up_nobody(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    for number in range(40_000):
        of_resource = request.resource_spans.add()
        of_resource.resource.attributes.add(key="host.name").value.string_value = str(number)
        span = of_resource.scope_spans.add().spans.add(name="x", span_id=b"s" * 8)
        span.trace_id = number.to_bytes(16, "big", signed=False) if number else b"t" * 16
    store = Store(str(tmp_path / "traces.db"))
    put(store, "traces", request.SerializeToString())
    assert store.status()["traces"] == 40_000
    store.close()


def test_a_reading_sees_one_moment(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "traces.db"), max_age_s=1e9)
    put_traces(store, *many(10)[1])

    def look(connection: sqlite3.Connection) -> tuple[int, int]:
        before = connection.execute("SELECT count(*) FROM span").fetchone()[0]
        put_traces(store, *many(10)[1])
        return before, connection.execute("SELECT count(*) FROM span").fetchone()[0]

    assert store.read(look) == (10, 10)
    assert store.read(look) == (20, 20)
    store.close()
